"""Models of one element after another."""

from .made import MADE
