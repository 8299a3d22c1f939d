"""The distributions of numbers, each made of real parameters, beside SciPy's and PyTorch's of the same."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import stats

from tinygen import ops
from tinygen.distributions import (
    Beta,
    Erlang,
    Exponential,
    Gumbel,
    Laplace,
    Logistic,
    LogNormal,
    Normal,
    Uniform,
)


class Family(NamedTuple):
    """make: of `parameters` arrays or Tensors of real numbers, a distribution of tinygen.
    scipy: of the same arrays, SciPy's. torch: of the module torch and its tensors, PyTorch's; None
        where it has none."""

    parameters: int
    make: Callable
    scipy: Callable
    torch: Callable | None


FAMILIES = {
    "normal": Family(
        2,
        Normal,
        lambda m, v: stats.norm(m, np.exp(v / 2)),
        lambda torch, m, v: torch.distributions.Normal(m, (v / 2).exp()),
    ),
    "laplace": Family(
        2,
        Laplace,
        lambda m, s: stats.laplace(m, np.exp(s)),
        lambda torch, m, s: torch.distributions.Laplace(m, s.exp()),
    ),
    "uniform": Family(
        2,
        lambda a, b: Uniform(a, a + ops.exp(b)),
        lambda a, b: stats.uniform(a, np.exp(b)),
        lambda torch, a, b: torch.distributions.Uniform(a, a + b.exp()),
    ),
    "exponential": Family(
        1,
        Exponential,
        lambda r: stats.expon(0, np.exp(-r)),
        lambda torch, r: torch.distributions.Exponential(r.exp()),
    ),
    "logistic": Family(2, Logistic, lambda m, s: stats.logistic(m, np.exp(s)), None),
    "gumbel": Family(
        2,
        Gumbel,
        lambda m, s: stats.gumbel_r(m, np.exp(s)),
        lambda torch, m, s: torch.distributions.Gumbel(m, s.exp()),
    ),
    "lognormal": Family(
        2,
        LogNormal,
        lambda m, v: stats.lognorm(np.exp(v / 2), 0, np.exp(m)),
        lambda torch, m, v: torch.distributions.LogNormal(m, (v / 2).exp()),
    ),
    "erlang of 1": Family(
        1,
        lambda r: Erlang(1, r),
        lambda r: stats.expon(0, np.exp(-r)),
        lambda torch, r: torch.distributions.Exponential(r.exp()),
    ),
    "erlang of 3": Family(
        1,
        lambda r: Erlang(3, r),
        lambda r: stats.gamma(3, 0, np.exp(-r)),
        lambda torch, r: torch.distributions.Gamma(0 * r + 3, r.exp()),
    ),
    "beta of 1 and 1": Family(
        0,
        lambda: Beta(1, 1),
        lambda: stats.beta(1, 1),
        lambda torch: torch.distributions.Beta(*torch.tensor([1.0, 1.0]).double()),
    ),
    "beta of 4 and 2": Family(
        0,
        lambda: Beta(4, 2),
        lambda: stats.beta(4, 2),
        lambda torch: torch.distributions.Beta(*torch.tensor([4.0, 2.0]).double()),
    ),
}
