"""Spectral normalization: T. Miyato, T. Kataoka, M. Koyama and Y. Yoshida, Spectral normalization for
generative adversarial networks, 2018.

The largest singular value σ(W) of a linear layer's weight is how much the layer can stretch a difference of
inputs. With W / σ(W) in place of W that is 1, and with such layers a critic is Lipschitz continuous. (A
convolution stretches up to √(KH·KW) times as much at stride 1, where windows overlap.)
"""

from __future__ import annotations

from .. import ops
from ..autodiff import Tensor
from ..backend import host_generator, xp
from .module import Module
from .reparameterized import Reparameterized

# Of the power iteration at the start; after that, one at each training step follows W, which moves slowly.
FIRST_ITERATIONS = 15
EPSILON = 1e-12  # for norms that are less, so that there is no division by 0


def power_iteration(W, u, iterations: int = 1):
    """Approximate the largest singular value of W and its singular vectors (Algorithm 1, step 1 and 2):

        v ← Wᵀ u / ‖Wᵀ u‖,   u ← W v / ‖W v‖,   so many times;   σ = uᵀ W v.

    W: a matrix (O, I), an array or a Tensor. u: an array (O,), not orthogonal to the singular vector.

    Returns σ (), u (O,) and v (I,). σ has W's history and ∂σ/∂W = u vᵀ; u and v are arrays, and constants.
    Raises ValueError for fewer than 1 iterations."""
    if iterations < 1:
        raise ValueError(f"power_iteration: iterations: expected at least 1, got {iterations}")
    for _ in range(iterations):
        v = _unit(ops.matmul(u, ops.raw(W)))
        u = _unit(ops.matmul(ops.raw(W), v))
    return _stretch(W, u, v), u, v


def _unit(x):
    return x / xp.maximum(ops.norm(x), EPSILON)


def _stretch(W, u, v):
    """uᵀ W v."""
    return ops.matmul(u, ops.matmul(W, v))


class SpectralNorm(Reparameterized):
    """A layer with W / σ(W) for its weight W (eq. 8): `SpectralNorm(Conv2d(3, 64, 4))`.

    layer: Linear, Conv1d, Conv2d, ConvTranspose2d or Embedding. Its weight W stays the parameter, also of an
        optimizer that holds it. Kernels count as matrices (outputs, all other axes), as in the paper.
    iterations: of the power iteration at each call in training.
    u, v: the singular vectors of W so far, untrained state. In training a call moves them, otherwise it uses
        them as they are.

    The gradient takes u and v for constants, which at the singular vectors is exact (eq. 12):
    ∂L/∂W = (Ḡ − λ u vᵀ) / σ, where Ḡ is the gradient for W / σ and λ = ⟨Ḡ, W / σ⟩.

    Raises TypeError for another layer, and ValueError for iterations below 1 and a weight of zeros."""

    def __init__(self, layer: Module, iterations: int = 1):
        super().__init__(layer)
        self._expect_counts(iterations=iterations)
        self.iterations = iterations
        W = self.as_matrix(layer.weight.data)
        u = Tensor(host_generator().standard_normal(len(W)).astype(layer.weight.dtype))
        sigma, u, v = power_iteration(W, u.data, FIRST_ITERATIONS)
        if not sigma > 0:
            raise ValueError(f"{self!r}: layer: expected a weight other than 0, got sigma = {float(sigma)}")
        self.u, self.v = Tensor(u), Tensor(v)

    def computed_weight(self) -> Tensor:
        weight = self.layer.weight
        W = self.as_matrix(weight)
        if self._updates_state():
            sigma, u, v = power_iteration(W, self.u.data, self.iterations)
            self.u.data, self.v.data = u, v
        else:
            # Copies: a later call in training may change the state before the backward pass of this one.
            sigma = _stretch(W, self.u.data.copy(), self.v.data.copy())
        return weight * (1 / sigma)  # the gradient of a product takes fewer arrays than that of a quotient
