"""The tokenizer as TensorFlow operations: what is in the graph, and input that only a graph meets."""

import json
import random

import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from tokenizers import Tokenizer as Library

from kerasllm.errors import TokenizerError
from kerasllm.tokenization import Tokenizer, probes

# Operations that keep something from one call to the next, run Python, or need a compiler that a stock
# server has switched off.
FORBIDDEN = (
    "PyFunc",
    "HashTable",
    "MutableHashTable",
    "Lookup",
    "Variable",
    "Assign",
    "Xla",
    "Stack",
    "Queue",
)


@pytest.fixture
def tokenizer(as_json):
    return Tokenizer.from_json(as_json)


class Exported(tf.Module):
    def __init__(self, tokenizer):
        super().__init__()
        self.tables = tokenizer.trackable
        self._tokenizer = tokenizer

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string), tf.TensorSpec([None], tf.string)])
    def serve(self, texts, pairs):
        ids, segments = self._tokenizer.graph_encode_with_segments(texts, pairs, sequence_length=16)
        return {
            "ids": ids.to_tensor(),
            "segments": segments.to_tensor(),
            "text": self._tokenizer.graph_decode(ids),
        }


def saved_operations(tokenizer, directory) -> list[str]:
    module = Exported(tokenizer)
    tf.saved_model.save(module, str(directory), signatures={"serving_default": module.serve})
    saved = saved_model_pb2.SavedModel()
    saved.ParseFromString((directory / "saved_model.pb").read_bytes())
    graph = saved.meta_graphs[0].graph_def
    return [node.op for node in graph.node] + [n.op for f in graph.library.function for n in f.node_def]


def test_the_graph_keeps_and_grows_nothing(tokenizer, tmp_path):
    operations = saved_operations(tokenizer, tmp_path)
    assert "FastWordpieceTokenizeWithOffsets" in operations
    assert not [name for name in operations if any(word in name for word in FORBIDDEN)]
    assert [path for path in (tmp_path / "variables").iterdir() if path.stat().st_size > 1000] == []


def test_the_number_of_operations_does_not_depend_on_the_vocabulary(specification, tmp_path):
    small = saved_operations(Tokenizer.from_json(json.dumps(specification)), tmp_path / "small")
    specification["model"]["vocab"].update({f"word{index}": 26 + index for index in range(20_000)})
    for index in range(300):
        specification["added_tokens"].append(
            {**specification["added_tokens"][0], "id": 20_026 + index, "content": f"<extra{index}>"}
        )
    large = saved_operations(Tokenizer.from_json(json.dumps(specification)), tmp_path / "large")
    # One more constant and one look-up: its ids are no longer 0, 1, 2 …
    assert len(small) <= len(large) <= len(small) + 10
    assert len(small) < 1000


def test_exported_answers_are_the_same(tokenizer, tmp_path):
    saved_operations(tokenizer, tmp_path)
    serve = tf.saved_model.load(tmp_path).signatures["serving_default"]
    texts, pairs = ["A great film!", ""], ["unaffable [SEP]", "日本"]
    answer = serve(texts=tf.constant(texts), pairs=tf.constant(pairs))
    ids, segments = tokenizer.encode_with_segments(texts, pairs, sequence_length=16)
    width = max(map(len, ids))
    assert answer["ids"].numpy().tolist() == [row + [0] * (width - len(row)) for row in ids]
    assert answer["segments"].numpy().tolist() == [row + [0] * (width - len(row)) for row in segments]
    assert [text.decode() for text in answer["text"].numpy()] == tokenizer.decode(ids)


def test_batches_of_nothing(tokenizer):
    for pairs in (None, tf.zeros([0], tf.string)):
        ids, segments = tokenizer.graph_encode_with_segments(tf.zeros([0], tf.string), pairs)
        assert ids.to_list() == segments.to_list() == []
        assert ids.dtype == segments.dtype == tf.int32
    assert tokenizer.graph_encode(tf.constant(["", "", ""])).to_list() == [[2, 3]] * 3
    assert tokenizer.graph_decode(tokenizer.graph_encode(tf.zeros([0], tf.string))).shape == [0]
    assert tokenizer.encode([]) == tokenizer.decode([]) == []


def test_a_batch_is_its_texts_one_by_one(tokenizer):
    texts = probes.probe_texts()
    alone = [tokenizer.graph_encode([text]).to_list()[0] for text in texts[:60]]
    assert tokenizer.graph_encode(texts[:60]).to_list() == alone


@pytest.mark.parametrize(
    "content",
    [
        b"great\xfffilm",
        b"great\xe2\x82",
        b"\xe2\x82film",
        b"\xc0\x80 a",
        b"\xed\xa0\x80great",
        b"\xf4\x90\x80\x80",
        b"film\xf0\x9f",
        bytes(range(128, 256)),
    ],
)
def test_bytes_that_are_no_utf8_are_read_as_replacement_characters(as_json, specification, content):
    # Nothing is left of U+FFFD where the text is cleaned, so its number shows only in the second tokenizer.
    expected = content.decode("utf-8", "replace")
    cleaned = Tokenizer.from_json(as_json)
    texts = tf.constant([b"a", content, b"!"])
    assert cleaned.graph_encode(texts).to_list() == cleaned.encode(["a", expected, "!"])
    specification["normalizer"]["clean_text"] = False
    kept = Tokenizer.from_json(json.dumps(specification))
    assert len(kept.graph_encode(texts).to_list()) == 3


