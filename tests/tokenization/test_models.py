"""Models of the graph against the library's own: ids and where tokens stand, on words cut by the library."""

import json
import random
import time

import numpy as np
import pytest
import tensorflow as tf
from tokenizers import Tokenizer as Library
from tokenizers import models, pre_tokenizers, trainers

from kerasllm.errors import TokenizerError
from kerasllm.tokenization.graph.byte_alphabet import ALPHABET
from kerasllm.tokenization.graph.models import build_model
from kerasllm.tokenization.graph.words import Words
from kerasllm.tokenization.spec.models import parse_model

BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": True}
WHITE_SPACE = {"type": "WhitespaceSplit"}
SYLLABLES = [
    "the",
    "re",
    "ing",
    "sch",
    "ön",
    "é",
    "日本",
    "中",
    "lo",
    "ve",
    "an",
    "12",
    "0",
    "'s",
    "😀",
    "🏴",
    "tt",
]


def texts(count: int, seed: int, extra: tuple[str, ...] = ()) -> list[str]:
    """Words that a model has seen, runs of one character, random Unicode, and `extra` in between."""
    generator = random.Random(seed)
    makers = [
        lambda: "".join(generator.choices([*SYLLABLES, " "], k=generator.randrange(1, 25))),
        lambda: "".join(c * generator.randrange(1, 20) for c in generator.choices("aeth. =日é😀", k=4)),
        lambda: "".join(chr(generator.randrange(0x2FFF)) for _ in range(generator.randrange(1, 12))),
        lambda: "".join(chr(generator.randrange(0xE000, 0x110000)) for _ in range(3)) + "the",
        lambda: "".join(generator.choices("aelnorstv h", k=generator.randrange(1, 60))),
        lambda: "the".join(generator.choices([*extra, "a ", "日"], k=generator.randrange(1, 6))),
    ]
    return [makers[index % len(makers)]() for index in range(count)]


def document(model: dict, pre_tokenizer: dict | None) -> str:
    value = json.loads(Library(models.WordLevel({}, unk_token="")).to_str())
    return json.dumps({**value, "model": model, "pre_tokenizer": pre_tokenizer})


def as_words(library: Library, batch: list[str]) -> Words:
    codes, splits, rows, places = [], [0], [0], []
    for text in batch:
        words = [(text, (0, len(text)))][: len(text)]
        if library.pre_tokenizer is not None:
            words = library.pre_tokenizer.pre_tokenize_str(text)
        for _, (start, end) in words:
            codes += map(ord, text[start:end])
            places += range(start, end)
            splits.append(len(codes))
        rows.append(len(splits) - 1)
    return Words(
        codes=tf.constant(codes, tf.int32),
        splits=tf.constant(splits, tf.int64),
        row_splits=tf.constant(rows, tf.int64),
        added=tf.zeros([0], tf.int64),
        added_ids=tf.zeros([0], tf.int32),
        starts=tf.constant(places, tf.int32),
        ends=tf.constant(places, tf.int32) + 1,
    )


def assert_exact(model: dict, batch: list[str], pre_tokenizer: dict | None = None) -> None:
    text = document(model, pre_tokenizer)
    library = Library.from_str(text)
    byte_level = "ByteLevel" in json.dumps(pre_tokenizer)
    module = build_model(parse_model(json.loads(text)["model"]), byte_level=byte_level)
    words = as_words(library, batch)
    tokens = tf.function(module, autograph=False)(words, spans=True)
    rows = np.asarray(tf.gather(tokens.word_splits, words.row_splits))
    starts = tf.gather(words.starts, tokens.first).numpy().tolist()
    ends = tf.gather(words.ends, tokens.last).numpy().tolist()
    ids = tokens.ids.numpy().tolist()
    few = batch[:10]  # one operation after the other is slow
    assert module(as_words(library, few)).ids.numpy().tolist() == ids[: rows[len(few)]]
    for index, encoding in enumerate(library.encode_batch(batch)):
        own = slice(rows[index], rows[index + 1])
        assert ids[own] == encoding.ids, batch[index]
        offsets = list(zip(starts[own], ends[own], strict=True))
        assert offsets == encoding.offsets, batch[index]


