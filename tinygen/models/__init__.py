"""Deep generative models, one file each, by family."""

from . import adversarial, autoregressive, flows, latent
