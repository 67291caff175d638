"""A REST predict request's body -> tensors, as TensorFlow Serving reads it.

Ordinary bodies go through Python's `json`, which is written in C. Whatever it refuses, or might read
otherwise than the server's own parser, is read again by `rapidjson`: so the slow road alone makes the
error messages, and the fast one only ever says yes.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from kerasllm.serving.dtypes import DOUBLE, TensorType
from kerasllm.serving.json_tensor import named_tensors
from kerasllm.serving.json_text import value_text
from kerasllm.serving.plain_tensor import plain_tensors
from kerasllm.serving.rapidjson import JsonObject, JsonParseError, parse_json
from kerasllm.serving.status import StatusError

__all__ = ["PredictBody"]

# What Python's parser reads otherwise: lone surrogates, numbers beyond a double or 64 bits. In the search
# for them, floats with up to 18 digits in a row must not be suspects: printed doubles have 17.
_SUSPECT = re.compile(rb"\\u[dD][89a-fA-F]|[eE]\+?[0-9]{3}|[0-9]{19}")
_PAIR = re.compile(rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}")
_SPACE = re.compile(r"[ \t\n\r]*")
_DEFAULT_SIGNATURE = "serving_default"


class PredictBody:
    """The parsed body of a predict request.

    The order of checks is the server's: JSON first, then `signature_name`; the tensors only after the
    model and its signature were found, so that an unknown model is reported before a bad tensor.

    Args:
        body: Bytes of the request.

    Attributes:
        signature_name: Name of the signature, `serving_default` when none was given.

    Raises:
        StatusError: INVALID_ARGUMENT, if the body is not a JSON object or `signature_name` no string.
    """

    def __init__(self, body: bytes):
        self._body = body
        self._document: JsonObject | None = None
        self._plain = _plain_document(body)
        if self._plain is not None:
            self.signature_name = self._plain.get("signature_name", "") or _DEFAULT_SIGNATURE
        else:
            name = self.document.find(b"signature_name", b"")
            if not isinstance(name, bytes):
                raise _refused(
                    self.document, "not formatted correctly. 'signature_name' key must be a string value."
                )
            self.signature_name = name.decode("utf-8", "surrogateescape") or _DEFAULT_SIGNATURE

    @property
    def document(self) -> JsonObject:
        """The body as the server's own parser reads it."""
        if self._document is None:
            self._document = _exact_document(self._body)
        return self._document

    def tensors(self, inputs: Mapping[str, TensorType]) -> tuple[dict[str, np.ndarray], bool]:
        """Reads the tensors.

        Args:
            inputs: Types of the signature's inputs, by name.

        Returns:
            Arrays by name, and whether the request is in row format (`instances`).

        Raises:
            StatusError: INVALID_ARGUMENT or UNIMPLEMENTED, if they do not fit the inputs.
        """
        if self._plain is not None and not any(kind.number == DOUBLE for kind in inputs.values()):
            found = plain_tensors(self._plain, inputs)
            if found is not None:
                return found, "instances" in self._plain
        document = self.document
        by_rows, by_columns = b"instances" in document, b"inputs" in document
        if by_rows and by_columns:
            raise _refused(
                document,
                "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist ",
            )
        if not by_rows and not by_columns:
            raise StatusError("INVALID_ARGUMENT", "Missing 'inputs' or 'instances' key")
        if by_rows:
            instances = document.find(b"instances")
            if not isinstance(instances, list) or isinstance(instances, JsonObject):
                raise _refused(document, "Expecting 'instances' to be an list/array")
            if not instances:
                raise _refused(document, "No values in 'instances' array")
            return named_tensors(instances, inputs, by_rows=True), True
        return named_tensors(document.find(b"inputs"), inputs, by_rows=False), False


def _plain_document(body: bytes) -> dict[str, Any] | None:
    """Returns the body as Python's `json` reads it, or `None` where the server might read it otherwise."""
    if _SUSPECT.search(body) and (b"\\\\u" in body or _SUSPECT.search(_PAIR.sub(b"", body))):
        return None
    try:
        text = body.decode()
        document, _ = _DECODER.raw_decode(text, _SPACE.match(text).end())  # type: ignore[union-attr]
    except (ValueError, RecursionError):
        return None
    usable = type(document) is dict and type(document.get("signature_name", "")) is str
    return document if usable else None


def _unique(members: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(members)
    if len(found) != len(members):
        raise ValueError("a name twice: the server takes the first, Python the last")
    return found


_DECODER = json.JSONDecoder(object_pairs_hook=_unique)


def _exact_document(body: bytes) -> JsonObject:
    if not body:
        raise StatusError("INVALID_ARGUMENT", "JSON Parse error: The document is empty")
    try:
        document = parse_json(body)
    except JsonParseError as error:
        raise StatusError("INVALID_ARGUMENT", f"JSON Parse error: {error}") from error
    if not isinstance(document, JsonObject):
        raise _refused(document, "Is not object")
    return document


def _refused(value: Any, why: str) -> StatusError:
    text = value_text(value).decode("utf-8", "surrogateescape")
    return StatusError("INVALID_ARGUMENT", f"JSON Value: {text} {why}")
