"""What a machine has, looked at one thing at a time; each look is quick and raises nothing."""

import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

__all__ = ["Finding", "examine"]

_QUARTET = ("tensorflow", "tensorflow-text", "keras", "keras-hub")
_TF_SECONDS = 120
_PIP_SECONDS = 20
_MIN_FREE_GIB = 2
_GIB = 2**30

# Run apart, so that a TensorFlow that cannot be imported does not end the examination.
_ASK_TENSORFLOW = """
import json, os
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import keras, tensorflow as tf
gpus = [tf.config.experimental.get_device_details(gpu) for gpu in tf.config.list_physical_devices("GPU")]
print(json.dumps({"backend": keras.backend.backend(), "gpus": gpus}, default=list))
"""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        name: What it is.
        ok: `True` or `False`; `None` where it is neither good nor bad.
        value: What was found.
        meaning: What follows from it: what works, or what to do.
    """

    name: str
    ok: bool | None
    value: str
    meaning: str = ""

    def to_dict(self) -> dict[str, Any]:
        """A JSON-able dict."""
        return asdict(self)


def examine(*, network: bool = True) -> Iterator[Finding]:
    """Looks at everything, the quick things first.

    Args:
        network: Whether to see if the package index can be reached. Defaults to `True`.

    Yields:
        A finding at a time.
    """
    yield Finding("python", sys.version_info >= (3, 11), platform.python_version())
    yield from _packages()
    yield from _extras()
    yield _processor()
    yield _memory()
    yield from _disk()
    yield _server_binary()
    yield _pip(network=network)
    yield from _tensorflow()


def _packages() -> Iterator[Finding]:
    try:
        requirements = [Requirement(text) for text in importlib.metadata.requires("kerasllm") or []]
    except importlib.metadata.PackageNotFoundError:
        yield Finding(
            "kerasllm", False, "not installed", "run `pip install kerasllm`, or `pip install -e .` here"
        )
        return
    yield Finding("kerasllm", True, importlib.metadata.version("kerasllm"))
    bounds = {item.name: item.specifier for item in requirements if item.marker is None}
    for name in _QUARTET:
        version = _version(name)
        ok = version is not None and bounds[name].contains(version, prereleases=True)
        remedy = "" if ok else f'run `pip install "{name}{bounds[name]}"`'
        yield Finding(name, ok, version or "not installed", remedy)


def _extras() -> Iterator[Finding]:
    uses = {
        "server": ("grpc", "httptools", "tensorflow_serving"),
        "client": ("grpc", "tensorflow_serving"),
        "tensorboard": ("tensorboard",),
    }
    works = {
        "server": "`kerasllm serve`",
        "client": "the gRPC client",
        "tensorboard": "logs for TensorBoard",
    }
    for extra, modules in uses.items():
        missing = [module for module in modules if importlib.util.find_spec(module) is None]
        if missing:
            meaning = f"for {works[extra]}, run `pip install 'kerasllm[{extra}]'`"
            yield Finding(f"extra {extra}", None, f"without {', '.join(missing)}", meaning)
        else:
            yield Finding(f"extra {extra}", True, "installed", f"{works[extra]} works")


def _processor() -> Finding:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    flags = set(
        next((line.split(":", 1)[1] for line in text.splitlines() if line.startswith("flags")), "").split()
    )
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    native = sorted(flags & {"avx512_bf16", "amx_bf16", "amx_tile", "amx_int8", "avx512f", "avx2"})
    bfloat16 = bool(flags & {"avx512_bf16", "amx_bf16"})
    meaning = "multiplies bfloat16 natively" if bfloat16 else "has no bfloat16 of its own: use float32"
    return Finding("cpu", None, f"{cores} cores; {', '.join(native) or platform.machine()}", meaning)


def _memory() -> Finding:
    pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    return Finding("memory", None, f"{pages * size / _GIB:.1f} GiB")


def _disk() -> Iterator[Finding]:
    from kerasllm.resources.paths import cache_directory

    for name, path in (("disk here", Path.cwd()), ("cache", cache_directory())):
        existing = next(folder for folder in (path, *path.parents) if folder.exists())
        free = shutil.disk_usage(existing).free / _GIB
        writable = os.access(existing, os.W_OK)
        meaning = "" if writable else "cannot be written"
        if writable and free < _MIN_FREE_GIB:
            meaning = f"a run and its export want {_MIN_FREE_GIB} GiB"
        yield Finding(name, not meaning, f"{free:.1f} GiB free in {path}", meaning)


def _server_binary() -> Finding:
    found = shutil.which("tensorflow_model_server")
    if found is None:
        return Finding(
            "tensorflow_model_server", None, "not on the PATH", "`kerasllm serve` uses the embedded server"
        )
    return Finding("tensorflow_model_server", True, found, "`kerasllm serve --engine binary` works")


def _pip(*, network: bool) -> Finding:
    if importlib.util.find_spec("pip") is None:
        return Finding("pip", False, "not installed", "`pypi://` handles need it: run `python -m ensurepip`")
    version = _version("pip") or "unknown version"
    if not network:
        return Finding("pip", None, version, "the package index was not asked")
    arguments = [sys.executable, "-m", "pip", "index", "versions", "pip", "--disable-pip-version-check"]
    ok = _run(arguments, seconds=_PIP_SECONDS) is not None
    meaning = (
        "`pypi://` handles work" if ok else "the package index does not answer: `pypi://` only from the cache"
    )
    return Finding("pip", ok, version, meaning)


def _tensorflow() -> Iterator[Finding]:
    answer = _run([sys.executable, "-c", _ASK_TENSORFLOW], seconds=_TF_SECONDS, parse=json.loads)
    if answer is None:
        meaning = 'it cannot train or export; see `python -c "import tensorflow"`'
        yield Finding("tensorflow import", False, "failed", meaning)
        return
    backend = answer["backend"]
    meaning = "" if backend == "tensorflow" else "set KERAS_BACKEND=tensorflow: a SavedModel needs it"
    yield Finding("keras backend", backend == "tensorflow", backend, meaning)
    if not answer["gpus"]:
        yield Finding("gpu", None, "none", "trains on the CPU; a small BERT takes minutes")
    for gpu in answer["gpus"]:
        capability = tuple(gpu.get("compute_capability") or (0, 0))
        precision = "bfloat16" if capability >= (8, 0) else "float16" if capability >= (7, 0) else "float32"
        meaning = f"computes {precision} natively"
        yield Finding("gpu", True, f"{gpu.get('device_name', 'unnamed')}, capability {capability}", meaning)


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _run(arguments: list[str], *, seconds: float, parse: Callable[[str], Any] = str) -> Any | None:
    try:
        done = subprocess.run(arguments, capture_output=True, text=True, timeout=seconds, check=True)
        return parse(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
