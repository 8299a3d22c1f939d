"""Masked autoregressive flows, and inverse ones.

    G. Papamakarios, T. Pavlakou and I. Murray, Masked Autoregressive Flow for Density Estimation, 2017 (MAF).
    D. P. Kingma, T. Salimans, R. Jozefowicz, X. Chen, I. Sutskever and M. Welling, Improving Variational
    Inference with Inverse Autoregressive Flow, 2016 (IAF).

A Gaussian MADE is a flow: if p(x_d | x_<d) is N(μ_d, (exp α_d)²), with μ_d and α_d functions of x_<d, then

    x_d = z_d exp α_d + μ_d                                                               (MAF eq. 3)
    z_d = (x_d − μ_d) exp(−α_d),    log |det ∂z/∂x| = −Σ_d α_d                            (MAF eq. 4 and 5)

takes standard normal z to x and back. From x to z all elements go at once, from z to x one after another. The
same map with x and z in each other's places is the inverse autoregressive flow, whose draws are fast.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy  # parameters and state are made on the host

from ... import ops
from ...autodiff import Tensor, no_grad
from ...backend import xp
from ...ops.normalization import standardize
from ..autoregressive.conditioning import one_hot
from ..autoregressive.made import MADE, mixture_of_gaussians
from ..autoregressive.masked_network import MaskedNetwork
from ..autoregressive.sequential import fill
from .flow import Composition, Flow, Inverse


class AutoregressiveFlow(Flow):
    """One layer: z_d = (x_d − μ_d) exp(−α_d).

    inputs, hidden, order: of the masked network that gives μ and α. context: the size of the condition, which
    is a vector for each example, if there is one."""

    def __init__(self, inputs: int, hidden: Sequence[int], order="natural", context: int = 0):
        super().__init__(inputs)
        self.network = MaskedNetwork(inputs, hidden, 2, order=order, context=context)
        last = self.network.layers[-1]
        last.weight.data = 0.01 * last.weight.data  # starts near to the identity

    def forward(self, x, condition=None):
        parameters = self.network(x, condition)
        mu, alpha = parameters[:, :, 0], parameters[:, :, 1]
        return (x - mu) * ops.exp(-alpha), -alpha.sum(axis=1)

    @no_grad()
    def inverse(self, z, condition=None):
        """As for every flow; one element after another, and without history."""
        z = ops.raw(z)
        columns, log_det = z.T, xp.zeros(len(z), z.dtype)

        def draw(d, parameters):
            nonlocal log_det
            mu, alpha = parameters
            log_det = log_det + alpha
            return columns[d] * xp.exp(alpha) + mu

        return Tensor(fill(self.network, draw, len(z), condition)), Tensor(log_det)


class BatchNormFlow(Flow):
    """z = (x − m) exp(γ) / √(v + ε) + β for each element, with the moments m and v of the batch in training,
    of which running ones are kept for evaluation (MAF section 3.4 and appendix B).

    In training a density depends on the rest of the batch: what is reported is measured in evaluation."""

    EPSILON = 1e-5

    def __init__(self, inputs: int, momentum: float = 0.1):
        super().__init__(inputs)
        self.momentum = momentum
        self.gamma = Tensor(numpy.zeros(inputs, "float32"), requires_grad=True)
        self.beta = Tensor(numpy.zeros(inputs, "float32"), requires_grad=True)
        self.mean, self.variance = (
            Tensor(numpy.zeros(inputs, "float32")),
            Tensor(numpy.ones(inputs, "float32")),
        )

    def forward(self, x, condition=None):
        if self.training:
            y, mean, variance = standardize(x, 0, self.EPSILON)
            if self._updates_state():
                self._move(self.mean, ops.raw(mean)[0])
                self._move(self.variance, ops.raw(variance)[0])
            log_scale = self.gamma - 0.5 * ops.log(variance[0] + self.EPSILON)
            z = y * ops.exp(self.gamma) + self.beta
        else:
            log_scale = self._running_log_scale()
            z = (x - self.mean.data) * ops.exp(log_scale) + self.beta
        return z, _for_each(log_scale.sum(), x)

    def inverse(self, z, condition=None):
        """As for every flow; by the running moments."""
        log_scale = self._running_log_scale()
        x = (z - self.beta) * ops.exp(-log_scale) + self.mean.data
        return x, _for_each(-log_scale.sum(), z)

    def _running_log_scale(self):
        return self.gamma - 0.5 * xp.log(self.variance.data + self.EPSILON)

    def _move(self, running: Tensor, value) -> None:
        running.data = (1 - self.momentum) * running.data + self.momentum * value


def _for_each(value, x):
    """A number for each example of x."""
    return ops.broadcast_to(value, (x.shape[0],))


class MAF(Composition):
    """Layers of autoregressive flow with their orders in turn natural and reversed, and batch normalization
    after each but the last (MAF section 3.2 and 3.4).

    inputs: D. hidden: the units of each network's hidden layers. layers: how many flows.
    labels: the number of classes, if the model is p(x | label); conditions are labels (N,) then.
    batch_norm: whether there is batch normalization.
    components: 0 for a standard normal base; else the base is a MADE whose conditionals are mixtures of so
        many normals (MAF MoG)."""

    def __init__(
        self,
        inputs: int,
        hidden: Sequence[int],
        layers: int = 5,
        *,
        labels: int = 0,
        batch_norm: bool = True,
        components: int = 0,
    ):
        self._expect_counts(inputs=inputs, layers=layers)
        self._expect_counts(least=0, labels=labels, components=components)
        orders = ["natural", "reversed"]
        flows: list[Flow] = []
        for k in range(layers):
            flows.append(AutoregressiveFlow(inputs, hidden, orders[k % 2], labels))
            if batch_norm and k + 1 < layers:
                flows.append(BatchNormFlow(inputs))
        base = None
        if components:
            family, order = mixture_of_gaussians(components), orders[layers % 2]
            base = MADE(inputs, hidden, family, labels, order=order)
        super().__init__(*flows, base=base)
        self.labels = labels

    def forward(self, x, condition=None):
        return super().forward(x, one_hot(condition, self.labels, x.shape[0]))

    def inverse(self, z, condition=None):
        return super().inverse(z, one_hot(condition, self.labels, z.shape[0]))


class IAF(Composition):
    """Inverse autoregressive flows one after another, with their orders in turn natural and reversed: draws
    take one pass a layer, and densities of other values than draws one element at a time.

    inputs, hidden, layers: as for `MAF`. context: the size of the condition, a vector for each example."""

    def __init__(self, inputs: int, hidden: Sequence[int], layers: int = 2, *, context: int = 0):
        self._expect_counts(inputs=inputs, layers=layers)
        orders = ["natural", "reversed"]
        super().__init__(
            *(Inverse(AutoregressiveFlow(inputs, hidden, orders[k % 2], context)) for k in range(layers))
        )
