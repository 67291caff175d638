"""Raw HTTP exchanges recorded on a real TensorFlow Serving 2.20, sent to the embedded server."""

import json
import re
import socket
from pathlib import Path

import pytest

_FILE = Path(__file__).parents[3] / "shared" / "serving" / "http.jsonl"
_RECORDINGS = [json.loads(line) for line in _FILE.read_text().splitlines()] if _FILE.is_file() else []


def exchange(port, data):
    """Sends raw bytes and returns everything that comes back within a moment of silence."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(data)
        received = b""
        while True:
            connection.settimeout(10 if not received else 0.3)
            try:
                part = connection.recv(65536)
            except TimeoutError:
                return received
            if not part:
                return received
            received += part


def answers(raw):
    """Splits what came back into status line, headers that count, and body, an answer each."""
    found = []
    while raw:
        head, _, raw = raw.partition(b"\r\n\r\n")
        status, *lines = head.decode().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        length = int(headers.get("Content-Length", len(raw)))
        body, raw = raw[:length], raw[length:]
        kept = {name: value for name, value in headers.items() if name in ("Content-Type", "Connection")}
        found.append((status, kept, body))
    return found


@pytest.mark.skipif(not _RECORDINGS, reason=f"the recordings of the real server are not there: {_FILE}")
@pytest.mark.parametrize("recording", _RECORDINGS, ids=[recording["name"] for recording in _RECORDINGS])
def test_the_embedded_server_speaks_http_as_the_real_one(recording, recorded_server):
    request = recording["raw_request"].encode("latin-1")
    if recording["name"] == "long_header":  # its 70,000 bytes are cut off in the recording
        request = request.ljust(70_000, b"a") + b"\r\n\r\n"
    got = answers(exchange(recorded_server.rest_port, request))
    expected = answers(recording["raw_response"].encode("latin-1"))
    assert got == expected
    assert re.match(r"HTTP/1\.[01] \d{3} ", got[0][0])
