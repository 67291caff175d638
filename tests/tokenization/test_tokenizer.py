"""What users do with a tokenizer, eagerly."""

import copy
import hashlib
import json
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tensorflow as tf

from kerasllm.errors import TokenizerError
from kerasllm.tokenization import Tokenizer


@pytest.fixture
def tokenizer(as_json):
    return Tokenizer.from_json(as_json)


def test_texts_become_ids_and_texts_again(tokenizer):
    ids = tokenizer.encode(["A great film!", ""])
    assert ids == [[2, 5, 6, 7, 9, 3], [2, 3]]
    assert tokenizer.decode(ids) == ["a great film!", ""]
    assert tokenizer.decode(ids, skip_special_tokens=False)[1] == "[CLS] [SEP]"


def test_a_special_token_typed_by_a_user_is_the_special_token(tokenizer):
    assert tokenizer.encode(["great[SEP]film [sep]"]) == [[2, 6, 3, 7, 22, 24, 23, 3]]


def test_pairs_are_cut_longest_first(tokenizer):
    ids, segments = tokenizer.encode_with_segments(["a great film!"], ["films"], sequence_length=7)
    assert ids == [[2, 5, 6, 3, 7, 8, 3]]
    assert segments == [[0, 0, 0, 0, 1, 1, 1]]
    assert tokenizer.encode(["a great film!"], ["films"], sequence_length=7) == ids


def test_a_cut_does_not_outlast_its_call(tokenizer):
    assert tokenizer.encode(["a great film!"], sequence_length=3) == [[2, 5, 3]]
    assert tokenizer.encode(["a great film!"]) == [[2, 5, 6, 7, 9, 3]]


def test_threads_do_not_cut_each_others_texts(tokenizer):
    def length(limit):
        return [len(row) for row in tokenizer.encode(["a " * 100] * 20, sequence_length=limit)]

    limits = [3, 10, 50] * 30
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(length, limits)) == [[limit] * 20 for limit in limits]


def test_the_files_own_truncation_and_padding_are_left_out(specification):
    specification["truncation"] = {
        "direction": "Right",
        "max_length": 3,
        "strategy": "LongestFirst",
        "stride": 0,
    }
    specification["padding"] = {
        "strategy": {"Fixed": 9},
        "direction": "Right",
        "pad_to_multiple_of": None,
        "pad_id": 0,
        "pad_type_id": 0,
        "pad_token": "[PAD]",
    }
    assert Tokenizer.from_json(json.dumps(specification)).encode(["a great film"]) == [[2, 5, 6, 7, 3]]


def test_offsets_are_characters_of_the_text(tokenizer):
    text = "Ça, a\u00a0Café 日!"
    [offsets] = tokenizer.offsets([text])
    assert [text[start:end] for start, end in offsets] == ["", "Ça", ",", "a", "Café", "日", "!", ""]


def test_facts(tokenizer, as_json):
    assert tokenizer.json == as_json
    assert tokenizer.fingerprint == hashlib.sha256(as_json.encode()).hexdigest()
    assert tokenizer.vocabulary_size == 26
    assert tokenizer.special_ids == {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4}
    assert tokenizer.pad_id == 0


def test_saved_and_loaded_to_the_byte(as_json, tmp_path):
    (tmp_path / "first").mkdir()
    (tmp_path / "second").mkdir()
    (tmp_path / "first" / "tokenizer.json").write_bytes(as_json.encode("utf-8") + b"\r\n\n")
    (tmp_path / "first" / "tokenizer_config.json").write_text(json.dumps({"pad_token": "x", "note": "ü"}))
    loaded = Tokenizer.load(tmp_path / "first")
    loaded.save(tmp_path / "second")
    again = Tokenizer.load(tmp_path / "second" / "tokenizer.json")
    assert again.json == loaded.json
    assert again.pad_id == loaded.pad_id == 20
    same = [(tmp_path / name / "tokenizer.json").read_bytes() for name in ("first", "second")]
    assert same[0] == same[1]


def test_lone_surrogates_are_refused_with_their_place(tokenizer):
    message = r"`texts\[1\]` holds the lone surrogate U\+D83D at character 4.*'replace'"
    with pytest.raises(TokenizerError, match=message):
        tokenizer.encode(["fine", "cut \ud83d"])
    with pytest.raises(TokenizerError, match=message):
        tokenizer.graph_encode(["fine", "cut \ud83d"])
    with pytest.raises(TokenizerError, match=r"`pairs\[0\]` holds the lone surrogate U\+DFFF at character 0"):
        tokenizer.encode(["fine"], ["\udfff"])


@pytest.mark.parametrize(
    ("texts", "pairs", "message"),
    [
        ("a text", None, r"got one str\. Put it in a list: `encode\(\[text\]\)`"),
        (["a", None], None, r"`texts\[1\]` is of the type NoneType, expected a string"),
        (["a", 3.5], None, r"`texts\[1\]` is of the type float, expected a string"),
        (["a"], [b"b"], r"`pairs\[0\]` is of the type bytes, expected a string"),
        (["a"], "b", r"`pairs`: expected a list of texts, but got one str"),
        ([("a", "b")], None, r"`texts\[0\]` is of the type tuple.*given as `pairs`"),
        (None, None, r"expected a list of texts, but got None"),
        (5, None, r"expected a list of texts, but got 5"),
        (["a", "b"], ["c"], r"there are 2 texts and 1 pairs\. Give lists of the same length"),
    ],
)
def test_what_is_no_text_is_refused(tokenizer, texts, pairs, message):
    with pytest.raises(TokenizerError, match=message):
        tokenizer.encode(texts, pairs)
    with pytest.raises(TokenizerError, match=message):
        tokenizer.graph_encode(texts, pairs)


