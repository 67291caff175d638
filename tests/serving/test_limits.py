"""Hostile and clumsy clients: limits, time-outs, broken HTTP; good requests must not notice."""

import gzip
import json
import random
import socket
import threading
import time

import numpy as np
import pytest

GOOD = b'{"inputs": ["a text"]}'
DOCUMENTED = {200, 400, 404, 413, 415, 429, 501, 503, 504}


def exchange(port, data, *, timeout=10, wait_for_close=False):
    """Sends raw bytes and returns what comes back, until the first answer is complete."""
    with socket.create_connection(("127.0.0.1", port), timeout=timeout) as connection:
        connection.sendall(data)
        received = b""
        while True:
            try:
                part = connection.recv(65536)
            except ConnectionResetError:
                return received
            received += part
            head, separator, body = received.partition(b"\r\n\r\n")
            if not part:
                return received
            if separator and not wait_for_close and b"100 Continue" not in head:
                length = next(
                    (int(line.split(b":")[1]) for line in head.split(b"\r\n") if b"ength:" in line), 0
                )
                if len(body) >= length:
                    return received


def post(body, *headers, path="/v1/models/toy:predict"):
    lines = [f"POST {path} HTTP/1.1", "Host: x", *headers]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body


def status(answer):
    return int(answer.split(b" ", 2)[1])


def test_two_requests_at_once_are_answered_in_order(toy_server):
    data = post(GOOD) + b"GET /v1/models/toy HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    answer = exchange(toy_server.rest_port, data, wait_for_close=True)
    assert answer.count(b"HTTP/1.1 200 OK") == 2
    assert answer.index(b"outputs") < answer.index(b"model_version_status")


def test_a_chunked_body_is_read(toy_server):
    data = b"POST /v1/models/toy:predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    data += b"8\r\n" + GOOD[:8] + b"\r\n" + f"{len(GOOD) - 8:x}\r\n".encode() + GOOD[8:] + b"\r\n0\r\n\r\n"
    assert status(exchange(toy_server.rest_port, data)) == 200


def test_a_client_that_waits_for_100_continue_gets_it(toy_server):
    with socket.create_connection(("127.0.0.1", toy_server.rest_port), timeout=10) as connection:
        connection.sendall(post(GOOD, "Expect: 100-continue")[: -len(GOOD)])
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(GOOD)
        assert connection.recv(1000).startswith(b"HTTP/1.1 200 OK")


@pytest.mark.parametrize("length", [17 * 2**20, 10**14, 10**40])
def test_a_body_that_is_announced_too_large_is_refused_unread(length, toy_server):
    head = f"POST /v1/models/toy:predict HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n".encode()
    answer = exchange(toy_server.rest_port, head)
    assert status(answer) in (400, 413)  # beyond 64 bits it is no length
    if length < 2**63:
        assert b"larger than the limit of 16777216 bytes" in answer


def test_an_endless_chunked_body_is_cut_off(toy, serve_directory):
    with serve_directory(toy, max_body_bytes=10_000) as server:
        head = b"POST /v1/models/toy:predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        answer = exchange(server.rest_port, head + (b"400\r\n" + b"x" * 1024 + b"\r\n") * 11)
        assert status(answer) == 413


