"""The tiny checkpoints and data sets are what they say, and the same every time."""

import hashlib
import json
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from kerasllm.errors import DataError
from kerasllm.testing import tiny_bert, tiny_pairs, tiny_reviews, tiny_topics
from kerasllm.testing.families import FAMILIES, family
from kerasllm.testing.strings import adversarial_strings, code_point_strings
from kerasllm.testing.training import Training


@pytest.mark.parametrize("make", [tiny_reviews, tiny_pairs, tiny_topics])
def test_same_seed_same_records(make):
    assert make(20, seed=3) == make(20, seed=3)
    assert make(20, seed=3) != make(20, seed=4)


@pytest.mark.parametrize(
    ("make", "largest"), [(tiny_reviews, 10_240), (tiny_pairs, 2_560), (tiny_topics, 512)]
)
def test_no_text_occurs_twice(make, largest):
    records = make(largest)
    assert len(records) == largest
    assert len({(record["text"], record.get("text_pair")) for record in records}) == largest
    with pytest.raises(
        DataError, match=r"Only [\d,]+ different texts can be made here, but [\d,]+ were asked"
    ):
        make(largest + 2)


def test_reviews_are_balanced_and_decided_by_the_adjective():
    records = tiny_reviews(101)
    labels = [record["label"] for record in records]
    assert (labels.count("negative"), labels.count("positive")) == (51, 50)
    words = {label: set() for label in set(labels)}
    for record in records:
        words[record["label"]].add(record["text"].split()[4])
    assert words["negative"].isdisjoint(words["positive"])


def test_pairs_need_both_texts():
    records = tiny_pairs(100)
    assert [record["label"] for record in records[:4]] == ["yes", "no", "yes", "no"]
    assert {tuple(record) for record in records} == {("text", "text_pair", "label")}


def test_topics_have_zero_to_three_labels():
    lengths = {len(record["label"]) for record in tiny_topics(100)}
    assert lengths == {0, 1, 2, 3}


def test_same_seed_same_checkpoint_bytes(tmp_path):
    first, second = tiny_bert(tmp_path / "a"), tiny_bert(tmp_path / "b")
    other = tiny_bert(tmp_path / "c", seed=1)
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        assert (first / name).read_bytes() == (second / name).read_bytes()
    assert (first / "model.safetensors").read_bytes() != (other / "model.safetensors").read_bytes()


def test_vocabulary_fits_the_embedding_and_knows_every_word(tmp_path):
    path = tiny_bert(tmp_path)
    tokenizer = Tokenizer.from_file(str(path / "tokenizer.json"))
    config = json.loads((path / "config.json").read_text())
    assert tokenizer.get_vocab_size() == config["vocab_size"]
    for record in tiny_reviews(50) + tiny_pairs(50) + tiny_topics(50):
        assert "[UNK]" not in tokenizer.encode(record["text"]).tokens
    tokens = tokenizer.encode("The film, ZIP!", "ok").tokens
    assert " ".join(tokens) == "[CLS] the film , z ##i ##p ! [SEP] o ##k [SEP]"
    assert tokenizer.encode("film", "ok").type_ids == [0, 0, 0, 1, 1, 1]


def test_texts_give_the_vocabulary(tmp_path):
    path = tiny_bert(tmp_path, texts=["Grüße aus Köln", "grüße"])
    vocabulary = Tokenizer.from_file(str(path / "tokenizer.json")).get_vocab()
    assert "gruße" in vocabulary
    assert "ß" in vocabulary
    assert "film" not in vocabulary


def test_a_classifier_has_a_head_and_labels(tmp_path):
    path = tiny_bert(tmp_path, labels=["a", "b", "c"], multi_label=True, num_layers=1)
    tensors = load_file(path / "model.safetensors")
    assert tensors["classifier.weight"].shape == (3, 16)
    assert tensors["bert.pooler.dense.weight"].dtype == np.float32
    config = json.loads((path / "config.json").read_text())
    assert config["id2label"] == {"0": "a", "1": "b", "2": "c"}
    assert config["problem_type"] == "multi_label_classification"


def test_impossible_shapes_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"`hidden_dim=10` must be a multiple of `num_heads=4`"):
        tiny_bert(tmp_path, hidden_dim=10, num_heads=4)
    with pytest.raises(ValueError, match=r"has a pooler: drop `pooler=False`"):
        tiny_bert(tmp_path, labels=["a"], pooler=False)


def test_no_heavy_import(tmp_path):
    code = (
        "import sys; from kerasllm.testing import tiny_bert; tiny_bert(sys.argv[1]); "
        "print([m for m in ('tensorflow', 'keras', 'torch', 'transformers') if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


def test_families_are_the_same_in_every_process():
    pytest.importorskip("transformers")
    pytest.importorskip("sentencepiece")
    code = (
        "import hashlib; from kerasllm.testing.families import FAMILIES, family; "
        "print(*(hashlib.sha256(family(name).encode()).hexdigest() for name in FAMILIES))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    here = [hashlib.sha256(family(name).encode()).hexdigest() for name in FAMILIES]
    assert result.stdout.split() == here
    assert len(set(here)) == len(here)


@pytest.mark.parametrize("name", ["clip", "gpt2", "llama3", "qwen2", "roberta", "smollm2"])
def test_families_know_what_they_were_trained_on(name):
    small = Tokenizer.from_str(family(name))
    other = Tokenizer.from_str(family(name, Training(("a strawberry, " * 9,), 900)))
    assert len(other.encode("a strawberry, a strawberry").ids) < len(
        small.encode("a strawberry, a strawberry").ids
    )
    assert len(small.encode("the reader sees").ids) < len(other.encode("the reader sees").ids)
    assert other.get_vocab_size() <= 900


def test_there_is_no_other_family():
    with pytest.raises(ValueError, match=r"no family 'gpt5'; choose one of \['albert', 'bert-cased'"):
        family("gpt5")


def test_strings_are_awkward_legal_and_the_same_every_time():
    strings = adversarial_strings(2_000, seed=3)
    assert strings == adversarial_strings(2_000, seed=3)
    assert strings != adversarial_strings(2_000, seed=4)
    assert len(set(strings)) > 1_500
    together = "".join(strings)
    together.encode("utf-8")
    for piece in (
        "[SEP]",
        "<|endoftext|>",
        "\r\n",
        "\u3000",
        "'s",
        "\u096c",
        "\u0134",
        "\0",
        "\U0010ffff",
        "\u0301",
    ):
        assert piece in together
    assert any("strawberry" in text for text in adversarial_strings(50, texts=["a strawberry cake"]))


def test_every_code_point_is_there_twice():
    assert code_point_strings(0x61, 0x63) == ["a", "aab", "b", "abb"]
    assert code_point_strings(0xD800, 0xE000) == []
    assert len(code_point_strings()) == 2 * (0x110000 - 0x800)
