"""Package description: NumPy is the only requirement; everything else is an extra."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (HERE / "tinygen/__init__.py").read_text()).group(1)

THREADS = ["threadpoolctl>=3.1"]  # shares convolutions out to all cores
DEMOS = ["matplotlib>=3.7", "tqdm>=4.60", *THREADS]
TEST = ["pytest>=7.4", "hypothesis>=6.100", "scipy>=1.11", *DEMOS]

setup(
    name="tinygen",
    version=VERSION,
    description="Deep generative models and reverse-mode automatic differentiation, from scratch",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.10",
    packages=find_packages(include=["tinygen", "tinygen.*"]),
    package_data={
        "tinygen": ["py.typed"],
        "tinygen.data": ["digits.csv.gz"],
        "tinygen.metrics": ["classifier-*.npz"],
    },
    install_requires=["numpy>=2.0"],
    extras_require={
        "threads": THREADS,
        "demos": DEMOS,
        "test": TEST,
        "cuda12": ["cupy-cuda12x[ctk]>=14,<15"],
        "cuda13": ["cupy-cuda13x[ctk]>=14,<15"],
    },
)