@pytest.mark.parametrize("ids", [[101, 102], [[1.5]], [["a"]], 5, None])
def test_what_are_no_rows_of_ids_is_refused(tokenizer, ids):
    with pytest.raises(TokenizerError, match=r"expected token ids .*such as `\[\[101, 102\]\]`"):
        tokenizer.decode(ids)
    with pytest.raises(TokenizerError, match=r"expected token ids .*such as `\[\[101, 102\]\]`"):
        tokenizer.graph_decode(ids)


@pytest.mark.parametrize("ids", [[[-1]], [[2**40]]])
def test_ids_out_of_any_range_are_refused(tokenizer, ids):
    with pytest.raises(TokenizerError, match=r"whole numbers from 0 on"):
        tokenizer.decode(ids)


def test_arrays_and_tensors_are_taken(tokenizer):
    texts, ids = ["great film", "a film"], tokenizer.encode(["great film", "a film"])
    assert tokenizer.encode(np.array(texts)) == ids
    assert tokenizer.graph_encode(np.array(texts)).to_list() == ids
    same_length = [row[:4] for row in ids]
    expected = tokenizer.decode(same_length)
    for rows in (
        same_length,
        np.array(same_length),
        tf.constant(same_length),
        tf.ragged.constant(same_length),
    ):
        assert [text.decode() for text in tokenizer.graph_decode(rows).numpy()] == expected


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("encode", {"sequence_length": 2.5}, r"`sequence_length` is 2.5, expected a whole number"),
        ("graph_encode", {"sequence_length": True}, r"`sequence_length` is True, expected a whole number"),
        ("graph_batch", {"pad_to_multiple": 0}, r"`pad_to_multiple` is 0, expected a whole number from 1"),
        ("encode", {"split_special_tokens": "yes"}, r"`split_special_tokens` is 'yes', expected True"),
    ],
)
def test_options_of_other_types_are_refused(tokenizer, method, options, message):
    with pytest.raises(TokenizerError, match=message):
        getattr(tokenizer, method)(["great film"], **options)


def test_copies_are_the_same_tokenizer(tokenizer):
    tokenizer = tokenizer.with_settings(split_special_tokens=True)
    for copied in (pickle.loads(pickle.dumps(tokenizer)), copy.deepcopy(tokenizer)):
        assert copied.fingerprint == tokenizer.fingerprint
        assert copied.encode(["[SEP] film"]) == tokenizer.encode(["[SEP] film"])
    assert repr(tokenizer) == f"Tokenizer(WordPiece, vocabulary_size={tokenizer.vocabulary_size})"


def test_tokens_and_ids(tokenizer):
    assert tokenizer.id_to_token(tokenizer.token_to_id("film")) == "film"
    assert tokenizer.token_to_id("no such token") is None
    assert tokenizer.id_to_token(10**6) is None


def test_saving_leaves_nothing_of_another_tokenizer(tokenizer, tmp_path):
    tokenizer.with_settings(split_special_tokens=True).save(tmp_path)
    plain = Tokenizer.from_json(tokenizer.json)
    plain.save(tmp_path)
    assert Tokenizer.load(tmp_path).fingerprint == plain.fingerprint


def test_a_padding_token_that_is_not_there_is_refused(tokenizer):
    with pytest.raises(TokenizerError, match=r"the padding token '<zz>' .*is not in the vocabulary"):
        _ = Tokenizer(tokenizer.json, {"pad_token": "<zz>"}).pad_id


def test_a_length_without_room_is_refused(tokenizer):
    with pytest.raises(TokenizerError, match=r"`sequence_length=2` leaves no room.*2 special.*Use 3 or more"):
        tokenizer.encode(["a"], sequence_length=2)
    with pytest.raises(TokenizerError, match=r"3 special tokens of a pair\. Use 4 or more"):
        tokenizer.graph_encode(["a"], ["b"], sequence_length=3)


def test_a_tokenizer_without_padding_says_so(specification):
    del specification["model"]["vocab"]["[PAD]"]
    specification["added_tokens"] = specification["added_tokens"][1:]
    with pytest.raises(TokenizerError, match=r"no padding token: expected `pad_token`"):
        _ = Tokenizer.from_json(json.dumps(specification)).pad_id


def test_million_characters(tokenizer):
    texts = ["great film " * 91_000, "x" * 1_000_000]
    ids = tokenizer.encode(texts)
    assert [len(row) for row in ids] == [182_002, 3]
    assert tokenizer.graph_encode(texts).to_list() == ids


def test_eager_needs_no_tensorflow(as_json, tmp_path):
    (tmp_path / "tokenizer.json").write_text(as_json)
    code = (
        "import sys; from kerasllm.tokenization import Tokenizer; "
        f"assert Tokenizer.load({str(tmp_path)!r}).encode(['a']) == [[2, 5, 3]]; "
        "assert 'tensorflow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
