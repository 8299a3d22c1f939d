"""Implicit models: games of a generator against a critic."""

from .dcgan import DCGAN, dcgan_discriminator, dcgan_generator, interpolate
from .gan import GAN
from .hinge import HingeGAN
from .lsgan import LSGAN
from .sn_gan import SNGAN, spectrally_normalized
from .wgan import WGAN
from .wgan_gp import WGANGP
