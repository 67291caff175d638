"""Augmented texts: what was not changed stands there as it was written."""

import re

import pytest

from kerasllm.data.augmentation import Mixup, RandomDeletion, RandomTypo, augment_texts, build
from kerasllm.errors import ConfigError
from kerasllm.testing.families import family
from kerasllm.tokenization import Tokenizer

TEXTS = [
    "A Joy from start to  end: the story isn't told well, and nobody was BORED.\nThe quick - brown fox "
    "(really)!",
    "One",
    "",
]
PAIRS = ["We paid in Cash", "good  Bread.", "x"]


def nothing(inputs, training):
    return inputs


@pytest.fixture(scope="module", params=["bert-uncased", "roberta", "gpt2", "clip", "t5"])
def of_family(request):
    made = Tokenizer.from_json(family(request.param))
    return made.with_settings(pad_token="<|endoftext|>") if request.param in ("gpt2", "clip") else made


def test_texts_that_no_layer_changes_are_the_same_to_the_letter(of_family):
    assert augment_texts([nothing], of_family, TEXTS) == TEXTS


@pytest.mark.parametrize("name", ["bert-uncased", "roberta", "gpt2", "t5"])  # CLIP has no pairs
def test_so_are_pairs(name):
    tokenizer = Tokenizer.from_json(family(name))
    if name == "gpt2":
        tokenizer = tokenizer.with_settings(pad_token="<|endoftext|>")
    assert augment_texts([nothing], tokenizer, TEXTS, PAIRS) == list(zip(TEXTS, PAIRS, strict=True))


def test_what_is_left_after_a_deletion_is_as_it_was_written(of_family):
    layer = RandomDeletion(of_family, 0.3, seed=0)
    for _ in range(3):
        (text,) = augment_texts([layer], of_family, TEXTS[:1])
        words, left = re.findall(r"\w+", TEXTS[0]), re.findall(r"\w+", text)
        rest = iter(words)
        assert all(word in rest for word in left)  # in their order
        assert 3 < len(left) < len(words)
        assert set(text) <= set(TEXTS[0])


def test_a_wider_row_takes_all_insertions(tokenizer):
    layers = build([{"name": "random_insertion", "rate": 0.2}], tokenizer, seed=1)
    texts = ["Waa wab " * 10] * 20
    lengths = [len(text.split()) for text in augment_texts(layers, tokenizer, texts)]
    assert sum(lengths) == pytest.approx(20 * 20 * 1.2, abs=30)
    assert max(lengths) > 24


def test_changed_words_are_decoded_whole(tokenizer):
    layers = build(
        [
            {
                "name": "random_replacement",
                "rate": 0.9,
                "source": "synonyms",
                "synonyms": {"waa": ["vealong wab"]},
            }
        ],
        tokenizer,
        seed=0,
    )
    assert augment_texts(layers, tokenizer, ["Waa, WAB. Waa"]) == ["vealong wab, WAB. vealong wab"]


def test_typing_errors_come_before_tokenization(tokenizer):
    (text,) = augment_texts([RandomTypo(1.0, operations=["duplicate"], seed=0)], tokenizer, ["Ab c"])
    assert text == "AAbb cc"


def test_token_vectors_are_no_texts(tokenizer):
    with pytest.raises(
        ConfigError, match=r"Mixup changes token vectors, which are no texts. Leave it out here"
    ):
        augment_texts([Mixup()], tokenizer, ["a"])
