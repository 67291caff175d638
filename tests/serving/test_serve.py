"""`serve` as a process: ports, signals, the stock binary, several models."""

import json
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import pytest

from kerasllm.errors import DependencyError, ServingError
from kerasllm.serving.server.binary import model_server_command
from kerasllm.serving.server.model_config import VersionPolicy, config_for_path, read_model_configs
from kerasllm.serving.server.options import ServerOptions
from kerasllm.serving.server.serve import serve

PROGRAM = """
import sys
from kerasllm.serving import serve

def ready(server):
    print("ready", server.rest_port, server.grpc_port, flush=True)

serve(sys.argv[1], port=0, rest_api_port=0, on_ready=ready)
print("ended", flush=True)
"""


@pytest.fixture
def process(toy):
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(toy)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    ) as server:
        line = server.stdout.readline()
        rest, grpc = map(int, re.fullmatch(r"ready (\d+) (\d+)\n", line).groups())
        yield server, rest, grpc
        server.kill()


def ask(port, texts):
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/models/toy:predict", json.dumps({"instances": texts}).encode()
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.loads(response.read())["predictions"]


def test_sigterm_lets_requests_finish_and_exits_with_0(process):
    server, rest, _ = process
    texts = ["a text"] * 20_000  # some tenths of a second to read, compute and write
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(ask(rest, texts))) for _ in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(0.15)
    server.send_signal(signal.SIGTERM)
    for thread in threads:
        thread.join()
    assert [len(answer) for answer in answers] == [20_000] * 4
    assert server.wait(timeout=60) == 0
    assert server.stdout.read() == "ended\n"
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", rest), timeout=5)


@pytest.mark.slow
def test_sigint_ends_it_too_and_it_listens_on_this_machine_only(process):
    server, rest, grpc = process
    tables = [Path("/proc/net/tcp").read_text(), Path("/proc/net/tcp6").read_text()]
    listening = [line.split()[1] for table in tables for line in table.splitlines()[1:]]
    for port in (rest, grpc):
        addresses = {address.split(":")[0] for address in listening if address.endswith(f":{port:04X}")}
        # 127.0.0.1, as such or mapped into IPv6
        assert addresses
        assert addresses <= {"0100007F", "0000000000000000FFFF00000100007F"}
    server.send_signal(signal.SIGINT)
    assert server.wait(timeout=60) == 0


@pytest.mark.parametrize("option", ["port", "rest_api_port"])
def test_a_port_in_use_is_reported_before_anything_is_loaded(option, tmp_path):
    (tmp_path / "toy").mkdir()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        number = taken.getsockname()[1]
        began = time.monotonic()
        with pytest.raises(
            ServingError, match=rf"Port {number} of 127.0.0.1 is in use .*`--{option} {number + 10}`"
        ):
            serve(tmp_path / "toy", **{"port": 0, "rest_api_port": 0, option: number})
        assert time.monotonic() - began < 2


def test_two_servers_cannot_share_a_port(toy, toy_server, serve_directory):
    for option in ("port", "rest_api_port"):
        number = toy_server.grpc_port if option == "port" else toy_server.rest_port
        with pytest.raises(ServingError, match=f"Port {number} of 127.0.0.1 is in use"):
            serve_directory(toy, **{option: number}).start()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "Pass either a model directory or a model config file"),
        ({"path": "no/such"}, "There is no model directory `no/such`"),
        ({"path": ".", "model_name": "a/b"}, "`a/b` cannot be a model's name in a URL"),
        (
            {"path": ".", "engine": "fast"},
            r"There is no engine `fast`. Choose one of \['embedded', 'binary'\]",
        ),
        ({"path": ".", "port": 5, "rest_api_port": 5}, "gRPC and REST cannot share port 5"),
        ({"path": ".", "port": None, "rest_api_port": None}, "Neither gRPC nor REST is served"),
        ({"path": ".", "workers": 5}, "The server has no option `workers`"),
        ({"path": ".", "host": "203.0.113.1"}, "Cannot listen on 203.0.113.1"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ServingError, match=message):
        serve(**{"port": 0, "rest_api_port": 8501, **arguments})


def test_a_saved_model_whose_directory_is_no_number(tmp_path):
    (tmp_path / "best").mkdir()
    (tmp_path / "best" / "saved_model.pb").write_bytes(b"")
    with pytest.raises(ServingError, match=r"is not named by a version number\. Move it to `.*best/1`"):
        serve(tmp_path / "best", port=0, rest_api_port=0)


def test_one_version_can_be_served(toy, toy_versions):
    shutil.copytree(toy_versions / "2", toy / "2")
    config = config_for_path(toy / "1")
    assert (config.name, config.base_path) == ("toy", toy)
    assert config.policy.choose([1, 2]) == [1]


