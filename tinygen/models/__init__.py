"""Deep generative models, one file each, by family."""

from . import autoregressive, flows, latent
