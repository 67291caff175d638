"""Contract C5: a server may join requests: every input and output has the batch first."""

import numpy as np
import pytest
import tensorflow as tf

from kerasllm.data.labels import LabelMap
from kerasllm.export.probes import builtin_probes
from kerasllm.export.servable_ops import read_signatures
from kerasllm.models.builders import build_classifier
from kerasllm.models.presets import Preset
from kerasllm.tasks.text_classification import TextClassifier
from kerasllm.testing import tiny_bert


@pytest.fixture(scope="module", params=["text", "pair"])
def folder(request, tmp_path_factory):
    preset = Preset.load(tiny_bert(tmp_path_factory.mktemp("bert"), initializer_range=0.3))
    classifier = TextClassifier(
        build_classifier(preset, num_classes=2),
        preset.tokenizer,
        label_map=LabelMap(("no", "yes"), multi_label=False),
        sequence_length=40,
        pair=request.param == "pair",
    )
    return classifier.export(tmp_path_factory.mktemp("served") / "reviews").path


def test_every_tensor_of_the_signature_begins_with_the_batch(folder):
    signature = read_signatures(folder)["serving_default"]
    for tensor in [*signature.inputs.values(), *signature.outputs.values()]:
        assert tensor.tensor_shape.dim[0].size == -1


def test_a_batch_of_n_is_n_batches_of_one(folder):
    serve = tf.saved_model.load(str(folder)).signatures["serving_default"]
    probes = builtin_probes(list(serve.structured_input_signature[1]))
    together = serve(**{name: tf.constant(texts) for name, texts in probes.items()})
    for row in range(len(probes["text"])):
        alone = serve(**{name: tf.constant(texts[row : row + 1]) for name, texts in probes.items()})
        for name, value in alone.items():
            assert value.shape[0] == 1
            if value.dtype == tf.string:
                assert value.numpy().tolist() == together[name][row : row + 1].numpy().tolist()
            else:
                np.testing.assert_allclose(value, together[name][row : row + 1], rtol=0, atol=1e-6)


def test_joined_requests_are_answered_as_each_alone(folder):
    """As the server's batching does it: requests of several sizes in one run, split afterwards."""
    serve = tf.saved_model.load(str(folder)).signatures["serving_default"]
    probes = builtin_probes(list(serve.structured_input_signature[1]))
    joined = serve(**{name: tf.constant(texts) for name, texts in probes.items()})["scores"]
    start = 0
    for size in (1, 2, 4, 8, 16):
        part = serve(**{name: tf.constant(texts[start : start + size]) for name, texts in probes.items()})[
            "scores"
        ]
        np.testing.assert_allclose(part, joined[start : start + size], rtol=0, atol=1e-6)
        start += size


def test_an_empty_request_has_an_empty_answer(folder):
    serve = tf.saved_model.load(str(folder)).signatures["serving_default"]
    empty = serve(**{name: tf.constant([], tf.string) for name in serve.structured_input_signature[1]})
    assert {name: value.shape.as_list() for name, value in empty.items()} == {
        "label": [0],
        "score": [0],
        "labels": [0, 2],
        "scores": [0, 2],
    }
