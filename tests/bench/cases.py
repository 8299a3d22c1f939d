"""What is measured: the same work written for tinygen, PyTorch and HIPS autograd.

A case is a function of a library that returns a step: a function that does the work once. Layouts are those
that each library prefers; `torch-channels-last` is PyTorch with images in tinygen's order in memory.
"""

from __future__ import annotations

import itertools
import math

import numpy as np

CHAIN, WIDTH = 33, 64  # (multiply, add, tanh) so many times, and one multiply more: 100 operations
BATCH = 128
SIZES = {"input": 784, "hidden": 400, "latents": 20}
# name: (image side, channels in, channels out, kernel side, stride, padding)
CONVOLUTIONS = {
    "28x28 1>32 k4 s2": (28, 1, 32, 4, 2, 1),
    "28x28 32>64 k3": (28, 32, 64, 3, 1, 1),
    "28x28 64>64 k3": (28, 64, 64, 3, 1, 1),
    "14x14 64>64 k3": (14, 64, 64, 3, 1, 1),
    "7x7 64>64 k3": (7, 64, 64, 3, 1, 1),
    "28x28 32>64 k4 s2": (28, 32, 64, 4, 2, 1),
    "14x14 64>64 k4 s2": (14, 64, 64, 4, 2, 1),
    "28x28 32>64 k5": (28, 32, 64, 5, 1, 2),
}
# name: the transposed ones, from the small image to the large
TRANSPOSED = {
    "transposed 7x7 128>64 k4 s2": (7, 128, 64, 4, 2, 1),
    "transposed 14x14 64>1 k4 s2": (14, 64, 1, 4, 2, 1),
}


def _draw(*shape, scale=1.0):
    return (np.random.default_rng(0).standard_normal(shape) * scale).astype("float32")


# One hundred small operations ---------------------------------------------------------------------


def overhead(library: str):
    """Forward and backward through a chain of 100 operations on 64 float32 elements."""
    arrays = [_draw(WIDTH), _draw(WIDTH), _draw(WIDTH)]
    ones = np.ones(WIDTH, "float32")
    if library == "autograd":
        import autograd
        from autograd import numpy as anp

        def chain(leaves):
            x, w, b = leaves
            for _ in range(CHAIN):
                x = anp.tanh(x * w + b)
            return (x * w).sum()

        gradient = autograd.grad(chain)
        return lambda: gradient(arrays)
    if library == "tinygen":
        import tinygen as tg

        x, w, b = (tg.Tensor(array, requires_grad=True) for array in arrays)
        tanh, ones = tg.ops.tanh, tg.Tensor(ones)
    else:
        import torch

        x, w, b = (torch.tensor(array, requires_grad=True) for array in arrays)
        tanh, ones = torch.tanh, torch.tensor(ones)

    def step():
        h = x
        for _ in range(CHAIN):
            h = tanh(h * w + b)
        (h * w).backward(ones)
        x.grad = w.grad = b.grad = None

    return step


# A training step ----------------------------------------------------------------------------------


def _training_step(loss_of, optimizer):
    """A step of training, which is written alike in both libraries: loss_of() gives the loss."""

    def step():
        loss = loss_of()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def vae(library: str):
    """One training step of a VAE: MLPs 784-400-400-20 and back, Bernoulli likelihood, batch 128, Adam."""
    images = (np.random.default_rng(0).random((BATCH, SIZES["input"])) < 0.2).astype("float32")
    return {"tinygen": _vae_tinygen, "torch": _vae_torch}[library](images)


def _vae_tinygen(images):
    from tinygen import nn, optim
    from tinygen.backend import Generator
    from tinygen.models.latent.vae import VAE

    def mlp(*sizes):
        layers = [layer for a, b in zip(sizes, sizes[1:]) for layer in (nn.Linear(a, b), nn.ReLU())]
        return nn.Sequential(*layers[:-1])

    size, hidden, latents = SIZES.values()
    model = VAE(
        mlp(size, hidden, hidden, 2 * latents), mlp(latents, hidden, hidden, size), latents, "bernoulli"
    )
    optimizer = optim.Adam(model.parameters(), lr=1e-3)
    rng = Generator(0)

    return _training_step(lambda: model.loss(images, rng), optimizer)


