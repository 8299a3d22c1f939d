"""The devices that tests run on, and how many examples hypothesis draws.

A test with the argument `device` runs once on every device, which is the current one inside it: "cpu";
"strict", the double of CuPy in strict_cupy.py, which refuses what would fail on a GPU; and "cuda" where there
is a GPU. Such a test makes its arrays by `xp.asarray(host)` or `tg.Tensor(host)`, and compares after
`backend.to_host`, or `t.numpy()` for a Tensor:

    def test_exp(device):
        y = ops.exp(tg.Tensor([0.0, 1.0]))
        np.testing.assert_allclose(y.numpy(), [1, math.e], rtol=1e-6)

Inside `with strict_cupy.forbid_transfers():` nothing may be brought from the device to the host.

`pytest --hypothesis-profile=thorough` draws many more examples than usual.
"""

import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from unittest import mock

# Before NumPy starts its threads: on the small matrices of tests they would only wait for each other.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import pytest
import strict_cupy
import strict_graphs
from hypothesis import HealthCheck, settings

from tinygen import backend, threads

# In continuous integration the examples are the same each time: what fails there can be run again. That one
# example after the other gets the same `device` is right.
usual = {"deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture]}
settings.register_profile("default", max_examples=100, derandomize="CI" in os.environ, **usual)
settings.register_profile("thorough", max_examples=2000, **usual)
settings.load_profile("default")


def _strict() -> backend.Device:
    """The GPU's device, made with the double for CuPy."""
    with mock.patch.dict(sys.modules, cupy=strict_cupy.cupy):
        return backend.device_makers["cuda"]()._replace(name="strict", cublas=strict_graphs.Cublas)


backend.device_makers["strict"] = _strict
DEVICES = ["cpu", "strict"]
try:
    backend.get_device("cuda")
    DEVICES.append("cuda")
    _GPU = ""
except RuntimeError as _error:
    _GPU = f"; {_error}"


def pytest_report_header() -> str:
    return f"devices: {', '.join(DEVICES)}{_GPU}"


@pytest.fixture(params=DEVICES)
def device(request):
    """The name of a device, which is the current one inside the test."""
    with backend.device(request.param):
        yield request.param


@pytest.fixture(params=DEVICES[1:])
def far(request):
    """The name of another device than the CPU, which is the current one."""
    yield request.param
    backend.set_device("cpu")


@pytest.fixture
def three_threads(monkeypatch):
    """Work is shared out to three threads from two elements on."""
    with ThreadPoolExecutor(2) as others:
        shared = {"sharing": True, "_threads": 3, "_others": others, "LEAST": 2, "_idle": threading.Lock()}
        for name, value in {**shared, "_started": True}.items():
            monkeypatch.setattr(threads, name, value, raising=False)
        monkeypatch.setattr(backend, "LARGE_PRODUCT", 0)
        yield


@pytest.fixture(params=[1, 300, 1 << 18, "three threads"], ids="workspace {}".format)
def workspace(request, monkeypatch):
    """What is computed in pieces is so one at a time, a few, all at once, or on three threads."""
    if request.param == "three threads":
        request.getfixturevalue("three_threads")
    else:
        monkeypatch.setattr(backend, "_current", backend.current_device()._replace(workspace=request.param))
