"""Decoders in the graph give what `tokenizers` decodes, on random ids and on bytes that are no UTF-8."""

import itertools
import json
import random
from types import SimpleNamespace

import pytest
import tensorflow as tf
from tokenizers import Tokenizer as Library
from tokenizers import models

from kerasllm.errors import TokenizerError
from kerasllm.testing.families import FAMILIES, SENTENCEPIECE_FAMILIES, family
from kerasllm.tokenization.graph.decoders import Detokenizer
from kerasllm.tokenization.spec.decoders import parse_decoder

NUM_SEQUENCES = 2_000

REPLACE = {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}
REGEX = {"type": "Replace", "pattern": {"Regex": "([aé])[.]?"}, "content": "<$1>"}
STRIP = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
STRIP_TWO = {"type": "Strip", "content": "a", "start": 2, "stop": 0}
BYTES, FUSE, BYTE_LEVEL = {"type": "ByteFallback"}, {"type": "Fuse"}, {"type": "ByteLevel"}
METASPACE = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
WORDS = {"type": "WordPiece", "prefix": "##", "cleanup": True}
END = {"type": "BPEDecoder", "suffix": "</w>"}
CTC = {"type": "CTC", "pad_token": "<pad>", "word_delimiter_token": "|", "cleanup": True}
BACKSLASH = {"type": "Replace", "pattern": {"String": "a"}, "content": "\\1\\"}

DECODERS = {
    "none": None,
    "WordPiece": WORDS,
    "WordPiece without cleanup": {**WORDS, "cleanup": False},
    "WordPiece without prefix": {**WORDS, "prefix": ""},
    "ByteLevel": BYTE_LEVEL,
    "Metaspace": METASPACE,
    "Metaspace first": {**METASPACE, "prepend_scheme": "first"},
    "Metaspace never": {**METASPACE, "prepend_scheme": "never"},
    "old Metaspace": {"type": "Metaspace", "replacement": "▁", "add_prefix_space": True, "str_rep": "▁"},
    "ByteFallback": BYTES,
    "Fuse": FUSE,
    "Strip": STRIP_TWO,
    "Replace": REPLACE,
    "Replace by a regular expression": REGEX,
    "BPEDecoder": END,
    "CTC": CTC,
    "CTC without cleanup": {**CTC, "cleanup": False},
    "Llama": [REPLACE, BYTES, FUSE, STRIP],
    "empty": [],
    "nested": [[REPLACE, [BYTES]], [FUSE]],
    "whole texts": [REPLACE, FUSE, STRIP_TWO, BACKSLASH, STRIP],
    "positions": [METASPACE, END, WORDS],
    "positions and bytes": [METASPACE, BYTES, FUSE, FUSE, STRIP],
    "regular expression before bytes": [REGEX, BYTE_LEVEL, STRIP],
    "fused bytes": [BYTES, FUSE, STRIP_TWO],
    "CTC and more": [CTC, REPLACE, FUSE, STRIP],
}

PIECES = (
    *(
        "a",
        "aa",
        "aaaa",
        "##a",
        "####",
        "##",
        ".",
        "'",
        "n't",
        "'s",
        "do not",
        " do not",
        "x ' y",
        " .",
        "é.",
        "a.b",
    ),
    *(
        "▁",
        "▁▁",
        "▁a",
        "a▁b",
        "▁##a",
        "</w>",
        "a</w>",
        "</w></w>b",
        "|",
        "<pad>",
        "a|b",
        "<pad>|",
        " ",
        "  a ",
        "日本",
    ),
    *(
        "<0x41>",
        "<0xE6>",
        "<0x97>",
        "<0xA5>",
        "<0xF0>",
        "<0x9F>",
        "<0x98>",
        "<0x80>",
        "<0xff>",
        "<0xC3>",
        "<0xa9>",
    ),
    *("<0x+A>", "<0x-A>", "<0x é>", "<0x4>", "<0x4142>", "<0xé>", "<0X41>", "<0x20>", "<0x0a>", "<0x00>"),
    *(
        "Ġ",
        "Ġa",
        "Ċ",
        "Ã",
        "©",
        "Ã©",
        "æ",
        "Ĺ",
        "¥",
        "ð",
        "Ł",
        "ĺ",
        "Ģ",
        "ÿ",
        "À",
        "Ġ日",
        "Ã日",
        "\u2028",
        "\x00b",
        "�",
    ),
)
ADDED = (("<s>", True), ("a▁<x>", False), ("Ġadded", False), ("</w>t", True), ("##t ", False))


