"""Iterations of games: all steps of the critic (5 in both WGANs) and one of the generator, on minibatches of
64 and codes of 64; and samples of the generators."""

from __future__ import annotations

import numpy as np
from training import replayed

ROWS = [
    "GAN 784-512-512-1",
    "LSGAN 784-512-512-1",
    "hinge GAN 784-512-512-1",
    "SN-GAN 784-512-512-1",
    "WGAN 784-512-512-1",
    "WGAN-GP 784-512-512-1",
    "DCGAN 28x28",
    "WGAN-GP convolutional 28x28",
]
SAMPLED = ["GAN 784-512-512-1", "DCGAN 28x28"]
BATCH, LATENTS, CLIP, PENALTY = 64, 64, 0.01, 10.0


def iteration(library: str, row: str):
    """MLPs are 64-512-512-784 against 784-512-512-1. Those with convolutions have kernels 4x4 with stride 2,
    64 and 128 channels, DCGAN with batch normalization. Adam; RMSProp in WGAN and hinge GAN."""
    game = _game(row)
    shape = (28, 28, 1) if row.endswith("28x28") else (784,)
    n = game.critic_steps * BATCH
    x = np.tanh(np.random.default_rng(0).standard_normal((n, *shape)).astype("float32"))
    if library == "tinygen":
        return _in_tinygen(game, x)
    return _torch(library, game, x)


def samples(library: str, row: str):
    """64 samples, in evaluation mode."""
    game = _game(row).eval()
    if library == "tinygen":
        return lambda: game.sample(BATCH)
    import torch
    from torch_side import require_the_same_outputs, sequential

    generator, codes = sequential(game.generator, library).eval(), torch.randn(BATCH, LATENTS)
    require_the_same_outputs(game.generate(codes.cpu().numpy()), generator(codes))

    @torch.no_grad()
    def step():
        return generator(torch.randn_like(codes))

    return step


def _in_tinygen(game, x):
    from tinygen.backend import Generator

    optimizers = _optimizers(game)

    def take_turns(x, rng):
        with rng:
            game.iteration(x, optimizers)

    return replayed(take_turns, x, Generator(0))


def _game(row: str):
    """The same weights each time."""
    import tinygen as tg
    from tinygen.models import adversarial

    tg.seed(0)
    if row.startswith("DCGAN"):
        return adversarial.DCGAN(28, latents=LATENTS)
    generator, critic = _convolutional() if row.endswith("28x28") else _mlps()
    if row.startswith("WGAN-GP"):
        return adversarial.WGANGP(generator, critic, LATENTS, penalty=PENALTY)
    if row.startswith("WGAN"):
        return adversarial.WGAN(generator, critic, LATENTS, c=CLIP)
    if row.startswith("LSGAN"):
        return adversarial.LSGAN(generator, critic, LATENTS)
    if row.startswith("hinge"):
        return adversarial.HingeGAN(generator, critic, LATENTS)
    if row.startswith("SN-GAN"):
        return adversarial.SNGAN(generator, critic, LATENTS)
    return adversarial.GAN(generator, critic, LATENTS)


def _optimizers(game):
    """The published ones; of the GAN, whose are older, those of DCGAN."""
    from tinygen.optim import Adam

    if type(game).__name__ != "GAN":
        return game.optimizers()
    return [Adam(player.parameters(), 0.0002, (0.5, 0.999)) for player in (game.critic, game.generator)]


