"""C1 for every family: eager = tf.data = SavedModel = the `tokenizer.json` run by `tokenizers`.

Ids, decoded texts and offsets; the SavedModels are reloaded in a process that knows only TensorFlow.
"""

import itertools
import json
import subprocess
import sys

import pytest
import tensorflow as tf
from tokenizers import Tokenizer as Library

from kerasllm.errors import ResourceError
from kerasllm.testing.families import FAMILIES, SENTENCEPIECE_FAMILIES, family
from kerasllm.testing.strings import adversarial_strings, code_point_strings
from kerasllm.testing.vocabularies import VOCABULARIES, vocabulary
from kerasllm.tokenization import Tokenizer

NUM_STRINGS = 20_000  # of the slow tests, a family
NUM_QUICK = 1_000
# Those of the benchmark; the others are near relatives of these and get the quick tests.
MEASURED = (
    *("bert-uncased", "gpt2", "smollm2", "llama3", "qwen2", "deepseek-v3", "llama2"),
    *("t5", "albert", "xlm-roberta"),
)
BATCH = 500

# Run in a process of its own, which knows nothing of kerasllm.
SERVER = """
import json, sys
import tensorflow as tf, tensorflow_text
texts = json.load(open(sys.argv[1]))
for directory in sys.argv[2:]:
    serve = tf.saved_model.load(directory).signatures["serving_default"]
    answers = {"ids": [], "offsets": [], "decoded": []}
    for start in range(0, len(texts), 500):
        answer = serve(texts=tf.constant(texts[start:start + 500]))
        ids, offsets, splits = (answer[name].numpy().tolist() for name in ("ids", "offsets", "splits"))
        answers["ids"] += [ids[i:j] for i, j in zip(splits, splits[1:])]
        answers["offsets"] += [offsets[i:j] for i, j in zip(splits, splits[1:])]
        answers["decoded"] += [text.decode() for text in answer["decoded"].numpy()]
    json.dump(answers, open(directory + "/answer.json", "w"))
assert not any(name.startswith("kerasllm") for name in sys.modules)
"""


class Exported(tf.Module):
    """What an export attaches: the tokenizer in a signature, and its tables."""

    def __init__(self, tokenizer: Tokenizer):
        super().__init__()
        self.tables = tokenizer.trackable
        self._tokenizer = tokenizer

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def serve(self, texts):
        ids = self._tokenizer.graph_encode(texts)
        offsets = self._tokenizer.graph_offsets(texts)
        decoded = self._tokenizer.graph_decode(ids)
        return {"ids": ids.values, "splits": ids.row_splits, "offsets": offsets.values, "decoded": decoded}


def made(name: str) -> str:
    if name in SENTENCEPIECE_FAMILIES:
        pytest.importorskip("transformers")
        pytest.importorskip("sentencepiece")
    return family(name)


def real(name: str) -> str:
    try:
        return vocabulary(name)
    except ResourceError as error:
        if "cannot reach" in str(error):
            pytest.skip(str(error))
        raise


def by_library(specification: str, texts: list[str]) -> dict[str, list]:
    """The answers of `tokenizers` alone, without any code of ours."""
    library = Library.from_str(specification)
    library.no_truncation()
    library.no_padding()
    encodings = library.encode_batch(texts)
    ids = [encoding.ids for encoding in encodings]
    offsets = [[list(offset) for offset in encoding.offsets] for encoding in encodings]
    return {"ids": ids, "decoded": library.decode_batch(ids), "offsets": offsets}


def through_data(tokenizer: Tokenizer, texts: list[str]) -> list[list[int]]:
    dataset = tf.data.Dataset.from_tensor_slices(texts).batch(BATCH).map(tokenizer.graph_encode)
    rows = []
    for batch in dataset:
        values, splits = batch.values.numpy().tolist(), batch.row_splits.numpy().tolist()
        rows += [values[start:end] for start, end in itertools.pairwise(splits)]
    return rows


