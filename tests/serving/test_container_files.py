"""The container side: each file is parsed, and says what the embedded server's options say."""

import json
import re
from pathlib import Path

import pytest
import yaml

from kerasllm.cli.main import COMMANDS
from kerasllm.serving.server.model_config import read_model_configs

FOLDER = Path(__file__).parents[2] / "serving"


@pytest.fixture(scope="module")
def instructions():
    """Instructions of the Dockerfile: name to argument, continued lines joined."""
    text = re.sub(r"\\\n\s*", "", (FOLDER / "Dockerfile").read_text())
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return dict(line.split(" ", 1) for line in lines)


@pytest.fixture(scope="module")
def service():
    return yaml.safe_load((FOLDER / "compose.yaml").read_text())["services"]["serving"]


def test_the_image_is_the_stock_one_by_version(instructions):
    assert instructions["FROM"] == "tensorflow/serving:2.20.0"


def test_the_container_runs_the_server_itself_and_not_as_root(instructions):
    assert instructions["USER"] == "10001:10001"
    program, *flags = json.loads(instructions["ENTRYPOINT"])
    assert program == "tensorflow_model_server"
    assert flags == [
        "--port=8500",
        "--rest_api_port=8501",
        "--enable_grpc_healthcheck_service=true",
        "--enable_profiler=false",
    ]
    assert json.loads(instructions["CMD"])[0] == "--model_config_file=/config/models.config"
    assert instructions["EXPOSE"] == "8500 8501"
    check = instructions["HEALTHCHECK"]
    assert json.loads(check[check.index("[") :])[-1].endswith("/dev/tcp/127.0.0.1/8501")


def test_the_composed_service_is_closed(service):
    assert service["read_only"] is True
    assert service["init"] is True
    assert service["user"] == "10001:10001"
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["ports"] == ["127.0.0.1:8500:8500", "127.0.0.1:8501:8501"]
    assert all(volume.endswith(":ro") for volume in service["volumes"])
    assert (FOLDER / service["build"] / "Dockerfile").is_file()


def test_the_config_is_where_the_command_looks_for_it(service, instructions):
    (mounted,) = [volume for volume in service["volumes"] if "models.config" in volume]
    source, target, _ = mounted.split(":")
    assert (FOLDER / source).is_file()
    assert f"--model_config_file={target}" in json.loads(instructions["CMD"])


def test_the_example_config_parses_for_both_servers():
    (model,) = read_model_configs(FOLDER / "models.config")
    assert (model.name, str(model.base_path)) == ("sentiment", "/models/sentiment")


def test_the_readme_uses_commands_and_addresses_that_exist():
    text = (FOLDER / "README.md").read_text()
    commands = re.findall(r"(?:^|`)kerasllm ([a-z]+)", text, flags=re.MULTILINE)
    assert {"export", "serve", "query", "verify"} <= set(commands) <= set(COMMANDS)
    for file in re.findall(r"serving/([\w.]+)", text):
        assert (FOLDER / file).is_file()


def test_the_readme_request_is_answered(toy_server):
    import urllib.request

    text = (FOLDER / "README.md").read_text()
    body, path = re.search(r"curl -d '(.*?)' http://127.0.0.1:8501(\S+)", text).groups()
    url = f"http://127.0.0.1:{toy_server.rest_port}{path.replace('sentiment', 'toy')}"
    with urllib.request.urlopen(url, body.encode(), timeout=30) as response:
        (prediction,) = json.loads(response.read())["predictions"]
    assert sorted(prediction) == ["label", "labels", "score", "scores"]
