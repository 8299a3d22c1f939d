"""MADE given labels."""

import numpy as np

from tinygen.backend import Generator, to_host, xp
from tinygen.models.autoregressive.made import MADE


def test_a_completion_draws_the_rest_given_the_label(device):
    """Here each bit is the label, but for those that are given, which are its opposite."""
    made = MADE(4, [5], labels=2)
    for p in made.parameters():
        p.data = xp.zeros(p.shape, p.dtype)
    of_labels = made.network.of_context["parameters"]
    of_labels.weight.data = xp.asarray(np.repeat(np.array([[-50], [50]], "float32"), 4, axis=1))
    label, given = np.arange(20) % 2, np.array([True, False, True, False])
    opposite = xp.asarray(np.repeat(1 - label[:, None], 4, axis=1).astype("float32"))
    x = to_host(made.complete(opposite, xp.asarray(given), xp.asarray(label), rng=Generator(0)))
    assert (x == np.where(given, 1 - label[:, None], label[:, None])).all()
