# ruff: noqa: RUF001 (ambiguous characters are what these texts are for)
"""Normalizers in the graph: the text, and the origin of each of its characters, as the library has them."""

import base64
import json
import random
import struct
import unicodedata

import numpy as np
import pytest
import tensorflow as tf
from tokenizers import AddedToken as LibraryToken
from tokenizers import Tokenizer as Library
from tokenizers import models

from kerasllm.errors import TokenizerError
from kerasllm.testing.strings import adversarial_strings
from kerasllm.tokenization.characters.charsmap import match_all, read_charsmap
from kerasllm.tokenization.characters.scan import pages
from kerasllm.tokenization.graph.added_tokens import AddedTokenMatcher
from kerasllm.tokenization.graph.characters import FIRST_ADDED, ROW_END, decode_texts
from kerasllm.tokenization.graph.normalizers import build_normalizer
from kerasllm.tokenization.spec.added_tokens import parse_added_tokens
from kerasllm.tokenization.spec.normalizers import parse_normalizer

NUM_STRINGS = 1000

# An added token: no normalizer looks beyond it.
MARK = "<|>"
TOKEN = dict.fromkeys(("special", "normalized", "single_word", "lstrip", "rstrip"), False) | {
    "id": 1,
    "content": MARK,
}

EVERY = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]
ASSIGNED = [character for character in EVERY if unicodedata.category(character)[0] != "C"]
POOLS = (
    EVERY,
    ASSIGNED,
    [character for character in ASSIGNED if unicodedata.combining(character)],
    [character for character in ASSIGNED if unicodedata.normalize("NFKC", character) != character],
    [character for character in EVERY if character.isspace()] + ["\u200b", "\u180e", "\x00", "\x1c", "\x1f"],
    [chr(code) for code in (*range(0x1100, 0x1200), *range(0xA960, 0xA97D), *range(0xD7B0, 0xD7FC))],
    [chr(code) for code in range(0xAC00, 0xD7A4, 14)],
    [chr(code) for code in range(0x900, 0xE00)],
    list("aeioucAEIOUÅéêñçÉİıßﬁﬃ½ﬀﷺ①Ⅷゖかがハ゛゜กำลำДй©®☺❤👩🇩🇪*#0"),
    [
        *("\u0300", "\u0301", "\u0302", "\u0323", "\u0327", "\u0345", "\u0334", "\u302e", "\u302f", "\u3099"),
        *("\u200d", "\ufe0f", "\u20e3", "\u0903", "\u093e", "\u094d", "\u0600", "\u06dd", "\U000110bd"),
    ],
    [MARK, "``", "''", "'", "`", " ", "  ", "   ", "\t", "\r\n", "\n", "\r", "▁", "▁▁", "a", "b", "abc"],
    [MARK],
)


def charsmap(mapping: dict[str, str], *, cut: int = 0) -> str:
    """A `precompiled_charsmap` like SentencePiece's: a double-array trie, and the strings it points to.

    `cut` bytes are taken off each key, to damage it.
    """
    trie: dict = {}
    strings, places = b"", {}
    for key, value in mapping.items():
        if value not in places:
            places[value] = len(strings)
            strings += value.encode() + b"\0"
        node = trie
        for byte in key.encode()[: len(key.encode()) - cut]:
            node = node.setdefault(byte, {})
        node[None] = places[value]
    units, used, bases = [0] * (1 << 16), {0}, set()

    def put(place: int, node: dict) -> None:
        labels = [0 if byte is None else byte for byte in node]
        base = next(
            base
            for base in range(1, len(units) - 256)
            if base not in bases and not any(base ^ label in used for label in labels)
        )
        bases.add(base)
        used.update(base ^ label for label in labels)
        units[place] |= (base ^ place) << 10 | (0x100 if None in node else 0)
        for byte, child in node.items():
            if byte is None:
                units[base] = 1 << 31 | child
            else:
                units[base ^ byte] = byte
                put(base ^ byte, child)

    put(0, trie)
    content = np.array(units, "<u4").tobytes()
    return base64.b64encode(struct.pack("<I", len(content)) + content + strings).decode()


