"""The URLs of the REST API: which model, which version, what to do."""

import re
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

__all__ = ["ModelPath", "is_api_path", "parse_path"]

_API = re.compile(r"/v1/.*", re.IGNORECASE | re.ASCII | re.DOTALL)
_POST = re.compile(
    r"/v1/models/([^/:]+)(?:/versions/(\d+)|/labels/([^/:]+))?:(classify|regress|predict)",
    re.IGNORECASE | re.ASCII,
)
_GET = re.compile(
    r"/v1/models(?:/([^/:]+))?(?:/versions/(\d+)|/labels/([^/:]+))?(?:/(metadata))?",
    re.IGNORECASE | re.ASCII,
)


@dataclass(frozen=True)
class ModelPath:
    """What a URL asks for.

    Attributes:
        name: The model, decoded; empty when the URL names none.
        version: Its version, or `None` for the newest.
        label: Its version's label, or `None`.
        verb: `predict`, `classify`, `regress`, `metadata` or `status`.
        in_range: Whether the version fits in 64 bits; the server answers such a URL with an empty 400.
    """

    name: str
    version: int | None
    label: str | None
    verb: str
    in_range: bool


def is_api_path(path: str) -> bool:
    """Whether the API answers a path at all; all others are 404 pages."""
    return _API.fullmatch(path) is not None


def parse_path(method: str, path: str) -> ModelPath | None:
    """Reads a request's path, query string included: the server matches both as one.

    The match is case-insensitive, but what is done is decided by the exact lower-case word: an upper-case
    `:PREDICT` is no known request, and `/METADATA` asks for the status.

    Returns:
        What it asks for, or `None` for a malformed request.
    """
    match = {"POST": _POST, "GET": _GET}.get(method, _NEVER).fullmatch(path)
    if match is None:
        return None
    name, version, label, word = match.groups()
    if method == "POST" and not word.islower():
        return None
    verb = word if method == "POST" or word == "metadata" else "status"
    number = int(version) if version and len(version.lstrip("0")) < 20 else None
    return ModelPath(
        _decoded(name or ""),
        number,
        _decoded(label) if label else None,
        verb,
        not version or (number is not None and number < 2**63),
    )


def _decoded(text: str) -> str:
    return unquote_to_bytes(text.encode("utf-8", "surrogateescape")).decode("utf-8", "surrogateescape")


_NEVER = re.compile(r"(?!)")
