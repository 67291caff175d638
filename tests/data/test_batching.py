"""Batches: each text once an epoch, in an order that seed and epoch decide, within their budget."""

import itertools

import numpy as np
import pytest

from kerasllm.config.schema import TrainingConfig
from kerasllm.data.batching import BatchSource, evaluation_source, make_source
from kerasllm.data.epochs import BatchSettings
from kerasllm.data.token_ids import EncodedTexts, LanguageModelTexts, TokenIds
from kerasllm.errors import ConfigError

RANDOM = np.random.default_rng(0)
LENGTHS = np.clip(RANDOM.lognormal(3.3, 0.8, 700).astype(int), 3, 150)
OFFSETS = np.concatenate([[0], np.cumsum(LENGTHS)])
IDS = RANDOM.integers(5, 1000, OFFSETS[-1]).astype(np.int32)
TEXTS = EncodedTexts(
    IDS, None, OFFSETS, np.arange(700, dtype=np.int32) % 3, np.linspace(0.5, 2, 700, dtype=np.float32)
)
WORDS = LanguageModelTexts(IDS, None, OFFSETS)
KINDS = {
    "size": {"batch_size": 16},
    "few widths": {"batch_size": 16, "num_widths": 3},
    "budget": {"batch_tokens": 512},
    "packed": {"packing": True, "batch_size": 4},
    "packed budget": {"packing": True, "batch_tokens": 700},
}


def source(kind, texts=TEXTS, seed=7, **options):
    training = TrainingConfig(**{**KINDS[kind], **options})
    return make_source(texts, training, pad_id=0, seed=seed, sequence_length=160)


def elements(dataset, count):
    return list(dataset.take(count).as_numpy_iterator())


def assert_same(ours, theirs):
    for (inputs, targets, weights), (inputs_2, targets_2, weights_2) in zip(ours, theirs, strict=True):
        for name in inputs:
            np.testing.assert_array_equal(inputs[name], inputs_2[name])
        np.testing.assert_array_equal(targets, targets_2)
        np.testing.assert_array_equal(weights, weights_2)


@pytest.mark.parametrize("kind", KINDS)
def test_each_epoch_holds_each_text_once_in_another_order(kind):
    made = source(kind)
    orders = []
    for epoch in range(3):
        order = np.concatenate([made.rows(epoch, batch) for batch in range(made.num_batches(epoch))])
        assert sorted(order) == list(range(700))
        orders.append(tuple(order))
    assert len(set(orders)) == 3


@pytest.mark.parametrize("kind", KINDS)
def test_the_order_is_a_function_of_seed_and_epoch_alone(kind):
    def order(made, epoch):
        return [made.rows(epoch, batch).tolist() for batch in range(made.num_batches(epoch))]

    made = source(kind)
    last = order(made, 4)
    assert order(made, 0) != last  # other epochs between do not matter
    assert order(made, 4) == last == order(source(kind), 4)
    assert order(source(kind, seed=8), 4) != last


@pytest.mark.parametrize("kind", KINDS)
def test_the_longest_batch_comes_first_and_nothing_else_changes(kind):
    made = source(kind)
    shapes = [made.shape(0, batch) for batch in range(made.num_batches(0))]
    costs = [rows * width * (435 + width) for rows, width in shapes]
    assert costs[0] == max(costs)
    assert {width for _, width in shapes} <= set(made.widths)
    if kind == "size":
        assert shapes[0] == (16, made.widths[-1])
    later = [made.shape(1, batch) for batch in range(made.num_batches(1))]
    assert later[0] != shapes[0] or len(set(later)) < 3


@pytest.mark.parametrize(("kind", "budget"), [("budget", 512), ("packed budget", 700)])
def test_a_budget_is_never_exceeded_and_nearly_used(kind, budget):
    made = source(kind)
    for epoch in range(3):
        tokens = [np.prod(made.shape(epoch, batch)) for batch in range(made.num_batches(epoch))]
        assert max(tokens) <= budget
        assert np.median(tokens) > 0.6 * budget