# Removes, expands and joins; keys that are others' beginnings; a key that stays itself; clusters.
MAPPING = {
    **{chr(code): "" for code in (*range(0x0E, 0x20), 0x7F)},
    "\t": " ",
    "\n": " ",
    "\r\n": " ",
    "\xa0": " ",
    "\u3000": " ",
    "ﬁ": "fi",
    "ﬃ": "ffi",
    "½": "1⁄2",
    "ﷺ": "صلى الله عليه وسلم",
    "①": "1",
    "Ⅷ": "VIII",
    "é": "é",
    "e\u0301": "é",
    "a\u0301\u0323": "ạ\u0301",
    "o\u0302": "ô!",
    "か\u3099": "が",
    "\u0600a": "x",
    "©": "(c)",
    "\u0915": "k",
    "\u1161": "A",
    "ü": "ü",
}


def kind(name, **settings):
    return {"type": name, **settings}


def sequence(*members):
    return kind("Sequence", normalizers=list(members))


def replace(pattern, content, form="String"):
    return kind("Replace", pattern={form: pattern}, content=content)


def bert(**flags):
    settings = {"clean_text": True, "handle_chinese_chars": True, "strip_accents": None, "lowercase": True}
    return kind("BertNormalizer", **{**settings, **flags})


def strip(*, left=True, right=True):
    return kind("Strip", strip_left=left, strip_right=right)


PRECOMPILED = kind("Precompiled", precompiled_charsmap=charsmap(MAPPING))
NORMALIZERS = {
    "NFC": kind("NFC"),
    "NFKC": kind("NFKC"),
    "NFD": kind("NFD"),
    "NFKD": kind("NFKD"),
    "Nmt": kind("Nmt"),
    "bert": bert(),
    "bert, accents kept": bert(strip_accents=False),
    "bert, nothing cleaned": bert(clean_text=False, handle_chinese_chars=False),
    "strip": strip(),
    "strip left": strip(right=False),
    "strip right": strip(left=False),
    "llama2": sequence(kind("Prepend", prepend="▁"), replace(" ", "▁")),
    "prepend and replace": sequence(
        kind("Prepend", prepend="ÿa "), replace("``", '"'), replace("a", "xyz"), replace("  ", "")
    ),
    "regex": replace(" {2,}", "▁", "Regex"),
    "precompiled": PRECOMPILED,
    "every character": kind("Precompiled", precompiled_charsmap=match_all("\n", "xy")),
    "t5": sequence(PRECOMPILED, strip(left=False), replace(" {2,}", "▁", "Regex")),
    "albert": sequence(
        replace("``", '"'),
        replace("''", '"'),
        *(kind(name) for name in ("NFKD", "StripAccents", "Lowercase")),
        PRECOMPILED,
        replace(" {2,}", " ", "Regex"),
    ),
    "several that reorder": sequence(
        *(kind(name) for name in ("Lowercase", "NFD", "NFC", "NFKD", "StripAccents", "NFKC", "NFD", "NFD"))
    ),
}


def library(normalizer):
    """A tokenizer that makes each character of the normalized text a token, to see the offsets."""
    document = json.loads(Library(models.BPE({"<unk>": 0}, [], unk_token="<unk>")).to_str())
    tokenizer = Library.from_str(json.dumps({**document, "normalizer": normalizer}))
    tokenizer.add_tokens([LibraryToken(MARK, normalized=False)])
    return tokenizer


def in_graph(normalizer):
    """The same as a function from texts to texts and offsets."""
    stages = build_normalizer(parse_normalizer(normalizer))
    matcher = AddedTokenMatcher(parse_added_tokens([TOKEN], {}), normalized=False)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def run(texts):
        complete, _ = matcher(decode_texts(texts, offsets=True))
        plain, _ = matcher(decode_texts(texts, offsets=False))
        for stage in stages:
            complete, plain = stage(complete), stage(plain)
        return complete.codes, complete.starts, complete.ends, plain.codes

    def call(texts):
        codes, starts, ends, plain = (values.numpy() for values in run(tf.constant(texts, tf.string)))
        assert np.array_equal(codes, plain)
        found, begin = [], 0
        for end in np.flatnonzero(codes == ROW_END):
            offsets = zip(starts[begin:end].tolist(), ends[begin:end].tolist(), strict=True)
            text = "".join(MARK if code == FIRST_ADDED else chr(code) for code in codes[begin:end])
            found.append((text, list(offsets)))
            begin = end + 1
        return found

    return call


