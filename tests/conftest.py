"""What every test may use."""

import os
import signal
from pathlib import Path

# Before TensorFlow is imported: quiet, no GPU, few threads (the machines that run tests have two cores).
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import pytest

ROOT = Path(__file__).parent.parent


def pytest_configure(config):
    """A shell that starts tests in the background makes them ignore Ctrl-C, and all that they start."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with recordings that stands beside some checkouts."""
    folder = ROOT.parent / "shared"
    if not (folder / "serving").is_dir():
        pytest.skip("the recordings of a real TF Serving (../shared/serving) are not here")
    return folder
