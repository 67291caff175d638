"""Base64 as the server reads it: standard alphabet, white space and missing padding allowed."""

import binascii
import re

__all__ = ["decode_base64"]

_SPACE = re.compile(rb"[ \t\n\v\f\r]")
_WORD = re.compile(rb"[A-Za-z0-9+/]*(={0,2})")


def decode_base64(text: bytes) -> bytes | None:
    """Returns the decoded bytes, or `None` if `text` is not base64."""
    dense = _SPACE.sub(b"", text)
    match = _WORD.fullmatch(dense)
    if match is None:
        return None
    digits = dense.rstrip(b"=")
    padding = -len(digits) % 4
    if padding == 3 or len(match.group(1)) not in (0, padding):
        return None
    return binascii.a2b_base64(digits + b"=" * padding)