def assert_same(normalizer, texts):
    assert_answers(library(normalizer), in_graph(normalizer), texts)


def assert_answers(reference, graph, texts):
    encodings, found = reference.encode_batch(texts), graph(texts)
    assert len(found) == len(texts)
    for text, encoding, (normalized, offsets) in zip(texts, encodings, found, strict=True):
        assert normalized == MARK.join(map(reference.normalizer.normalize_str, text.split(MARK))), ascii(text)
        assert offsets == encoding.offsets, ascii(text)


def strings(count, seed):
    generator = random.Random(seed)
    texts = []
    for _ in range(count):
        pools = generator.sample(POOLS, generator.choice((1, 2, 3)))
        length = generator.randrange(14)
        texts.append("".join(generator.choice(generator.choice(pools)) for _ in range(length)))
    return [*texts, *adversarial_strings(count // 3, seed), "", " ", "\x1f", "a" * 50]


@pytest.mark.parametrize("name", NORMALIZERS)
def test_normalizers_are_the_library(name):
    assert_same(NORMALIZERS[name], strings(NUM_STRINGS, seed=len(name)))


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", ["NFC", "NFKD", "bert", "precompiled", "every character", "albert"])
def test_every_code_point_is_the_library(name):
    reference, graph = library(NORMALIZERS[name]), in_graph(NORMALIZERS[name])
    characters = "".join(pages())
    for start in range(0, len(characters), 4096):
        batch = characters[start : start + 4096]
        assert_answers(reference, graph, [text for c in batch for text in (c, f"a{c}b")])


def test_a_batch_of_nothing():
    for name in ("strip", "prepend and replace", "t5", "albert"):
        assert in_graph(NORMALIZERS[name])([]) == []


def test_a_long_run_of_marks_takes_no_turn_for_each():
    run = "e" + "\u0301\u0323\u0302" * 20_000
    [(normalized, _)] = in_graph(kind("NFC"))([run])
    assert normalized == library(kind("NFC")).normalizer.normalize_str(run)


def test_charsmaps_are_read():
    short = {key: value for key, value in MAPPING.items() if len(key.encode()) <= 5}
    assert read_charsmap(charsmap(MAPPING)) == short
    everything = read_charsmap(match_all("\n", "X"))
    assert len(everything) == 0x110000 - 2 - sum(0xD800 <= code < 0xE000 for code in range(0x110000))
    for damaged in ("no Base64!", "", base64.b64encode(b"\xff\xff\xff\x7fabc").decode()):
        with pytest.raises(TokenizerError, match=r"`precompiled_charsmap`.*cannot be read.*damaged"):
            read_charsmap(damaged)
    with pytest.raises(TokenizerError, match=r"holds b'\\xc3', which is no text"):
        read_charsmap(charsmap({"é": "e"}, cut=1))


@pytest.mark.parametrize(
    ("normalizer", "message"),
    [
        (kind("ByteLevel"), r"normalizer `ByteLevel` has no exact.*`BertNormalizer`, `Lowercase`, `NFC`"),
        (kind("Prepend", prepend=""), r"normalizer `Prepend` with `prepend` = ``.*one or more"),
        (replace(r"(a)\1", "x", "Regex"), r"the regular expression"),
        (replace("(a", "x", "Regex"), r"the regular expression"),
        (replace("", "x"), r"normalizer `Replace` with `pattern` = `\{'String': ''\}`"),
        (kind("NFC", form="x"), r"normalizer `NFC` has the parameters \['form'\]"),
        (sequence(kind("NFC"), kind("Odd")), r"normalizer `Odd` has no exact"),
    ],
)
def test_what_is_not_exact_is_refused(normalizer, message):
    with pytest.raises(TokenizerError, match=message):
        parse_normalizer(normalizer)
