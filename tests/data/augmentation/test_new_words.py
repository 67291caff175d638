"""Where new words come from: uniform, by frequency, from neighbours, from a table of synonyms."""

from collections import Counter

import keras
import numpy as np
import pytest

from kerasllm.data.augmentation import RandomInsertion, RandomReplacement
from kerasllm.errors import ConfigError
from kerasllm.testing.families import family
from kerasllm.tokenization import Tokenizer

SYNONYMS = {"waa": ["wab"], "wac": ["vfblong wad", "wae"], "vfalong": ["waf"]}


def numpy(found):
    return {name: np.asarray(values) for name, values in found.items()}


def same(first, second):
    return all(np.array_equal(first[name], second[name]) for name in first)


def replaced(tokenizer, inputs, words_of, **options):
    layer = RandomReplacement(tokenizer, options.pop("rate", 1.0), seed=0, **options)
    return words_of(numpy(layer(inputs, training=True)))


def test_uniform_words_are_whole_ones_and_never_the_same(tokenizer, batch, words_of):
    inputs = batch(rows=50)
    new = replaced(tokenizer, inputs, words_of)
    counts = Counter(word for row in new for word in row)
    assert all(word.isalpha() for word in counts)
    assert len(counts) == 80  # `waa` to `wdj` and `vea` to `vhj`
    assert max(counts.values()) < 3 * min(counts.values()) + 20
    pairs = [
        (a, b) for old, row in zip(words_of(inputs), new, strict=True) for a, b in zip(old, row, strict=True)
    ]
    assert all(old != new for old, new in pairs)


def test_frequent_words_are_drawn_more_often(tokenizer, batch, words_of):
    counts = np.zeros(tokenizer.vocabulary_size, np.int64)
    counts[[tokenizer.token_to_id(word) for word in ("waa", "wab", "wac")]] = (60, 30, 10)
    new = Counter(
        word
        for row in replaced(tokenizer, batch(rows=50), words_of, source="unigram", counts=counts)
        for word in row
    )
    assert set(new) == {"waa", "wab", "wac"}
    assert new["waa"] / 1000 == pytest.approx(0.6, abs=0.06)
    assert new["wac"] / 1000 == pytest.approx(0.1, abs=0.04)


def test_neighbours_are_the_nearest_by_cosine(tokenizer, batch, words_of):
    """The words lie on a circle in their order, with lengths that say nothing."""
    angles = np.linspace(0, 2 * np.pi, tokenizer.vocabulary_size, endpoint=False)
    lengths = np.random.default_rng(0).uniform(0.5, 5, len(angles))
    embeddings = np.stack([np.cos(angles), np.sin(angles)], axis=1) * lengths[:, None]
    inputs = batch(rows=40)
    new = replaced(tokenizer, inputs, words_of, source="neighbours", embeddings=embeddings, num_neighbours=2)
    place = {tokenizer.id_to_token(number): number for number in range(tokenizer.vocabulary_size)}
    for old, row in zip(words_of(inputs), new, strict=True):
        for before, after in zip(old, row, strict=True):
            if before not in place:
                assert after == before  # of two pieces, so there is no vector of it
            elif 7 < place[before] < 86:
                assert abs(place[after] - place[before]) == 1


def test_synonyms_of_several_words_fit_or_are_left_out(tokenizer, batch_of, words_of):
    layer = RandomReplacement(tokenizer, 1.0, source="synonyms", synonyms=SYNONYMS, seed=0)
    inputs = batch_of(["waa wac vfalong wag"], width=12)
    inputs["labels"] = np.where(inputs["padding_mask"] == 1, np.arange(12), -100)
    seen = set()
    for _ in range(8):
        found = numpy(layer(inputs, training=True))
        (row,) = words_of(found)
        seen.add(" ".join(row))
        labels = [label for label in found["labels"][0] if label != -100]
        # `wac` became three pieces, of which one has its label; `vfalong` of two became one.
        assert labels == [0, 1, 2, 3, 5, 6]
    assert seen == {"wab wae waf wag", "wab vfblong wad waf wag"}
    tight = batch_of(["waa wac vfalong wag"])
    for _ in range(8):
        assert words_of(numpy(layer(tight, training=True)))[0][1] in ("wac", "wae")