def test_a_gzip_bomb_is_refused(toy_server):
    bomb = gzip.compress(b" " * (20 * 2**20))
    assert len(bomb) < 100_000
    answer = exchange(toy_server.rest_port, post(bomb, "Content-Encoding: gzip"))
    assert status(answer) == 413


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\x16\x03\x01\x02\x00\r\n\r\n", 400),
        (b"GET /v1/models/toy HTTP/2.0\r\nHost: x\r\n\r\n", 400),
        (b"get /v1/models/toy HTTP/1.1\r\nHost: x\r\n\r\n", 501),
        (b"TRACE /v1/models/toy HTTP/1.1\r\nHost: x\r\n\r\n", 501),
        (b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n", 501),
        (b"PROPFIND /v1/models/toy HTTP/1.1\r\nHost: x\r\n\r\n", 501),
        (b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", 404),
        (b"GET /v1/models/%zz HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET /v1/models/toy HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 70_000 + b"\r\n\r\n", 200),
        (b"GET /v1/models/toy HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 200_000 + b"\r\n\r\n", 400),
        (b"GET /v1/models/toy HTTP/1.1\r\nHost: x\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n", 200),
        (b"GET http://x/v1/models/toy HTTP/1.1\r\nHost: x\r\n\r\n", 200),
        (b"POST /v1/models/toy:predict HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}", 400),
        (
            b"POST /v1/models/toy:predict HTTP/1.1\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"0\r\n\r\n",
            400,
        ),
        (b"POST /v1/models/toy:predict HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
    ],
)
def test_strange_http_is_answered(data, code, toy_server):
    assert status(exchange(toy_server.rest_port, data)) == code
    assert status(exchange(toy_server.rest_port, post(GOOD))) == 200


def test_slow_and_idle_clients_are_dropped(toy, serve_directory):
    limits = {"header_timeout": 0.3, "body_timeout": 0.3, "idle_timeout": 0.3}
    with serve_directory(toy, **limits) as server:
        for data in (b"", b"POST /v1/mod", post(GOOD)[:-3], post(GOOD)):
            began = time.monotonic()
            answer = exchange(server.rest_port, data, wait_for_close=True)
            assert time.monotonic() - began < 5
            assert answer == b"" or status(answer) == 200


def test_half_open_connections_make_room_for_good_requests(toy, serve_directory):
    with serve_directory(toy, max_connections=20) as server:
        idle = [socket.create_connection(("127.0.0.1", server.rest_port)) for _ in range(60)]
        try:
            for connection in idle:
                connection.send(b"POST /v1")
            assert status(exchange(server.rest_port, post(GOOD))) == 200
        finally:
            for connection in idle:
                connection.close()


def test_more_requests_than_the_server_takes_are_refused_at_once(recorded_models):
    from kerasllm.serving.server.embedded import EmbeddedServer
    from kerasllm.serving.server.model_config import config_for_path
    from kerasllm.serving.server.options import ServerOptions

    options = ServerOptions(port=0, rest_api_port=0, num_workers=1, max_queued=1, request_timeout=1.5)
    slow = post(b'{"instances":[100000]}', path="/v1/models/slow:predict")
    with EmbeddedServer([config_for_path(recorded_models / "slow")], options) as server:
        answers = []
        threads = [
            threading.Thread(target=lambda: answers.append(exchange(server.rest_port, slow)))
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    codes = sorted(map(status, answers))
    assert codes == [503] * 6 + [504] * 2
    assert any(b"Timed out waiting for notification" in answer for answer in answers)
    assert any(b"The server is busy: 1 requests are computed and 1 wait" in answer for answer in answers)
    assert any(b"Retry-After: 1" in answer for answer in answers)


def mutated(generator):
    """Returns a request body that may be anything from right to rubbish."""
    body = bytearray(
        generator.choice(
            [
                GOOD,
                b'{"instances": ["a", {"b64": "aGk="}]}',
                b'{"instances": [{"text": "a"}, {"text": {"b64": ""}}]}',
                b'{"signature_name": "serving_default", "inputs": {"text": ["\\u00e9"]}}',
            ]
        )
    )
    for _ in range(generator.randrange(6)):
        place = generator.randrange(len(body) + 1)
        kind = generator.randrange(4)
        if kind == 0:
            body[place:place] = generator.choice([b"[", b"{", b'"', b",", b"1e999", b"\0", b"\xff", b"NaN"])
        elif kind == 1:
            del body[place : place + generator.randrange(4)]
        elif kind == 2 and place < len(body):
            body[place] = generator.randrange(256)
        else:
            body[place:place] = body[: generator.randrange(len(body) + 1)]
    return bytes(body)


def test_malformed_bodies_get_documented_answers_and_good_ones_are_not_hurt(toy_server, request):
    import http.client

    generator = random.Random(0)
    connection = http.client.HTTPConnection("127.0.0.1", toy_server.rest_port, timeout=30)
    request.addfinalizer(connection.close)
    good = bad = 0
    for number in range(2000):
        body = GOOD if number % 10 == 0 else mutated(generator)
        connection.request("POST", "/v1/models/toy:predict", body)
        response = connection.getresponse()
        content = response.read()
        assert response.status in (200, 400), (body, content)
        assert b"Traceback" not in content
        answer = json.loads(content.decode("utf-8", "replace"))
        assert ("error" in answer) == (response.status == 400)
        if body == GOOD:
            assert answer["outputs"]["label"] == ["short"]
        good, bad = good + (response.status == 200), bad + (response.status == 400)
    assert bad > 500
    assert good > 500


def test_fuzzed_paths_and_methods_get_documented_answers(toy_server):
    generator = random.Random(0)
    pieces = ["/v1", "/models", "/toy", "/versions", "/1", "/labels", ":predict", "%", "%00", "..", "?", "é"]
    for _ in range(300):
        method = generator.choice(["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "X"])
        path = "/" + "".join(generator.choices(pieces, k=generator.randrange(8)))
        answer = exchange(
            toy_server.rest_port, f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode()
        )
        assert status(answer) in DOCUMENTED, (method, path, answer)


def test_fuzzed_grpc_messages_are_invalid_arguments(toy_server):
    import grpc
    from tensorflow_serving.apis import predict_pb2

    request = predict_pb2.PredictRequest()
    request.model_spec.name = "toy"
    request.inputs["text"].dtype = 7
    request.inputs["text"].tensor_shape.dim.add().size = 2
    request.inputs["text"].string_val.extend([b"a", b"b"])
    good = request.SerializeToString()
    generator = random.Random(0)
    codes = {}
    with grpc.insecure_channel(f"127.0.0.1:{toy_server.grpc_port}") as channel:
        call = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
        assert call(good, timeout=30)
        for _ in range(1000):
            message = bytearray(good)
            for _ in range(generator.randrange(1, 5)):
                place = generator.randrange(len(message))
                message[place] = generator.randrange(256)
            answer = call.future(bytes(message), timeout=30)
            codes.setdefault(answer.code().name, answer.details())
    assert set(codes) <= {"OK", "INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION"}, codes
    assert "INVALID_ARGUMENT" in codes


def test_a_few_bytes_cannot_claim_gigabytes(toy_server):
    import grpc
    from tensorflow_serving.apis import predict_pb2

    request = predict_pb2.PredictRequest()
    request.model_spec.name = "toy"
    request.inputs["text"].dtype = 7
    request.inputs["text"].string_val.append(b"a")
    for sizes in ([2**40], [2**20, 2**20], [2**62, 2**62], [2**21]):
        del request.inputs["text"].tensor_shape.dim[:]
        for size in sizes:
            request.inputs["text"].tensor_shape.dim.add().size = size
        with grpc.insecure_channel(f"127.0.0.1:{toy_server.grpc_port}") as channel:
            call = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
            with pytest.raises(grpc.RpcError) as error:
                call(request.SerializeToString(), timeout=30)
        assert error.value.code().name == "INVALID_ARGUMENT"
        assert error.value.details() == "tensor parsing error: text"


def test_a_grpc_message_above_the_limit_is_refused(toy_server):
    import grpc

    options = [("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(f"127.0.0.1:{toy_server.grpc_port}", options) as channel:
        call = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
        with pytest.raises(grpc.RpcError) as error:
            call(np.zeros(17 * 2**20, np.uint8).tobytes(), timeout=30)
    assert error.value.code().name == "RESOURCE_EXHAUSTED"


def test_texts_are_not_logged(toy_server, caplog):
    import logging

    with caplog.at_level(logging.DEBUG, logger="kerasllm"):
        exchange(toy_server.rest_port, post(b'{"inputs": ["planted canary"]}'))
        exchange(toy_server.rest_port, post(b'{"inputs": ["planted canary"'))
        exchange(toy_server.rest_port, b"GET /v1/models/toy HTTP/1.1\r\nHost: x\r\n\r\n")
    assert "POST /v1/models/toy:predict 200" in caplog.text
    assert "canary" not in caplog.text


def test_web_pages_of_other_origins_may_read_only_if_asked_for(toy, toy_server, serve_directory):
    request = b"GET /v1/models/nope HTTP/1.1\r\nHost: x\r\nOrigin: http://example.com\r\n\r\n"
    assert b"Access-Control" not in exchange(toy_server.rest_port, request)
    with serve_directory(toy, enable_rest_api_cors=True) as server:
        assert b"Access-Control-Allow-Origin: *\r\n" in exchange(server.rest_port, request)


def test_the_health_of_the_server_over_grpc(toy, serve_directory):
    import grpc

    with (
        serve_directory(toy, enable_grpc_healthcheck_service=True) as server,
        grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel,
    ):
        assert channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=30) == b"\x08\x01"
