"""Training steps of models of vectors: VAE, also with convolutions and with an inverse autoregressive flow,
MADE and MAF; and samples of all of them.

In PyTorch masked layers multiply their weights by the masks in each step, as is usual, and samples of an
autoregressive model take a pass of the network for each element.
"""

from __future__ import annotations

import math

import numpy as np
from training import network_on_bits, step_in_tinygen, step_in_torch, step_on_bits

BITS, VAE_BATCH, LATENTS, HIDDEN = 784, 128, 20, 400
VAES = ["784-400-400-20", "IAF 784-400-400-20", "convolutional 28x28"]
IAF_HIDDEN, IAF_LAYERS, IAF_CONTEXT = [64], 2, 32
MADE_HIDDEN = {"784-500": [500], "784-500-500": [500, 500]}  # the row's name: hidden layers
MADE_BATCH, SAMPLES = 100, 64
NAIVE_PASSES = 20  # PyTorch's time of sampling a MAF is measured for so many
MAF_INPUTS = {"5 layers, 64 inputs": 64, "5 layers, 784 inputs": 784}  # the row's name: D
MAF_LAYERS, MAF_HIDDEN, MAF_BATCH = 5, [100, 100], 100


def _bits(n: int):
    return (np.random.default_rng(0).random((n, BITS)) < 0.2).astype("float32")


# VAE ----------------------------------------------------------------------------------------------------


def vae(library: str, row: str):
    """One training step, Bernoulli likelihood, batch 128, Adam: of MLPs 784-400-400-20 and back, or of two
    convolutions with stride 2 to 16 and 32 channels and a layer of 400 units, and back. With IAF the
    posterior goes through two flows of 64 units, which see 32 more numbers that the encoder makes."""
    model, x = _vae(row), _bits(VAE_BATCH)
    if row.startswith("convolutional"):
        x = x.reshape(-1, 28, 28, 1)
    if library == "tinygen":
        from tinygen.backend import Generator

        return step_in_tinygen(model, model.loss, x, Generator(0))
    return _vae_torch(library, model, x)


def _vae(row: str):
    """The same weights each time."""
    import tinygen as tg
    from tinygen import nn
    from tinygen.models.flows import IAF
    from tinygen.models.latent.iaf_vae import IAFVAE
    from tinygen.models.latent.vae import VAE

    def mlp(*sizes):
        layers = [layer for a, b in zip(sizes, sizes[1:]) for layer in (nn.Linear(a, b), nn.ReLU())]
        return nn.Sequential(*layers[:-1])

    tg.seed(0)
    if not row.startswith("convolutional"):
        context = IAF_CONTEXT if row.startswith("IAF") else 0
        encoder = mlp(BITS, HIDDEN, HIDDEN, 2 * LATENTS + context)
        decoder = mlp(LATENTS, HIDDEN, HIDDEN, BITS)
        if context:
            flow = IAF(LATENTS, IAF_HIDDEN, IAF_LAYERS, context=context)
            return IAFVAE(encoder, decoder, flow)
        return VAE(encoder, decoder, LATENTS)
    small = (7, 7, 32)
    encoder = nn.Sequential(
        *(nn.Conv2d(1, 16, 4, stride=2, padding=1), nn.ReLU()),
        *(nn.Conv2d(16, 32, 4, stride=2, padding=1), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(math.prod(small), HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 2 * LATENTS)),
    )
    decoder = nn.Sequential(
        *(nn.Linear(LATENTS, HIDDEN), nn.ReLU()),
        *(nn.Linear(HIDDEN, math.prod(small)), nn.Reshape(small), nn.ReLU()),
        *(nn.ConvTranspose2d(32, 16, 4, stride=2, padding=1), nn.ReLU()),
        nn.ConvTranspose2d(16, 1, 4, stride=2, padding=1),
    )
    return VAE(encoder, decoder, LATENTS)


