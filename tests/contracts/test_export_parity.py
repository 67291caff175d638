"""Contract C3: what the SavedModel answers is what Python answers."""

import numpy as np
import pytest
import tensorflow as tf

from kerasllm.data.labels import LabelMap
from kerasllm.export.probes import BUILTIN_TEXTS
from kerasllm.models.builders import build_classifier, with_dtype_policy
from kerasllm.models.presets import Preset
from kerasllm.tasks.text_classification import TextClassifier
from kerasllm.testing import tiny_bert, tiny_reviews

TEXTS = [row["text"] for row in tiny_reviews(64)] + list(BUILTIN_TEXTS)
LABELS = ("negative", "neutral", "positive")


@pytest.fixture(scope="module", params=["cls", "mean", "multi_label", "mixed_bfloat16"])
def answers(request, tmp_path_factory):
    preset = Preset.load(tiny_bert(tmp_path_factory.mktemp("bert"), initializer_range=0.3))
    policy = request.param if request.param.startswith("mixed") else "float32"
    pooling = "cls" if request.param == "cls" else "mean"
    classifier = TextClassifier(
        # A model that was trained in mixed precision is held, and served, in float32.
        with_dtype_policy(
            build_classifier(preset, num_classes=3, pooling=pooling, dtype_policy=policy), "float32"
        ),
        preset.tokenizer,
        label_map=LabelMap(LABELS, multi_label=request.param == "multi_label"),
        sequence_length=24,
    )
    spread(classifier)
    folder = classifier.export(tmp_path_factory.mktemp("served") / "reviews", probes=TEXTS[:16]).path
    signature = tf.saved_model.load(str(folder)).signatures["serving_default"]
    served = {name: value.numpy() for name, value in signature(text=tf.constant(TEXTS)).items()}
    return classifier, served


def spread(classifier):
    """Scales the new head, which answers all texts nearly alike, so that it tells them apart."""
    logits = np.array([logits_of(classifier, text) for text in TEXTS])
    head = classifier.keras_model.head.output_dense
    head.kernel.assign(head.kernel * (2 / logits.std(axis=0)))
    head.bias.assign(-2 * logits.mean(axis=0) / logits.std(axis=0))


def logits_of(classifier, text):
    """By the tokenizers library and the Keras model as it is, one text at a time."""
    ids = classifier.tokenizer.encode([text], sequence_length=classifier.sequence_length)
    inputs = {"token_ids": ids, "padding_mask": np.ones_like(ids), "segment_ids": np.zeros_like(ids)}
    arrays = {name: np.asarray(value, np.int32) for name, value in inputs.items()}
    return np.asarray(classifier.keras_model(arrays, training=False), np.float64)[0]


def test_scores_are_those_of_predict(answers):
    classifier, served = answers
    assert served["scores"].std(axis=0).min() > 1e-3, "the texts must be told apart"
    predicted = classifier.predict(TEXTS)
    np.testing.assert_allclose(
        served["scores"], [list(result.scores.values()) for result in predicted], rtol=0, atol=1e-4
    )
    np.testing.assert_allclose(served["score"], [result.score for result in predicted], rtol=0, atol=1e-4)


def test_labels_are_those_of_predict(answers):
    classifier, served = answers
    assert [label.decode() for label in served["label"]] == [
        result.label for result in classifier.predict(TEXTS)
    ]
    assert [label.decode() for label in served["labels"][0]] == list(LABELS)


def test_scores_are_those_of_the_tokenizers_library_and_the_keras_model(answers):
    classifier, served = answers
    for row, text in enumerate(TEXTS):
        logits = logits_of(classifier, text)
        if classifier.label_map.multi_label:
            scores = 1 / (1 + np.exp(-logits))
        else:
            scores = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
        np.testing.assert_allclose(served["scores"][row], scores, rtol=0, atol=1e-4, err_msg=text)
