"""Probability distributions: log-densities, draws, divergences.

Parameters are Tensors or raw arrays of one shape and floating dtype, or scalars, numbers too, that hold for
all elements. They range over all real numbers, so that a network can give them: a logarithm stands for what
is positive, logits for probabilities. What is bounded (the ends of an interval, a temperature, the integers
of Erlang, Beta and Dirichlet) is not meant to come from a network.

Results are elementwise, in the shape of the parameters, and Tensors where a parameter or x is one; models sum
over the axes of an example. Where outcomes are K, or values vectors of K, the last axis of the parameters is
for these and not in that shape. Nothing but scalars broadcasts.

Every distribution has `log_prob` and `sample`; those whose draws can be differentiated have `rsample`;
`mean`, `variance` and `entropy` exist where they have a closed form. Log-densities, entropies and divergences
are in nats.
"""

from .composition import Beta, Dirichlet, Erlang, LogNormal
from .discrete import Bernoulli, Categorical, DiscretizedLogistic
from .divergence import kl_divergence, monte_carlo_entropy, monte_carlo_kl
from .gumbel_softmax import GumbelSoftmax, LogGumbelSoftmax
from .inverse_cdf import Exponential, Gumbel, Logistic
from .location_scale import Laplace, Normal, Uniform
from .mixture import Mixture
