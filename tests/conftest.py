"""How many examples hypothesis draws: `pytest --hypothesis-profile=thorough` for many more than usual."""

import os

# Before NumPy starts its threads: on the small matrices of tests they would only wait for each other.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from hypothesis import settings

# In continuous integration the examples are the same each time: what fails there can be run again.
settings.register_profile("default", max_examples=100, deadline=None, derandomize="CI" in os.environ)
settings.register_profile("thorough", max_examples=2000, deadline=None)
settings.load_profile("default")