def test_a_missing_extra_is_named(tmp_path, monkeypatch):
    (tmp_path / "toy").mkdir()
    monkeypatch.setitem(sys.modules, "httptools", None)
    with pytest.raises(
        DependencyError, match=r"needs the packages \['httptools'\].*pip install 'kerasllm\[server\]'"
    ):
        serve(tmp_path / "toy", port=0, rest_api_port=0)


# The stock binary ------------------------------------------------------------------------------------


def test_the_command_line_of_the_stock_server(tmp_path):
    (tmp_path / "reviews").mkdir()
    config = config_for_path(tmp_path / "reviews")
    assert model_server_command([config], ServerOptions(request_timeout=10.0)) == [
        "tensorflow_model_server",
        "--port=8500",
        "--rest_api_port=8501",
        "--model_name=reviews",
        f"--model_base_path={tmp_path}/reviews",
        "--rest_api_timeout_in_ms=10000",
        "--file_system_poll_wait_seconds=1",
        "--enable_grpc_healthcheck_service=false",
        "--enable_profiler=false",
    ]


def test_the_stock_server_takes_the_place_of_the_process(tmp_path):
    (tmp_path / "reviews").mkdir()
    program = tmp_path / "tensorflow_model_server"
    program.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    code = (
        f"from kerasllm.serving import serve; serve({str(tmp_path / 'reviews')!r}, engine='binary', "
        "port=18500, rest_api_port=18501, model_name='stars')"
    )
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    result = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    assert result.stdout.splitlines()[:4] == [
        "--port=18500",
        "--rest_api_port=18501",
        "--model_name=stars",
        f"--model_base_path={tmp_path}/reviews",
    ]


def test_the_stock_server_is_not_installed(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ServingError, match="`tensorflow_model_server` is not on the PATH"):
        serve(tmp_path, engine="binary", port=0, rest_api_port=18501)


# Model configs ---------------------------------------------------------------------------------------


def write(tmp_path, text):
    (tmp_path / "models.config").write_text(text)
    return tmp_path / "models.config"


def test_a_model_config_file_is_read(tmp_path):
    path = write(
        tmp_path,
        """
        model_config_list {
          config { name: "a" base_path: "/models/a" model_platform: "tensorflow"
                   model_version_policy { specific { versions: 1 versions: 3 } }
                   version_labels { key: "stable" value: 1 } }
          config { name: "b" base_path: "/models/b" model_platform: "tensorflow"
                   model_version_policy { latest { num_versions: 2 } } }
          config { name: "c" base_path: "/models/c" model_platform: "tensorflow"
                   model_version_policy { all {} } }
          config { name: "d" base_path: "/models/d" model_platform: "tensorflow" }
        }
        """,
    )
    first, second, third, fourth = read_model_configs(path)
    assert first.policy == VersionPolicy("specific", versions=(1, 3))
    assert first.labels == {"stable": 1}
    assert second.policy.choose([1, 2, 3]) == [3, 2]
    assert third.policy.choose([1, 2]) == [2, 1]
    assert fourth.policy.choose([1, 2]) == [2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model_config_list {", "is not a model config"),
        ("colour: 5", "is not a model config: 1:1 : .*colour"),
        ("", "has no `model_config_list`"),
        ("model_config_list { }", "lists no model"),
        (
            'model_config_list { config { name: "a" base_path: "a" model_platform: "tensorflow" } }',
            "Expected model a to have an absolute path or URI; got base_path",
        ),
        (
            'model_config_list { config { name: "a" base_path: "/a" model_platform: "pytorch" } }',
            'has the platform "pytorch". Only SavedModels',
        ),
        (
            'model_config_list { config { name: "a/b" base_path: "/a" model_platform: "tensorflow" } }',
            "needs a name of 1 to 128",
        ),
        (
            'model_config_list { config { name: "a" base_path: "/a" model_platform: "tensorflow" }'
            ' config { name: "a" base_path: "/b" model_platform: "tensorflow" } }',
            "Illegal to list model a multiple times in config list",
        ),
        (
            'model_config_list { config { name: "a" base_path: "/a" model_platform: "tensorflow"'
            " model_version_policy { specific { } } } }",
            "asks for specific versions but lists none",
        ),
    ],
)
def test_a_model_config_that_is_wrong_says_what(text, message, tmp_path):
    with pytest.raises(ServingError, match=message):
        read_model_configs(write(tmp_path, text))


def test_a_model_config_that_is_missing(tmp_path):
    with pytest.raises(ServingError, match="There is no model config file"):
        read_model_configs(tmp_path / "models.config")
