"""Training steps by Adam, written alike in both libraries."""

from __future__ import annotations

import numpy as np

LEARNING_RATE = 1e-3


def training_step(loss_of, optimizer):
    """The function that makes a step; loss_of(*arguments) gives the loss."""

    def step(*arguments):
        optimizer.zero_grad()
        loss = loss_of(*arguments)
        loss.backward()
        optimizer.step()

    return step


def step_in_tinygen(model, loss_of, *arguments):
    """Steps of our model with the loss of these arguments, arrays of the host and Generators."""
    from tinygen.optim import Adam

    return replayed(training_step(loss_of, Adam(model.parameters(), lr=LEARNING_RATE)), *arguments)


def replayed(step, *arguments):
    """The step with these arguments, on the current device; a GPU replays it."""
    import tinygen as tg
    from tinygen.backend import xp

    step = tg.replay(step)
    arguments = [xp.asarray(x) if isinstance(x, np.ndarray) else x for x in arguments]
    return lambda: step(*arguments)


def step_in_torch(library: str, parameters, loss_of, model, our_loss, *noise):
    """Steps of PyTorch's model with these parameters, once loss_of(*noise) and its gradients are those of our
    model, which has `our_loss` with the same noise."""
    from torch_side import adam, require_the_same

    require_the_same(our_loss, model.parameters(), loss_of(*noise), parameters)
    return training_step(loss_of, adam(parameters, library, lr=LEARNING_RATE))


def step_on_bits(library: str, model, bits, of_torch):
    """Steps of a model whose network gives logits of bits, in either library. of_torch() makes the network as
    a function in PyTorch, and its parameters."""
    if library == "tinygen":
        return step_in_tinygen(model, model.loss, bits)
    from torch_side import adam

    loss_of, _, parameters = network_on_bits(library, model, bits, of_torch)
    return training_step(loss_of, adam(parameters, library, lr=LEARNING_RATE))


def network_on_bits(library: str, model, bits, of_torch):
    """(loss_of, logits, parameters) in PyTorch, once its loss and gradients are those of our model."""
    import torch
    from torch_side import batch, require_the_same

    logits, parameters = of_torch()
    x = batch(bits, library)

    def loss_of():
        total = torch.nn.functional.binary_cross_entropy_with_logits(logits(x), x, reduction="sum")
        return total / len(x)

    require_the_same(model.loss(bits), model.parameters(), loss_of(), parameters)
    return loss_of, logits, parameters
