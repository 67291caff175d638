"""What every test may use."""

import os
import shutil
import signal
import tempfile
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
    # Runs keep token ids in the user's cache; tests that need no download must not meet each other there.
    if "not real" in config.getoption("markexpr") and "KERASLLM_CACHE" not in os.environ:
        config.kerasllm_cache = tempfile.mkdtemp(prefix="kerasllm-cache-")
        os.environ["KERASLLM_CACHE"] = config.kerasllm_cache


def pytest_unconfigure(config):
    """Removes the cache of the session, in the process that made it."""
    if hasattr(config, "kerasllm_cache"):
        shutil.rmtree(config.kerasllm_cache, ignore_errors=True)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with recordings that stands beside some checkouts."""
    folder = ROOT.parent / "shared"
    if not (folder / "serving").is_dir():
        pytest.skip("the recordings of a real TF Serving (../shared/serving) are not here")
    return folder
