"""`hf://ORGANISATION/NAME[@REVISION]`: a model repository, pinned to a commit, its hashes checked."""

import hashlib
import logging
import re
import shutil
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from kerasllm.errors import ResourceError
from kerasllm.resources.atomic import atomic_write
from kerasllm.resources.manifest import sha256_file
from kerasllm.resources.paths import cache_directory, is_offline, leads_outside, slug
from kerasllm.resources.store import BrokenDownloadError, NoNetworkError, fetch, with_retries

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo, RepoSibling

__all__ = ["resolve_huggingface"]

logger = logging.getLogger(__name__)

_FORM = "`hf://ORGANISATION/NAME`, with `@REVISION` (a branch, tag or commit) at the end if you like"
_DATA = {".json", ".jinja", ".model", ".safetensors", ".txt"}
_PICKLE = {".bin", ".ckpt", ".pickle", ".pkl", ".pt", ".pth"}
_TIMEOUT = 30.0  # seconds for a question about a repository


def resolve_huggingface(handle: str, *, offline: bool = False, allow_pickle: bool = False) -> Path:
    """Returns a local directory with the data files of a model repository.

    A branch or tag is turned into a commit first, and that commit is downloaded; `origin` tells which. Only
    files that cannot run code are taken: safetensors, Keras weights, and text formats.

    Args:
        handle: `hf://ORGANISATION/NAME[@REVISION]`.
        offline: Use only what is in the cache. Defaults to `False`; `HF_HUB_OFFLINE=1` says the same.
        allow_pickle: Also take `pytorch_model.bin` and the like, which run their author's code when they
            are loaded. Defaults to `False`.

    Returns:
        Directory in the cache.

    Raises:
        ResourceError: If the repository or revision is unknown, private or unreachable, has its weights in
            pickles only, or a file differs from its hash.
    """
    from huggingface_hub import constants

    repository, revision = _parse(handle)
    offline = offline or is_offline() or constants.is_offline_mode()
    home = cache_directory() / "hf" / repository.replace("/", "--")
    commit = _commit(handle, repository, revision, home, offline)

    def fill(directory: Path) -> dict[str, Any]:
        # What broke off leaves its whole files here, so that the next attempt need not fetch them again.
        staging = home / f".partial-{commit}"
        files = _choose(handle, with_retries(partial(_info, repository, commit)), allow_pickle)
        arrived = [with_retries(partial(_download, repository, commit, file, staging)) for file in files]
        for path in arrived:
            target = directory / path.relative_to(staging)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(path, target)
        shutil.rmtree(staging, ignore_errors=True)
        return {"repository": repository, "revision": revision, "commit": commit}

    entry = home / (f"{commit}-with-pickle" if allow_pickle else commit)
    return fetch(entry, fill, handle=handle, offline=offline)


def _parse(handle: str) -> tuple[str, str]:
    repository, at, revision = handle.removeprefix("hf://").strip("/").partition("@")
    if not re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", repository, re.ASCII):
        raise ResourceError(f"`{handle}` cannot be used: {repository!r} is not a repository. Write {_FORM}.")
    if at and (not revision or leads_outside(revision)):
        raise ResourceError(f"`{handle}` cannot be used: {revision!r} is not a revision. Write {_FORM}.")
    return repository, revision or "main"


def _commit(handle: str, repository: str, revision: str, home: Path, offline: bool) -> str:
    """Asks for the commit that a branch or tag is at; without network it is the one of last time."""
    if re.fullmatch(r"[0-9a-f]{40}", revision):
        return revision
    remembered = home / "refs" / slug(revision)
    known = remembered.read_text(encoding="utf-8").strip() if remembered.exists() else ""
    if offline and known:
        return known
    if offline:
        raise ResourceError(
            f"`{handle}` is not in the cache `{cache_directory()}`, and offline mode is on. Run once with "
            "network (without `offline=True`, KERASLLM_OFFLINE and HF_HUB_OFFLINE), or let KERASLLM_CACHE "
            "name a cache that has it."
        )
    try:
        commit = str(with_retries(partial(_info, repository, revision)).sha)
    except NoNetworkError as error:
        if not known:
            raise
        logger.warning("%s Using the commit %s of last time.", error, known)
        return known
    if commit != known:
        atomic_write(remembered, commit + "\n")
    return commit


