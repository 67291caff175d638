"""Typing errors: whole characters, letters only, in the graph."""

import unicodedata

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasllm.data.augmentation import RandomTypo, RandomTypoOfTokens
from kerasllm.data.augmentation.letters import QWERTY
from kerasllm.errors import ConfigError, DataError

TEXTS = [
    "A joy from start to end, 100 %!",
    "Größere Straßen führen über Brücken; naïve café",
    "今天天气很好 👩\u200d👩\u200d👧 e\u0301te\u0301 हिन्दी",
    "",
    "12:30 -- ?!",
]


def numpy(found):
    return {name: np.asarray(values) for name, values in found.items()}


def typed(layer, texts):
    return [text.decode() for text in layer(texts, training=True).numpy()]


def test_letters_change_and_everything_else_stays():
    layer = RandomTypo(0.4, seed=1)
    for _ in range(10):
        for before, after in zip(TEXTS, typed(layer, TEXTS), strict=True):
            kept = [c for c in before if unicodedata.category(c)[0] != "L"]
            assert [c for c in after if unicodedata.category(c)[0] != "L"] == kept
            assert len(after.split()) == len(before.split())  # no word is lost
    assert typed(layer, TEXTS) != typed(layer, TEXTS)
    assert [text.decode() for text in layer(TEXTS).numpy()] == TEXTS


def test_a_letter_with_a_combining_mark_is_left_alone():
    text = "e\u0301" * 30
    assert typed(RandomTypo(1.0, seed=0), [text]) == [text]


@pytest.mark.parametrize("operation", ["swap", "delete", "duplicate", "neighbour"])
def test_the_rate_is_the_share_of_letters(operation):
    text = " ".join("abcdefghij" for _ in range(400))
    layer = RandomTypo(0.05, operations=[operation], seed=3)
    (after,) = typed(layer, [text])
    words = list(zip(text.split(), after.split(), strict=True))
    if operation == "swap":
        moved = sum(a != b for old, new in words for a, b in zip(old, new, strict=True))
        assert all(sorted(old) == sorted(new) for old, new in words)
        assert moved / 2 == pytest.approx(400 * 9 * 0.05, abs=40)  # the last letter has none to swap with
    elif operation == "delete":
        assert len(text) - len(after) == pytest.approx(400 * 9 * 0.05, abs=40)  # the first one stays
        assert all(new.startswith("a") for _, new in words)
    elif operation == "duplicate":
        assert len(after) - len(text) == pytest.approx(400 * 10 * 0.05, abs=45)
    else:
        changed = [(a, b) for old, new in words for a, b in zip(old, new, strict=True) if a != b]
        assert len(changed) == pytest.approx(400 * 10 * 0.05, abs=45)
        assert all(new in QWERTY[old] for old, new in changed)


def test_all_operations_together_keep_the_rate():
    text = " ".join("abcdefghij" for _ in range(400))
    layer, count = RandomTypo(0.05, seed=5), 0
    (after,) = typed(layer, [text])
    count = sum(old != new for old, new in zip(text.split(), after.split(), strict=True))
    assert count / 400 == pytest.approx(1 - 0.95**10, abs=0.06)  # words with an error


def test_the_keyboard_is_qwerty_or_ones_own():
    assert QWERTY["g"] == "bfhtvy"
    assert QWERTY["q"] == "aw"
    russian = RandomTypo(1.0, operations=["neighbour"], keyboard={"ф": "ы"}, seed=0)
    assert typed(russian, ["фФa"]) == ["ыЫa"]


def test_protected_words_stay_in_any_case():
    layer = RandomTypo(1.0, protected=["not", "Größe"], seed=0)
    (after,) = typed(layer, ["not Not NOT größe knot notes"])
    assert after.split()[:4] == ["not", "Not", "NOT", "größe"]
    assert after.split()[4] != "knot"
    assert after.split()[5] != "notes"


def test_it_runs_in_tf_data_and_comes_back_from_its_config():
    layer = RandomTypo(0.3, protected=["joy"], operations=["swap", "delete"], seed=9)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    data = tf.data.Dataset.from_tensor_slices(TEXTS).batch(5).map(lambda texts: again(texts, training=True))
    first = next(data.as_numpy_iterator())
    assert [text.decode() for text in first] == typed(layer, TEXTS)
    shaped = layer(np.array([TEXTS[:2], TEXTS[:2]]), training=True)
    assert shaped.shape == (2, 2)


def test_texts_without_an_error_are_the_same_to_the_byte():
    broken = tf.constant([b"caf\xe9 bar", b"12"])
    assert RandomTypo(0.0, seed=0)(broken, training=True).numpy().tolist() == broken.numpy().tolist()


def test_what_is_no_text_is_refused(tokenizer):
    with pytest.raises(DataError, match=r"`RandomTypo` got int64, expected strings. For token ids"):
        RandomTypo()(tf.constant([1], tf.int64))
    with pytest.raises(ConfigError, match=r"`operations` of `RandomTypo` is \['swop'\], expected some of"):
        RandomTypo(operations=["swop"])
    with pytest.raises(
        ConfigError, match=r"`RandomTypoOfTokens` got a Vocabulary, expected a `kerasllm.Tokenizer`"
    ):
        RandomTypoOfTokens(RandomTypoOfTokens(tokenizer).vocabulary)


def test_token_ids_get_typing_errors_word_by_word(tokenizer, batch_of, words_of):
    inputs = batch_of(["waa wab vfalong", "vea wac"] * 8, width=40)
    layer = RandomTypoOfTokens(tokenizer, 0.2, operations=["swap"], protected=["waa"], seed=1)
    seen = set()
    for _ in range(6):
        found = numpy(layer(inputs, training=True))
        rows = words_of(found)
        assert all(row[0] == "waa" for row in rows[::2])
        seen |= {word for row in rows for word in row}
    assert "[UNK]" in seen  # `wab` with two letters swapped is no word of this vocabulary
    assert {"wab", "vfalong", "vea", "wac"} <= seen