def test_widths_are_few_and_fit_the_lengths():
    few, many = source("few widths"), source("size")
    assert len(few.widths) == 3
    assert few.widths[-1] >= many.widths[-1] == LENGTHS.max()
    assert all(width % 8 == 0 for width in few.widths)
    assert many.padding_share < few.padding_share
    assert many.padding_share < few.padding_share < 0.5


@pytest.mark.parametrize("kind", KINDS)
def test_padding_share_is_counted(kind):
    made = source(kind)
    batches = [made.batch(0, batch)[0]["padding_mask"] for batch in range(made.num_batches(0))]
    places = sum(mask.size for mask in batches)
    tokens = [(mask > 0).sum() for mask in batches]
    assert made.num_tokens(0).tolist() == tokens
    assert made.padding_share == pytest.approx(1 - sum(tokens) / places)


def test_padding_falls_from_shuffled_to_grouped_to_packed():
    order = np.random.default_rng(0).permutation(700)
    batches = [LENGTHS[order[at : at + 16]] for at in range(0, 700, 16)]
    shuffled = 1 - LENGTHS.sum() / sum(len(batch) * batch.max() for batch in batches)
    grouped, packed = source("size").padding_share, source("packed").padding_share
    assert shuffled > 2 * grouped
    assert grouped > 3 * packed


@pytest.mark.parametrize("texts", [TEXTS, WORDS], ids=["texts", "tokens"])
@pytest.mark.parametrize("kind", ["size", "budget", "packed"])
def test_workers_do_not_change_a_batch(kind, texts):
    made = source(kind, texts)
    count = made.num_batches(0) + 5
    streams = []
    for workers in (1, 4):
        made.num_workers = workers
        streams.append(elements(made.dataset(), count))
    assert_same(*streams)


@pytest.mark.parametrize("kind", ["size", "budget", "packed"])
def test_a_resumed_stream_is_the_rest_of_the_whole_one(kind):
    made = source(kind)
    counts = [made.num_batches(epoch) for epoch in range(2)]
    whole = elements(made.dataset(), sum(counts))
    for step in (0, 1, counts[0] - 1, counts[0], counts[0] + 3, sum(counts) - 1):
        epoch, batch = made.position(step)
        assert_same(elements(source(kind).dataset(epoch, batch), sum(counts) - step), whole[step:])
    assert_same(elements(made.dataset(0, counts[0]), 2), whole[counts[0] : counts[0] + 2])
    assert made.num_steps(2) == sum(counts)


def test_a_batch_is_padded_to_its_longest_text():
    made = BatchSource(TEXTS, BatchSettings(batch_size=3), pad_id=9, seed=0)
    inputs, targets, weights = made.batch(0, 0)
    texts = made.rows(0, 0)
    width = inputs["token_ids"].shape[1]
    assert width - LENGTHS[texts].max() in range(8)
    for row, text in enumerate(texts):
        ids = TEXTS.ids(text)
        assert inputs["token_ids"][row].tolist() == ids.tolist() + [9] * (width - len(ids))
        assert inputs["padding_mask"][row].tolist() == [1] * len(ids) + [0] * (width - len(ids))
    np.testing.assert_array_equal(targets, TEXTS.targets[texts])
    np.testing.assert_array_equal(weights, TEXTS.weights[texts])


def test_packed_rows_hold_whole_texts_numbered_from_one():
    made = source("packed")
    inputs, targets, weights = made.batch(2, 1)
    texts, mask = made.rows(2, 1), inputs["padding_mask"]
    found = []
    for row in range(4):
        for number in range(1, mask[row].max() + 1):
            places = np.flatnonzero(mask[row] == number)
            assert np.all(np.diff(places) == 1)
            found.append(inputs["token_ids"][row, places].tolist())
    assert found == [TEXTS.ids(text).tolist() for text in texts]
    assert len(texts) > 8
    np.testing.assert_array_equal(targets, TEXTS.targets[texts])
    np.testing.assert_array_equal(weights, TEXTS.weights[texts])


