"""Invertible models with an explicit density."""

from .flow import Composition, Flow, Inverse, StandardNormal
from .maf import IAF, MAF, AutoregressiveFlow, BatchNormFlow
