"""Contract C4: a stock TF Serving runs what we export."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kerasllm.export.servable_ops import find_problems
from kerasllm.testing import tiny_bert

# Loads and asks as a server would, with nothing of ours: once as TensorFlow's function, and once through the
# session API, whose loader is the one of TF Serving.
ASK = """
import json, sys
import tensorflow as tf, tensorflow_text

def plain(answer):
    return {name: value.astype(str).tolist() if value.dtype == object else value.tolist()
            for name, value in answer.items()}

def through_function(directory, requests):
    signature = tf.saved_model.load(directory).signatures["serving_default"]
    for request in requests:
        found = signature(**{name: tf.constant(texts) for name, texts in request["inputs"].items()})
        yield plain({name: value.numpy() for name, value in found.items()})

def through_session(directory, requests):
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        graph = tf.compat.v1.saved_model.load(session, ["serve"], directory)
        signature = graph.signature_def["serving_default"]
        outputs = {name: info.name for name, info in signature.outputs.items()}
        for request in requests:
            feed = {signature.inputs[name].name: texts for name, texts in request["inputs"].items()}
            yield plain(session.run(outputs, feed))

answers = {}
for directory in sys.argv[1:]:
    requests = json.load(open(directory + "/kerasllm.json"))["golden"]["requests"]
    answers[directory] = [list(ask(directory, requests)) for ask in (through_function, through_session)]
ours = {"kerasllm", "keras_hub", "tokenizers", "torch", "transformers"}
foreign = sorted({name.split(".")[0] for name in sys.modules} & ours)
print(json.dumps({"version": tf.__version__, "foreign": foreign, "answers": answers}))
"""
KINDS = ("single", "multi_label", "pair", "mean", "bfloat16")


@pytest.fixture(scope="module")
def exports(tmp_path_factory) -> dict[str, Path]:
    """One export of each kind of classifier."""
    from kerasllm.data.labels import LabelMap
    from kerasllm.models.builders import build_classifier
    from kerasllm.models.presets import Preset
    from kerasllm.tasks.text_classification import TextClassifier

    preset = Preset.load(tiny_bert(tmp_path_factory.mktemp("bert"), initializer_range=0.3))
    found = {}
    for kind in KINDS:
        classifier = TextClassifier(
            build_classifier(preset, num_classes=2, pooling="mean" if kind == "mean" else "cls"),
            preset.tokenizer,
            label_map=LabelMap(("negative", "positive"), multi_label=kind == "multi_label"),
            sequence_length=32,
            pair=kind == "pair",
        )
        dtype = "bfloat16" if kind == "bfloat16" else "float32"
        found[kind] = Path(classifier.export(tmp_path_factory.mktemp(kind) / "reviews", dtype=dtype).path)
    return found


def ask(python, exports):
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1", "PYTHONPATH": ""}
    command = [python, "-c", ASK, *map(str, exports.values())]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd="/")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def check_golden(found, exports):
    for directory in exports.values():
        golden = json.loads((directory / "kerasllm.json").read_text("utf-8"))["golden"]
        assert sum(len(request["outputs"]["score"]) for request in golden["requests"]) >= 32
        for loader in found["answers"][str(directory)]:
            for answer, request in zip(loader, golden["requests"], strict=True):
                outputs = request["outputs"]
                np.testing.assert_allclose(answer["scores"], outputs["scores"], atol=golden["tolerance"])
                assert answer["label"] == outputs.get("label", answer["label"])


@pytest.mark.parametrize("kind", KINDS)
def test_no_op_stands_in_the_way_of_a_stock_server(exports, kind):
    assert find_problems(exports[kind]) == []


def test_a_process_with_only_tensorflow_and_tf_text_answers_the_same(exports):
    found = ask(sys.executable, exports)
    assert found["foreign"] == []
    check_golden(found, exports)


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_tensorflow_2_20_answers_the_same(exports, tensorflow_220):
    found = ask(tensorflow_220, exports)
    assert found["version"].startswith("2.20.")
    check_golden(found, exports)


@pytest.fixture(scope="session")
def tensorflow_220(tmp_path_factory):
    """Python of an environment with the release that the newest TF Serving is built from."""
    given = os.environ.get("KERASLLM_TEST_TENSORFLOW_220")
    if given:
        return given
    folder = tmp_path_factory.mktemp("tensorflow220") / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    pip = [
        str(folder / "bin" / "python"),
        "-m",
        "pip",
        "install",
        "-q",
        "tensorflow==2.20.0",
        "tensorflow-text==2.20.1",
    ]
    done = subprocess.run(pip, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"TensorFlow 2.20 cannot be installed here: {done.stderr.strip()[-300:]}")
    return str(folder / "bin" / "python")


@pytest.mark.parametrize(
    "num_requests", [2_000, pytest.param(100_000, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])]
)
def test_memory_stays_flat_over_distinct_requests(exports, num_requests):
    """Each request brings words that the server has not seen; a cache that keeps them would grow."""
    import tensorflow as tf

    signature = tf.saved_model.load(str(exports["single"])).signatures["serving_default"]

    def run(first, count):
        for number in range(first, first + count):
            text = tf.constant([f"{number:x} w{number * 7919:x} " * 8])
            signature(text=text)

    run(0, num_requests // 4)
    before = _resident()
    run(num_requests, num_requests)
    grown = (_resident() - before) / 2**20
    # A table that kept the words would hold 16 of them a request: about a kilobyte.
    assert grown < 4 + num_requests / 100_000 * 20, f"{grown:.1f} MiB more"


def _resident():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()