@pytest.mark.parametrize("kind", ["size", "packed"])
def test_next_tokens_never_cross_the_border_of_a_text(kind):
    made = source(kind, WORDS)
    for batch in range(3):
        inputs, targets, weights = made.batch(0, batch)
        pairs, expected = [], []
        for row, place in zip(*np.nonzero(weights), strict=True):
            assert inputs["token_ids"][row, place + 1] == targets[row, place]
            assert inputs["padding_mask"][row, place + 1] == inputs["padding_mask"][row, place] > 0
            pairs.append((inputs["token_ids"][row, place], targets[row, place]))
        for text in made.rows(0, batch):
            ids = WORDS.ids(text)
            expected += itertools.pairwise(ids)
        assert pairs == expected


def test_weights_of_tokens_stand_where_they_are_the_target():
    tokens = TokenIds(np.array([5, 6, 7, 8], np.int32), None, np.array([0, 4]))
    texts = LanguageModelTexts.from_token_ids(tokens, weights=np.array([0, 0, 1, 0.5], np.float32))
    made = make_source(texts, TrainingConfig(batch_size=1), pad_id=0, seed=0)
    _, targets, weights = made.batch(0, 0)
    assert targets[0, :4].tolist() == [6, 7, 8, 0]
    assert weights[0, :4].tolist() == [0, 1, 0.5, 0]


def test_long_texts_are_cut_so_that_each_token_is_a_target_once():
    tokens = TokenIds(np.arange(21, dtype=np.int32), None, np.array([0, 11, 12, 21]))
    texts = LanguageModelTexts.from_token_ids(tokens, length=5)
    pieces = [texts.ids(i).tolist() for i in range(texts.num_texts)]
    assert pieces == [
        [0, 1, 2, 3, 4],
        [4, 5, 6, 7, 8],
        [8, 9, 10],
        [11],
        [12, 13, 14, 15, 16],
        [16, 17, 18, 19, 20],
    ]
    assert sorted(token for piece in pieces for token in piece[1:]) == [*range(1, 11), *range(13, 21)]


def test_evaluation_sees_each_text_once_from_short_to_long():
    made = evaluation_source(TEXTS, 32, pad_id=0)
    dataset = made.epoch()
    assert int(dataset.cardinality()) == 22
    batches = list(dataset.as_numpy_iterator())
    assert sum(len(targets) for _, targets, _ in batches) == 700
    widths = [inputs["token_ids"].shape[1] for inputs, _, _ in batches]
    assert widths == sorted(widths)
    packed = evaluation_source(TEXTS, 8, pad_id=0, packed_length=160)
    assert sum(len(targets) for _, targets, _ in packed.epoch().as_numpy_iterator()) == 700


def test_multi_label_targets_keep_their_shape():
    targets = np.eye(4, dtype=np.float32)[np.arange(700) % 4]
    texts = EncodedTexts.from_token_ids(TokenIds(IDS, None, OFFSETS), targets)
    _, found, weights = next(iter(source("packed", texts).dataset()))
    assert found.shape[1:] == (4,)
    assert len(found) == len(weights)


def test_a_budget_below_the_longest_text_is_an_error():
    with pytest.raises(
        ConfigError, match=r"`training.batch_tokens` is 64, but one row has up to 150 tokens.*150 or"
    ):
        source("budget", batch_tokens=64)


def test_a_text_longer_than_a_packed_row_is_an_error():
    with pytest.raises(ConfigError, match=r"A text has 150 tokens, but the rows.*have 104.*packing_length"):
        source("packed", packing_length=104)


def test_packing_length_without_packing_is_an_error():
    with pytest.raises(ValueError, match="packing_length` is 256, but nothing is packed"):
        TrainingConfig(packing_length=256)
