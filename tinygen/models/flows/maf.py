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

from ... import nn, ops
from ...autodiff import Tensor, is_grad_enabled
from ...backend import host_generator, to_host, xp
from ...ops.normalization import scale_and_shift, standardize
from ..autoregressive.conditionals import mixture_of_gaussians
from ..autoregressive.conditioning import one_hot
from ..autoregressive.made import MADE
from ..autoregressive.masked_network import MaskedNetwork
from ..autoregressive.sequential import fill
from .flow import Composition, Flow, Inverse


class AutoregressiveFlow(Flow):
    """One layer: z_d = (x_d − μ_d) exp(−α_d), with |α_d| < bound.

    inputs, hidden, order: of the masked network that gives μ and α. context: the size of the condition, which
    is a vector for each example, if there is one. bound: of α, above 0.

    Nothing bounds what a network says of an x that is unlike all it has seen, and a few layers of exp(−α) can
    make any number of it. So α is bounded, as L. Dinh, J. Sohl-Dickstein and S. Bengio, Density Estimation
    using Real NVP, 2017, bound theirs by tanh (section 4.1)."""

    def __init__(
        self, inputs: int, hidden: Sequence[int], order="natural", context: int = 0, bound: float = 2.0
    ):
        super().__init__(inputs)
        if not bound > 0:
            raise ValueError(f"AutoregressiveFlow: bound: expected a number above 0, got {bound!r}")
        self.network = MaskedNetwork(inputs, hidden, 2, order=order, context=context)
        self.bound = bound
        self._description = (
            f"AutoregressiveFlow({inputs}, {list(hidden)}, {order!r}, context={context}, bound={bound:g})"
        )
        *hidden_layers, last = self.network.layers
        for layer in hidden_layers:
            _spread(layer)
        of_context = [self.network.of_context["parameters"]] if context else []
        for layer in (last, *of_context):
            layer.weight.data = 0.01 * layer.weight.data  # starts near to the identity

    def forward(self, x, condition=None):
        """As for every flow; all elements at once."""
        self._expect_vectors(x, self.network.dtype, "x")
        mu, alpha = ops.unstack(self.network(x, condition), axis=2)
        log_scale = self._log_scale(alpha)
        return (x - mu) * ops.exp(log_scale), log_scale.sum(axis=1)

    def inverse(self, z, condition=None):
        """As for every flow; one element after another. Inside `no_grad` every unit is computed once;
        outside this is `inverse_naively`."""
        if is_grad_enabled():
            return self.inverse_naively(z, condition)
        self._expect_vectors(z, self.network.dtype, "z")
        in_order = ops.raw(z).T[xp.asarray(self.network.order())]
        log_det = xp.zeros(len(z), z.dtype)

        def draw(places, parameters):
            nonlocal log_det
            mu, log_scale = parameters[:, 0], self._log_scale(parameters[:, 1])
            log_det = log_det - log_scale.sum(axis=0)
            return in_order[places] * xp.exp(-log_scale) + mu

        x = fill(self.network, draw, len(z), condition)
        return Tensor(x), Tensor(log_det)

    def inverse_naively(self, z, condition=None):
        """What `inverse` returns, with a pass of the network for each element: the readable reference, and
        what gradients go through."""
        self._expect_vectors(z, self.network.dtype, "z")
        x, places = xp.zeros(z.shape, z.dtype), self.network.orders.data[0].argsort()
        for k in range(self.inputs):
            mu, alpha = ops.unstack(self.network(x, condition), axis=2)
            log_scale = self._log_scale(alpha)
            x = ops.where(places == k, z * ops.exp(-log_scale) + mu, x)
        return x, -log_scale.sum(axis=1)

    def _log_scale(self, alpha):
        """−α, bounded."""
        return -self.bound * ops.tanh(alpha * (1 / self.bound))

    def __repr__(self) -> str:
        return self._description


def _spread(layer: nn.MaskedLinear) -> None:
    """Start a hidden layer from N(0, 2 / n) for units that see n others (K. He, X. Zhang, S. Ren and J. Sun,
    Delving deep into rectifiers, 2015, eq. 10), with biases drawn like the weights of an element that is
    always 1. From biases of 0 all units that see the same single element bend at the same place, x = 0."""
    seen = numpy.maximum(to_host(layer.matrix(layer.mask.data)).sum(axis=0), 1)
    rows = host_generator().standard_normal((1 + layer.inputs, layer.outputs), "float32") * (2 / seen) ** 0.5
    layer.bias.data, layer.weight.data = rows[0], layer.stored(rows[1:])


