"""`kerasllm doctor`: each finding is true of this machine, and a problem is an exit code."""

import importlib.metadata
import json
import platform
import shutil
import sys

import pytest

from kerasllm.cli import doctor, environment
from kerasllm.cli.environment import Finding


def found(findings, name):
    return next(finding for finding in findings if finding.name == name)


def test_packages_are_held_against_their_bounds(monkeypatch):
    findings = list(environment._packages())
    assert found(findings, "keras") == Finding("keras", True, importlib.metadata.version("keras"))
    monkeypatch.setattr(environment, "_version", lambda name: "3.0.0" if name == "keras" else None)
    findings = list(environment._packages())
    keras = found(findings, "keras")
    assert (keras.ok, keras.value) == (False, "3.0.0")
    assert keras.meaning.startswith('run `pip install "keras')
    assert found(findings, "tensorflow").value == "not installed"


def test_missing_extras_say_what_they_are_for(monkeypatch):
    find_spec = environment.importlib.util.find_spec
    hide = ("tensorboard", "grpc")
    monkeypatch.setattr(
        environment.importlib.util, "find_spec", lambda name: None if name in hide else find_spec(name)
    )
    findings = list(environment._extras())
    assert found(findings, "extra tensorboard").ok is None
    assert found(findings, "extra tensorboard").meaning == (
        "for logs for TensorBoard, run `pip install 'kerasllm[tensorboard]'`"
    )
    assert found(findings, "extra client").value == "without grpc"


def test_a_server_binary_is_found_on_the_path(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert environment._server_binary().ok is None
    binary = tmp_path / "tensorflow_model_server"
    binary.write_text("#!/bin/sh\n")
    binary.chmod(0o755)
    assert environment._server_binary() == Finding(
        "tensorflow_model_server", True, str(binary), "`kerasllm serve --engine binary` works"
    )


def test_a_full_disk_is_a_problem(monkeypatch, tmp_path):
    monkeypatch.setenv("KERASLLM_CACHE", str(tmp_path / "not" / "made" / "yet"))
    here, cache = environment._disk()
    assert (here.ok, cache.ok) == (True, True)
    usage = shutil.disk_usage(tmp_path)._replace(free=2**20)
    monkeypatch.setattr(environment.shutil, "disk_usage", lambda path: usage)
    here, cache = environment._disk()
    assert (here.ok, here.meaning) == (False, "a run and its export want 2 GiB")


def test_a_missing_pip_is_a_problem(monkeypatch):
    monkeypatch.setattr(environment.importlib.util, "find_spec", lambda name: None)
    assert environment._pip(network=True).meaning == "`pypi://` handles need it: run `python -m ensurepip`"


def test_an_index_that_does_not_answer_is_a_problem(monkeypatch):
    nowhere = {"INDEX_URL": "http://127.0.0.1:9/simple", "CONFIG_FILE": "/dev/null", "RETRIES": "0"}
    for name, value in {**nowhere, "FIND_LINKS": "", "EXTRA_INDEX_URL": ""}.items():
        monkeypatch.setenv(f"PIP_{name}", value)
    finding = environment._pip(network=True)
    assert finding.ok is False
    assert finding.meaning == "the package index does not answer: `pypi://` only from the cache"
    assert environment._pip(network=False).ok is None


def test_a_tensorflow_that_cannot_be_imported_is_a_problem(monkeypatch):
    monkeypatch.setattr(environment, "_ASK_TENSORFLOW", "raise ImportError")
    [finding] = environment._tensorflow()
    assert (finding.ok, finding.value) == (False, "failed")


@pytest.mark.parametrize(
    ("capability", "meaning"),
    [
        ([9, 0], "computes bfloat16 natively"),
        ([7, 5], "computes float16 natively"),
        ([6, 1], "computes float32 natively"),
    ],
)
def test_gpus_say_what_they_compute(monkeypatch, capability, meaning):
    answer = {"backend": "tensorflow", "gpus": [{"device_name": "GPU", "compute_capability": capability}]}
    monkeypatch.setattr(environment, "_ASK_TENSORFLOW", f"print({json.dumps(json.dumps(answer))})")
    assert found(environment._tensorflow(), "gpu").meaning == meaning


def test_another_keras_backend_is_a_problem(monkeypatch):
    monkeypatch.setattr(environment, "_ASK_TENSORFLOW", """print('{"backend": "jax", "gpus": []}')""")
    backend = found(environment._tensorflow(), "keras backend")
    assert (backend.ok, backend.meaning) == (False, "set KERAS_BACKEND=tensorflow: a SavedModel needs it")


def test_a_problem_is_exit_code_1(run, monkeypatch):
    monkeypatch.setattr(doctor, "examine", lambda **_: iter([Finding("pip", False, "none", "install it")]))
    result = run("doctor")
    assert result.exit_code == 1
    assert result.stdout == "pip\tPROBLEM\tnone\tinstall it\n"


@pytest.mark.slow
def test_the_whole_examination_of_this_machine(run):
    result = run("doctor", "--json", "--offline")
    findings = {item["name"]: item for item in json.loads(result.stdout)}
    assert result.exit_code == (1 if any(item["ok"] is False for item in findings.values()) else 0)
    assert findings["python"]["value"] == platform.python_version()
    assert findings["keras backend"]["value"] == "tensorflow"
    assert findings["gpu"]["value"]
    assert sys.version_info >= (3, 11)
