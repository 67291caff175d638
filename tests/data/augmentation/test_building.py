"""Entries of a config become layers, each with a seed of its own."""

import json

import numpy as np
import pytest

from kerasllm.config.loading import load_config
from kerasllm.data import augmentation
from kerasllm.data.augmentation import Cutoff, Mixup, RandomDeletion, RandomSwap, build
from kerasllm.errors import ConfigError, DataError, TokenizerError
from kerasllm.testing.families import family
from kerasllm.tokenization import Tokenizer

ALL = [
    {"name": "random_replacement", "rate": 0.2, "source": "synonyms", "synonyms": {"waa": ["wab"]}},
    {"name": "random_replacement", "source": "neighbours"},
    {"name": "random_insertion", "source": "unigram"},
    {"name": "random_deletion", "protected": ["waa"]},
    {"name": "random_swap"},
    {"name": "random_masking", "mask_token": "[UNK]"},
    {"name": "random_span_crop", "rate": 0.3},
    {"name": "random_typo", "operations": ["swap"]},
    {"name": "cutoff", "kind": "span"},
    {"name": "mixup", "alpha": 0.4},
]


def test_each_entry_becomes_its_layer(tokenizer, batch):
    asked = []

    def embeddings():
        asked.append("embeddings")
        return np.random.default_rng(0).normal(size=(88, 4))

    def counts():
        asked.append("counts")
        return np.ones(88)

    config = load_config({"task": "text_classification", "preset": "x", "augmentation": ALL})
    layers = build(config, tokenizer, embeddings=embeddings, counts=counts, seed=7)
    names = [type(layer).__name__ for layer in layers]
    assert names == [
        *("RandomReplacement", "RandomReplacement", "RandomInsertion", "RandomDeletion", "RandomSwap"),
        *("RandomMasking", "RandomSpanCrop", "RandomTypoOfTokens", "Cutoff", "Mixup"),
    ]
    assert asked == ["embeddings", "counts"]
    assert len({layer.seed for layer in layers}) == len(layers)
    assert layers[0].rate == 0.2
    assert layers[5].mask_id == tokenizer.token_to_id("[UNK]")
    assert layers[-1].alpha == 0.4
    again = build(ALL, tokenizer, embeddings=embeddings, counts=counts, seed=7)
    assert [layer.seed for layer in again] == [layer.seed for layer in layers]
    inputs = batch()
    for layer in layers:
        inputs = layer(inputs, training=True)
    assert set(inputs) == set(batch())


def test_layers_of_ones_own_stay_where_they_are(tokenizer):
    mine = RandomSwap(tokenizer, seed=1)
    layers = build([{"name": "mixup"}, mine, {"name": "random_deletion"}], tokenizer)
    assert [type(layer) for layer in layers] == [Mixup, RandomSwap, RandomDeletion]
    assert layers[1] is mine


def test_expensive_things_are_made_only_where_they_are_needed(tokenizer):
    def never():
        raise AssertionError

    assert len(build([{"name": "random_replacement"}], tokenizer, embeddings=never, counts=never)) == 1
    with pytest.raises(ConfigError, match="`source='neighbours'` of `RandomReplacement` needs `embeddings`"):
        build([{"name": "random_replacement", "source": "neighbours"}], tokenizer)


def test_synonyms_are_read_from_a_json_file(tokenizer, tmp_path):
    file = tmp_path / "synonyms.json"
    entry = {"name": "random_insertion", "source": "synonyms", "synonyms": str(file)}
    file.write_text(json.dumps({"waa": ["wab", "wac"]}))
    (layer,) = build([entry], tokenizer)
    assert len(layer.source.values[0]) == 2
    file.write_text("waa: wab")
    with pytest.raises(DataError, match=r"is no JSON file: .*Synonyms are a mapping such as"):
        build([entry], tokenizer)
    file.write_text('{"waa": "wab"}')
    with pytest.raises(DataError, match="is no table of synonyms: 'waa' has no list of words"):
        build([entry], tokenizer)
    file.write_text("[1]")
    with pytest.raises(DataError, match="is no table of synonyms: it is a list"):
        build([entry], tokenizer)


def test_wrong_entries_are_all_named(tokenizer):
    with pytest.raises(ConfigError) as error:
        build([{"name": "random_deleton"}, {"name": "mixup", "alfa": 1}, Cutoff(), {"rate": 0.1}], tokenizer)
    assert "Did you mean 'random_deletion'?" in str(error.value)
    assert "`augmentation[1].alfa` is not a field. Did you mean `alpha`?" in str(error.value)
    assert "`augmentation[2]`: the `name` is missing" in str(error.value)
    with pytest.raises(ConfigError, match="`augmentation` is a dict, expected a list of entries"):
        build({"name": "mixup"}, tokenizer)
    with pytest.raises(ConfigError, match="`mask_token` of `random_masking` is '<gap>', which is no token"):
        build([{"name": "random_masking", "mask_token": "<gap>"}], tokenizer)


def test_tokenizers_without_a_mask_or_without_words_are_refused():
    gpt2 = Tokenizer.from_json(family("gpt2")).with_settings(pad_token="<|endoftext|>")
    with pytest.raises(ConfigError, match="`RandomMasking` needs a mask token, and this tokenizer has none"):
        build([{"name": "random_masking"}], gpt2)
    document = json.loads(family("gpt2"))
    document |= {"pre_tokenizer": {"type": "Whitespace"}, "decoder": None, "post_processor": None}
    with pytest.raises(
        TokenizerError, match="the pieces of this BPE tokenizer do not show where words begin"
    ):
        _ = Tokenizer.from_json(json.dumps(document)).word_table


def test_the_public_names_are_there():
    assert augmentation.__all__ == sorted(augmentation.__all__)
    assert all(getattr(augmentation, name).__doc__ for name in augmentation.__all__)
    with pytest.raises(
        AttributeError, match=r"module 'kerasllm.data.augmentation' has no attribute 'RandomDelete'"
    ):
        _ = augmentation.RandomDelete