def _vae_torch(images):
    import torch
    from torch.nn import functional

    def mlp(*sizes):
        layers = [
            layer for a, b in zip(sizes, sizes[1:]) for layer in (torch.nn.Linear(a, b), torch.nn.ReLU())
        ]
        return torch.nn.Sequential(*layers[:-1])

    size, hidden, latents = SIZES.values()
    encoder, decoder = mlp(size, hidden, hidden, 2 * latents), mlp(latents, hidden, hidden, size)
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=1e-3)
    x = torch.tensor(images)

    def loss_of():
        mean, log_variance = encoder(x).chunk(2, dim=1)
        z = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
        reconstruction = -functional.binary_cross_entropy_with_logits(decoder(z), x, reduction="sum")
        divergence = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum()
        return (divergence - reconstruction) / BATCH

    return _training_step(loss_of, optimizer)


# Masked autoregressive networks -------------------------------------------------------------------

MADE_HIDDEN = {"784-500": [500], "784-500-500": [500, 500]}  # the row's name: hidden layers


def made(library: str, row: str):
    """One training step of MADE on 784 bits, batch 100, Adam. In PyTorch each step multiplies the weights
    by their masks, as is usual."""
    bits = (np.random.default_rng(0).random((100, 784)) < 0.2).astype("float32")
    if library == "tinygen":
        from tinygen import optim
        from tinygen.models.autoregressive.made import MADE

        model = MADE(784, MADE_HIDDEN[row])
        optimizer = optim.Adam(model.parameters(), lr=1e-3)
        loss_of = lambda: model.loss(bits)  # noqa: E731
    else:
        import torch
        from torch.nn import functional

        logits, parameters = _made_torch(row)
        optimizer = torch.optim.Adam(parameters, lr=1e-3)
        x = torch.tensor(bits)

        def loss_of():
            return functional.binary_cross_entropy_with_logits(logits(x), x, reduction="sum") / len(x)

    return _training_step(loss_of, optimizer)


def sampling(library: str, row: str):
    """Samples of 784 bits, 64 of MADE's, which PyTorch draws by 784 passes of the network."""
    if row in PIXELCNN_SAMPLES:
        return _pixelcnn_sampling(library, PIXELCNN_SAMPLES[row])
    if library == "tinygen":
        from tinygen.models.autoregressive.made import MADE

        model = MADE(784, MADE_HIDDEN[row])
        return lambda: model.sample(64)
    import torch

    logits, _ = _made_torch(row)

    @torch.no_grad()
    def step():
        x, u = torch.zeros(64, 784), torch.rand(64, 784)
        for d in range(784):
            x[:, d] = u[:, d] < torch.sigmoid(logits(x)[:, d])

    return step


def _made_torch(row: str):
    """The network as a function in PyTorch, and its parameters; degrees and first weights as in tinygen."""
    import torch

    from tinygen.models.autoregressive.masked_network import MaskedNetwork

    layers = MaskedNetwork(784, MADE_HIDDEN[row]).layers
    linears, masks = [], [torch.tensor(layer.mask.numpy().T.copy()) for layer in layers]
    for layer in layers:
        linears.append(torch.nn.Linear(layer.inputs, layer.outputs))
        linears[-1].weight.data = torch.tensor(layer.weight.numpy().T.copy())

    def logits(h):
        for k, (linear, mask) in enumerate(zip(linears, masks)):
            # While nothing is trained the product need not be made again for each pass.
            weight = linear.weight * mask if torch.is_grad_enabled() else masked[k]
            h = torch.nn.functional.linear(h if k == 0 else torch.relu(h), weight, linear.bias)
        return h

    with torch.no_grad():
        masked = [linear.weight * mask for linear, mask in zip(linears, masks)]
    return logits, [p for linear in linears for p in linear.parameters()]