class BatchNormFlow(Flow):
    """z_d = (x_d − m_d) exp(γ_d) / √(v_d + ε) + β_d                                    (MAF appendix B)

    In training m and v are the mean and the variance of the batch, so that a density depends on the rest of
    the batch. What is reported is measured in evaluation, by moments that do not: running ones, which each
    training batch moves (in the paper those of all training data),

        running ← (1 − MOMENTUM) running + MOMENTUM (m or v).

    Conditions play no part. Raises as every flow, and ValueError for fewer than two examples in training."""

    EPSILON = 1e-5
    MOMENTUM = 0.1

    def __init__(self, inputs: int):
        self._expect_counts(inputs=inputs)
        super().__init__(inputs)
        zeros, ones = numpy.zeros(inputs, "float32"), numpy.ones(inputs, "float32")
        self.gamma, self.beta = Tensor(zeros, requires_grad=True), Tensor(zeros, requires_grad=True)
        self.running_mean, self.running_variance = Tensor(zeros), Tensor(ones)

    def forward(self, x, condition=None):
        """As for every flow; in training by the moments of x, which move the running ones."""
        self._expect_vectors(x, self.gamma.dtype, "x")
        if not self.training:
            log_scale = self._running_log_scale()
            z = (x - self.running_mean.data) * ops.exp(log_scale) + self.beta
            return z, _for_each(log_scale.sum(), x)
        if len(x) < 2:
            raise self._refusal(x, "two or more examples in training")
        y, mean, variance = standardize(x, 0, self.EPSILON)
        if self._updates_state():
            self._move(self.running_mean, ops.raw(mean)[0])
            self._move(self.running_variance, ops.raw(variance)[0])
        log_scale = self.gamma - 0.5 * ops.log(variance + self.EPSILON)  # (1, D)
        return scale_and_shift(y, ops.exp(self.gamma), self.beta), _for_each(log_scale.sum(), x)

    def inverse(self, z, condition=None):
        """As for every flow; by the running moments, in training too."""
        self._expect_vectors(z, self.gamma.dtype, "z")
        log_scale = self._running_log_scale()
        x = (z - self.beta) * ops.exp(-log_scale) + self.running_mean.data
        return x, _for_each(-log_scale.sum(), z)

    def _running_log_scale(self):
        return self.gamma - 0.5 * xp.log(self.running_variance.data + self.EPSILON)

    def _move(self, running: Tensor, value) -> None:
        running.data = (1 - self.MOMENTUM) * running.data + self.MOMENTUM * value

    def __repr__(self) -> str:
        return f"BatchNormFlow({self.inputs})"


def _for_each(value, x):
    """A number for each example of x."""
    return ops.broadcast_to(value, (x.shape[0],))


class MAF(Composition):
    """Layers of autoregressive flow with their orders in turn natural and reversed, and batch normalization
    between them (MAF section 4.1; the paper has one after the last layer too, appendix B).

    inputs: D. hidden: the units of each network's hidden layers. layers: how many flows.
    labels: the number of classes, if the model is p(x | label) (MAF section 3.4); conditions are labels (N,)
        then.
    batch_norm: whether there is batch normalization.
    components: 0 for a standard normal base; else the base is a MADE whose conditionals are mixtures of so
        many normals (MAF MoG).

    The layers together stretch by e¹⁰ at most, each by its share of that. Let data be of about unit scale. A
    single step of training can still throw one point far out: clip gradients, and let the learning rate rise
    from 0."""

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
        flows: list[Flow] = []
        for k in range(layers):
            flows.append(AutoregressiveFlow(inputs, hidden, _order(k), labels, bound=10 / layers))
            if batch_norm and k + 1 < layers:
                flows.append(BatchNormFlow(inputs))
        base = None
        if components:
            base = MADE(inputs, hidden, mixture_of_gaussians(components), labels, order=_order(layers))
        super().__init__(*flows, base=base)
        self.labels = labels

    def forward(self, x, condition=None):
        """As for every flow. Raises ValueError for labels that are missing, needless or wrong."""
        return super().forward(x, self._vectors(condition, x, "x"))

    def inverse(self, z, condition=None):
        """As `forward`."""
        return super().inverse(z, self._vectors(condition, z, "z"))

    def _vectors(self, condition, x, argument: str):
        """The labels of examples x as vectors, in the parameters' dtype."""
        dtype = self.flows[0].network.dtype
        self._expect_vectors(x, dtype, argument)
        return one_hot(condition, self.labels, len(x), dtype)


class IAF(Composition):
    """Inverse autoregressive flows one after another, with their orders in turn natural and reversed: draws
    take one pass a layer, and densities of other values than draws one element at a time.

    inputs, hidden, layers: as for `MAF`. context: the size of the condition, a vector for each example."""

    def __init__(self, inputs: int, hidden: Sequence[int], layers: int = 2, *, context: int = 0):
        self._expect_counts(inputs=inputs, layers=layers)
        flows = [AutoregressiveFlow(inputs, hidden, _order(k), context) for k in range(layers)]
        super().__init__(*map(Inverse, flows))
        self.context = context


def _order(layer: int) -> str:
    """The order of the elements in a layer."""
    return "reversed" if layer % 2 else "natural"
