"""Added tokens in the graph: which are found, with which white space, and in which order."""

import json
import random

import pytest
import tensorflow as tf
from tokenizers import AddedToken, normalizers
from tokenizers import Tokenizer as Library

from kerasllm.errors import TokenizerError
from kerasllm.tokenization import Tokenizer

LETTERS = [
    "a",
    "b",
    "B",
    "é",
    "e\u0301",
    "_",
    "1",
    "-",
    "!",
    " ",
    "  ",
    "\t",
    "\u2003",
    "\x85",
    "\u200b",
    "ﬁ",
]


def tokenizer_with(specification, tokens, normalizer=None):
    """A tokenizer whose model makes each character a token of its own, as `tokenizer.json`."""
    characters = sorted({character for letter in LETTERS for character in letter} | set("<m>ABCxy▁fiﬀ"))
    specification["added_tokens"] = []
    specification["post_processor"] = specification["pre_tokenizer"] = specification["normalizer"] = None
    specification["decoder"] = {"type": "Fuse"}
    specification["model"] = {
        "type": "BPE",
        "vocab": {token: index for index, token in enumerate(["<unk>", *characters])},
        "merges": [],
        "unk_token": "<unk>",
    }
    library = Library.from_str(json.dumps(specification))
    if normalizer is not None:
        library.normalizer = normalizer
    library.add_tokens(tokens)
    return library.to_str()


def token(content, *, special=False, normalized=False, **flags):
    return AddedToken(content, special=special, normalized=normalized, **flags)


def texts_of(pieces, count=1500, seed=0):
    generator = random.Random(seed)
    pools = [pieces, LETTERS]
    return [
        "".join(generator.choice(generator.choice(pools)) for _ in range(generator.randrange(9)))
        for _ in range(count)
    ]


def assert_same(text, texts, *, split_special_tokens=False):
    library = Library.from_str(text)
    library.encode_special_tokens = split_special_tokens
    encodings = library.encode_batch(texts)
    tokenizer = Tokenizer.from_json(text)
    encode = tf.function(
        lambda texts: tokenizer.trackable.encode(texts, offsets=True, keep_special=split_special_tokens),
        input_signature=[tf.TensorSpec([None], tf.string)],
    )
    found = encode(tf.constant(texts))
    expected = [[list(offset) for offset in encoding.offsets] for encoding in encodings]
    rows = zip(texts, encodings, found.ids.to_list(), expected, found.offsets.to_list(), strict=True)
    for source, encoding, ids, offsets, places in rows:
        assert ids == encoding.ids, ascii(source)
        assert places == offsets, ascii(source)
    eager = tokenizer.encode(texts, split_special_tokens=split_special_tokens)
    assert eager == [encoding.ids for encoding in encodings]
    return encodings


@pytest.mark.parametrize("split_special_tokens", [False, True])
@pytest.mark.parametrize("normalized", [False, True])
def test_every_flag_is_the_library(specification, normalized, split_special_tokens):
    tokens = [
        token("<m>", lstrip=True, normalized=normalized),
        token("<mm>", special=True, rstrip=True, normalized=normalized),
        token("ab", single_word=True, normalized=normalized),
        token("<s>", special=True, lstrip=True, rstrip=True, single_word=True, normalized=normalized),
        token("bé", normalized=normalized),
        token("x ", special=True, normalized=normalized),
        token("-!", rstrip=True, lstrip=True, normalized=normalized),
    ]
    text = tokenizer_with(specification, tokens, normalizers.Lowercase())
    texts = texts_of(["<m>", "<mm>", "<M>", "ab", "AB", "<s>", "bé", "x ", "-!", "<", "<m"])
    encodings = assert_same(text, texts, split_special_tokens=split_special_tokens)
    first = len(json.loads(text)["model"]["vocab"])
    assert sum(index >= first for encoding in encodings for index in encoding.ids) > 500


@pytest.mark.parametrize(
    "normalizer",
    [
        normalizers.NFD(),
        normalizers.NFKC(),
        normalizers.Prepend("▁"),
        normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]),
        normalizers.Sequence([normalizers.NFKC(), normalizers.Strip(), normalizers.Lowercase()]),
    ],
    ids=["NFD", "NFKC", "Prepend", "llama2", "Sequence"],
)
def test_in_the_normalized_text_and_in_the_text_as_given(specification, normalizer):
    tokens = [
        token("é", normalized=True),
        token("fi", normalized=True, lstrip=True),
        token("ﬀ", normalized=True, special=True),
        token("aB", normalized=True, single_word=True),
        token("<m>", special=True, lstrip=True),
        token("<m>B"),
        token("ba", normalized=True),
    ]
    text = tokenizer_with(specification, tokens, normalizer)
    assert_same(text, texts_of(["é", "fi", "ﬁ", "ﬀ", "ff", "aB", "ab", "<m>", "<m>B", "ba", " "]))


@pytest.mark.parametrize(
    ("tokens", "normalizer", "message"),
    [
        (
            [token("AB", normalized=True), token("ab", normalized=True)],
            normalizers.Lowercase(),
            r"'AB' that is normalized to the same text as `'ab'`",
        ),
        ([token("<m>", rstrip=True), token(" x")], None, r"'<m>' with `rstrip` beside.*`' x'`"),
        (
            [token("\u0301", normalized=True)],
            normalizers.StripAccents(),
            r"added token '\u0301' with `normalized` = `True`",
        ),
    ],
)
def test_what_is_not_exact_is_refused(specification, tokens, normalizer, message):
    with pytest.raises(TokenizerError, match=message):
        Tokenizer.from_json(tokenizer_with(specification, tokens, normalizer))


def test_a_token_listed_twice_is_refused(specification):
    specification["added_tokens"].append(specification["added_tokens"][0])
    with pytest.raises(TokenizerError, match=r"'\[PAD\]' is listed twice"):
        Tokenizer.from_json(json.dumps(specification))
