"""The REST API: what is answered to which request; knows nothing of sockets."""

import json
import logging
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from kerasllm.serving.json_text import error_body
from kerasllm.serving.rest_path import ModelPath, is_api_path, parse_path
from kerasllm.serving.rest_request import PredictBody
from kerasllm.serving.rest_response import predict_answer
from kerasllm.serving.server.core import ServerCore
from kerasllm.serving.server.gate import Gate
from kerasllm.serving.server.predict import check_inputs, rest_signature
from kerasllm.serving.server.served_model import VersionStatus
from kerasllm.serving.status import HTTP_STATUS, StatusError

__all__ = ["HttpRequest", "HttpResponse", "RestApp", "error_page"]

_LOG = logging.getLogger(__name__)
_JSON = "application/json"
_CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "POST, GET",
    "Access-Control-Allow-Headers": "Content-Type",
}
_METHODS = {"GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"}


@dataclass(frozen=True)
class HttpRequest:
    """A complete request.

    Attributes:
        method: As sent.
        path: Path and query string, undecoded.
        headers: Values by lower-case name.
        body: As sent, possibly compressed.
    """

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True)
class HttpResponse:
    """An answer.

    Attributes:
        status: HTTP status.
        body: Its body.
        content_type: Of the body. Defaults to JSON.
        headers: Further headers.
        close: Whether the connection ends with it.
    """

    status: int
    body: bytes = b""
    content_type: str = _JSON
    headers: Mapping[str, str] = field(default_factory=dict)
    close: bool = False


def error_page(status: int) -> HttpResponse:
    """The page for what is no request to the API at all; the connection is closed after it."""
    reason = {400: "Bad Request", 404: "Not Found", 501: "Not Implemented", 503: "Service Unavailable"}[
        status
    ]
    page = (
        f"<HTML><HEAD>\n<TITLE>{status} {reason}</TITLE>\n</HEAD><BODY>\n<H1>{reason}</H1>\n</BODY></HTML>\n"
    )
    return HttpResponse(status, page.encode(), "text/html", close=True)


