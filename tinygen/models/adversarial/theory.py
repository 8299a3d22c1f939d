"""What theory says of adversarial games: exact values against which a trained game is measured.

p and q are distributions of numbers (tinygen.distributions), and integrals over them are sums over a line of
points. Divergences and values of games are in nats; gradients reach p, q and a discriminator through them.

    I. Goodfellow et al., Generative Adversarial Nets, 2014                                             (GAN)
    M. Arjovsky, S. Chintala and L. Bottou, Wasserstein Generative Adversarial Networks, 2017          (WGAN)
    G. Gidel et al., A Variational Inequality Perspective on Generative Adversarial Networks, 2019     (VI)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import NormalDist

from ... import ops
from ...autodiff import Tensor, grad
from ...backend import xp

# Two densities on a line ---------------------------------------------------------------------------------


def integral(f, x):
    """∫ f dx from the values f (N,) at evenly spaced points x (N,), which reach to where f is 0.

    For smooth f this sum converges faster than any power of the spacing (L. N. Trefethen and J. A. C.
    Weideman, The Exponentially Convergent Trapezoidal Rule, 2014).

    Raises ValueError for less than two points and for values of another shape."""
    of_f, of_x = (getattr(array, "shape", ()) for array in (f, x))
    if of_f != of_x or len(of_x) != 1 or of_x[0] < 2:
        raise ValueError(f"integral: f, x: expected arrays of one shape (N,) with N > 1, got {of_f}, {of_x}")
    return f.sum() * (x[1] - x[0])


def optimal_logit(p, q, x):
    """log p(x) − log q(x), the logit of the discriminator that is best against q,

        D*(x) = p(x) / (p(x) + q(x)) = σ(log p(x) − log q(x))                                     (GAN eq. 2)

    for p(x) and q(x) that are not both 0."""
    return p.log_prob(x) - q.log_prob(x)


def discriminator_value(logit, p, q, x):
    """V(D) = E_p[log D] + E_q[log(1 − D)] of D = σ(logit), from logits (N,) at points x (N,).     (GAN eq. 3)

    Its maximum, at the optimal logit, is −log 4 + 2 JSD(p ‖ q)                         (GAN eq. 4 and 6)"""
    log_d, log_one_minus_d = ops.log_sigmoid(logit), ops.log_sigmoid(-logit)
    density_p, density_q = ops.exp(p.log_prob(x)), ops.exp(q.log_prob(x))
    return integral(density_p * log_d + density_q * log_one_minus_d, x)


def kl_by_quadrature(p, q, x):
    """KL(p ‖ q) = ∫ p log p/q dx over the points x (N,), for two distributions without a closed form."""
    log_p = p.log_prob(x)
    return integral(ops.exp(log_p) * (log_p - q.log_prob(x)), x)


def jensen_shannon(p, q, x):
    """JSD(p ‖ q) = ½ KL(p ‖ m) + ½ KL(q ‖ m) with m = ½ (p + q), from 0 to log 2, over the points x (N,)."""
    log_p, log_q = p.log_prob(x), q.log_prob(x)
    log_m = ops.logaddexp(log_p, log_q) - math.log(2)
    return 0.5 * integral(ops.exp(log_p) * (log_p - log_m) + ops.exp(log_q) * (log_q - log_m), x)


# The Wasserstein distance --------------------------------------------------------------------------------


def wasserstein_1(x, y):
    """W₁ = 1/N Σ |x₍ᵢ₎ − y₍ᵢ₎| of two sets of N numbers, each with weight 1/N: arrays (N,), without gradient.

    On a line the cheapest transport keeps the order (C. Villani, Topics in Optimal Transportation, 2003,
    section 2.2). Raises ValueError for two shapes, and for none or more than one axis."""
    if x.shape != y.shape or len(x.shape) != 1 or not x.shape[0]:
        raise ValueError(f"wasserstein_1: x, y: expected one shape (N,), N > 0, got {x.shape} and {y.shape}")
    return abs(xp.sort(x) - xp.sort(y)).mean()


def wasserstein_1_by_quadrature(p, q, x):
    """W₁(p, q) = ∫ |F_p − F_q| dx over the points x (N,), with the distribution functions F, without gradient
    (S. S. Vallender, Calculation of the Wasserstein Distance between Probability Distributions on the Line,
    1974)."""
    return integral(abs(_distribution_gap(p, q, x)), x)


def optimal_critic(p, q, x):
    """f*(x) = ∫ˣ sign(F_q − F_p) du, the function of slope 1 whose E_p[f] − E_q[f] is the largest, W₁(p, q)
    (WGAN eq. 2).

    For integration by parts gives E_p[f] − E_q[f] = ∫ f' (F_q − F_p) dx. (N,), up to a constant."""
    return xp.cumsum(xp.sign(_distribution_gap(q, p, x))) * (x[1] - x[0])