def through_saved_models(specifications: list[str], texts: list[str], folder) -> list[dict[str, list]]:
    """The answers of every tokenizer's SavedModel, reloaded elsewhere."""
    (folder / "texts.json").write_text(json.dumps(texts))
    directories = []
    for index, specification in enumerate(specifications):
        directory = folder / str(index)
        module = Exported(Tokenizer.from_json(specification))
        tf.saved_model.save(module, directory, signatures={"serving_default": module.serve})
        directories.append(directory)
    command = [sys.executable, "-c", SERVER, str(folder / "texts.json"), *map(str, directories)]
    subprocess.run(command, check=True, cwd=folder)
    return [json.loads((directory / "answer.json").read_text()) for directory in directories]


def assert_same(texts: list[str], expected: list, found: list) -> None:
    assert len(expected) == len(found) == len(texts)
    different = [entry for entry in zip(texts, expected, found, strict=True) if entry[1] != entry[2]]
    assert not different, f"{len(different)} of {len(texts)} differ, e.g. {different[0]!a}"


def check_eager_and_data(specification: str, texts: list[str]) -> None:
    tokenizer = Tokenizer.from_json(specification)
    expected = by_library(specification, texts)
    assert_same(texts, expected["ids"], tokenizer.encode(texts))
    assert_same(texts, expected["decoded"], tokenizer.decode(expected["ids"]))
    eager_offsets = [[list(offset) for offset in row] for row in tokenizer.offsets(texts)]
    assert_same(texts, expected["offsets"], eager_offsets)
    assert_same(texts, expected["ids"], through_data(tokenizer, texts))


def check_saved_models(specifications: list[str], texts: list[str], folder) -> None:
    answers = through_saved_models(specifications, texts, folder)
    for specification, answer in zip(specifications, answers, strict=True):
        expected = by_library(specification, texts)
        for what in ("ids", "decoded", "offsets"):
            assert_same(texts, expected[what], answer[what])


@pytest.mark.parametrize("name", FAMILIES)
def test_eager_and_data_are_the_library(name):
    check_eager_and_data(made(name), adversarial_strings(NUM_QUICK, seed=1))


@pytest.mark.parametrize("name", ["bert-uncased", "llama3", "llama2", "t5"])
def test_saved_models_are_the_library(name, tmp_path):
    check_saved_models([made(name)], adversarial_strings(NUM_QUICK, seed=2), tmp_path)


@pytest.mark.parametrize("name", FAMILIES)
def test_pairs_are_the_library(name):
    specification = made(name)
    tokenizer, library = Tokenizer.from_json(specification), Library.from_str(specification)
    texts = adversarial_strings(2 * 200, seed=3)
    first, second = texts[:200], texts[200:]
    for sequence_length in (None, 12):
        if sequence_length:
            library.enable_truncation(sequence_length)
        encodings = library.encode_batch(list(zip(first, second, strict=True)))
        graph = tokenizer.graph_encode_with_segments(first, second, sequence_length=sequence_length)
        assert_same(first, [e.ids for e in encodings], graph[0].to_list())
        assert_same(first, [e.type_ids for e in encodings], graph[1].to_list())


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", MEASURED)
def test_many_texts_are_the_library(name, tmp_path):
    specification, texts = made(name), adversarial_strings(NUM_STRINGS, seed=0)
    check_eager_and_data(specification, texts)
    check_saved_models([specification], texts, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", ["llama3", "t5"])  # the others: `benchmarks/tokenizers exactness`
def test_every_code_point_is_the_library(name):
    specification = made(name)
    module = Exported(Tokenizer.from_json(specification))
    for start in range(0, 0x110000, 0x1000):
        texts = code_point_strings(start, start + 0x1000)
        if not texts:
            continue
        expected = by_library(specification, texts)
        found = module.serve(tf.constant(texts))
        assert found["ids"].numpy().tolist() == [token for row in expected["ids"] for token in row]
        assert found["offsets"].numpy().tolist() == [pair for row in expected["offsets"] for pair in row]
        assert_same(texts, expected["decoded"], [text.decode() for text in found["decoded"].numpy()])


@pytest.mark.real
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", VOCABULARIES)
def test_real_vocabularies_are_the_library(name, tmp_path):
    specification, texts = real(name), adversarial_strings(NUM_STRINGS, seed=4)
    tokenizer = Tokenizer.from_json(specification)
    tokenizer.check_graph()
    check_eager_and_data(specification, texts)
    check_saved_models([specification], texts, tmp_path)