def _vae_torch(library: str, model, x):
    import torch
    from torch_side import batch, sequential

    from tinygen.backend import Generator

    encoder, decoder = sequential(model.encoder, library), sequential(model.decoder, library)
    parameters = [*encoder.parameters(), *decoder.parameters()]
    images = batch(x, library)
    flows = []  # in the order in which parameters come; draws go through them from the last to the first
    for part in model.flow.flows if hasattr(model, "flow") else []:
        network, of_network = _masked_torch(part.flow.network)
        flows.append(network)
        parameters += of_network

    def loss_of(noise=None):
        mean, log_variance, h = encoder(images).tensor_split([LATENTS, 2 * LATENTS], dim=1)
        noise = torch.randn_like(mean) if noise is None else noise
        z = mean + torch.exp(0.5 * log_variance) * noise
        if flows:
            log_q = -0.5 * (noise**2 + log_variance).sum()
            for network in reversed(flows):
                z, log_det = _transformed(z, network, h)
                log_q = log_q - log_det.sum()
            divergence = log_q + 0.5 * (z**2).sum()
        else:
            divergence = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum()
        nll = torch.nn.functional.binary_cross_entropy_with_logits(decoder(z), images, reduction="sum")
        return (divergence + nll) / len(images)

    noise = torch.tensor(Generator(0).normal((len(x), LATENTS)))
    return step_in_torch(library, parameters, loss_of, model, model.loss(x, Generator(0)), noise)


def vae_samples(library: str, row: str):
    """128 samples of 784 bits. What makes the posterior has no part in them: those with IAF are an MLP's."""
    model = _vae(row)
    if library == "tinygen":
        return lambda: model.sample(VAE_BATCH)
    import torch
    from torch_side import require_the_same_outputs, sequential

    decoder, codes = sequential(model.decoder, library), torch.randn(VAE_BATCH, LATENTS)
    require_the_same_outputs(model.decoder(codes.cpu().numpy()), decoder(codes))

    @torch.no_grad()
    def step():
        p = torch.sigmoid(decoder(torch.randn_like(codes)))
        return (torch.rand_like(p) < p).float()

    return step


# MADE ---------------------------------------------------------------------------------------------------


def made(library: str, row: str):
    """One training step on 784 bits, batch 100, Adam."""
    model = _made(row)
    return step_on_bits(library, model, _bits(MADE_BATCH), lambda: _made_torch(model))


def made_samples(library: str, row: str):
    """64 samples of 784 bits."""
    model = _made(row)
    if library == "tinygen":
        return lambda: model.sample(SAMPLES)
    import torch

    _, logits, _ = network_on_bits(library, model, _bits(MADE_BATCH), lambda: _made_torch(model))

    empty = torch.zeros(SAMPLES, BITS)

    @torch.no_grad()
    def step():
        x, u = empty.clone(), torch.rand_like(empty)
        for d in range(BITS):
            x[:, d] = u[:, d] < torch.sigmoid(logits(x)[:, d])

    return step


def _made(row: str):
    import tinygen as tg
    from tinygen.models.autoregressive.made import MADE

    tg.seed(0)
    return MADE(BITS, MADE_HIDDEN[row])


def _made_torch(model):
    """The network as a function in PyTorch, and its parameters."""
    import torch
    from torch_side import filled

    linears, masks = [], []
    for layer in model.network.layers:
        linear = torch.nn.Linear(layer.inputs, layer.outputs)
        linears.append(filled(linear, layer.matrix(layer.weight.data).T, layer.bias))
        masks.append(torch.tensor(layer.matrix(layer.mask.data).T.copy()))

    def logits(h):
        for k, (linear, mask) in enumerate(zip(linears, masks)):
            # While nothing is trained the product need not be made again for each pass.
            weight = linear.weight * mask if torch.is_grad_enabled() else masked[k]
            h = torch.nn.functional.linear(h if k == 0 else torch.relu(h), weight, linear.bias)
        return h

    with torch.no_grad():
        masked = [linear.weight * mask for linear, mask in zip(linears, masks)]
    return logits, [p for linear in linears for p in linear.parameters()]


# MAF ----------------------------------------------------------------------------------------------------


def maf(library: str, row: str):
    """One training step: networks of 100 and 100 units, batch normalization between the layers, batch 100,
    Adam."""
    import tinygen as tg
    from tinygen.models.flows import MAF

    tg.seed(0)
    flow = MAF(MAF_INPUTS[row], MAF_HIDDEN, MAF_LAYERS)
    x = np.random.default_rng(0).standard_normal((MAF_BATCH, MAF_INPUTS[row])).astype("float32")
    if library == "tinygen":
        return step_in_tinygen(flow, flow.loss, x)
    import torch

    log_prob, parameters = _maf_torch(flow)
    points = torch.tensor(x)
    return step_in_torch(library, parameters, lambda: -log_prob(points).mean(), flow, flow.loss(x))


