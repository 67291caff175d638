"""Losses and streaming metrics against PyTorch and by hand."""

import numpy as np
import pytest

from kerasllm.training.keras_metrics import F1, Accuracy
from kerasllm.training.losses import classification_loss

LOGITS = np.random.default_rng(0).normal(size=(12, 4)).astype(np.float32) * 3
TARGETS = np.arange(12, dtype=np.int32) % 4


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [None, [1.0, 2.0, 0.5, 4.0]])
def test_crossentropy_agrees_with_pytorch(smoothing, weights):
    torch = pytest.importorskip("torch")
    ours = classification_loss(multi_label=False, label_smoothing=smoothing)
    sample_weight = None if weights is None else np.asarray(weights, np.float32)[TARGETS]
    got = float(ours(TARGETS, LOGITS, sample_weight))
    logits, targets = torch.tensor(LOGITS), torch.tensor(TARGETS).long()
    each = torch.nn.functional.cross_entropy(logits, targets, label_smoothing=smoothing, reduction="none")
    expected = (
        each.mean() if weights is None else (each * torch.tensor(sample_weight)).sum() / sample_weight.sum()
    )
    assert got == pytest.approx(float(expected), abs=1e-5)


def test_multi_label_loss_agrees_with_pytorch():
    torch = pytest.importorskip("torch")
    targets = (LOGITS + np.roll(LOGITS, 1) > 0).astype(np.float32)
    got = float(classification_loss(multi_label=True)(targets, LOGITS))
    expected = torch.nn.functional.binary_cross_entropy_with_logits(
        torch.tensor(LOGITS), torch.tensor(targets)
    )
    assert got == pytest.approx(float(expected), abs=1e-5)


@pytest.mark.parametrize("average", ["macro", "weighted"])
def test_f1_of_an_epoch_is_that_of_all_its_rows(average):
    predicted = LOGITS.argmax(axis=1)
    metric, accuracy = F1(4, average), Accuracy()
    for start in range(0, 12, 5):
        metric.update_state(TARGETS[start : start + 5], LOGITS[start : start + 5])
        accuracy.update_state(TARGETS[start : start + 5], LOGITS[start : start + 5])
    scores, counts = [], []
    for label in range(4):
        right = ((predicted == label) & (label == TARGETS)).sum()
        scores.append(2 * right / max(1, (predicted == label).sum() + (label == TARGETS).sum()))
        counts.append((label == TARGETS).sum())
    expected = np.mean(scores) if average == "macro" else np.average(scores, weights=counts)
    assert float(metric.result()) == pytest.approx(expected, abs=1e-6)
    assert float(accuracy.result()) == pytest.approx((predicted == TARGETS).mean())
    metric.reset_state()
    assert float(metric.result()) == 0.0


def test_multi_label_metrics_want_every_label_right():
    targets = np.array([[1, 0], [1, 1], [0, 0]], np.float32)
    logits = np.array([[2.0, -1.0], [1.0, -1.0], [-1.0, -2.0]], np.float32)
    accuracy, f1 = Accuracy(multi_label=True), F1(2, multi_label=True)
    accuracy.update_state(targets, logits)
    f1.update_state(targets, logits)
    assert float(accuracy.result()) == pytest.approx(2 / 3)
    assert float(f1.result()) == pytest.approx(0.5)