class RestApp:
    """Answers REST requests.

    Args:
        core: The models.
        gate: Limits the computations.
    """

    def __init__(self, core: ServerCore, gate: Gate):
        self._core = core
        self._gate = gate

    def quick_answer(self, request: HttpRequest) -> HttpResponse | None:
        """Answers what needs no computation, or returns `None`; does not block."""
        if request.method not in _METHODS:
            return error_page(501)
        if not is_api_path(request.path):
            return error_page(404)
        if not _is_decodable(request.path):
            return error_page(400)
        if request.method == "OPTIONS":
            origin = request.headers.get("origin", "")
            known = "http://" in origin or "https://" in origin
            return self._finish(HttpResponse(200 if known else 400, b"", "text/html; charset=ISO-8859-1"))
        target = parse_path(request.method, request.path)
        if target is None:
            return self._refusal(_invalid(f"Malformed request: {request.method} {request.path}"))
        if not target.in_range:
            return self._finish(HttpResponse(400))
        if request.method == "POST":
            return None
        try:
            return self._finish(HttpResponse(200, self._described(target)))
        except StatusError as error:
            return self._refusal(error)

    def computed_answer(self, request: HttpRequest, deadline: float | None = None) -> HttpResponse:
        """Answers a request that `quick_answer` left; the gate has been entered for it.

        Args:
            request: The request.
            deadline: Time on `time.monotonic` for the computation. Defaults to the
                server's time-out from now.
        """
        deadline = time.monotonic() + self._core.options.request_timeout if deadline is None else deadline
        target = parse_path(request.method, request.path)
        try:
            with self._gate.work(deadline):
                if target is None or target.verb != "predict":
                    raise StatusError(
                        "UNIMPLEMENTED",
                        f"The embedded server does not answer :{target.verb if target else ''} yet. Ask with "
                        ":predict, or serve with --engine binary",
                    )
                body = _plain_body(request, self._core.options.max_body_bytes)
                return self._finish(HttpResponse(200, self._predict(target, body, deadline)))
        except _TooLargeError:
            return self.too_large()
        except StatusError as error:
            return self._refusal(error)
        except Exception as error:
            return self.failure(request, error)

    def failure(self, request: HttpRequest, error: Exception) -> HttpResponse:
        """Answers a request that brought a bug to light; the client sees no traceback."""
        _LOG.error("A bug in the server: %s %s", request.method, request.path, exc_info=error)
        return self._refusal(StatusError("INTERNAL", "An internal error; the server's log has the details"))

    def too_large(self) -> HttpResponse:
        """Answers a body above the limit."""
        limit = self._core.options.max_body_bytes
        body = error_body(f"The request body is larger than the limit of {limit} bytes")
        return self._finish(HttpResponse(413, body, close=True))

    def busy(self, error: StatusError) -> HttpResponse:
        """Answers a request that the gate refused."""
        return self._refusal(error, {"Retry-After": "1"})

    def _predict(self, target: ModelPath, body: bytes, deadline: float) -> bytes:
        parsed = PredictBody(body)
        with self._core.use(target.name, target.version, target.label) as (_, servable):
            signature = rest_signature(servable, parsed.signature_name)
            inputs, by_rows = parsed.tensors(signature.inputs)
            check_inputs(signature, inputs)
            left = deadline - time.monotonic()
            outputs = servable.run(signature, inputs, signature.outputs, timeout=left)
        return predict_answer(outputs, by_rows=by_rows)

    def _described(self, target: ModelPath) -> bytes:
        if not target.name:
            raise _invalid("Missing model name in request.")
        if target.verb == "status":  # a label is ignored
            return _status_text(self._core.statuses(target.name, target.version))
        with self._core.use(target.name, target.version, target.label) as (version, servable):
            spec = {"name": target.name, "version": str(version), "signature_name": ""}
            head = json.dumps(spec, indent=1).encode()
            return (
                b'{\n"model_spec":'
                + head
                + b',\n"metadata": {"signature_def": '
                + servable.metadata()
                + b"}\n}\n"
            )

    def _refusal(self, error: StatusError, headers: Mapping[str, str] | None = None) -> HttpResponse:
        status = HTTP_STATUS[error.code]
        return self._finish(HttpResponse(status, error_body(error.message), headers=headers or {}))

    def _finish(self, response: HttpResponse) -> HttpResponse:
        if not self._core.options.enable_rest_api_cors:
            return response
        headers = {**response.headers, **_CORS}
        return HttpResponse(response.status, response.body, response.content_type, headers, response.close)


class _TooLargeError(Exception):
    pass


def _plain_body(request: HttpRequest, limit: int) -> bytes:
    """Unpacks the body; what cannot be unpacked counts as empty."""
    if "gzip" not in request.headers.get("content-encoding", "").lower():
        return request.body
    unpacker = zlib.decompressobj(wbits=31)
    try:
        body = unpacker.decompress(request.body, limit + 1)
    except zlib.error:
        return b""
    if len(body) > limit:
        raise _TooLargeError
    return body if unpacker.eof else b""


def _is_decodable(path: str) -> bool:
    """Whether every `%` begins an escape."""
    parts = path.split("%")[1:]
    return all(len(part) >= 2 and all(c in "0123456789abcdefABCDEF" for c in part[:2]) for part in parts)


def _status_text(statuses: list[VersionStatus]) -> bytes:
    document = {
        "model_version_status": [
            {
                "version": str(status.version),
                "state": status.state,
                "status": {"error_code": status.code, "error_message": status.message},
            }
            for status in statuses
        ]
    }
    return json.dumps(document, indent=1, ensure_ascii=False).encode("utf-8", "replace") + b"\n"


def _invalid(message: str) -> StatusError:
    return StatusError("INVALID_ARGUMENT", message)