def document(decoder) -> str:
    """A tokenizer with awkward tokens and the decoder, as `tokenizer.json`."""
    vocabulary = {piece: 2 * index for index, piece in enumerate(PIECES)}  # every other id is no token
    start = 2 * len(PIECES) - 1
    vocabulary |= {content: start + index for index, (content, _) in enumerate(ADDED)}
    value = json.loads(Library(models.WordLevel(vocabulary, unk_token="a")).to_str())
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    value["added_tokens"] = [
        {"id": start + index, "content": content, "special": special, **flags}
        for index, (content, special) in enumerate(ADDED)
    ]
    return json.dumps({**value, "decoder": in_full(decoder)})


def in_full(decoder):
    if isinstance(decoder, list):
        return {"type": "Sequence", "decoders": [in_full(member) for member in decoder]}
    if decoder is not None and decoder["type"] == "ByteLevel":
        return {**decoder, "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
    return decoder


def detokenizer(text: str) -> tuple[Detokenizer, int]:
    """The decoder of a `tokenizer.json` whose other components do not matter here, and the number of ids."""
    value = json.loads(text)
    pieces = value["model"]["vocab"]
    vocabulary = (
        pieces if isinstance(pieces, dict) else {piece: index for index, (piece, _) in enumerate(pieces)}
    )
    added = [SimpleNamespace(pattern=token["content"], **token) for token in value["added_tokens"]]
    size = 1 + max([*vocabulary.values(), *(token.id for token in added)])
    specification = SimpleNamespace(
        decoder=parse_decoder(value["decoder"]),
        model=SimpleNamespace(vocabulary=vocabulary),
        added_tokens=added,
        vocabulary_size=size,
    )
    return Detokenizer(specification), size


def assert_same(text: str, rows: list[list[int]]) -> None:
    library, (module, _) = Library.from_str(text), detokenizer(text)
    ragged = tf.RaggedTensor.from_row_lengths(
        tf.constant([token for row in rows for token in row], tf.int32), list(map(len, rows))
    )
    for skip in (True, False):
        found = tf.function(module.__call__)(ragged, skip_special_tokens=skip).numpy().tolist()
        expected = library.decode_batch(rows, skip_special_tokens=skip)
        for row, ours, theirs in zip(rows, found, expected, strict=True):
            assert ours.decode() == theirs, [library.id_to_token(token) for token in row]


def random_rows(size: int, count: int) -> list[list[int]]:
    generator = random.Random(0)
    return [[generator.randrange(size + 3) for _ in range(generator.randrange(12))] for _ in range(count)]


@pytest.mark.parametrize("name", DECODERS)
def test_awkward_tokens_are_decoded_as_the_library_does(name):
    text = document(DECODERS[name])
    singles = [[token] for token in range(2 * len(PIECES))]
    pairs = [list(pair) for pair in itertools.product(range(0, 2 * len(PIECES), 6), repeat=2)]
    assert_same(text, [*singles, *pairs, *random_rows(2 * len(PIECES) + len(ADDED), NUM_SEQUENCES)])


@pytest.mark.parametrize("name", FAMILIES)
def test_random_ids_are_decoded_as_the_library_does(name):
    if name in SENTENCEPIECE_FAMILIES:
        pytest.importorskip("transformers")
        pytest.importorskip("sentencepiece")
    text = family(name)
    vocabulary = json.loads(text)["model"]["vocab"]
    _, size = detokenizer(text)
    short = [index for index, token in enumerate(vocabulary) if len(token) == 1 or token[:3] == "<0x"] or [0]
    generator = random.Random(1)
    bytes_mostly = [generator.choices(short, k=generator.randrange(9)) for _ in range(NUM_SEQUENCES)]
    assert_same(text, [*random_rows(size, NUM_SEQUENCES), *bytes_mostly])


def test_every_malformed_byte_sequence_becomes_what_rust_makes_of_it():
    """All of two bytes, and those of three and four that stand at the borders of UTF-8's definition."""
    text = family("gpt2")
    vocabulary = json.loads(text)["model"]["vocab"]
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in visible]
    ids = {byte: vocabulary[chr(byte)] for byte in visible}
    ids |= {byte: vocabulary[chr(256 + index)] for index, byte in enumerate(others)}
    borders = (0x41, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBB, 0xBD, 0xBF, 0xC1, 0xC2, 0xDF, 0xE0, 0xE2, 0xED)
    borders += (0xEF, 0xF0, 0xF1, 0xF4, 0xF5, 0xFF)
    sequences = [*itertools.product(range(0x70, 256), repeat=2), *itertools.product(borders, repeat=3)]
    generator = random.Random(0)
    sequences += [generator.choices(borders, k=generator.randrange(4, 10)) for _ in range(20_000)]
    assert_same(text, [[ids[byte] for byte in sequence] for sequence in sequences])
    expected = [bytes(sequence).decode("utf-8", "replace") for sequence in sequences]
    rows = [[ids[byte] for byte in sequence] for sequence in sequences]
    assert Library.from_str(text).decode_batch(rows) == expected


