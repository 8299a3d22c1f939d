"""A step of training, written alike in both libraries."""

from __future__ import annotations


def training_step(loss_of, optimizer):
    """The function that makes one; loss_of() gives the loss."""

    def step():
        loss = loss_of()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step
