"""Hides TensorFlow's notes at start-up; whatever else it writes to stderr is shown.

`TF_CPP_MIN_LOG_LEVEL` does not reach what TensorFlow 2.21 logs before its logging is set up: eight lines
about oneDNN and CUDA, two of which begin with WARNING, before every answer.
"""

import contextlib
import importlib.abc
import importlib.machinery
import importlib.util
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from types import ModuleType

__all__ = ["hide_startup_notes"]

_NOTES = re.compile(rb"I\d{4} |WARNING: All log messages before absl::InitializeLog\(\)")
_STDERR = 2
_GPU_DEVICES = ("/dev/nvidiactl", "/dev/nvidia0", "/dev/dxg")  # the last one: Windows' subsystem for Linux


def hide_startup_notes() -> None:
    """From now on, the import of TensorFlow shows no notes. Does not import it."""
    # Where there is no GPU, looking for one is logged as an error ("failed call to cuInit"). Errors that
    # matter are raised in Python, too.
    has_gpu = any(os.path.exists(device) for device in _GPU_DEVICES)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2" if has_gpu else "3")
    if "tensorflow" not in sys.modules and not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder(importlib.abc.MetaPathFinder):
    """Stands aside for everything but the first import of TensorFlow."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != "tensorflow":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec


class _Loader(importlib.abc.Loader):
    def __init__(self, loader: importlib.abc.Loader):
        self._loader = loader

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        spec = module.__spec__
        if spec is not None:
            spec.loader = module.__loader__ = self._loader
        with _without_notes():
            self._loader.exec_module(module)


@contextlib.contextmanager
def _without_notes() -> Iterator[None]:
    """Keeps back what is written to file descriptor 2, and shows at the end what is no note."""
    sys.stderr.flush()
    saved = os.dup(_STDERR)
    with tempfile.TemporaryFile() as kept:
        os.dup2(kept.fileno(), _STDERR)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(saved, _STDERR)
            os.close(saved)
            kept.seek(0)
            for line in kept:
                if not _NOTES.match(line):
                    os.write(_STDERR, line)