# PixelCNN -----------------------------------------------------------------------------------------

PIXELCNN_SAMPLES = {"PixelCNN 16": 16, "PixelCNN 64": 64}  # the row's name: how many samples
NAIVE_PIXELS = 2  # for so many of the 784 passes PyTorch's time is measured


def _pixelcnn():
    import tinygen as tg
    from tinygen.models.autoregressive.pixelcnn import PixelCNN

    tg.seed(0)
    return PixelCNN((28, 28, 1), channels=128, blocks=7)


def pixelcnn(library: str):
    """One training step of PixelCNN with 7 residual blocks of 64 channels, 64 binary images of 28x28, Adam.
    In PyTorch each step multiplies the weights by their masks, as is usual."""
    bits = (np.random.default_rng(0).random((64, 28, 28, 1)) < 0.2).astype("float32")
    if library == "tinygen":
        from tinygen import optim

        model = _pixelcnn()
        optimizer = optim.Adam(model.parameters(), lr=1e-3)
        return _training_step(lambda: model.loss(bits), optimizer)
    import torch

    logits, parameters = _pixelcnn_torch(library == "torch-channels-last")
    x = torch.tensor(bits.transpose(0, 3, 1, 2))

    def loss_of():
        return torch.nn.functional.binary_cross_entropy_with_logits(logits(x), x, reduction="sum") / len(x)

    _require_tinygens(loss_of(), parameters, bits)
    return _training_step(loss_of, torch.optim.Adam(parameters, lr=1e-3))


def _pixelcnn_sampling(library: str, n: int):
    """n samples. PyTorch's naive ones take a pass over whole images for each pixel: the step does a few of
    these passes, and `scale` says how many times as long all of them take."""
    if library == "tinygen":
        model = _pixelcnn()
        return lambda: model.sample(n)
    import torch

    logits, _ = _pixelcnn_torch()

    @torch.no_grad()
    def step():
        x, u = torch.zeros(n, 1, 28, 28), torch.rand(n, 28, 28)
        for j in range(NAIVE_PIXELS):
            x[:, 0, 0, j] = (u[:, 0, j] < torch.sigmoid(logits(x)[:, 0, 0, j])).float()

    step.scale = 28 * 28 / NAIVE_PIXELS
    return step