def trained(trainer: object, pre_tokenizer: dict | None) -> dict:
    kind = models.Unigram() if isinstance(trainer, trainers.UnigramTrainer) else models.BPE()
    library = Library(kind)
    if pre_tokenizer is not None:
        value = json.loads(library.to_str())
        library = Library.from_str(json.dumps({**value, "pre_tokenizer": pre_tokenizer}))
    generator = random.Random(1)
    lines = ["".join(generator.choices([*SYLLABLES, *"aelnorstvhb "], k=40)) for _ in range(1500)]
    library.train_from_iterator(lines, trainer)
    return json.loads(library.to_str())["model"]


@pytest.fixture(scope="module")
def byte_level():
    options = {"vocab_size": 1500, "initial_alphabet": list(ALPHABET), "show_progress": False}
    return trained(trainers.BpeTrainer(**options), BYTE_LEVEL)


@pytest.fixture(scope="module")
def characters():
    special = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(
        vocab_size=1200, limit_alphabet=60, special_tokens=special, show_progress=False
    )
    return {**trained(trainer, WHITE_SPACE), "unk_token": "<unk>"}


@pytest.fixture(scope="module")
def unigram():
    trainer = trainers.UnigramTrainer(
        vocab_size=400, unk_token="<unk>", special_tokens=["<unk>"], show_progress=False
    )
    model = trained(trainer, WHITE_SPACE)
    model["vocab"] += [[f"<0x{byte:02X}>", -25.0 - byte / 7] for byte in range(256)]
    return model


def every_split(model: dict) -> list[tuple[str, str]]:
    """All pairs that make a token, in the order of the tokens: what is made of a list of tokens alone."""
    ids = model["vocab"]
    return [
        (token[:place], token[place:])
        for token in sorted(ids, key=ids.__getitem__)
        for place in range(1, len(token))
        if token[:place] in ids and token[place:] in ids
    ]


def test_the_alphabet_is_the_library_s():
    assert sorted(ALPHABET) == sorted(pre_tokenizers.ByteLevel.alphabet())
    for byte in range(128):
        ((letter, _),) = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(
            chr(byte)
        )
        assert letter == ALPHABET[byte]


@pytest.mark.parametrize("use_regex", [True, False])
@pytest.mark.parametrize("ignore_merges", [True, False])
def test_byte_level_bpe(byte_level, use_regex, ignore_merges):
    # A word of the vocabulary that no merges make.
    vocabulary = {**byte_level["vocab"], "thethe": 5000, "日": 5001}
    model = {**byte_level, "vocab": vocabulary, "ignore_merges": ignore_merges}
    assert_exact(model, texts(900, 2, ("thethe",)), {**BYTE_LEVEL, "use_regex": use_regex})


