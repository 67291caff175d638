"""The REST and gRPC clients against the embedded server, and against nothing at all."""

import http.server
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from kerasllm.errors import DataError, DependencyError, ServingError
from kerasllm.serving.exported_model import ExportedModel
from kerasllm.serving.grpc_client import GrpcClient
from kerasllm.serving.rest_client import Client
from kerasllm.serving.results import Classification

TEXTS = ["a", "a text that is long", "", 'naïve 한국어 \U0001f600 \u2028\0 "quoted\\"', "x" * 5000]


@pytest.fixture
def rest(toy_server):
    with Client(f"http://127.0.0.1:{toy_server.rest_port}/", "toy") as client:
        yield client


@pytest.fixture
def grpc_client(toy_server):
    with GrpcClient(f"127.0.0.1:{toy_server.grpc_port}", "toy") as client:
        yield client


@pytest.fixture
def dead_port():
    import socket

    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return unused.getsockname()[1]


def test_rest_grpc_and_this_process_agree_bit_for_bit(rest, grpc_client, toy_server, toy_versions):
    expected = ExportedModel(toy_versions / "1").predict(TEXTS)
    assert [type(result) for result in expected] == [Classification] * len(TEXTS)
    assert rest.predict(TEXTS) == expected
    assert grpc_client.predict(TEXTS) == expected
    assert [result.label for result in expected] == ["short", "long", "short", "long", "long"]


def test_one_text_is_a_list_of_one_and_none_is_an_empty_list(rest, grpc_client):
    for client in (rest, grpc_client):
        assert client.predict("a") == client.predict(["a"])
        assert client.predict([]) == []


@pytest.mark.parametrize("texts", [["a", 5], ["a", ("b", "c")], [None], [("a", "b", "c")]])
def test_what_is_no_text_is_refused_before_it_is_sent(texts, rest, grpc_client):
    for client in (rest, grpc_client):
        with pytest.raises(DataError, match=r"Input \d is .*, but the model takes a"):
            client.predict(texts)


def test_half_a_surrogate_pair_is_refused_before_it_is_sent(rest):
    with pytest.raises(DataError, match=r"invalid character U\+D800 at position 3.*Repair the text"):
        rest.predict(["abc\ud800"])


def test_status_and_metadata(rest, grpc_client):
    for client in (rest, grpc_client):
        assert client.status() == [
            {"version": 1, "state": "AVAILABLE", "error_code": "OK", "error_message": ""}
        ]
        signature = client.metadata()["serving_default"]
        assert signature["inputs"]["text"]["dtype"] == "DT_STRING"
        assert sorted(signature["outputs"]) == ["label", "labels", "score", "scores"]


def test_tensors_of_any_signature(rest, grpc_client):
    answer = rest.predict_tensors({"text": ["a"]})
    assert answer["label"] == ["short"]
    assert grpc_client.predict_tensors({"text": ["a"]})["label"].tolist() == [b"short"]
    assert rest.predict_tensors(["a"], signature_name="serving_default") == answer


def test_what_the_server_refuses_is_an_error_with_its_status(toy_server):
    url, target = f"http://127.0.0.1:{toy_server.rest_port}", f"127.0.0.1:{toy_server.grpc_port}"
    with Client(url, "toy", version=7) as client:
        with pytest.raises(
            ServingError, match=r"answered 404: Servable not found .*Specific\(toy, 7\)"
        ) as error:
            client.predict(["a"])
        assert error.value.status == 404
    with (
        Client(url, "toy", label="best") as client,
        pytest.raises(ServingError, match="answered 400: Unrecognized servable version label: best"),
    ):
        client.predict(["a"])
    with (
        GrpcClient(target, "nope") as client,
        pytest.raises(ServingError, match=r"answered NOT_FOUND: .*Latest\(nope\)") as error,
    ):
        client.predict(["a"])
    assert error.value.status == "NOT_FOUND"
    with (
        GrpcClient(target, "toy", label="best") as client,
        pytest.raises(ServingError, match="answered INVALID_ARGUMENT: Unrecognized"),
    ):
        client.predict(["a"])


def test_other_models_are_no_text_classifiers(recorded_server):
    with (
        Client(f"http://127.0.0.1:{recorded_server.rest_port}", "strings") as client,
        pytest.raises(ServingError, match=r"is not a text classifier: it answers \['length', 'raw_bytes'"),
    ):
        client.predict(["a"])
    with (
        GrpcClient(f"127.0.0.1:{recorded_server.grpc_port}", "strings") as client,
        pytest.raises(ServingError, match="is not a text classifier"),
    ):
        client.predict(["a"])
    with GrpcClient(f"127.0.0.1:{recorded_server.grpc_port}", "mm") as client:
        answer = client.predict_tensors({"x": np.float32([[1, 2, 3]])})
        np.testing.assert_array_equal(answer["y"], np.float32([[73, 106]]))


