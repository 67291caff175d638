"""TensorFlow's notes at start-up stay out of the way; everything else is shown."""

import importlib
import os
import subprocess
import sys

import pytest

from kerasllm.cli import quiet

NOTES = (
    b"WARNING: All log messages before absl::InitializeLog() is called are written to STDERR\n"
    b"I0000 00:00:1795445062.478547   20905 port.cc:153] oneDNN custom operations are on.\n"
)


@pytest.fixture
def fake_tensorflow(tmp_path, monkeypatch):
    """A module called `tensorflow` that writes what it is told to file descriptor 2."""

    def make(body):
        (tmp_path / "tensorflow.py").write_text(body)
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, "tensorflow", raising=False)
        importlib.invalidate_caches()

    yield make
    sys.modules.pop("tensorflow", None)  # monkeypatch then puts the real one back
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, quiet._Finder)]


def test_notes_are_hidden_and_the_rest_is_shown(fake_tensorflow, capfd):
    fake_tensorflow(f"import os\nos.write(2, {NOTES!r} + b'E0000 no AVX\\n' + {NOTES!r})\nanswer = 42\n")
    quiet.hide_startup_notes()
    quiet.hide_startup_notes()  # a second time changes nothing
    module = importlib.import_module("tensorflow")
    os.write(2, b"after\n")
    assert module.answer == 42
    assert type(module.__loader__) is type(module.__spec__.loader) is not quiet._Loader
    assert capfd.readouterr().err == "E0000 no AVX\nafter\n"
    assert not any(isinstance(finder, quiet._Finder) for finder in sys.meta_path)


def test_an_import_that_fails_shows_what_it_wrote(fake_tensorflow, capfd):
    fake_tensorflow(f"import os\nos.write(2, {NOTES!r} + b'F0000 broken\\n')\nraise ImportError('broken')\n")
    quiet.hide_startup_notes()
    with pytest.raises(ImportError, match="broken"):
        importlib.import_module("tensorflow")
    assert capfd.readouterr().err == "F0000 broken\n"


def test_without_a_gpu_the_search_for_one_is_no_error(fake_tensorflow, monkeypatch, tmp_path):
    fake_tensorflow("")
    for device, level in ((tmp_path, "2"), (tmp_path / "none", "3")):
        monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)
        monkeypatch.setattr(quiet, "_GPU_DEVICES", (str(device),))
        quiet.hide_startup_notes()
        assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == level
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "0")
    quiet.hide_startup_notes()
    assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == "0"


@pytest.mark.slow
def test_the_real_tensorflow_is_quiet():
    code = "import kerasllm.cli.quiet as q; q.hide_startup_notes(); import tensorflow as tf; tf.ones(1)"
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("TF_", "CUDA_"))}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert done.stderr == ""