def _info(repository: str, revision: str) -> "ModelInfo":
    from huggingface_hub import HfApi

    try:
        return HfApi().model_info(repository, revision=revision, files_metadata=True, timeout=_TIMEOUT)
    except Exception as error:
        raise _explained(error, repository, revision) from error


def _choose(handle: str, info: "ModelInfo", allow_pickle: bool) -> list["RepoSibling"]:
    """Picks the files that cannot run code; weights only from the top, as subfolders hold other formats."""
    chosen, pickles = [], []
    for file in info.siblings or []:
        path = PurePosixPath(file.rfilename)
        weights = path.suffix == ".safetensors" or path.name.endswith(".weights.h5")
        if leads_outside(file.rfilename):
            raise ResourceError(f"`{handle}` was refused: its file {file.rfilename!r} leads outside.")
        if path.suffix in _PICKLE and len(path.parts) == 1:
            pickles.append(file)
        elif (path.suffix in _DATA or weights) and (len(path.parts) == 1 or not weights):
            chosen.append(file)
    safe = any(file.rfilename.endswith((".safetensors", ".weights.h5")) for file in chosen)
    if pickles and not safe and not allow_pickle:
        raise ResourceError(
            f"`{handle}` has its weights only as pickle ({', '.join(file.rfilename for file in pickles)}), "
            "which can run its author's code when it is loaded; safetensors are expected. Choose a "
            "revision or repository with `model.safetensors`, or say `allow_pickle=True` if you trust the "
            "author."
        )
    return chosen + (pickles if allow_pickle else [])


def _download(repository: str, commit: str, file: "RepoSibling", directory: Path) -> Path:
    from huggingface_hub import hf_hub_download

    try:
        path = Path(hf_hub_download(repository, file.rfilename, revision=commit, local_dir=directory))
    except Exception as error:
        raise _explained(error, repository, commit) from error
    if not _matches(path, file):
        path.unlink()
        raise BrokenDownloadError(f"`{file.rfilename}` of `{repository}` arrived damaged: its hash differs.")
    return path


def _matches(path: Path, file: "RepoSibling") -> bool:
    """Compares with the hash that the repository states: SHA-256 for large files, git's for small ones."""
    if file.lfs is not None:
        return sha256_file(path) == file.lfs.sha256
    if file.blob_id is None:
        return file.size is None or path.stat().st_size == file.size
    content = path.read_bytes()
    header = f"blob {len(content)}\0".encode()
    return hashlib.sha1(header + content, usedforsecurity=False).hexdigest() == file.blob_id


def _explained(error: Exception, repository: str, revision: str) -> Exception:
    """Turns what the hub's library raises into one sentence; its own has addresses in it."""
    import httpx2
    from huggingface_hub import errors

    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, errors.GatedRepoError):
        return ResourceError(
            f"`{repository}` is open only to those who accepted its terms. Accept them on its page, then "
            "log in with `hf auth login` or set HF_TOKEN."
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return ResourceError(
            f"There is no model repository `{repository}`, or it is private. Check the spelling, or log in "
            "with `hf auth login` or HF_TOKEN."
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return ResourceError(
            f"`{repository}` has no branch, tag or commit `{revision}`. Leave `@{revision}` out for the "
            "newest."
        )
    if isinstance(error, httpx2.ConnectError):
        return NoNetworkError(
            f"`{repository}` could not be reached. Check the network and the proxy; HF_ENDPOINT names a "
            "mirror, and what is in the cache already works without network."
        )
    broken = isinstance(error, (httpx2.TransportError, errors.LocalEntryNotFoundError))
    if broken or "Consistency check failed" in str(error) or status == 429 or (status or 0) >= 500:
        what = f"answered with status {status}" if status else "broke off"
        return BrokenDownloadError(f"The download of `{repository}` {what}.")
    if status is not None:
        return ResourceError(f"`{repository}` cannot be had: the hub answered with status {status}.")
    return error