def maf_samples(library: str, row: str):
    """64 samples. PyTorch makes a few of its passes, one for each element and layer; `scale` says how many
    times as long all of them take."""
    import tinygen as tg
    from tinygen.models.flows import MAF

    tg.seed(0)
    D = MAF_INPUTS[row]
    flow = MAF(D, MAF_HIDDEN, MAF_LAYERS).eval()
    if library == "tinygen":
        return lambda: flow.sample(SAMPLES)
    import torch
    from torch_side import require_the_same_outputs

    network, _ = _masked_torch(flow.flows[0].network)
    network = [(linear.weight.detach() * mask, linear.bias.detach()) for linear, mask, _ in network]

    def inverted(z, x):
        """x_d = z_d exp α_d + μ_d, right where all elements of x before d are."""
        *hidden, last = network
        for weight, bias in hidden:
            x = torch.relu(torch.nn.functional.linear(x, weight, bias))
        mu, alpha = torch.nn.functional.linear(x, *last).chunk(2, dim=1)
        return z * torch.exp(2 * torch.tanh(alpha / 2)) + mu

    @torch.no_grad()
    def invert(z, elements: int):
        x = torch.zeros_like(z)
        for d in range(elements):
            x[:, d] = inverted(z, x)[:, d]
        return x

    z = torch.randn(SAMPLES, D)
    require_the_same_outputs(flow.flows[0].inverse(z.cpu().numpy())[0], invert(z, D))

    def step():
        invert(z, NAIVE_PASSES)

    step.scale = MAF_LAYERS * D / NAIVE_PASSES
    return step


def _masked_torch(network):
    """The network of a layer of a flow for `_transformed`, and its parameters; all μ come before all α."""
    import torch
    from torch_side import filled

    *_, last = network.layers
    context = network.of_context if network.context else {}
    of_context = {network.layers[0]: context.get("hidden"), last: context.get("parameters")}

    def turned(layer, array):
        """As PyTorch has it; ours has μ and α of an element side by side."""
        array = np.ascontiguousarray(array.T)
        ours_is_last = layer is last or layer is context.get("parameters")
        return np.concatenate([array[0::2], array[1::2]]) if ours_is_last else array

    found = []
    for layer in network.layers:
        weight, mask = (turned(layer, layer.matrix(t.data)) for t in (layer.weight, layer.mask))
        linear = filled(torch.nn.Linear(layer.inputs, layer.outputs), weight)
        linear.bias.data = torch.tensor(turned(layer, layer.bias.data))
        beside = of_context.get(layer)
        if beside is not None:
            weight = turned(beside, beside.weight.data)
            beside = filled(torch.nn.Linear(beside.inputs, beside.outputs, bias=False), weight)
        found.append((linear, torch.tensor(mask), beside))
    parameters = [p for linear, _, _ in found for p in linear.parameters()]
    return found, parameters + [p for *_, beside in found if beside for p in beside.parameters()]


def _transformed(x, network, context=None):
    """z of x and the log-determinant, by a layer of a flow with |α| < 2."""
    import torch

    h = x
    for linear, mask, beside in network:
        h = torch.relu(h) if h is not x else h
        h = torch.nn.functional.linear(h, linear.weight * mask, linear.bias)
        h = h if beside is None else h + beside(context)
    mu, alpha = h.chunk(2, dim=1)
    alpha = 2 * torch.tanh(alpha / 2)
    return (x - mu) * torch.exp(-alpha), -alpha.sum(dim=1)


def _maf_torch(flow):
    """log p(x) as a function in PyTorch, and the parameters."""
    import torch

    layers, parameters = [], []
    for part in flow.flows:
        if not hasattr(part, "network"):
            gamma, beta = (torch.zeros(flow.inputs, requires_grad=True) for _ in range(2))
            layers.append((gamma, beta, torch.zeros(flow.inputs), torch.ones(flow.inputs)))
            parameters += [gamma, beta]
            continue
        network, of_network = _masked_torch(part.network)
        layers.append(network)
        parameters += of_network

    def normalized(x, gamma, beta, mean, variance):
        m, v = x.mean(dim=0), x.var(dim=0, unbiased=False)
        with torch.no_grad():
            mean.lerp_(m, 0.1)
            variance.lerp_(v, 0.1)
        z = (x - m) * torch.rsqrt(v + 1e-5) * torch.exp(gamma) + beta
        return z, (gamma - 0.5 * torch.log(v + 1e-5)).sum()

    def log_prob(x):
        log_det = 0.0
        for layer in layers:
            x, more = normalized(x, *layer) if isinstance(layer, tuple) else _transformed(x, layer)
            log_det = log_det + more
        return log_det - 0.5 * (x * x + math.log(2 * math.pi)).sum(dim=1)

    return log_prob, parameters
