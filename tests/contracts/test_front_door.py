"""C7: `import kerasllm` and `kerasllm -h` leave TensorFlow out, and answer in under half a second."""

import importlib
import json
import statistics
import subprocess
import sys
import time

import pytest

import kerasllm
from kerasllm.cli.main import COMMANDS

# Anything that takes seconds to import, or drags in what does.
HEAVY = ("tensorflow", "keras", "keras_hub", "tensorflow_text", "transformers", "torch", "tensorflow_serving")
LIMIT_S = 0.5
# Other tests may run at the same time, so the slower runs do not count.
NUM_RUNS = 7

MODULES = [
    "kerasllm",
    "kerasllm.cli.main",
    *[f"kerasllm.cli.{name}" for name in COMMANDS],
    "kerasllm.config.defaults",
    "kerasllm.config.loading",
    "kerasllm.config.schema",
    "kerasllm.errors",
    "kerasllm.metrics",
    "kerasllm.serving",
    "kerasllm.serving.rest_client",
]

RUN = """
from kerasllm.cli.main import command
try:
    command({arguments}, prog_name="kerasllm")
except SystemExit as stop:
    assert stop.code == {code}, stop.code
"""


def heavy_modules_after(code):
    probe = f"{code}\nimport json, sys\nprint(json.dumps([name.partition('.')[0] for name in sys.modules]))"
    process = [sys.executable, "-c", probe]
    done = subprocess.run(process, capture_output=True, text=True, check=True, timeout=60)
    return sorted(set(json.loads(done.stdout.splitlines()[-1])) & set(HEAVY))


@pytest.mark.parametrize("module", MODULES)
def test_importing_leaves_tensorflow_out(module):
    assert heavy_modules_after(f"import {module}") == []


@pytest.mark.parametrize(
    "arguments",
    [["-h"], ["--version"], ["finetune", "-h"], ["configs", "list"], ["configs", "show"], ["query", "-h"]],
    ids=" ".join,
)
def test_commands_that_only_inform_leave_tensorflow_out(arguments):
    assert heavy_modules_after(RUN.format(arguments=arguments, code=0)) == []


def test_a_wrong_config_is_refused_before_tensorflow_is_imported():
    arguments = ["finetune", "text_classification/my_data", "-s", "training.epochs=x"]
    assert heavy_modules_after(RUN.format(arguments=arguments, code=1)) == []


def test_the_probe_sees_a_heavy_import():
    assert heavy_modules_after("import tensorflow_serving") == ["tensorflow_serving"]


@pytest.mark.parametrize(
    "arguments", [["-c", "import kerasllm"], ["-m", "kerasllm", "-h"]], ids=["import", "-h"]
)
def test_the_front_door_answers_in_half_a_second(arguments):
    seconds = []
    for _ in range(NUM_RUNS):
        start = time.perf_counter()
        subprocess.run([sys.executable, *arguments], capture_output=True, check=True, timeout=60)
        seconds.append(time.perf_counter() - start)
    assert statistics.median(sorted(seconds)[:3]) < LIMIT_S, seconds


def test_every_command_has_a_module_with_the_same_help():
    for name in COMMANDS:
        command = importlib.import_module(f"kerasllm.cli.{name}").command
        assert command.help, name


def test_public_names_are_sorted_and_importable():
    assert kerasllm.__all__ == sorted(kerasllm.__all__)
    assert set(kerasllm.__all__) <= set(dir(kerasllm))
    with pytest.raises(AttributeError, match="module 'kerasllm' has no attribute 'fine_tune'"):
        _ = kerasllm.fine_tune
