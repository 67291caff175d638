"""The whole tokenizer in a graph: offsets, pairs, cutting, padding, and special tokens that stay text."""

import json

import pytest
import tensorflow as tf
from tokenizers import Tokenizer as Library

from kerasllm.errors import TokenizerError
from kerasllm.testing.families import family
from kerasllm.testing.strings import adversarial_strings
from kerasllm.tokenization import Tokenizer, probes

# One of each kind; `tests/contracts/test_tokenizer_families.py` goes through all of them.
NAMES = ("bert-uncased", "roberta", "llama2-legacy", "t5-legacy")
TOKENS = ("<mask>", "[MASK]", "<s>", "</s>", "[SEP]", "<|endoftext|>")


def texts_of(count=300, seed=0):
    texts = adversarial_strings(count, seed)
    return [text.replace(" ", f" {TOKENS[i % 6]}", i % 2) for i, text in enumerate(texts)]


def library_of(text):
    library = Library.from_str(text)
    library.no_padding()
    library.no_truncation()
    return library


def complete(tokenizer, **options):
    """Ids, segments and offsets by a graph."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)] * 2)
    def pairs(texts, second):
        return tokenizer.trackable.encode(texts, second, segments=True, offsets=True, **options)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def singles(texts):
        return tokenizer.trackable.encode(texts, segments=True, offsets=True, **options)

    def call(texts, second=None):
        found = singles(texts) if second is None else pairs(texts, second)
        return [values.to_list() for values in found]

    return call


def of_library(encodings):
    return [
        [e.ids for e in encodings],
        [e.type_ids for e in encodings],
        [[list(offset) for offset in e.offsets] for e in encodings],
    ]


@pytest.mark.parametrize("name", NAMES)
def test_everything_is_the_library(name):
    text, texts = family(name), texts_of()
    tokenizer, library = Tokenizer.from_json(text), library_of(text)
    expected = of_library(library.encode_batch(texts))
    assert complete(tokenizer)(tf.constant(texts)) == expected
    ids = tf.function(tokenizer.graph_encode)(tf.constant(texts))
    assert ids.to_list() == expected[0]
    assert tokenizer.graph_offsets(texts[:40]).to_list() == expected[2][:40]
    assert [list(map(list, row)) for row in tokenizer.offsets(texts)] == expected[2]
    tokenizer.check_graph()


@pytest.mark.parametrize("name", NAMES)
def test_special_tokens_may_stay_text(name):
    text, texts = family(name), texts_of(seed=1)
    tokenizer, library = Tokenizer.from_json(text), library_of(text)
    plain = tokenizer.encode(texts)
    library.encode_special_tokens = True
    expected = of_library(library.encode_batch(texts))
    assert complete(tokenizer, keep_special=True)(tf.constant(texts)) == expected
    assert tokenizer.encode(texts, split_special_tokens=True) == expected[0]
    assert tokenizer.graph_encode(texts[:40], split_special_tokens=True).to_list() == expected[0][:40]
    assert tokenizer.encode(texts) == plain != expected[0]  # and it does not outlast its call


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("sequence_length", [5, 9, 24])
def test_pairs_are_cut_on_either_side(side, sequence_length):
    text, texts = family("roberta"), texts_of(100, seed=2)
    library = library_of(text)
    library.enable_truncation(sequence_length, direction=side)
    tokenizer = Tokenizer(text, {"truncation_side": side})
    pairs = texts[1:] + texts[:1]
    expected = of_library(library.encode_batch(list(zip(texts, pairs, strict=True))))
    run = complete(tokenizer, sequence_length=sequence_length)
    assert run(tf.constant(texts), tf.constant(pairs)) == expected
    assert tokenizer.encode(texts, pairs, sequence_length=sequence_length) == expected[0]
    single = of_library(library.encode_batch(texts))
    assert run(tf.constant(texts)) == single
    assert tokenizer.encode_with_segments(texts, sequence_length=sequence_length) == (single[0], single[1])


def test_the_side_of_the_file_counts_where_the_settings_name_none(specification):
    specification["truncation"] = {
        "direction": "Left",
        "max_length": 3,
        "strategy": "LongestFirst",
        "stride": 0,
    }
    text = json.dumps(specification)
    assert Tokenizer.from_json(text).encode(["a great film"], sequence_length=3) == [[2, 7, 3]]
    right = Tokenizer(text, {"truncation_side": "right"})
    assert right.encode(["a great film"], sequence_length=3) == [[2, 5, 3]]
    with pytest.raises(TokenizerError, match=r"`truncation_side`.*is 'top', expected 'left' or 'right'"):
        Tokenizer(text, {"truncation_side": "top"})


def test_one_way_or_the_other_gives_the_same_ids(as_json):
    tokenizer = Tokenizer.from_json(as_json)
    texts = texts_of(seed=3)
    assert tokenizer.trackable.is_fused
    by_stages = tokenizer.trackable.encode(tf.constant(texts), offsets=True).ids.to_list()
    assert tokenizer.graph_encode(texts).to_list() == by_stages


def test_padded_batches(as_json):
    tokenizer = Tokenizer.from_json(as_json)
    batch = tokenizer.graph_batch(["a great film", ""], ["films", "a"])
    assert batch["token_ids"].numpy().tolist() == [[2, 5, 6, 7, 3, 7, 8, 3], [2, 3, 5, 3, 0, 0, 0, 0]]
    assert batch["padding_mask"].numpy().tolist() == [[1] * 8, [1] * 4 + [0] * 4]
    assert batch["segment_ids"].numpy().tolist() == [[0] * 5 + [1] * 3, [0, 0, 1, 1] + [0] * 4]
    assert all(values.dtype == tf.int32 for values in batch.values())
    for options, width in (
        ({"sequence_length": 12, "fixed": True}, 12),
        ({"sequence_length": 12, "fixed": True, "pad_to_multiple": 8}, 16),
        ({"pad_to_multiple": 8}, 8),
        ({"sequence_length": 3}, 3),
    ):
        batch = tokenizer.graph_batch(["a great film", ""], **options)
        assert {values.shape for values in batch.values()} == {(2, width)}
    assert tokenizer.graph_batch([], sequence_length=4, fixed=True)["token_ids"].shape == (0, 4)
    with pytest.raises(TokenizerError, match=r"`fixed=True` needs a length, but `sequence_length` is None"):
        tokenizer.graph_batch(["a"], fixed=True)


def test_static_shapes_are_known_while_tracing(as_json):
    tokenizer = Tokenizer.from_json(as_json)
    texts = tf.data.Dataset.from_tensor_slices(["a great film", "films"]).batch(2)
    padded = texts.map(lambda batch: tokenizer.graph_batch(batch, sequence_length=8, fixed=True))
    assert padded.element_spec["token_ids"].shape.as_list() == [None, 8]
    assert next(iter(padded))["token_ids"].numpy().tolist()[1] == [2, 7, 8, 3, 0, 0, 0, 0]


def test_wrong_offsets_are_found(as_json, monkeypatch):
    tokenizer = Tokenizer.from_json(as_json)
    encode = tokenizer.trackable.encode

    def shifted(*arguments, **options):
        found = encode(*arguments, **options)
        return found if found.offsets is None else found._replace(offsets=found.offsets + 1)

    monkeypatch.setattr(tokenizer.trackable, "encode", shifted)
    with pytest.raises(TokenizerError, match=r"the offsets of '.*' is \[\[0, 0\].*in the graph"):
        tokenizer.check_graph()


def test_probes_hold_the_tokens_of_the_tokenizer():
    assert "a[SEP]b" in probes._with_tokens(["[SEP]"])
