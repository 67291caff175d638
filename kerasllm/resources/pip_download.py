"""Downloads one wheel with the user's own pip, so that mirrors, proxies and credentials are theirs."""

import importlib.util
import logging
import re
import subprocess
import sys
import tempfile
import zipfile
from difflib import get_close_matches
from functools import partial
from pathlib import Path

from packaging.tags import Tag
from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    canonicalize_name,
    parse_sdist_filename,
    parse_wheel_filename,
)
from packaging.version import Version

from kerasllm.errors import DependencyError, ResourceError
from kerasllm.resources.store import BrokenDownloadError, NoNetworkError, with_retries

__all__ = ["download_wheel"]

logger = logging.getLogger(__name__)

_PIP = (sys.executable, "-P", "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input")
_UNREACHABLE = re.compile(
    "NewConnectionError|NameResolutionError|ConnectTimeoutError|ProxyError|Tunnel connection failed|SSLError"
    "|Name or service not known|name resolution|Network is unreachable|Could not fetch URL"
    "|50[0-9] Server Error"
)
_BROKEN = re.compile(
    "IncompleteRead|Connection broken|ProtocolError|ReadTimeoutError|RemoteDisconnected|ConnectionResetError"
    "|is invalid\\.|DO NOT MATCH|incomplete-download|Read timed out"
)


def download_wheel(name: str, version: str, directory: Path) -> Path:
    """Downloads the wheel of one version of a package, without what it depends on, and runs none of it.

    Only data is taken from the wheel, so that one made for another platform or Python will do.

    Args:
        name: Package.
        version: Exact version.
        directory: Empty directory to put the wheel in.

    Returns:
        Path of the wheel.

    Raises:
        DependencyError: If this Python has no pip.
        NoNetworkError: If no package index could be reached, or the connection kept breaking.
        ResourceError: If there is no such package, version or wheel.
    """
    if importlib.util.find_spec("pip") is None:
        raise DependencyError(
            f"`{name}=={version}` is downloaded with pip, which this Python ({sys.executable}) does not "
            "have. Install it with `python -m ensurepip`, or `uv pip install pip` in an environment of uv."
        )
    logger.info("Downloading `%s==%s` with pip.", name, version)
    return with_retries(partial(_attempt, name, version, directory))


def _attempt(name: str, version: str, directory: Path) -> Path:
    for leftover in directory.iterdir():
        leftover.unlink()
    code, log = _run_pip(name, version, directory, ())
    foreign = _skipped_wheel(name, version, log) if code else None
    if foreign is not None:
        logger.info("`%s==%s` has wheels for other platforms only; taking one for its data.", name, version)
        code, log = _run_pip(name, version, directory, _options(foreign))
    wheels = sorted(directory.glob("*.whl"))
    if code or len(wheels) != 1:
        raise _explained(name, version, log)
    if not zipfile.is_zipfile(wheels[0]):
        raise BrokenDownloadError(f"The download of `{name}=={version}` was incomplete. {_CHECK_NETWORK}")
    return wheels[0]


def _run_pip(name: str, version: str, directory: Path, options: tuple[str, ...]) -> tuple[int, str]:
    """Returns pip's exit code, and its debug log, which is the only place where it says why."""
    with tempfile.TemporaryDirectory(prefix="kerasllm-pip-") as temporary:
        log = Path(temporary, "log")
        command = [*_PIP, "--quiet", "--disable-pip-version-check", "--ignore-requires-python"]
        command += ["--log", str(log), "--dest", str(directory), *options, f"{name}=={version}"]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
        return done.returncode, text + done.stdout + done.stderr


def _skipped(log: str) -> list[str]:
    """Returns the names of the files that pip saw and passed over."""
    links = re.findall(r"(?:Skipping link|Link requires)[^\n]*?: ((?:https?|file):\S+)", log)
    return [link.split("#")[0].split("?")[0].rsplit("/", 1)[-1].replace("%2B", "+") for link in links]


def _skipped_wheel(name: str, version: str, log: str) -> Tag | None:
    for file in _skipped(log):
        try:
            found, number, _, tags = parse_wheel_filename(file)
        except (InvalidWheelFilename, ValueError):
            continue
        if found == canonicalize_name(name) and number == Version(version):
            return min(tags, key=str)
    return None


def _options(tag: Tag) -> tuple[str, ...]:
    implementation, number = tag.interpreter[:2], tag.interpreter[2:]
    return (
        *("--implementation", implementation, "--python-version", number or "3"),
        *("--abi", tag.abi, "--platform", tag.platform),
    )


def _has_source(name: str, version: str, log: str) -> bool:
    for file in _skipped(log):
        try:
            if parse_sdist_filename(file) == (canonicalize_name(name), Version(version)):
                return True
        except (InvalidSdistFilename, ValueError):
            continue
    return False


_CHECK_NETWORK = (
    "Check the network and what `python -m pip config list` says (proxy, index); what is in the cache "
    "already works without."
)


def _explained(name: str, version: str, log: str) -> ResourceError:
    """Turns what pip wrote into one sentence; without addresses, which are the user's own business."""
    wanted = f"`{name}=={version}`"
    # For a package that it does not have, an index answers 404, which is no fault of the network.
    log = re.sub(r".*Could not fetch URL \S+ 404 .*", "", log)
    if "No space left on device" in log:
        return ResourceError(
            f"The disk is full: {wanted} could not be downloaded. Free some space, also in /tmp."
        )
    if _BROKEN.search(log):
        return BrokenDownloadError(f"The download of {wanted} broke off. {_CHECK_NETWORK}")
    if _UNREACHABLE.search(log):
        message = f"{wanted} could not be downloaded: pip cannot reach its package index. {_CHECK_NETWORK}"
        return NoNetworkError(message)
    versions = re.search(r"\(from versions: ([^)]*)\)", log)
    if versions is None:
        errors = re.findall(r"ERROR: (.*)", log) or ["no reason given"]
        return ResourceError(f"pip could not download {wanted}: {_without_addresses(errors[-1])}")
    if _has_source(name, version, log):
        return ResourceError(
            f"{wanted} exists only as a source distribution, and downloading that would run its code. "
            "Name a version that has a wheel, or install it yourself and give the path of its file."
        )
    known = [] if versions[1].strip() == "none" else versions[1].split(", ")
    if not known:
        return ResourceError(
            f"pip finds no package `{name}` that has a wheel. Check the spelling of the name, and that your "
            "package index has it (`python -m pip download --no-deps " + f"{name}`)."
        )
    close = get_close_matches(version, known, n=1, cutoff=0.0)[0]
    listed = ", ".join(known[-10:])
    return ResourceError(
        f"`{name}` has no version {version} with a wheel; there {'is' if len(known) == 1 else 'are'} "
        f"{listed}. Write for example `{name}=={close}`."
    )


def _without_addresses(text: str) -> str:
    text = re.sub(r"\w+://\S+", "[address]", text)
    return re.sub(r"host='[^']*'", "host=[address]", text).strip()
