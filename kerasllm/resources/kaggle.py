"""`kaggle://OWNER/MODEL/FRAMEWORK/VARIATION/VERSION`: where KerasHub's own presets live."""

import contextlib
import logging
import re
import shutil
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from kerasllm.errors import ResourceError
from kerasllm.resources.paths import cache_directory, slug
from kerasllm.resources.store import BrokenDownloadError, NoNetworkError, fetch, with_retries

__all__ = ["resolve_kaggle"]

_FORM = "`kaggle://OWNER/MODEL/FRAMEWORK/VARIATION/VERSION`, such as `kaggle://keras/bert/keras/bert_tiny_en_uncased/3`"


def resolve_kaggle(handle: str, *, offline: bool = False) -> Path:
    """Returns a local directory with the files of one version of a model on Kaggle.

    Args:
        handle: `kaggle://OWNER/MODEL/FRAMEWORK/VARIATION/VERSION`.
        offline: Use only what is in the cache. Defaults to `False`.

    Returns:
        Directory in the cache.

    Raises:
        ResourceError: If the handle is malformed, or the model is unknown, private or unreachable.
    """
    parts = handle.removeprefix("kaggle://").strip("/").split("/")
    if not all(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", part) for part in parts) or len(parts) not in {
        4,
        5,
    }:
        raise ResourceError(f"`{handle}` cannot be used: it is not a model of Kaggle. Write {_FORM}.")
    if len(parts) == 4 or not parts[4].isdigit():
        raise ResourceError(
            f"`{handle}` cannot be used: it names no version, and the newest may be another tomorrow. "
            f"Write {_FORM}."
        )
    model = "/".join(parts)

    def fill(directory: Path) -> dict[str, Any]:
        with_retries(partial(_download, model, directory))
        return {"model": model}

    return fetch(cache_directory() / "kaggle" / slug(model), fill, handle=handle, offline=offline)


def _download(model: str, directory: Path) -> None:
    import kagglehub
    from kagglehub.config import get_kaggle_credentials

    try:
        with _stdout_is_for_results():
            kagglehub.model_download(model, output_dir=str(directory), force_download=True)
    except Exception as error:
        raise _explained(error, model, bool(get_kaggle_credentials())) from error
    shutil.rmtree(directory / ".complete", ignore_errors=True)  # a note of kagglehub to itself


@contextlib.contextmanager
def _stdout_is_for_results() -> Iterator[None]:
    """Keeps what kagglehub logs and prints to stdout off it."""
    log = logging.getLogger("kagglehub")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        log.setLevel(level)


def _explained(error: Exception, model: str, logged_in: bool) -> Exception:
    """Turns what kagglehub raises into one sentence; its own has addresses in it."""
    import requests
    from kagglehub.exceptions import DataCorruptionError

    response = getattr(error, "response", None)
    status = getattr(response, "status_code", None)
    if status in {401, 403, 404}:
        remedy = (
            "" if logged_in else ", or log in: KAGGLE_USERNAME and KAGGLE_KEY, or `~/.kaggle/kaggle.json`"
        )
        return ResourceError(
            f"Kaggle has no model `{model}`, or you may not have it (status {status}). Check the spelling "
            f"and the version, accept its terms on its page{remedy}."
        )
    if isinstance(error, requests.ConnectionError) and "NewConnectionError" in str(error):
        return NoNetworkError(
            f"Kaggle could not be reached for `{model}`. Check the network and the proxy; what is in the "
            "cache already works without network."
        )
    network = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)
    if isinstance(error, (*network, DataCorruptionError)) or status == 429 or (status or 0) >= 500:
        return BrokenDownloadError(f"The download of `{model}` from Kaggle broke off.")
    if status is not None:
        return ResourceError(f"`{model}` cannot be had: Kaggle answered with status {status}.")
    return error
