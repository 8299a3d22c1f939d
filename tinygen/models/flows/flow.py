"""What all flows share: an invertible map z = f(x) from data to a base, and the density that x gets by it.

    log p(x) = log p_z(f(x)) + log |det ∂f(x)/∂x|

by the change of variables (D. J. Rezende and S. Mohamed, Variational Inference with Normalizing Flows, 2015,
eq. 5, whose f goes from base to data). All figures are in nats.
"""

from __future__ import annotations

from functools import reduce
from operator import add

from ... import nn, ops
from ...autodiff import no_grad
from ...backend import Generator
from ...distributions import Normal
from ...distributions.base import REALS, require_array, require_inside


class StandardNormal(nn.Module):
    """N(0, I) over vectors (N, inputs): the usual base."""

    def __init__(self, inputs: int):
        self.inputs = inputs

    def log_prob(self, z, condition=None):
        return Normal(0.0, 0.0).log_prob(z).sum(axis=1)

    def sample(self, n: int, condition=None, rng: Generator | None = None):
        return Normal(0.0, 0.0).sample(rng, (n, self.inputs))

    def __repr__(self) -> str:
        return f"StandardNormal({self.inputs})"


class Flow(nn.Module):
    """An invertible map of vectors (N, inputs), and the density of x when z = f(x) has the density of `base`.

    inputs: D. base: a Module of as many `inputs` with log_prob(z, condition), (N,), and
        sample(n, condition, rng), an array (n, inputs); N(0, I) if None. Another is a ValueError.

    A flow defines `forward` and `inverse`. Both refuse vectors of another size or dtype than that of the
    parameters (ValueError), and a condition that does not fit, before anything is computed."""

    def __init__(self, inputs: int, base: nn.Module | None = None):
        if base is not None and getattr(base, "inputs", None) != inputs:
            raise ValueError(f"{type(self).__name__}: base: expected one of {inputs} inputs, got {base!r}")
        self.inputs = inputs
        self.base = base or StandardNormal(inputs)

    def forward(self, x, condition=None):
        """From data to base: (z, log |det ∂z/∂x|), (N, inputs) and (N,)."""
        raise NotImplementedError

    def inverse(self, z, condition=None):
        """From base to data: (x, log |det ∂x/∂z|), (N, inputs) and (N,)."""
        raise NotImplementedError

    def log_prob(self, x, condition=None):
        """log p(x), (N,). Raises as `forward`, and ValueError for values that are not finite, looked at on
        the CPU only."""
        name = f"{type(self).__name__}.log_prob: x"
        require_array(name, x)
        require_inside(name, ops.raw(x), REALS)
        z, log_det = self(x, condition)
        return self.base.log_prob(z, condition) + log_det

    def loss(self, x, condition=None):
        """−log p(x), the mean over examples."""
        return -self.log_prob(x, condition).mean()

    @no_grad()
    def sample(self, n: int, condition=None, rng: Generator | None = None):
        """n draws of x, an array (n, inputs) in the parameters' dtype."""
        self._expect_counts(least=0, n=n)
        z = self.base.sample(n, condition, rng).astype(self.parameters()[0].dtype)
        x, _ = self.inverse(z, condition)
        return ops.raw(x)

    def _expect_vectors(self, value, dtype, argument: str) -> None:
        """Refuse what is not (N, inputs) of this dtype."""
        shape = getattr(value, "shape", ())
        if len(shape) != 2 or shape[1] != self.inputs or value.dtype != dtype:
            raise self._refusal(value, f"{dtype}[N, {self.inputs}]", argument)


class Composition(Flow):
    """Flows one after another, from data to base: f = f_K ∘ ... ∘ f₁, whose log-determinants add up. Only the
    whole has a base; those of the parts play no part.

    Raises ValueError for what is no flow, and for flows of different inputs."""

    def __init__(self, *flows: Flow, base: nn.Module | None = None):
        if not flows or not all(isinstance(flow, Flow) for flow in flows):
            raise ValueError(f"Composition: flows: expected one Flow or more, got {list(flows)}")
        super().__init__(flows[0].inputs, base)
        for k, flow in enumerate(flows):
            if flow.inputs != self.inputs:
                raise ValueError(f"Composition: flow {k}: expected {self.inputs} inputs, got {flow.inputs}")
        self.flows = flows

    def forward(self, x, condition=None):
        log_dets = []
        for flow in self.flows:
            x, log_det = flow(x, condition)
            log_dets.append(log_det)
        return x, reduce(add, log_dets)

    def inverse(self, z, condition=None):
        log_dets = []
        for flow in reversed(self.flows):
            z, log_det = flow.inverse(z, condition)
            log_dets.append(log_det)
        return z, reduce(add, log_dets)


class Inverse(Flow):
    """A flow run the other way."""

    def __init__(self, flow: Flow, base: nn.Module | None = None):
        super().__init__(flow.inputs, base)
        self.flow = flow

    def forward(self, x, condition=None):
        return self.flow.inverse(x, condition)

    def inverse(self, z, condition=None):
        return self.flow(z, condition)
