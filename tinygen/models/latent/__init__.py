"""Models with explicit latent variables."""

from .vae import VAE