def test_every_code_point(byte_level, characters, unigram):
    codes = [code for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    batch = ["the".join(map(chr, codes[start : start + 97])) for start in range(0, len(codes), 97 * 48)]
    assert_exact(byte_level, batch, BYTE_LEVEL)
    assert_exact({**characters, "byte_fallback": True}, batch, WHITE_SPACE)
    assert_exact({**unigram, "byte_fallback": True}, batch, WHITE_SPACE)


@pytest.mark.parametrize("unknown", [None, "<unk>"])
@pytest.mark.parametrize("fuse", [True, False])
def test_bytes_that_have_no_token(byte_level, unknown, fuse):
    gone = {
        token
        for token in byte_level["vocab"]
        if set(token) & {"e", *(ALPHABET[byte] for byte in b" \xe6\xdf\xb8\xc3\xe5")}
    }
    vocabulary = {token: index for token, index in byte_level["vocab"].items() if token not in gone}
    merges = [pair for pair in byte_level["merges"] if not gone & {*pair, "".join(pair)}]
    if unknown:
        vocabulary[unknown] = 7000
    model = {**byte_level, "vocab": vocabulary, "merges": merges, "unk_token": unknown, "fuse_unk": fuse}
    assert_exact(model, texts(500, 3), BYTE_LEVEL)


@pytest.mark.parametrize("split", [None, WHITE_SPACE])
@pytest.mark.parametrize("fuse", [True, False])
@pytest.mark.parametrize(("fallback", "unknown"), [(True, "<unk>"), (False, "<unk>"), (False, None)])
def test_characters_that_have_no_token(characters, split, fuse, fallback, unknown):
    model = {**characters, "byte_fallback": fallback, "unk_token": unknown, "fuse_unk": fuse}
    assert_exact(model, texts(400, 4, ("<unk>", "<0x0A>")), split)


@pytest.mark.parametrize("fallback", [True, False])
def test_merges_of_bytes_and_of_the_unknown_token(characters, fallback):
    merges = [("<0xF0>", "<0x9F>"), ("<0xF0><0x9F>", "<0x98>"), *map(tuple, characters["merges"])]
    merges += [("<0x80>", "t"), ("<unk>", "t"), ("<unk>", "<unk>")]
    vocabulary = dict(characters["vocab"])
    for left, right in merges:
        vocabulary.setdefault(left + right, len(vocabulary))
    model = {**characters, "vocab": vocabulary, "merges": merges, "byte_fallback": fallback}
    assert_exact(model, texts(600, 5, ("<unk>",)))


@pytest.mark.parametrize("ignore_merges", [True, False])
def test_end_of_word_suffix(ignore_merges):
    options = {"vocab_size": 1200, "initial_alphabet": list(ALPHABET), "end_of_word_suffix": "</w>"}
    model = trained(trainers.BpeTrainer(**options, show_progress=False), BYTE_LEVEL)
    for letter in ALPHABET:
        model["vocab"].setdefault(letter + "</w>", len(model["vocab"]))
    model |= {"end_of_word_suffix": "</w>", "ignore_merges": ignore_merges}
    assert_exact(model, texts(900, 6), BYTE_LEVEL)


@pytest.mark.parametrize("suffix", [None, "</w>"])
@pytest.mark.parametrize("unknown", [None, "<unk>"])
def test_continuing_prefix(suffix, unknown):
    options = {"vocab_size": 1200, "limit_alphabet": 60, "special_tokens": ["<unk>"], "show_progress": False}
    options |= {"end_of_word_suffix": suffix} if suffix else {}
    trainer = trainers.BpeTrainer(continuing_subword_prefix="##", **options)
    model = trained(trainer, WHITE_SPACE)
    model |= {"continuing_subword_prefix": "##", "end_of_word_suffix": suffix, "unk_token": unknown}
    assert_exact({**model, "fuse_unk": True}, texts(600, 7), WHITE_SPACE)


def test_lists_of_every_split(byte_level, characters):
    """As they are made from SentencePiece and tiktoken files, where several pairs make one token."""
    merges = every_split(byte_level)
    assert len(merges) > 1.3 * len(byte_level["merges"])
    assert_exact({**byte_level, "merges": merges}, texts(1000, 8), {**BYTE_LEVEL, "use_regex": False})
    model = {**characters, "merges": every_split(characters), "byte_fallback": True, "fuse_unk": True}
    assert_exact(model, texts(1000, 9))


def test_merges_in_any_order(byte_level, characters):
    """Parts that are made after the whole, so that one merge makes a pair of a lower rank."""
    generator = random.Random(0)
    for model, pre_tokenizer in ((byte_level, {**BYTE_LEVEL, "use_regex": False}), (characters, None)):
        for number in range(3):
            merges = every_split(model)
            generator.shuffle(merges)
            merges += merges[:20]  # of equal pairs, the last counts
            assert_exact({**model, "merges": merges}, texts(150, 10 + number), pre_tokenizer)


def test_random_merges_of_few_letters():
    generator = random.Random(0)
    for number in range(10):
        vocabulary = {letter: index for index, letter in enumerate("abc日")}
        merges = []
        for _ in range(generator.randrange(1, 40)):
            pair = tuple(generator.choices(list(vocabulary), k=2))
            vocabulary.setdefault("".join(pair), len(vocabulary))
            merges.append(pair)
        generator.shuffle(merges)
        model = {"type": "BPE", "vocab": vocabulary, "merges": merges, "unk_token": None}
        batch = ["".join(generator.choices("aaabbc日x", k=generator.randrange(1, 50))) for _ in range(60)]
        assert_exact(model, batch, [None, WHITE_SPACE][number % 2])


@pytest.mark.parametrize("fallback", [True, False])
def test_unigram(unigram, fallback):
    batch = texts(1500, 20, ("<unk>", "<unk><unk>", "<0x0A>", "日<unk>"))
    assert_exact({**unigram, "byte_fallback": fallback}, batch)
    assert_exact({**unigram, "byte_fallback": fallback}, batch, WHITE_SPACE)


def test_unigram_with_ties():
    """Sums that are equal, and the same token twice."""
    generator = random.Random(0)
    for _ in range(3):
        bodies = {"".join(generator.choices("ab日", k=generator.randrange(1, 5))) for _ in range(40)}
        vocabulary = [["<unk>", 0.0], *([body, float(-generator.randrange(1, 6))] for body in sorted(bodies))]
        vocabulary.append([vocabulary[3][0], -2.5])
        batch = ["".join(generator.choices("aab日x", k=generator.randrange(1, 40))) for _ in range(200)]
        assert_exact({"type": "Unigram", "unk_id": 0, "vocab": vocabulary, "byte_fallback": False}, batch)


@pytest.mark.parametrize("unit", [1.0, 0.1])
def test_unigram_with_ties_in_long_words(unit):
    """Long words are cut: with whole scores the sums are exact, with others rounding decides many ties."""
    generator = random.Random(0)
    bodies = sorted({"".join(generator.choices("abcde日", k=generator.randrange(1, 4))) for _ in range(70)})
    vocabulary = [["<unk>", 0.0], *([body, -generator.randrange(1, 60) * unit] for body in bodies)]
    batch = ["".join(generator.choices("aabbcde日xy", k=generator.randrange(900))) for _ in range(40)]
    assert_exact({"type": "Unigram", "unk_id": 0, "vocab": vocabulary, "byte_fallback": False}, batch)


def test_scores_are_those_that_the_library_adds_up():
    generator = random.Random(0)
    scores = [-generator.random() * 20 for _ in range(2000)]
    vocabulary = [["<unk>", 0.0], *([f"t{index}", score] for index, score in enumerate(scores))]
    model = parse_model({"type": "Unigram", "unk_id": 0, "vocab": vocabulary, "byte_fallback": False})
    differences = sum(a != b for a, b in zip(scores, model.scores[1:], strict=True))
    assert 0 < differences < 500
    assert np.allclose(scores, model.scores[1:], rtol=1e-15)


def test_words_that_are_long(byte_level, characters, unigram):
    """Neither one turn for each merge, nor quadratic time."""
    generator = random.Random(0)
    batch = [
        "a" * 30_000,
        "".join(generator.choices(SYLLABLES, k=8_000)),
        "".join(generator.choices("aehirt", k=20_000)),
        "日本中" * 4_000,
    ]
    started = time.monotonic()
    assert_exact(byte_level, batch, {**BYTE_LEVEL, "use_regex": False})
    assert_exact({**characters, "byte_fallback": True}, batch)
    assert_exact(unigram, [text[:4_000] for text in batch])
    assert time.monotonic() - started < 60


def test_word_level():
    model = {"type": "WordLevel", "vocab": {"the": 3, "日本": 0, "<unk>": 9}, "unk_token": "<unk>"}
    assert_exact(model, texts(500, 30), WHITE_SPACE)
    assert_exact(model, texts(500, 31), BYTE_LEVEL)


def test_word_piece():
    vocabulary = ["[UNK]", "the", "##the", "日", "##本", "##é", "a", "##a", "##re", "😀", "##😀", "t", "##t"]
    model = {
        "type": "WordPiece",
        "unk_token": "[UNK]",
        "continuing_subword_prefix": "##",
        "max_input_chars_per_word": 30,
        "vocab": {token: index for index, token in enumerate(vocabulary)},
    }
    generator = random.Random(0)
    letters = ["the", "日", "本", "é", "a", "re", "😀", "t", " ", "x"]
    batch = [
        "".join(generator.choices(letters, weights=[9] * 9 + [1], k=generator.randrange(20)))
        for _ in range(1000)
    ]
    assert_exact(model, [*batch, "a" * 30, "a" * 31, "日" * 31 + " the"], WHITE_SPACE)


@pytest.mark.parametrize("kind", ["byte_level", "characters", "unigram"])
def test_added_tokens_stand_among_the_words(kind, request):
    model = request.getfixturevalue(kind)
    module = build_model(parse_model(model), byte_level=kind == "byte_level")
    codes = [ord("t"), ord("h"), ord("e"), module.placeholder, module.placeholder, ord("日")]
    words = Words(
        codes=tf.constant(codes),
        splits=tf.constant([0, 3, 4, 5, 6], tf.int64),
        row_splits=tf.constant([0, 3, 4], tf.int64),
        added=tf.constant([1, 2], tf.int64),
        added_ids=tf.constant([77_777, 88_888]),
    )
    tokens = module(words, spans=True)
    at = tf.gather(tokens.word_splits, words.added)
    assert tf.gather(tokens.ids, at).numpy().tolist() == [77_777, 88_888]
    assert tf.gather(tokens.first, at).numpy().tolist() == [3, 4]
    assert tf.gather(tokens.last, at).numpy().tolist() == [3, 4]
    assert (tf.gather(tokens.word_splits, words.added + 1) - at).numpy().tolist() == [1, 1]


@pytest.mark.parametrize("kind", ["byte_level", "characters", "unigram"])
def test_no_words(kind, request):
    module = build_model(parse_model(request.getfixturevalue(kind)), byte_level=kind == "byte_level")
    nothing = Words(
        codes=tf.zeros([0], tf.int32),
        splits=tf.zeros([1], tf.int64),
        row_splits=tf.zeros([3], tf.int64),
        added=tf.zeros([0], tf.int64),
        added_ids=tf.zeros([0], tf.int32),
    )
    tokens = tf.function(module)(nothing, spans=True)
    assert tokens.ids.shape == tokens.first.shape == tokens.last.shape == [0]
    assert tokens.word_splits.numpy().tolist() == [0]


BPE = {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": [["a", "b"]]}
UNIGRAM = {"type": "Unigram", "unk_id": 0, "vocab": [["<unk>", 0.0], ["a", -1.0]]}


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({**BPE, "dropout": 0.1}, r"model `BPE` with `dropout` = `0.1` has no exact.*supported:.*`None`"),
        ({**BPE, "merges": ["a b c"]}, r"the merge 'a b c' of the model `BPE` is no pair of tokens"),
        ({**BPE, "merges": [["a", "c"]]}, r"merge \('a', 'c'\) with `'c' not in the vocabulary`"),
        (
            {**BPE, "unk_token": "?"},
            r"the unknown token '\?' is not in the vocabulary.*set `unk_token` to null",
        ),
        (
            {**BPE, "byte_fallback": True, "vocab": {**BPE["vocab"], "<0x41>": 3}},
            r"`BPE` with `byte_fallback` and `no token <0x00> but <0x41>` has no exact",
        ),
        (
            {**BPE, "continuing_subword_prefix": "##"},
            r"merge \('a', 'b'\) with `continuing_subword_prefix` =",
        ),
        ({**BPE, "speed": 3}, r"the model `BPE` has the parameters \['speed'\]"),
        ({**UNIGRAM, "unk_id": None}, r"model `Unigram` with `unk_id` = `None` has no exact"),
        ({**UNIGRAM, "unk_id": 5}, r"cannot read the model `Unigram` of this `tokenizer.json`: .*UnkIdNot"),
        ({**UNIGRAM, "vocab": [["<unk>", 11.0], ["a", 12.0]]}, r"with a least score of `11.0`"),
        ({**UNIGRAM, "vocab": [["<unk>", 0.0], ["x<unk>", -1.0]]}, r"unknown token '<unk>' and `x<unk>`"),
        ({"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "b"}, r"the unknown token 'b' is not in the"),
        ({"type": "Guess"}, r"model `Guess` has no exact.*`BPE`, `Unigram`, `WordLevel`, `WordPiece`"),
    ],
)
def test_what_is_not_exact_is_refused(model, message):
    with pytest.raises(TokenizerError, match=message):
        build_model(parse_model(model))


def test_models_without_a_type_are_known_by_their_parameters():
    for model in (BPE, {**UNIGRAM, "byte_fallback": False}):
        untyped = {name: value for name, value in model.items() if name != "type"}
        assert parse_model(untyped) == parse_model(model)
