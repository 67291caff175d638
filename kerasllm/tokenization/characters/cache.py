"""Arrays that take a second to make, remembered in the process and on disk."""

import contextlib
import functools
import hashlib
import io
import json
import logging
import unicodedata
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tokenizers

from kerasllm.errors import ResourceError
from kerasllm.resources.atomic import atomic_write
from kerasllm.resources.paths import cache_directory

__all__ = ["forget", "remember"]

_LOGGER = logging.getLogger(__name__)
_IN_PROCESS: dict[Path, dict[str, np.ndarray]] = {}
_MOST_IN_PROCESS = 64


def remember(
    name: str, parts: object, make: Callable[[], dict[str, np.ndarray]], *, names: tuple[str, ...]
) -> dict[str, np.ndarray]:
    """The arrays that `make` makes, from memory where they were made before.

    Args:
        name: What they are, for the file name.
        parts: All that they depend on, as JSON values; the version of the `tokenizers` library and the code
            of this package are added.
        make: Makes them.
        names: Their names; a file without one of them is made anew.

    Returns:
        The arrays by name. They must not be changed.
    """
    path = cache_directory() / "tokenization" / f"{name}-{_key(parts)}.npz"
    if path not in _IN_PROCESS:
        arrays = _read(path, names)
        if arrays is None:
            arrays = make()
            _write(path, arrays)
        if len(_IN_PROCESS) >= _MOST_IN_PROCESS:
            _IN_PROCESS.pop(next(iter(_IN_PROCESS)), None)
        _IN_PROCESS[path] = arrays
    return _IN_PROCESS[path]


def forget() -> None:
    """Forgets what is remembered in the process, but not what is on disk."""
    _IN_PROCESS.clear()


def _key(parts: object) -> str:
    """Differs wherever the arrays could: by what they are of, by library, by this package's code."""
    everything = [tokenizers.__version__, unicodedata.unidata_version, _code(), parts]
    return hashlib.sha256(json.dumps(everything).encode()).hexdigest()[:32]


@functools.cache
def _code() -> str:
    digest = hashlib.sha256()
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()


def _read(path: Path, names: tuple[str, ...]) -> dict[str, np.ndarray] | None:
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            return {name: file[name] for name in names}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):  # absent or damaged: made anew
        return None


def _write(path: Path, arrays: dict[str, np.ndarray]) -> None:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    with contextlib.suppress(ResourceError, OSError):  # a cache that cannot be written only costs time
        atomic_write(path, buffer.getvalue())
        _LOGGER.debug("Remembered what the tokenizer does to each character in %s.", path)