def test_other_shapes_and_types_are_refused(tokenizer):
    with pytest.raises(TokenizerError, match=r"`texts` has the dtype string and the shape \(1, 1\).*reshape"):
        tokenizer.graph_encode(tf.constant([["a"]]))
    with pytest.raises(TokenizerError, match=r"`pairs` has the dtype int32 and the shape \(1,\)"):
        tokenizer.graph_encode(tf.constant(["a"]), tf.constant([1]))


def test_decoding_leaves_out_what_is_no_token(specification):
    specification["model"]["vocab"]["far"] = 40
    tokenizer = Tokenizer.from_json(json.dumps(specification))
    ids = tf.ragged.constant([[2, 5, 30, 40, 8, 3], [-7, 41, 1 << 30], [], [8, 8]], dtype=tf.int32)
    assert tokenizer.graph_decode(ids).numpy().tolist() == [b"a fars", b"", b"", b"##ss"]
    assert tokenizer.decode([[2, 5, 30, 40, 8, 3], [41], [], [8, 8]]) == ["a fars", "", "", "##ss"]
    with_special = tokenizer.graph_decode(ids, skip_special_tokens=False).numpy()[0]
    assert with_special.decode() == tokenizer.decode([[2, 5, 40, 8, 3]], skip_special_tokens=False)[0]


@pytest.mark.parametrize("cleanup", [True, False])
def test_decoding_random_ids(specification, cleanup):
    words = [".", "?", "!", ",", "'", "n't", "'m", "'s", "'ve", "'re", "do", "not", "##'s", "##.", "do not"]
    vocabulary = specification["model"]["vocab"]
    for word in words:
        vocabulary.setdefault(word, len(vocabulary))
    specification["decoder"]["cleanup"] = cleanup
    tokenizer = Tokenizer.from_json(json.dumps(specification))
    generator = random.Random(0)
    rows = [
        [generator.randrange(len(vocabulary)) for _ in range(generator.randrange(9))] for _ in range(2000)
    ]
    for skip in (True, False):
        graph = tokenizer.graph_decode(tf.ragged.constant(rows, dtype=tf.int32), skip_special_tokens=skip)
        assert [text.decode() for text in graph.numpy()] == tokenizer.decode(rows, skip_special_tokens=skip)


def test_added_tokens_that_overlap(specification):
    """Leftmost first, the longest of those, none overlapping: on tokens made to tread on each other."""
    contents = ["ab", "aba", "b a", "bb", "abab!", "日a", "A", " c", "c", "é", "\u0301x", "aaaaaaaa"]
    for index, content in enumerate(contents):
        specification["added_tokens"].append(
            {
                **specification["added_tokens"][0],
                "id": 26 + index,
                "content": content,
                "special": index % 2 == 0,
            }
        )
    text = json.dumps(specification)
    tokenizer, library = Tokenizer.from_json(text), Library.from_str(text)
    generator = random.Random(0)
    letters = "aaabbb A! 日cé\u0301x["
    texts = ["".join(generator.choices(letters, k=generator.randrange(20))) for _ in range(5000)]
    expected = [encoding.ids for encoding in library.encode_batch(texts)]
    assert sum(token >= 26 for row in expected for token in row) > 10_000
    assert tokenizer.graph_encode(texts).to_list() == expected


def test_random_vocabularies(specification):
    """TF Text's trie against the library's greedy search, on words and tokens of three letters."""
    generator = random.Random(0)
    for _ in range(30):
        special = specification["model"]["vocab"]
        vocabulary = {token: special[token] for token in list(special)[:5]}
        for _ in range(generator.randrange(5, 60)):
            body = "".join(generator.choices("abc日é", k=generator.randrange(1, 7)))
            vocabulary.setdefault(generator.choice(("", "##")) + body, len(vocabulary))
        specification["model"]["vocab"] = vocabulary
        specification["model"]["max_input_chars_per_word"] = generator.choice((3, 10, 100))
        specification["normalizer"] = None
        text = json.dumps(specification)
        texts = ["".join(generator.choices("abbcc日é ", k=generator.randrange(40))) for _ in range(300)]
        expected = [encoding.ids for encoding in Library.from_str(text).encode_batch(texts)]
        assert Tokenizer.from_json(text).graph_encode(texts).to_list() == expected
        specification["model"]["vocab"] = special


def test_a_difference_shows_the_text_and_both_answers(tokenizer, monkeypatch):
    tokenizer.check_graph()
    monkeypatch.setattr(tokenizer.trackable._model, "_max_characters", 99)
    message = r"the ids of 'xxx.*' is \[2, .* by the `tokenizers` library, but \[2, .*\] in the graph"
    with pytest.raises(TokenizerError, match=message):
        tokenizer.check_graph()


def test_a_difference_in_decoding_is_found(as_json, specification, monkeypatch):
    tokenizer = Tokenizer.from_json(as_json)
    specification["decoder"]["cleanup"] = False
    other = Tokenizer.from_json(json.dumps(specification))
    monkeypatch.setattr(tokenizer, "graph_decode", other.graph_decode)
    with pytest.raises(
        TokenizerError, match=r"the text of the ids \[.*\] is '.*' by .*, but '.*' in the graph"
    ):
        tokenizer.check_graph()


def test_probe_texts_are_a_few_hundred_and_legal():
    texts = probes.probe_texts()
    assert 200 < len(texts) < 1000
    for text in texts:
        text.encode("utf-8")
