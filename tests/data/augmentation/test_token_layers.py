"""What every layer on token ids promises, and what each of them does."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasllm.data.augmentation import (
    RandomDeletion,
    RandomInsertion,
    RandomMasking,
    RandomReplacement,
    RandomSpanCrop,
    RandomSwap,
    RandomTypoOfTokens,
    Vocabulary,
)
from kerasllm.errors import ConfigError, DataError

LAYERS = (
    RandomDeletion,
    RandomInsertion,
    RandomMasking,
    RandomReplacement,
    RandomSpanCrop,
    RandomSwap,
    RandomTypoOfTokens,
)
every_layer = pytest.mark.parametrize("kind", LAYERS, ids=lambda kind: kind.__name__)


def numpy(found):
    return {name: np.asarray(values) for name, values in found.items()}


def same(first, second):
    assert set(first) == set(second)
    return all(np.array_equal(first[name], second[name]) for name in first)


@every_layer
def test_without_training_nothing_changes(kind, tokenizer, batch):
    inputs = batch()
    layer = kind(tokenizer, 0.5, seed=1)
    assert same(numpy(layer(inputs)), inputs)
    assert same(numpy(layer(inputs, training=False)), inputs)
    assert not same(numpy(layer(inputs, training=True)), inputs)


@every_layer
def test_the_seed_decides_and_each_call_draws_anew(kind, tokenizer, batch):
    inputs = batch(width=64)
    first, second = kind(tokenizer, 0.3, seed=1), kind(tokenizer, 0.3, seed=1)
    one, two = numpy(first(inputs, training=True)), numpy(first(inputs, training=True))
    assert not same(one, two)
    assert same(numpy(second(inputs, training=True)), one)
    assert same(numpy(second(inputs, training=True)), two)
    assert not same(numpy(kind(tokenizer, 0.3, seed=2)(inputs, training=True)), one)


@every_layer
def test_saved_variables_go_on_with_the_same_stream(kind, tokenizer, batch, tmp_path):
    """A model that holds the layer saves the state of its generator: an exact resume needs no more."""

    def model():
        ids = {name: keras.Input((None,), dtype="int32", name=name) for name in batch()}
        return keras.Model(ids, kind(tokenizer, 0.3, seed=5)(ids))

    inputs, before, after = batch(width=64), model(), model()
    for _ in range(3):
        before(inputs, training=True)
    before.save_weights(tmp_path / "state.weights.h5")
    after.load_weights(tmp_path / "state.weights.h5")
    assert same(numpy(after(inputs, training=True)), numpy(before(inputs, training=True)))


@every_layer
def test_a_layer_comes_back_from_its_config(kind, tokenizer, batch):
    layer = kind(tokenizer, 0.3, protected=["waa", "vfalong"], seed=3)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    inputs = batch(width=64)
    assert same(numpy(again(inputs, training=True)), numpy(layer(inputs, training=True)))


@pytest.mark.parametrize(
    "kind",
    [*LAYERS[:-1], pytest.param(RandomTypoOfTokens, marks=pytest.mark.slow)],  # tokenizes in the graph
    ids=lambda kind: kind.__name__,
)
def test_it_runs_in_a_function_of_unknown_shapes_and_in_tf_data(kind, tokenizer, batch):
    inputs = batch(mixed=True)
    eager, traced, mapped = (kind(tokenizer, 0.3, seed=7) for _ in range(3))
    expected = numpy(eager(inputs, training=True))
    spec = {name: tf.TensorSpec([None, None], tf.int32) for name in inputs}
    function = tf.function(lambda values: traced(values, training=True), input_signature=[spec])
    assert same(numpy(function(inputs)), expected)
    wider = batch(rows=3, words=9)
    assert function(wider)["token_ids"].shape == wider["token_ids"].shape
    data = tf.data.Dataset.from_tensors(inputs).repeat(2).map(lambda values: mapped(values, training=True))
    first, second = data.as_numpy_iterator()
    assert same(first, expected)
    assert not same(second, first)
    operations = {operation.type for operation in function.get_concrete_function().graph.get_operations()}
    assert not operations & {"PyFunc", "EagerPyFunc", "PyFuncStateless"}


@every_layer
def test_special_tokens_padding_and_whole_words_stay(kind, tokenizer, batch):
    """Rows of mixed lengths, in pairs, with room: masks and segments fit, and no word is torn apart."""
    inputs = batch(rows=32, words=12, mixed=True, pairs=True, width=96)
    layer = kind(tokenizer, 0.4, seed=11)
    separator, first = tokenizer.token_to_id("[SEP]"), tokenizer.token_to_id("[CLS]")
    goes_on = tokenizer.token_to_id("##long")
    for _ in range(5):
        found = numpy(layer(inputs, training=True))
        ids, mask, segments = (found[name] for name in ("token_ids", "padding_mask", "segment_ids"))
        assert ids.shape == inputs["token_ids"].shape
        lengths = mask.sum(axis=1)
        assert (mask == (np.arange(ids.shape[1]) < lengths[:, None])).all()  # padding on the right
        assert (ids[mask == 0] == tokenizer.pad_id).all()
        assert (segments[mask == 0] == 0).all()
        assert (ids[:, 0] == first).all()
        assert ((ids == separator).sum(axis=1) == 2).all()
        assert (ids[np.arange(32), lengths - 1] == separator).all()
        for row in range(32):
            middle = int(np.flatnonzero(ids[row] == separator)[0])
            assert middle >= 2  # one word stays of each text
            assert lengths[row] - 1 - middle >= 2
            assert (segments[row, : middle + 1] == 0).all()
            assert (segments[row, middle + 1 : lengths[row]] == 1).all()
            if kind is RandomTypoOfTokens:  # a typing error makes other pieces
                continue
            for place in np.flatnonzero(ids[row] == goes_on):
                assert tokenizer.id_to_token(int(ids[row, place - 1])).startswith("v")
            if kind in (RandomDeletion, RandomSwap, RandomSpanCrop):  # others may put in `vaa` as a word
                begun = [tokenizer.id_to_token(int(token))[0] == "v" for token in ids[row]]
                assert (ids[row, 1:][np.array(begun[:-1])] == goes_on).all()


@every_layer
def test_protected_words_and_spans_stay(kind, tokenizer, batch, words_of):
    inputs = batch(rows=16, width=96)
    protected = ["waa", "wab", "vfalong", "vfblong wac"]
    inputs["protected"] = np.zeros_like(inputs["token_ids"])
    inputs["protected"][:, 3:7] = inputs["padding_mask"][:, 3:7]
    layer = kind(tokenizer, 0.6, protected=protected, seed=2)
    kept = {"waa", "wab", "vfalong"}
    before = words_of(inputs)
    for _ in range(3):
        found = numpy(layer(inputs, training=True))
        for row, (old, new) in enumerate(zip(before, words_of(found), strict=True)):
            for word in kept:
                assert new.count(word) >= old.count(word)
            span = inputs["token_ids"][row, 3:7].tolist()
            after = found["token_ids"][row].tolist()
            assert any(after[place : place + 4] == span for place in range(len(after) - 3))
            assert found["protected"][row].sum() == 4


@every_layer
def test_rows_of_one_word_and_of_padding_only(kind, tokenizer, batch_of):
    inputs = batch_of(["waa", "", ",.", "waa wab"], width=9)
    inputs = {name: np.pad(values, [(0, 1), (0, 0)]) for name, values in inputs.items()}
    for rate in (0.5, 1.0):
        found = numpy(kind(tokenizer, rate, seed=0)(inputs, training=True))
        assert found["padding_mask"][0].sum() >= 3
        assert found["padding_mask"][1].sum() == 2
        assert same(
            {name: values[2] for name, values in found.items()},
            {name: values[2] for name, values in inputs.items()},
        )
        assert found["padding_mask"][4].sum() == 0
        assert (found["token_ids"][4] == 0).all()


@every_layer
def test_labels_and_weights_follow_their_words(kind, tokenizer, batch):
    """Each token is labelled with its own id, so a label at another token has gone astray."""
    inputs = batch(rows=16, mixed=True, width=64)
    ids, mask = inputs["token_ids"], inputs["padding_mask"]
    inputs["labels"] = np.where(mask == 1, ids, -100)
    inputs["weights"] = mask.astype(np.float32)
    one_hot = np.eye(4, dtype=np.float32)[ids % 4]
    layer = kind(tokenizer, 0.4, seed=1)
    found = numpy(layer(inputs, training=True))
    again = kind(tokenizer, 0.4, seed=1)
    vectors = numpy(again({**inputs, "labels": one_hot}, training=True))["labels"]
    new, labels = found["token_ids"], found["labels"]
    assert (labels[found["padding_mask"] == 0] == -100).all()
    assert (found["weights"][labels == -100] == 0).all()
    labelled = labels != -100
    assert (found["weights"][labelled] == 1).all()
    assert (vectors[labelled].argmax(-1) == labels[labelled] % 4).all()
    unchanged = labelled & (new == labels)
    assert unchanged.sum() > 0.2 * labelled.sum()
    if kind in (RandomDeletion, RandomInsertion, RandomSwap, RandomSpanCrop):
        assert (new[labelled] == labels[labelled]).all()
    if kind is RandomInsertion:
        assert (labelled.sum(axis=1) == mask.sum(axis=1)).all()  # nothing that was there is dropped
        assert labelled.sum() < found["padding_mask"].sum()
    if kind in (RandomMasking, RandomSwap):
        assert (np.sort(labels, axis=1) == np.sort(inputs["labels"], axis=1)).all()


def test_shares_are_the_rates_asked_for(tokenizer, batch, words_of):
    """2,000 words: the standard error of a share of 0.2 is 0.009."""
    inputs = batch(rows=100, words=20, width=64)
    before = words_of(inputs)

    def words_after(kind, rate=0.2, **options):
        return words_of(numpy(kind(tokenizer, rate, seed=4, **options)(inputs, training=True)))

    deleted = words_after(RandomDeletion)
    assert sum(map(len, deleted)) == pytest.approx(2000 * 0.8, abs=60)
    inserted = words_after(RandomInsertion)
    assert sum(map(len, inserted)) == pytest.approx(2000 * 1.2, abs=60)
    for kind in (RandomReplacement, RandomSwap):
        after = words_after(kind)
        changed = sum(
            a != b for old, new in zip(before, after, strict=True) for a, b in zip(old, new, strict=True)
        )
        # Of swapped words 1 in 80 is the same as the other.
        assert changed == pytest.approx(2000 * 0.2, abs=60), kind
    cropped = words_after(RandomSpanCrop, 0.3)
    assert sum(map(len, cropped)) == pytest.approx(2000 * 0.7, abs=20)
    masked = numpy(RandomMasking(tokenizer, 0.2, seed=4)(inputs, training=True))["token_ids"]
    share = (masked == tokenizer.mask_id).sum() / (inputs["padding_mask"].sum() - 200)
    assert share == pytest.approx(0.2, abs=0.03)


def test_a_swap_moves_two_words_and_keeps_all(tokenizer, batch, words_of):
    inputs = batch(rows=40, words=10)
    after = words_of(numpy(RandomSwap(tokenizer, 0.2, seed=1)(inputs, training=True)))
    for old, new in zip(words_of(inputs), after, strict=True):
        assert sorted(old) == sorted(new)
        assert sum(a != b for a, b in zip(old, new, strict=True)) in (0, 2)  # one pair of ten words


def test_a_crop_keeps_one_span_anywhere(tokenizer, batch, words_of):
    inputs = batch(rows=60, words=10)
    firsts = set()
    after = words_of(numpy(RandomSpanCrop(tokenizer, 0.3, seed=1)(inputs, training=True)))
    for old, new in zip(words_of(inputs), after, strict=True):
        places = [place for place in range(4) if old[place : place + 7] == new]
        assert places
        firsts.add(places[0])
    assert firsts == {0, 1, 2, 3}


def test_all_words_of_a_text_are_never_deleted_or_masked(tokenizer, batch, words_of):
    inputs = batch(rows=20, words=5)
    assert all(
        len(row) == 1 for row in words_of(numpy(RandomDeletion(tokenizer, 1.0)(inputs, training=True)))
    )
    masked = words_of(numpy(RandomMasking(tokenizer, 1.0)(inputs, training=True)))
    assert all(sum(word != "[MASK]" for word in row) == 1 for row in masked)


def test_words_are_put_in_only_while_there_is_room(tokenizer, batch):
    inputs = batch(rows=20, words=20)  # as wide as its longest row
    found = numpy(RandomInsertion(tokenizer, 0.5, seed=0)(inputs, training=True))
    lengths = inputs["padding_mask"].sum(axis=1)
    longest = lengths == lengths.max()
    assert (found["token_ids"][longest] == inputs["token_ids"][longest]).all()
    assert found["padding_mask"][~longest].sum() > lengths[~longest].sum()


def test_layers_share_one_vocabulary(tokenizer):
    vocabulary = Vocabulary.of(tokenizer)
    assert RandomDeletion(vocabulary, seed=0).vocabulary is RandomSwap(vocabulary, seed=0).vocabulary
    with pytest.raises(ConfigError, match=r"the words \['not'\] cannot be turned into token ids"):
        RandomDeletion(Vocabulary.from_config(vocabulary.get_config()), protected=["not"])


def test_what_cannot_be_augmented_is_refused(tokenizer, batch):
    with pytest.raises(ConfigError, match=r"`rate` of `RandomDeletion` is 1.5, expected a share"):
        RandomDeletion(tokenizer, 1.5)
    with pytest.raises(ConfigError, match=r"got a str as its vocabulary. Give a `kerasllm.Tokenizer`"):
        RandomDeletion("bert-base-uncased")
    layer = RandomDeletion(tokenizer)
    with pytest.raises(
        DataError, match=r"takes a dict with `token_ids` and `padding_mask`, but got \['ids'\]"
    ):
        layer({"ids": np.zeros((1, 4), np.int32)}, training=True)
    with pytest.raises(DataError, match=r"got \['position_ids'\], which it does not know how to move"):
        layer({**batch(), "position_ids": np.zeros((8, 4), np.int32)}, training=True)
    flat = {name: values[0] for name, values in batch().items()}
    with pytest.raises(DataError, match=r"got `token_ids` of the shape .*expected \(batch, sequence\)"):
        layer(flat, training=True)