def test_inserted_synonyms_belong_to_words_of_the_text(tokenizer, batch_of, words_of):
    inputs = batch_of(["waa wba wbb", "wbc wbd wbe"], width=16)
    layer = RandomInsertion(tokenizer, 0.9, source="synonyms", synonyms=SYNONYMS, seed=0)
    first, second = words_of(numpy(layer(inputs, training=True)))
    assert second == ["wbc", "wbd", "wbe"]
    assert set(first) == {"waa", "wba", "wbb", "wab"}
    assert [word for word in first if word != "wab"] == ["waa", "wba", "wbb"]


@pytest.mark.parametrize("source", ["unigram", "neighbours", "synonyms"])
def test_sources_come_back_from_their_config(source, tokenizer, batch):
    random = np.random.default_rng(0)
    options = {
        "counts": random.integers(0, 9, tokenizer.vocabulary_size),
        "embeddings": random.normal(size=(tokenizer.vocabulary_size, 4)),
        "synonyms": SYNONYMS,
    }
    layer = RandomReplacement(tokenizer, 0.5, source=source, seed=1, **options)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    inputs = batch(width=48)
    assert same(numpy(again(inputs, training=True)), numpy(layer(inputs, training=True)))


def test_words_that_are_several_to_the_tokenizer_are_left_out_and_named(tokenizer, caplog):
    synonyms = {"waa": ["wab"], "wac wad": ["wae"], "waf": [" ".join(["waa"] * 9)]}
    RandomReplacement(tokenizer, source="synonyms", synonyms=synonyms)
    assert "2 words of the table of synonyms are left out" in caplog.text
    assert "'wac wad'" in caplog.text


def test_what_a_source_lacks_is_said(tokenizer):
    with pytest.raises(
        ConfigError, match=r"`source` of `RandomReplacement` is 'synonym'. Choose one of \['neigh"
    ):
        RandomReplacement(tokenizer, source="synonym")
    with pytest.raises(ConfigError, match=r"needs `embeddings`: the embedding matrix, e.g. `preset.backbone"):
        RandomReplacement(tokenizer, source="neighbours")
    with pytest.raises(
        ConfigError, match=r"`embeddings` has the shape \(3, 4\), expected one row for each of the 88"
    ):
        RandomReplacement(tokenizer, source="neighbours", embeddings=np.zeros((3, 4)))
    with pytest.raises(
        ConfigError, match="`counts` has 3 numbers, expected one for each of the 88 token ids"
    ):
        RandomReplacement(tokenizer, source="unigram", counts=np.ones(3))
    with pytest.raises(ConfigError, match="there are 0 words to draw new ones from, expected two or more"):
        RandomReplacement(tokenizer, source="unigram", counts=np.zeros(tokenizer.vocabulary_size))
    with pytest.raises(ConfigError, match="the table of synonyms has no word that can be replaced"):
        RandomReplacement(tokenizer, source="synonyms", synonyms={"wac wad": ["wae"]})


@pytest.mark.parametrize("name", ["roberta", "t5"])
def test_new_words_have_a_space_before_them(name):
    """Where pieces carry the space before them, `Great film` must not become `Greatmovie`."""
    tokenizer = Tokenizer.from_json(family(name))
    ids, _ = tokenizer.encode_for_model(["good bread and cheese by the river"])
    inputs = {"token_ids": np.array(ids, np.int32), "padding_mask": np.ones_like(ids, np.int32)}
    layer = RandomReplacement(tokenizer, 0.7, seed=3)
    for _ in range(5):
        found = numpy(layer(inputs, training=True))
        text = tokenizer.decode(found["token_ids"])[0]
        assert len(text.split()) == 7, text