def test_texts_of_nothing():
    for decoder in ("Llama", "ByteLevel", "BPEDecoder", "CTC", "none"):
        assert_same(document(DECODERS[decoder]), [])
        assert_same(document(DECODERS[decoder]), [[], [], []])


@pytest.mark.parametrize(
    ("decoder", "message"),
    [
        ({"type": "Unheard"}, r"the decoder `Unheard` has no exact .* supported: `BPEDecoder`"),
        (
            [FUSE, BYTES],
            r"after its tokens were joined .* `ByteFallback` .*supported: `Fuse`, `Replace`, `Strip`",
        ),
        ([FUSE, METASPACE], r"after its tokens were joined .* the decoder `Metaspace` has no exact"),
        ([BYTES, REPLACE], r"or read as bytes, the decoder `Replace` has no exact .* supported: `Fuse`\."),
        ([REPLACE, CTC], r"the decoder `CTC` has no exact"),
        ([CTC, WORDS], r"after `CTC`, the decoder `WordPiece` has no exact"),
        ([FUSE, REGEX], r"after the tokens were joined, with `pattern` = .*supported: `a `String``"),
        ({**REPLACE, "pattern": {"String": ""}}, r"`Replace` with `pattern` = .*that is not empty"),
        ({**STRIP, "start": 2000}, r"with `content`, `start` and `stop` = .* up to 1000 times at the start"),
        ({**STRIP, "content": "ab"}, r"with `content`, `start` and `stop` = .*one character"),
        ({**STRIP, "stop": 1}, r"with `content`, `start` and `stop` = .*at the start, never at the end"),
        ({**END, "suffix": ""}, r"`BPEDecoder` with `suffix` ="),
        (
            {"type": "Metaspace", "replacement": "▁", "add_prefix_space": False},
            r"`Metaspace` has the parameters .*'add_prefix_space': False.* library refuses",
        ),
        ({**METASPACE, "prepend_scheme": "last"}, r"`Metaspace` has the parameters .* library refuses"),
        ({**WORDS, "extra": 1}, r"`WordPiece` has the parameters \['extra'\]"),
        ({**REPLACE, "content": None}, r"`content` of the decoder `Replace` is None, expected str"),
    ],
)
def test_what_has_no_exact_implementation_is_refused(decoder, message):
    with pytest.raises(TokenizerError, match=message):
        parse_decoder(in_full(decoder))
