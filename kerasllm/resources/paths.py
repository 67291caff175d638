"""Where downloads are kept, and whether the network may be used at all."""

import hashlib
import os
from pathlib import Path, PurePosixPath
from urllib.parse import quote

import platformdirs

__all__ = ["cache_directory", "is_offline", "leads_outside", "slug"]


def cache_directory() -> Path:
    """Returns the directory that downloads are kept in; it need not exist yet.

    The environment variable `KERASLLM_CACHE` names another one than the user's cache directory.
    """
    chosen = os.environ.get("KERASLLM_CACHE")
    return Path(chosen).expanduser().absolute() if chosen else platformdirs.user_cache_path("kerasllm", False)


def is_offline() -> bool:
    """Tells whether the environment variable `KERASLLM_OFFLINE` forbids downloads."""
    return os.environ.get("KERASLLM_OFFLINE", "").strip().lower() not in {"", "0", "false", "no", "off"}


def slug(text: str) -> str:
    """Returns a name for one file or directory that differs wherever `text` differs."""
    quoted = quote(text, safe="@").replace("%2F", "+")  # a plus sign itself becomes %2B
    # A leading dot would hide it, `..` would climb out, and file systems stop at 255 bytes.
    if len(quoted) <= 100 and not quoted.startswith("."):
        return quoted
    return f"{quoted.lstrip('.')[:80]}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def leads_outside(path: str) -> bool:
    """Tells whether a relative path from elsewhere (an archive, a handle) could leave its directory."""
    pure = PurePosixPath(path)
    return pure.is_absolute() or ".." in pure.parts or "\\" in path or "\0" in path or ":" in pure.parts[:1]