def _mlps():
    from tinygen import nn

    generator = nn.Sequential(
        *(nn.Linear(LATENTS, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU()),
        *(nn.Linear(512, 784), nn.Tanh()),
    )
    critic = nn.Sequential(
        *(nn.Linear(784, 512), nn.LeakyReLU(0.2), nn.Linear(512, 512), nn.LeakyReLU(0.2)),
        nn.Linear(512, 1),
    )
    return generator, critic


def _convolutional():
    from tinygen import nn

    generator = nn.Sequential(
        *(nn.Linear(LATENTS, 7 * 7 * 128), nn.Reshape((7, 7, 128)), nn.ReLU()),
        *(nn.ConvTranspose2d(128, 64, 4, stride=2, padding=1), nn.ReLU()),
        *(nn.ConvTranspose2d(64, 1, 4, stride=2, padding=1), nn.Tanh()),
    )
    critic = nn.Sequential(
        *(nn.Conv2d(1, 64, 4, stride=2, padding=1), nn.LeakyReLU(0.2)),
        *(nn.Conv2d(64, 128, 4, stride=2, padding=1), nn.LeakyReLU(0.2)),
        *(nn.Flatten(), nn.Linear(7 * 7 * 128, 1)),
    )
    return generator, critic


def _torch(library: str, game, x):
    import torch
    from torch.nn.functional import relu, softplus
    from torch_side import adam, batch, sequential

    kind = type(game).__name__
    ours = game.critic, game.generator
    critic, generator = networks = [sequential(_plain(network), library) for network in ours]
    if kind == "SNGAN":
        _normalize(critic, game.critic)
    players = [_parameters(network) for network in networks]
    real = batch(x, library)
    if kind in ("WGAN", "HingeGAN"):
        optimizers = [torch.optim.RMSprop(player, lr=of.lr) for player, of in zip(players, _optimizers(game))]
    else:
        settings = [
            {"lr": optimizer.lr, "betas": optimizer.betas, "eps": optimizer.eps}
            for optimizer in _optimizers(game)
        ]
        optimizers = [adam(player, library, **of) for player, of in zip(players, settings)]

    def critic_loss(x, fake, epsilon):
        if kind == "DCGAN":
            return softplus(-critic(x)).mean() + softplus(critic(fake)).mean()
        of_real, of_fake = critic(torch.cat([x, fake])).chunk(2)
        if kind == "GAN":
            return softplus(-of_real).mean() + softplus(of_fake).mean()
        if kind == "LSGAN":
            return 0.5 * ((of_real - 1) ** 2).mean() + 0.5 * (of_fake**2).mean()
        if kind in ("SNGAN", "HingeGAN"):
            return relu(1 - of_real).mean() + relu(1 + of_fake).mean()
        loss = of_fake.mean() - of_real.mean()
        if kind == "WGANGP":
            epsilon = epsilon.reshape(-1, *[1] * (x.ndim - 1))
            x_hat = (epsilon * x + (1 - epsilon) * fake).requires_grad_()
            (gradient,) = torch.autograd.grad(critic(x_hat).sum(), x_hat, create_graph=True)
            loss = loss + PENALTY * ((gradient.flatten(1).norm(dim=1) - 1) ** 2).mean()
        return loss

    def generator_loss(z):
        numbers = critic(generator(z))
        if kind == "LSGAN":
            return 0.5 * ((numbers - 1) ** 2).mean()
        return softplus(-numbers).mean() if kind in ("GAN", "DCGAN") else -numbers.mean()

    def descend(player, loss):
        optimizers[player].zero_grad()
        loss.backward(inputs=players[player])
        optimizers[player].step()

    def step():
        for minibatch in real.split(BATCH):
            with torch.no_grad():
                fake = generator(torch.randn(BATCH, LATENTS, device=real.device))
            descend(0, critic_loss(minibatch, fake, torch.rand(BATCH, device=real.device)))
            if kind == "WGAN":
                with torch.no_grad():
                    for p in critic.parameters():
                        p.clamp_(-CLIP, CLIP)
        descend(1, generator_loss(torch.randn(BATCH, LATENTS, device=real.device)))

    _require_the_same_game(game, x[:BATCH], library, critic_loss, generator_loss, players)
    return step


def _plain(network):
    """The network, with the layers themselves where it has reparameterized ones."""
    from tinygen import nn

    return nn.Sequential(*(getattr(layer, "layer", layer) for layer in network.layers))


def _normalize(network, ours) -> None:
    """PyTorch's spectral normalization of each layer. Both libraries start from the exact singular vectors,
    from which their power iterations, in which u and v take turns otherwise, lead nowhere else."""
    import torch

    for theirs, layer in zip(network, ours.layers):
        if isinstance(theirs, torch.nn.Linear):
            torch.nn.utils.parametrizations.spectral_norm(theirs)
            u, _, v = np.linalg.svd(theirs.weight.detach().cpu().numpy())
            layer.u.data, layer.v.data = u[:, 0], v[0]
            theirs.parametrizations.weight[0]._u.copy_(torch.tensor(u[:, 0]))
            theirs.parametrizations.weight[0]._v.copy_(torch.tensor(v[0]))


def _parameters(network) -> list:
    """Of all layers the weight first."""
    found = []
    for layer in network:
        if hasattr(layer, "parametrizations"):
            found += [layer.parametrizations.weight.original, layer.bias]
        else:
            found += layer.parameters()
    return found


def _require_the_same_game(game, x, library, critic_loss, generator_loss, players) -> None:
    """Refuse to measure losses with other values or gradients than tinygen's."""
    import torch
    from torch_side import batch, require_the_same

    from tinygen.backend import Generator

    with Generator(0):
        z = game.latent(len(x))
        fake = game.generate(z).detach()
        with Generator(1):
            ours = game.critic_loss(x, fake), game.generator_loss(game.generate(z))
        epsilon = Generator(1).uniform((len(x),))
    theirs = (
        critic_loss(batch(x, library), batch(fake.numpy(), library), torch.tensor(epsilon)),
        generator_loss(torch.tensor(z)),
    )
    for mine, other, player, parameters in zip(ours, theirs, (game.critic, game.generator), players):
        require_the_same(mine, player.parameters(), other, parameters)
