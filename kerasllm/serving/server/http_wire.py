"""Requests and answers as HTTP/1 writes them."""

from email.utils import formatdate

from kerasllm.serving.server.rest_app import HttpResponse

__all__ = ["request_target", "wire_format"]

_REASONS = {
    200: "OK",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    409: "Conflict",
    413: "Request Entity Too Large",
    429: "Too Many Requests",
    499: "Client Closed Request",
    500: "Internal Server Error",
    501: "Not Implemented",
    503: "Service Unavailable",
    504: "Gateway Time-out",
}


def request_target(url: bytes) -> str:
    """Returns path and query of a request's target, also of a whole URL as proxies send it."""
    text = url.decode("utf-8", "surrogateescape")
    if text[:7].lower() == "http://" or text[:8].lower() == "https://":
        _, _, rest = text.partition("://")
        _, slash, path = rest.partition("/")
        return slash + path or "/"
    return text


def wire_format(response: HttpResponse, version: str, *, keep_alive: bool, head_only: bool = False) -> bytes:
    """Returns an answer as it goes over the wire."""
    version = version if version == "1.0" else "1.1"
    lines = [f"HTTP/{version} {response.status} {_REASONS.get(response.status, 'Unknown')}"]
    lines.append(f"Content-Type: {response.content_type}")
    lines += [f"{name}: {value}" for name, value in response.headers.items()]
    if version == "1.1":
        lines.append(f"Date: {formatdate(usegmt=True)}")
        lines += [] if keep_alive else ["Connection: close"]
    else:
        lines += ["Connection: keep-alive"] if keep_alive else []
    lines.append(f"Content-Length: {len(response.body)}")
    head = "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"
    return head if head_only else head + response.body
