"""Batches: each text once, in an order that seed and epoch decide, padded to its neighbours."""

import numpy as np
import pytest

from kerasllm.data.pipeline import (
    EncodedTexts,
    collate,
    epoch_batches,
    evaluation_batches,
    num_batches_of,
    training_batches,
)

IDS = [[101, *range(1, 1 + n % 17), 102] for n in range(100)]
TEXTS = EncodedTexts.from_lists(IDS, [[0] * len(ids) for ids in IDS], np.arange(100, dtype=np.int32) % 3)


def test_each_epoch_holds_each_text_once_in_another_order():
    epochs = [epoch_batches(TEXTS.lengths, 8, seed=1, epoch=epoch) for epoch in range(3)]
    for batches in epochs:
        assert sorted(np.concatenate(batches)) == list(range(100))
    orders = [tuple(np.concatenate(batches)) for batches in epochs]
    assert len(set(orders)) == 3
    again = epoch_batches(TEXTS.lengths, 8, seed=1, epoch=2)
    assert tuple(np.concatenate(again)) == orders[2]
    assert tuple(np.concatenate(epoch_batches(TEXTS.lengths, 8, seed=2, epoch=2))) != orders[2]


def test_a_batch_is_padded_to_its_longest_text():
    inputs, targets, weights = collate(TEXTS, np.array([3, 16]), pad_id=0)
    assert inputs["token_ids"].shape == (2, 24)
    assert inputs["token_ids"][0, :5].tolist() == [101, 1, 2, 3, 102]
    assert inputs["padding_mask"].sum(axis=1).tolist() == [5, 18]
    assert targets.tolist() == [0, 1]
    assert weights.tolist() == [1.0, 1.0]


def test_grouping_by_length_leaves_little_padding():
    lengths = np.random.default_rng(0).integers(5, 300, size=3000)
    batches = epoch_batches(lengths, 32, seed=0, epoch=0)
    padded = sum(len(batch) * lengths[batch].max() for batch in batches)
    assert lengths.sum() / padded > 0.95


def test_a_resumed_order_is_the_rest_of_the_whole_order():
    steps = num_batches_of(TEXTS, 8)
    whole = list(training_batches(TEXTS, 8, pad_id=0, seed=3).take(3 * steps).as_numpy_iterator())
    rest = list(
        training_batches(TEXTS, 8, pad_id=0, seed=3, first_step=2 * steps).take(steps).as_numpy_iterator()
    )
    for (inputs, targets, _), (expected, expected_targets, _) in zip(rest, whole[2 * steps :], strict=True):
        np.testing.assert_array_equal(inputs["token_ids"], expected["token_ids"])
        np.testing.assert_array_equal(targets, expected_targets)


def test_evaluation_sees_each_text_once():
    batches = evaluation_batches(TEXTS, 16, pad_id=0)
    assert int(batches.cardinality()) == 7
    assert sum(len(targets) for _, targets, _ in batches.as_numpy_iterator()) == 100


def test_class_weights_become_text_weights():
    texts = EncodedTexts.from_lists(
        IDS[:3], [[0] * len(ids) for ids in IDS[:3]], np.array([0, 1, 1]), class_weights=np.array([2.0, 0.5])
    )
    assert texts.weights.tolist() == [2.0, 0.5, 0.5]
    multi = np.array([[1, 1], [0, 1], [0, 0]], np.float32)
    texts = EncodedTexts.from_lists(
        IDS[:3], [[0] * len(ids) for ids in IDS[:3]], multi, class_weights=np.array([2.0, 0.5])
    )
    assert texts.weights == pytest.approx([1.25, 0.5, 1.0])