def _distribution_gap(p, q, x):
    """F_p − F_q at points x (N,)."""
    gap = xp.exp(p.log_prob(x)) - xp.exp(q.log_prob(x))
    return (xp.cumsum(gap) - 0.5 * gap) * (x[1] - x[0])


def wasserstein_1_of_normals(mean: float, std: float, other_mean: float, other_std: float) -> float:
    """W₁ of N(μ₁, σ₁²) and N(μ₂, σ₂²): E|d + s ε| with d = μ₁ − μ₂, s = |σ₁ − σ₂| and ε ~ N(0, 1),

        s √(2/π) exp(−d² / 2s²) + d (1 − 2 Φ(−d/s)),   and |d| where s = 0,

    since the transport that keeps the order is affine, μ₁ + σ₁ ε ↦ μ₂ + σ₂ ε.

    Raises ValueError for a standard deviation below 0."""
    if std < 0 or other_std < 0:
        raise ValueError(f"wasserstein_1_of_normals: expected std of at least 0, got {std} and {other_std}")
    d, s = mean - other_mean, abs(std - other_std)
    if s == 0:
        return abs(d)
    return s * math.sqrt(2 / math.pi) * math.exp(-0.5 * (d / s) ** 2) + d * (1 - 2 * NormalDist().cdf(-d / s))


def clipped_slope_bound(widths: Sequence[int], clip: float) -> float:
    """What no slope of a critic exceeds with weights in [−c, c] and activations of slope at most 1:

        Π c √(n_in n_out),

    for the norm of a matrix is at most the root of the sum of its squares. (WGAN section 3 says that there is
    such a number, not what it is.)

    widths: n of the input, of each hidden layer and of the output. clip: c."""
    return math.prod(clip * math.sqrt(n * m) for n, m in zip(widths, widths[1:]))


# Two players of one number each --------------------------------------------------------------------------


def simultaneous_step(value: Callable, a, b, lr: float):
    """a − η ∂v/∂a and b + η ∂v/∂b, both at (a, b), for a player a who wants v(a, b) small and b who wants it
    large; η is lr. All are arrays of any shape, v(a, b) a scalar Tensor."""
    slope_a, slope_b = _slopes(value, a, b)
    return a - lr * slope_a, b + lr * slope_b


def alternating_step(value: Callable, a, b, lr: float):
    """First b ← b + η ∂v/∂b, as the discriminator in GAN Algorithm 1, then a ← a − η ∂v/∂a at the new b."""
    _, slope_b = _slopes(value, a, b)
    b = b + lr * slope_b
    slope_a, _ = _slopes(value, a, b)
    return a - lr * slope_a, b


def trajectory(step: Callable, value: Callable, a, b, lr: float, steps: int):
    """Where numbers a and b (0-d arrays) come from their start in so many steps: (steps + 1, 2)."""
    points = [xp.stack([a, b])]
    for _ in range(steps):
        a, b = step(value, a, b, lr)
        points.append(xp.stack([a, b]))
    return xp.stack(points)


def _slopes(value: Callable, a, b):
    """∂v/∂a and ∂v/∂b as arrays."""
    players = Tensor(a, requires_grad=True), Tensor(b, requires_grad=True)
    return [slope.data for slope in grad(value(*players), players)]


def bilinear_growth(lr: float) -> float:
    """√(1 + η²): by so much each simultaneous step of the game v = ab takes (a, b) away from 0, its only
    equilibrium, for its matrix [[1, −η], [η, 1]] is a rotation times that (VI Proposition 1)."""
    return math.sqrt(1 + lr * lr)


def bilinear_invariant(a, b, lr: float):
    """a² + b² + η ab, which an alternating step of the game v = ab leaves as it is.

    For η < 2 it holds the players on an ellipse around the equilibrium, which they neither leave nor reach.
    (Were a the first to move, it would be a² + b² − η ab.)"""
    return a * a + b * b + lr * a * b
