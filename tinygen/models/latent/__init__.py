"""Models with explicit latent variables."""

from .iaf_vae import IAFVAE
from .vae import VAE
