"""Values and gradients of every loss against PyTorch or a formula in NumPy; extreme outputs."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasllm.errors import ConfigError
from kerasllm.training.losses import (
    ClassificationLoss,
    binary_crossentropy,
    binary_focal,
    classification_loss,
    crossentropy,
    focal,
    huber,
    similarity_error,
    squared_error,
)
from kerasllm.training.losses.divergence import binary_divergence, divergence

torch = pytest.importorskip("torch")
F = torch.nn.functional

RANDOM = np.random.default_rng(0)
LOGITS = RANDOM.normal(size=(12, 5)).astype(np.float32) * 3
OTHERS = RANDOM.normal(size=(12, 5)).astype(np.float32) * 3
CLASSES = np.arange(12, dtype=np.int32) % 5
LABELS = (RANDOM.random((12, 5)) < 0.4).astype(np.float32)
NUMBERS = RANDOM.normal(size=(12, 5)).astype(np.float32)


def torch_focal(targets, logits, gamma):
    log_p = torch.log_softmax(logits, -1).gather(1, targets[:, None])[:, 0]
    return -((1 - log_p.exp()) ** gamma) * log_p


def torch_binary_focal(targets, logits, gamma):
    p = torch.sigmoid(logits)
    right = torch.where(targets > 0, p, 1 - p)
    return (-((1 - right) ** gamma) * torch.log(right)).mean(-1)


def symmetric(p, q):
    both = (F.kl_div(b.log(), a, reduction="none") for a, b in ((p, q), (q, p)))
    return sum(0.5 * each for each in both)


def torch_binary_divergence(first, second):
    p, q = torch.sigmoid(first), torch.sigmoid(second)
    return (symmetric(p, q) + symmetric(1 - p, 1 - q)).mean(-1)


def torch_binary(smoothing):
    def loss(targets, logits):
        targets = targets * (1 - smoothing) + smoothing / 2
        return F.binary_cross_entropy_with_logits(logits, targets, reduction="none").mean(-1)

    return loss


def torch_similarity(scores, first, second):
    return F.mse_loss(torch.cosine_similarity(first, second), scores, reduction="none")


CASES = {
    "crossentropy": (CLASSES, crossentropy, lambda y, z: F.cross_entropy(z, y, reduction="none")),
    "smoothed": (
        CLASSES,
        lambda y, z: crossentropy(y, z, label_smoothing=0.1),
        lambda y, z: F.cross_entropy(z, y, reduction="none", label_smoothing=0.1),
    ),
    "focal": (CLASSES, lambda y, z: focal(y, z, gamma=2.0), lambda y, z: torch_focal(y, z, 2.0)),
    "focal, small gamma": (
        CLASSES,
        lambda y, z: focal(y, z, gamma=0.5),
        lambda y, z: torch_focal(y, z, 0.5),
    ),
    "multi-label": (LABELS, binary_crossentropy, torch_binary(0.0)),
    "multi-label, smoothed": (
        LABELS,
        lambda y, z: binary_crossentropy(y, z, label_smoothing=0.2),
        torch_binary(0.2),
    ),
    "multi-label, focal": (
        LABELS,
        lambda y, z: binary_focal(y, z, gamma=2.0),
        lambda y, z: torch_binary_focal(y, z, 2.0),
    ),
    "squared error": (
        NUMBERS,
        squared_error,
        lambda y, z: F.mse_loss(z, y, reduction="none").mean(-1),
    ),
    "huber": (
        NUMBERS,
        lambda y, z: huber(y, z, delta=1.5),
        lambda y, z: F.huber_loss(z, y, reduction="none", delta=1.5).mean(-1),
    ),
    "similarity": (
        NUMBERS[:, 0],
        lambda y, z: similarity_error(y, z, OTHERS),
        lambda y, z: torch_similarity(y, z, torch.tensor(OTHERS)),
    ),
    "divergence": (
        NUMBERS,
        lambda _, z: divergence(z, OTHERS),
        lambda _, z: symmetric(torch.softmax(z, -1), torch.softmax(torch.tensor(OTHERS), -1)).sum(-1),
    ),
    "multi-label divergence": (
        NUMBERS,
        lambda _, z: binary_divergence(z, OTHERS),
        lambda _, z: torch_binary_divergence(z, torch.tensor(OTHERS)),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_value_and_gradient_agree_with_pytorch(case):
    targets, ours, theirs = CASES[case]
    weights = np.linspace(0.0, 2.0, 12).astype(np.float32)
    logits = tf.constant(LOGITS)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        losses = tf.convert_to_tensor(ours(targets, logits))
        total = tf.reduce_sum(losses * weights)
    reference = torch.tensor(LOGITS, requires_grad=True)
    truth = torch.tensor(targets)
    expected = theirs(truth.long() if targets.dtype == np.int32 else truth, reference)
    (expected * torch.tensor(weights)).sum().backward()
    assert losses.dtype == tf.float32
    np.testing.assert_allclose(losses, expected.detach(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(tape.gradient(total, logits), reference.grad, rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize("gamma", [0.0, 1.0, 3.5])
def test_focal_is_the_formula_of_the_paper(gamma):
    p = np.exp(LOGITS.astype(np.float64))
    p = (p / p.sum(1, keepdims=True))[np.arange(12), CLASSES]
    np.testing.assert_allclose(
        focal(CLASSES, LOGITS, gamma=gamma), -((1 - p) ** gamma) * np.log(p), rtol=2e-5, atol=1e-7
    )


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("case", CASES)
def test_extreme_outputs_give_no_nan(case, dtype):
    targets, ours, _ = CASES[case]
    largest = {"float32": 1e4, "bfloat16": 1e4, "float16": 6e4}[dtype]
    signs = np.where(RANDOM.random((12, 5)) < 0.5, -1.0, 1.0)
    for scale in (largest, 1e-3, 0.0):
        logits = tf.cast(tf.constant(signs * scale), dtype)
        with tf.GradientTape() as tape:
            tape.watch(logits)
            losses = tf.convert_to_tensor(ours(targets, logits))
        assert losses.dtype == tf.float32
        assert losses.shape == (12,)
        assert np.isfinite(losses).all()
        assert np.isfinite(tf.cast(tape.gradient(losses, logits), tf.float32)).all()


def test_a_certain_right_answer_costs_nothing_and_a_logit_of_minus_infinity_is_no_nan():
    logits = np.array([[1e30, -1e30], [0.0, -np.inf]], np.float32)
    for loss in (crossentropy, focal):
        np.testing.assert_array_equal(loss(np.array([0, 0]), logits), [0.0, 0.0])
    np.testing.assert_array_equal(binary_focal(np.array([[1.0, 0.0]]), logits[:1]), [0.0])


def test_one_output_a_text_may_have_a_dimension_of_its_own():
    np.testing.assert_allclose(
        squared_error(NUMBERS[:, 0], LOGITS[:, :1]), squared_error(NUMBERS[:, 0], LOGITS[:, 0])
    )
    with pytest.raises(
        ValueError, match=r"targets have the shape \(12,\) and the outputs \(12, 5\); give the"
    ):
        squared_error(NUMBERS[:, 0], LOGITS)


def test_the_chosen_loss_survives_serialisation():
    loss = classification_loss(multi_label=True, kind="focal", focal_gamma=1.5)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    np.testing.assert_allclose(again.call(LABELS, LOGITS), binary_focal(LABELS, LOGITS, gamma=1.5))
    assert float(again(LABELS, LOGITS)) == pytest.approx(float(np.mean(again.call(LABELS, LOGITS))))


def test_unknown_losses_and_smoothed_focal_are_refused():
    with pytest.raises(
        ConfigError, match="The loss 'hinge' is unknown; choose one of 'crossentropy', 'focal'"
    ):
        ClassificationLoss("hinge")
    with pytest.raises(
        ConfigError, match=r"focal loss has no label smoothing, but `label_smoothing` is 0.1; set"
    ):
        classification_loss(multi_label=False, kind="focal", label_smoothing=0.1)