def _pixelcnn_torch(channels_last: bool = False):
    """The network as a function in PyTorch, and its parameters; first weights as in tinygen."""
    import torch

    layout = torch.channels_last if channels_last else torch.contiguous_format
    model = _pixelcnn()
    parameters = []

    def layer(ours):
        height, width, inputs, outputs = ours.weight.shape
        conv = torch.nn.Conv2d(inputs, outputs, (height, width), padding=(height // 2, width // 2))
        conv.weight.data = torch.tensor(ours.weight.numpy().transpose(3, 2, 0, 1).copy())
        conv.bias.data = torch.tensor(ours.bias.numpy())
        conv.to(memory_format=layout)
        mask = torch.ones_like(conv.weight)
        mask[:, :, height // 2, width // 2 + (ours.mask == "B") :] = 0
        mask[:, :, height // 2 + 1 :] = 0
        parameters.extend([conv.weight, conv.bias])
        with torch.no_grad():
            masked = conv.weight * mask

        def convolve(h):
            # While nothing is trained the product need not be made again.
            weight = conv.weight * mask if torch.is_grad_enabled() else masked
            return torch.nn.functional.conv2d(h, weight, conv.bias, padding=conv.padding)

        return convolve

    first, middle, last = map(layer, (model.first, model.middle, model.last))
    blocks = [[layer(of) for of in (block.narrow, block.across, block.widen)] for block in model.blocks]

    def logits(x):
        h = first(x.contiguous(memory_format=layout))
        for block in blocks:
            y = h
            for convolve in block:
                y = convolve(torch.relu(y))
            h = h + y
        return last(torch.relu(middle(torch.relu(h))))

    return logits, parameters


def _require_tinygens(loss, parameters, bits) -> None:
    """Refuse to measure a loss with other values or gradients than tinygen's."""
    model = _pixelcnn()
    expected = model.loss(bits)
    expected.backward()
    loss.backward()
    np.testing.assert_allclose(loss.item(), expected.item(), rtol=1e-4)
    theirs = sum(float((p.grad**2).sum()) for p in parameters)
    ours = sum(float((p.grad.numpy() ** 2).sum()) for p in model.parameters())
    np.testing.assert_allclose(theirs, ours, rtol=1e-3)
    first = parameters[0].grad.numpy().transpose(2, 3, 1, 0)
    np.testing.assert_allclose(first, model.first.weight.grad.numpy(), rtol=1e-2, atol=1e-3)
    for p in parameters:
        p.grad = None


# Masked autoregressive flows ----------------------------------------------------------------------

MAF_INPUTS = {"64": 64, "784": 784}  # the row's name: D
MAF_LAYERS, MAF_HIDDEN = 5, [100, 100]


def maf(library: str, row: str):
    """One training step of MAF: 5 layers of networks of 100 and 100 units, batch normalization between, batch
    100, Adam. In PyTorch each step multiplies the weights by their masks, as is usual."""
    data = _draw(100, MAF_INPUTS[row])
    if library == "tinygen":
        from tinygen import optim
        from tinygen.models.flows import MAF

        flow = MAF(MAF_INPUTS[row], MAF_HIDDEN, MAF_LAYERS)
        optimizer = optim.Adam(flow.parameters(), lr=1e-3)
        loss_of = lambda: flow.loss(data)  # noqa: E731
    else:
        import torch

        log_prob, parameters = _maf_torch(MAF_INPUTS[row])
        optimizer = torch.optim.Adam(parameters, lr=1e-3)
        x = torch.tensor(data)
        loss_of = lambda: -log_prob(x).mean()  # noqa: E731

    return _training_step(loss_of, optimizer)


def _maf_torch(inputs: int):
    """log p(x) as a function in PyTorch, with all μ before all α, and the parameters."""
    import torch

    linears, masks, scales = [], [], []
    for k in range(MAF_LAYERS):
        places = np.arange(1, inputs + 1)[:: -1 if k % 2 else 1]
        degrees = [places, *(1 + np.arange(units) * (inputs - 1) // units for units in MAF_HIDDEN)]
        degrees.append(np.concatenate([places, places]) - 1)
        for before, after in zip(degrees, degrees[1:]):
            linears.append(torch.nn.Linear(len(before), len(after)))
            masks.append(torch.tensor((before <= after[:, None]).astype("float32")))
        with torch.no_grad():
            linears[-1].weight *= 0.01
        scales.append([torch.zeros(inputs, requires_grad=True) for _ in range(2)])
        running = [(torch.zeros(inputs), torch.ones(inputs)) for _ in range(MAF_LAYERS)]

    def log_prob(x):
        log_det, layers = 0.0, iter(zip(linears, masks))
        for k in range(MAF_LAYERS):
            h = x
            for linear, mask in itertools.islice(layers, 3):
                h = torch.nn.functional.linear(
                    torch.relu(h) if h is not x else h, linear.weight * mask, linear.bias
                )
            mu, alpha = h.chunk(2, dim=1)
            alpha = 2 * torch.tanh(alpha / 2)
            x, log_det = (x - mu) * torch.exp(-alpha), log_det - alpha.sum(dim=1)
            if k + 1 < MAF_LAYERS:
                (gamma, beta), (mean, variance) = scales[k], running[k]
                m, v = x.mean(dim=0), x.var(dim=0, unbiased=False)
                with torch.no_grad():
                    mean.lerp_(m, 0.1)
                    variance.lerp_(v, 0.1)
                x = (x - m) * torch.rsqrt(v + 1e-5) * torch.exp(gamma) + beta
                log_det = log_det + (gamma - 0.5 * torch.log(v + 1e-5)).sum()
        return log_det - 0.5 * (x * x + math.log(2 * math.pi)).sum(dim=1)

    parameters = [p for linear in linears for p in linear.parameters()]
    return log_prob, [*parameters, *(p for pair in scales[:-1] for p in pair)]


# Adversarial games --------------------------------------------------------------------------------

GAMES = ["GAN MLP", "WGAN MLP", "WGAN-GP MLP", "DCGAN 28x28"]
GAME_BATCH, GAME_LATENTS, CLIP, PENALTY = 64, 64, 0.01, 10.0


def games(library: str, row: str):
    """One iteration of a game, all steps of the critic (5 in both WGANs) and one of the generator, on
    minibatches of 64 and codes of 64. MLP: 64-512-512-784 against 784-512-512-1; DCGAN: images 28x28x1, 64
    channels in the largest feature maps. Adam; RMSProp in WGAN."""
    game = _game(row)
    shape = (28, 28, 1) if row.startswith("DCGAN") else (784,)
    x = np.tanh(_draw(game.critic_steps * GAME_BATCH, *shape))
    if library == "tinygen":
        from tinygen.optim import Adam

        optimizers = game.optimizers()
        if row == "GAN MLP":
            players = game.critic, game.generator
            optimizers = [Adam(player.parameters(), 0.0002, (0.5, 0.999)) for player in players]
        return lambda: game.iteration(x, optimizers)
    return _game_torch(game, x, library == "torch-channels-last")


def _game(row: str):
    """The same weights each time."""
    import tinygen as tg
    from tinygen import nn
    from tinygen.models import adversarial

    tg.seed(0)
    if row.startswith("DCGAN"):
        return adversarial.DCGAN(28, latents=GAME_LATENTS)
    generator = nn.Sequential(
        *(nn.Linear(GAME_LATENTS, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU()),
        *(nn.Linear(512, 784), nn.Tanh()),
    )
    critic = nn.Sequential(
        *(nn.Linear(784, 512), nn.LeakyReLU(0.2), nn.Linear(512, 512), nn.LeakyReLU(0.2)),
        nn.Linear(512, 1),
    )
    if row.startswith("WGAN-GP"):
        return adversarial.WGANGP(generator, critic, GAME_LATENTS, penalty=PENALTY)
    if row.startswith("WGAN"):
        return adversarial.WGAN(generator, critic, GAME_LATENTS, c=CLIP)
    return adversarial.GAN(generator, critic, GAME_LATENTS)


def _game_torch(game, x, channels_last: bool):
    import torch
    from torch.nn.functional import softplus

    kind = type(game).__name__
    layout = torch.channels_last if channels_last else torch.contiguous_format
    critic, generator = (
        _network_torch(part).to(memory_format=layout) for part in (game.critic, game.generator)
    )
    real = torch.tensor(x.transpose(0, 3, 1, 2) if x.ndim == 4 else x)
    real = real.contiguous(memory_format=layout) if x.ndim == 4 else real
    players = critic.parameters, generator.parameters
    if kind == "WGAN":
        optimizers = [torch.optim.RMSprop(of(), lr=0.00005) for of in players]
    else:
        settings = (
            {"lr": 0.0001, "betas": (0.0, 0.9)} if kind == "WGANGP" else {"lr": 0.0002, "betas": (0.5, 0.999)}
        )
        optimizers = [torch.optim.Adam(of(), **settings) for of in players]

    def critic_loss(x, fake, epsilon):
        if kind in ("GAN", "DCGAN"):
            return softplus(-critic(x)).mean() + softplus(critic(fake)).mean()
        loss = critic(fake).mean() - critic(x).mean()
        if kind == "WGANGP":
            x_hat = (epsilon * x + (1 - epsilon) * fake).requires_grad_()
            (gradient,) = torch.autograd.grad(critic(x_hat).sum(), x_hat, create_graph=True)
            loss = loss + PENALTY * ((gradient.norm(dim=1) - 1) ** 2).mean()
        return loss

    def generator_loss(z):
        numbers = critic(generator(z))
        return softplus(-numbers).mean() if kind in ("GAN", "DCGAN") else -numbers.mean()

    def descend(player, loss):
        optimizers[player].zero_grad()
        loss.backward(inputs=list(players[player]()))
        optimizers[player].step()

    def step():
        for minibatch in real.split(GAME_BATCH):
            with torch.no_grad():
                fake = generator(torch.randn(GAME_BATCH, GAME_LATENTS))
            descend(0, critic_loss(minibatch, fake, torch.rand(GAME_BATCH, 1)))
            if kind == "WGAN":
                with torch.no_grad():
                    for p in critic.parameters():
                        p.clamp_(-CLIP, CLIP)
        descend(1, generator_loss(torch.randn(GAME_BATCH, GAME_LATENTS)))

    _require_the_same_game(game, x[:GAME_BATCH], critic_loss, generator_loss, generator, players)
    return step


def _network_torch(network):
    """PyTorch's network with the weights of ours; its images have the channels first."""
    import torch

    layers, maps = [], None  # maps: (h, w, c) of the rows that come from, or become, feature maps
    for k, ours in enumerate(network.layers):
        after = network.layers[k + 1] if k + 1 < len(network.layers) else None
        kind = type(ours).__name__
        if kind == "Linear":
            weight = ours.weight.numpy()
            if type(after).__name__ == "Reshape":
                weight = weight.reshape(-1, *after.shape).transpose(0, 3, 1, 2).reshape(weight.shape)
            if maps is not None:
                weight = weight.reshape(*maps, -1).transpose(2, 0, 1, 3).reshape(weight.shape)
            layers.append(
                _filled(torch.nn.Linear(*weight.shape, bias=ours.bias is not None), weight.T, ours.bias)
            )
        elif kind in ("Conv2d", "ConvTranspose2d"):
            settings = {"stride": 2, "padding": 1, "bias": ours.bias is not None}
            theirs = getattr(torch.nn, kind)(ours.inputs, ours.outputs, 4, **settings)
            layers.append(_filled(theirs, ours.weight.numpy().transpose(3, 2, 0, 1), ours.bias))
        elif kind == "BatchNorm":
            layers.append(torch.nn.BatchNorm2d(ours.features))
        elif kind == "Reshape":
            layers.append(torch.nn.Unflatten(1, (ours.shape[2], *ours.shape[:2])))
        elif kind == "Flatten":
            maps = 7, 7, network.layers[k + 1].inputs // 49
            layers.append(torch.nn.Flatten())
        else:
            layers.append(torch.nn.LeakyReLU(0.2) if kind == "LeakyReLU" else getattr(torch.nn, kind)())
    return torch.nn.Sequential(*layers)


def _filled(layer, weight, bias):
    """A layer of PyTorch with these weights."""
    import torch

    layer.weight.data = torch.tensor(weight.copy())
    if bias is not None:
        layer.bias.data = torch.tensor(bias.numpy())
    return layer


def _require_the_same_game(game, x, critic_loss, generator_loss, generator, players) -> None:
    """Refuse to measure losses with other values or gradients than tinygen's."""
    import torch

    from tinygen import nn
    from tinygen.backend import Generator

    order = (0, 3, 1, 2) if x.ndim == 4 else (0, 1)
    with nn.frozen_state(), Generator(0):
        z = game.latent(len(x))
        fake = game.generate(z).detach()
        with Generator(1):
            ours = game.critic_loss(x, fake), game.generator_loss(game.generate(z))
        epsilon = Generator(1).uniform((len(x),))[:, None]
    numbers = [torch.tensor(a.transpose(order).copy()) for a in (x, fake.numpy())]
    theirs = critic_loss(*numbers, torch.tensor(epsilon)), generator_loss(torch.tensor(z))
    for mine, other, player, parameters in zip(ours, theirs, (game.critic, game.generator), players):
        np.testing.assert_allclose(other.item(), mine.item(), rtol=1e-4, atol=1e-5)
        mine.backward(inputs=player.parameters())
        other.backward(inputs=list(parameters()))
        for p, q in zip(player.parameters(), parameters()):
            sizes = float((p.grad.numpy() ** 2).sum()) ** 0.5, float((q.grad**2).sum()) ** 0.5
            np.testing.assert_allclose(*sizes, rtol=2e-3, atol=1e-6)
            p.grad = q.grad = None


# Convolutions -------------------------------------------------------------------------------------


def convolution(library: str, name: str):
    """Forward and backward, to the input and to the weights, of a convolution of 64 images."""
    transposed = name in TRANSPOSED
    side, c_in, c_out, k, stride, padding = (TRANSPOSED if transposed else CONVOLUTIONS)[name]
    images = _draw(64, side, side, c_in)
    weights = _draw(k, k, c_in, c_out, scale=1 / math.sqrt(k * k * c_in))
    if library == "tinygen":
        import tinygen as tg

        x = tg.Tensor(images, requires_grad=True)
        if transposed:
            w = tg.Tensor(weights.swapaxes(2, 3), requires_grad=True)
            function = tg.ops.conv_transpose2d
        else:
            w, function = tg.Tensor(weights, requires_grad=True), tg.ops.conv2d
        g = tg.Tensor(_draw(*function(x, w, stride=stride, padding=padding).shape))
    else:
        import torch

        layout = torch.channels_last if library == "torch-channels-last" else torch.contiguous_format
        order = (2, 3, 0, 1) if transposed else (3, 2, 0, 1)
        x, w = torch.tensor(images.transpose(0, 3, 1, 2)), torch.tensor(weights.transpose(order))
        x, w = (t.contiguous(memory_format=layout).requires_grad_() for t in (x, w))
        function = torch.nn.functional.conv_transpose2d if transposed else torch.nn.functional.conv2d
        g = torch.ones_like(function(x, w, stride=stride, padding=padding))

    def step():
        function(x, w, stride=stride, padding=padding).backward(g)
        x.grad = w.grad = None

    return step


# Layers and optimizers -----------------------------------------------------------------------------

LAYERS = ["BatchNorm 14x14x64", "BatchNorm 28x28x32", "LSTM 28 steps 28>256", "GRU 28 steps 28>256"]
MASKED = {
    "masked 3x3 B 64>64": ("B", 64, 3),
    "masked 7x7 B 64>64": ("B", 64, 7),
    "masked 7x7 A 1>64": ("A", 1, 7),
}


def layer(library: str, name: str):
    """Forward and backward, to the input and to the parameters, of a layer on a batch of 64. PyTorch has
    no masked convolution: there the weight is multiplied by the mask, as is usual."""
    kind = name.split()[0]
    if kind == "BatchNorm":
        side, _, channels = map(int, name.split()[1].split("x"))
        data = _draw(64, side, side, channels)
    elif kind == "masked":
        _, channels, _ = MASKED[name]
        data = _draw(64, 28, 28, channels)
    else:
        data = _draw(64, 28, 28)
    if library == "tinygen":
        return _layer_tinygen(name, data)
    return _layer_torch(name, data, library == "torch-channels-last")


def _layer_tinygen(name: str, data):
    import tinygen as tg

    if name in MASKED:
        mask, channels, size = MASKED[name]
        module = tg.nn.MaskedConv2d(mask, channels, 64, size)
    else:
        kind = name.split()[0]
        module = tg.nn.BatchNorm(data.shape[-1]) if kind == "BatchNorm" else getattr(tg.nn, kind)(28, 256)
    x = tg.Tensor(data, requires_grad=True)
    forward = (lambda: module(x)[0]) if name.startswith(("LSTM", "GRU")) else (lambda: module(x))
    g = tg.Tensor(np.ones(forward().shape, "float32"))

    def step():
        forward().backward(g)
        module.zero_grad()
        x.grad = None

    return step


def _layer_torch(name: str, data, channels_last: bool):
    import torch

    kind = name.split()[0]
    if kind in ("LSTM", "GRU"):
        module, x = getattr(torch.nn, kind)(28, 256, batch_first=True), torch.tensor(data)
        forward = lambda: module(x)[0]  # noqa: E731
    else:
        layout = torch.channels_last if channels_last else torch.contiguous_format
        x = torch.tensor(data.transpose(0, 3, 1, 2)).contiguous(memory_format=layout)
        if kind == "BatchNorm":
            module = torch.nn.BatchNorm2d(data.shape[-1])
            forward = lambda: module(x)  # noqa: E731
        else:
            mask_type, channels, size = MASKED[name]
            module = torch.nn.Conv2d(channels, 64, size, padding=size // 2).to(memory_format=layout)
            mask = torch.ones_like(module.weight)
            middle = size // 2
            mask[:, :, middle + 1 :] = mask[:, :, middle, middle + (mask_type == "B") :] = 0
            forward = lambda: torch.nn.functional.conv2d(  # noqa: E731
                x, module.weight * mask, module.bias, padding=size // 2
            )
    x.requires_grad_()
    g = torch.ones_like(forward())

    def step():
        forward().backward(g)
        module.zero_grad()
        x.grad = None

    return step


def adam(library: str):
    """A step of Adam over a million parameters in 20 Tensors, with their gradients given."""
    shapes = [(220, 230)] * 19 + [(190, 204)]
    values, gradients = [_draw(*s) for s in shapes], [_draw(*s, scale=0.01) for s in shapes]
    if library == "tinygen":
        import tinygen as tg

        parameters = [tg.Tensor(a, requires_grad=True) for a in values]
        for p, g in zip(parameters, gradients):
            p.grad = tg.Tensor(g)
        return tg.optim.Adam(parameters).step
    import torch

    parameters = [torch.tensor(a, requires_grad=True) for a in values]
    for p, g in zip(parameters, gradients):
        p.grad = torch.tensor(g)
    return torch.optim.Adam(parameters).step


# Memory -------------------------------------------------------------------------------------------


def stack(library: str, name: str):
    """Forward and backward through a stack of layers, whose peak of memory is measured; or a training step of
    PixelCNN."""
    if name == "PixelCNN":
        return pixelcnn(library)
    depth = 8 if name == "dense" else 4
    shape = (1024, 1024) if name == "dense" else (3, 3, 64, 64)
    data = _draw(1024, 1024) if name == "dense" else _draw(64, 28, 28, 64)
    weights = [_draw(*shape, scale=0.03) for _ in range(depth)]
    biases = [np.zeros(shape[-1], "float32") for _ in range(depth)]
    if library == "tinygen":
        import tinygen as tg

        def layer(x, w, b):
            if name == "dense":
                return tg.ops.relu(tg.ops.linear(x, w, b))
            return tg.ops.relu(tg.ops.conv2d(x, w, padding=1) + b)

        x = tg.Tensor(data)
        parameters = [[tg.Tensor(a, requires_grad=True) for a in pair] for pair in zip(weights, biases)]
    else:
        import torch
        from torch.nn import functional

        def layer(x, w, b):
            if name == "dense":
                return functional.relu(functional.linear(x, w, b))
            return functional.relu(functional.conv2d(x, w, b, padding=1))

        x = torch.tensor(data if name == "dense" else data.transpose(0, 3, 1, 2).copy())
        order = (1, 0) if name == "dense" else (3, 2, 0, 1)
        parameters = [
            [torch.tensor(w.transpose(order).copy(), requires_grad=True), torch.tensor(b, requires_grad=True)]
            for w, b in zip(weights, biases)
        ]

    def forward(h):
        for w, b in parameters:
            h = layer(h, w, b)
        return h.sum()

    def step():
        forward(x).backward()
        for w, b in parameters:
            w.grad = b.grad = None

    return step