def test_nobody_answers(dead_port):
    with (
        Client(f"http://127.0.0.1:{dead_port}", "toy", max_retries=1) as client,
        pytest.raises(ServingError, match=r"No server answers at .*kerasllm serve PATH") as error,
    ):
        client.predict(["a"])
    assert error.value.status is None
    with (
        GrpcClient(f"127.0.0.1:{dead_port}", "toy", max_retries=0, timeout=5) as client,
        pytest.raises(ServingError, match=r"No server answers at .*kerasllm serve PATH"),
    ):
        client.predict(["a"])


def test_wrong_arguments():
    with pytest.raises(ServingError, match=r"is not the address of a REST server.*http://"):
        Client("127.0.0.1:8501", "toy")
    with pytest.raises(ServingError, match="Both version 1 and label `stable` were given"):
        Client("http://127.0.0.1:8501", "toy", version=1, label="stable")


class _Flaky(http.server.BaseHTTPRequestHandler):
    """Answers 503 or drops the connection for a while, then answers."""

    failures = 0
    kind = "busy"
    requests = 0

    def do_POST(self):
        type(self).requests += 1
        self.rfile.read(int(self.headers["Content-Length"]))
        if self.requests > self.failures:
            body = b'{"outputs": [1.0]}'
            self.send_response(200)
        elif self.kind == "drop":
            self.close_connection = True
            return
        else:
            body = b'{"error": "not now"}'
            self.send_response({"busy": 503, "wrong": 400}[self.kind])
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def flaky():
    handler = type("Handler", (_Flaky,), {})
    server = http.server.HTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield handler, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("kind", ["busy", "drop"])
def test_busy_servers_and_lost_connections_are_tried_again(kind, flaky):
    handler, url = flaky
    handler.kind, handler.failures = kind, 2
    with Client(url, "toy") as client:
        assert client.predict_tensors([1.0]) == [1.0]
    assert handler.requests == 3


def test_a_request_that_is_wrong_is_not_tried_again(flaky):
    handler, url = flaky
    handler.kind, handler.failures = "wrong", 1
    with Client(url, "toy") as client, pytest.raises(ServingError, match="answered 400: not now"):
        client.predict_tensors([1.0])
    assert handler.requests == 1


def test_retries_end_at_the_deadline(flaky):
    handler, url = flaky
    handler.failures = 1000
    began = time.monotonic()
    with (
        Client(url, "toy", timeout=0.5, max_retries=1000) as client,
        pytest.raises(ServingError, match="is busy: not now") as error,
    ):
        client.predict_tensors([1.0])
    assert error.value.status == 503
    assert time.monotonic() - began < 3


def test_a_slow_answer_ends_at_the_deadline(recorded_server):
    with (
        Client(f"http://127.0.0.1:{recorded_server.rest_port}", "slow", timeout=0.3) as client,
        pytest.raises(ServingError, match=r"did not answer within 0\.3 s") as error,
    ):
        client.predict_tensors([5000.0])
    assert error.value.status == 504
    with (
        GrpcClient(f"127.0.0.1:{recorded_server.grpc_port}", "slow", timeout=0.3) as client,
        pytest.raises(ServingError, match="answered DEADLINE_EXCEEDED") as error,
    ):
        client.predict_tensors({"x": np.float32([5000.0])})
    assert error.value.status == "DEADLINE_EXCEEDED"


def test_what_is_no_model_server(flaky):
    class NotJson(_Flaky):
        def do_POST(self):
            self.send_response(200)
            self.send_header("Content-Length", "4")
            self.end_headers()
            self.wfile.write(b"<a/>")

    handler, url = flaky
    handler.do_POST = NotJson.do_POST
    with (
        Client(url, "toy") as client,
        pytest.raises(ServingError, match=r"did not answer JSON\. Is it the REST"),
    ):
        client.predict_tensors([1.0])


def test_the_rest_client_leaves_tensorflow_out(toy_server):
    program = f"""
import sys
from kerasllm.serving import Client
with Client("http://127.0.0.1:{toy_server.rest_port}", "toy") as client:
    assert client.predict(["a text that is long"])[0].label == "long"
    client.status(), client.metadata()
heavy = [name for name in ("tensorflow", "keras", "transformers", "grpc", "torch") if name in sys.modules]
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_a_missing_extra_is_named(monkeypatch):
    for name in ("tensorflow_serving", "tensorflow_serving.apis", "tensorflow_serving.config"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(DependencyError, match=r"pip install 'kerasllm\[server\]'"):
        GrpcClient("127.0.0.1:8500", "toy")
