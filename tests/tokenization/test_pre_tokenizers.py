"""Pre-tokenizers in the graph, against the library's own."""

import json

import numpy as np
import pytest
import tensorflow as tf

from kerasllm.errors import TokenizerError
from kerasllm.testing import byte_level_patterns
from kerasllm.testing.strings import adversarial_strings
from kerasllm.tokenization.graph.byte_alphabet import ALPHABET
from kerasllm.tokenization.graph.characters import CUT, ROW_END, Characters
from kerasllm.tokenization.graph.pre_tokenizers import build_pre_tokenizer
from kerasllm.tokenization.library import run_pre_tokenizer
from kerasllm.tokenization.spec.pre_tokenizers import parse_pre_tokenizer

BEHAVIORS = ["Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"]
TEXTS = [
    *(
        "",
        "",
        " ",
        "\n",
        "a",
        "-",
        "--a--b-",
        "  a  b  ",
        "▁a ▁b",
        "aaaaa aa",
        "a1b22c333d4444",
        "x ! ?! y",
        "½ò²",
    ),
    *adversarial_strings(350, seed=2),
]


def split(pattern, behavior="Isolated", *, kind="Regex", invert=False):
    return {"type": "Split", "pattern": {kind: pattern}, "behavior": behavior, "invert": invert}


def byte_level(*, prefix=False, regex=False):
    return {"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": True, "use_regex": regex}


def metaspace(scheme, *, cut=True):
    return {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": cut}


def sequence(*members):
    return {"type": "Sequence", "pretokenizers": list(members)}


def digits(individual):
    return {"type": "Digits", "individual_digits": individual}


def punctuation(behavior):
    return {"type": "Punctuation", "behavior": behavior}


CASES = {
    "BERT": {"type": "BertPreTokenizer"},
    "Whitespace": {"type": "Whitespace"},
    "WhitespaceSplit": {"type": "WhitespaceSplit"},
    "CharDelimiterSplit": {"type": "CharDelimiterSplit", "delimiter": "-"},
    **{f"Punctuation {behavior}": punctuation(behavior) for behavior in BEHAVIORS},
    **{f"Digits {individual}": digits(individual) for individual in (True, False)},
    **{
        f"Metaspace {scheme} {cut}": metaspace(scheme, cut=cut)
        for scheme in ("always", "first", "never")
        for cut in (True, False)
    },
    **{
        f"ByteLevel {prefix} {regex}": byte_level(prefix=prefix, regex=regex)
        for prefix in (True, False)
        for regex in (True, False)
    },
    **{
        f"Split {kind} {pattern!r} {behavior} {invert}": split(pattern, behavior, kind=kind, invert=invert)
        for kind, pattern in [("String", "aa"), ("String", " "), ("Regex", r"\s+"), ("Regex", r"\w+|[^\w]+")]
        for behavior in BEHAVIORS
        for invert in (True, False)
    },
    "Llama 3": sequence(split(byte_level_patterns.LLAMA3), byte_level()),
    "Qwen 2": sequence(split(byte_level_patterns.QWEN2), byte_level()),
    "GPT-4o": sequence(split(byte_level_patterns.O200K), byte_level()),
    "CLIP": sequence(split(byte_level_patterns.CLIP, "Removed", invert=True), byte_level()),
    "DeepSeek V2": sequence(*map(split, byte_level_patterns.DEEPSEEK_V2), digits(True), byte_level()),
    "DeepSeek V3": sequence(*map(split, byte_level_patterns.DEEPSEEK_V3), byte_level()),
    "SmolLM2": sequence(digits(True), byte_level(regex=True)),
    "Falcon": sequence(
        punctuation("Contiguous"), byte_level(regex=True), digits(False), split("[0-9][0-9][0-9]")
    ),
    "BLOOM": sequence(split(" ?[^(\\s|[.,!?\u2026\u3002\uff0c\u3001\u0964\u06d4\u060c])]+"), byte_level()),
    "T5": sequence({"type": "WhitespaceSplit"}, metaspace("always")),
    "first after a cut": sequence(split("a"), metaspace("first")),
    "Gemma": split(" ", "MergedWithPrevious", kind="String"),
    "nested": sequence(sequence(digits(True), punctuation("Isolated")), {"type": "WhitespaceSplit"}),
    "nothing": sequence(),
    "bytes twice": sequence(byte_level(prefix=True), digits(True), byte_level(regex=True)),
}


def flat(texts):
    codes = [code for text in texts for code in (*map(ord, text), ROW_END)]
    starts = [start for text in texts for start in range(len(text) + 1)]
    ends = [min(start + 1, len(text)) for text in texts for start in range(len(text) + 1)]
    return Characters(*(tf.constant(np.array(values, np.int32)) for values in (codes, starts, ends)))


def words_of(specification, texts):
    """What the stages make of the texts, written as the library's `pre_tokenize_str` writes it."""
    pre_tokenizer = parse_pre_tokenizer(specification)
    characters = flat(texts)
    for stage in build_pre_tokenizer(pre_tokenizer):
        characters = stage(characters)
    alphabet = list(ALPHABET)
    found, row, word = [], [], []
    for code, start, end in zip(*(values.numpy().tolist() for values in characters), strict=True):
        if code >= 0:
            shown = chr(code)
            if pre_tokenizer.byte_level:
                shown = "".join(alphabet[byte] for byte in shown.encode())
            word.append((shown, start, end))
            continue
        if word:
            row.append(("".join(shown for shown, _, _ in word), (word[0][1], word[-1][2])))
            word = []
        if code == ROW_END:
            found.append(row)
            row = []
    return found


@pytest.mark.parametrize("name", CASES)
def test_words_and_where_they_stand_are_those_of_the_library(name):
    run = run_pre_tokenizer(json.dumps(CASES[name]))
    # The empty text is no word for a model, although `pre_tokenize_str` shows it.
    expected = [[word for word in run(text) if word[0]] for text in TEXTS]
    found = words_of(CASES[name], TEXTS)
    assert len(found) == len(TEXTS)
    differing = [triple for triple in zip(TEXTS, expected, found, strict=True) if triple[1] != triple[2]]
    assert not differing, differing[:3]


@pytest.mark.parametrize("name", ["BERT", "GPT-4o", "Falcon", "Metaspace first True", "DeepSeek V2"])
def test_no_texts_and_no_offsets(name):
    for texts in ([], [""], ["a b", "12!"]):
        with_offsets = flat(texts)
        specification = parse_pre_tokenizer(CASES[name])
        characters = Characters(
            with_offsets.codes, with_offsets.starts if specification.needs_starts else None
        )
        for stage in build_pre_tokenizer(specification):
            characters, with_offsets = stage(characters), stage(with_offsets)
        np.testing.assert_array_equal(characters.codes, with_offsets.codes)
        assert characters.ends is None
        assert np.sum(characters.codes.numpy() == ROW_END) == len(texts)


@pytest.mark.parametrize("name", ["Llama 3", "Falcon", "Whitespace", "Metaspace always True"])
def test_stages_stay_within_barriers_and_can_be_compiled(name):
    stages = build_pre_tokenizer(parse_pre_tokenizer(CASES[name]))

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int32)])
    def run(codes):
        characters = Characters(codes)
        for stage in stages:
            characters = stage(characters)
        return characters.codes

    texts = ["don't stop", "12 45", "", "x  y"]
    together = [code for index, text in enumerate(texts) for code in (*map(ord, text), -3 - index)]
    alone = [run(tf.constant([*map(ord, text), ROW_END])).numpy()[:-1].tolist() for text in texts]
    expected = [code for index, codes in enumerate(alone) for code in (*codes, -3 - index)]
    assert run(tf.constant([*together, ROW_END])).numpy().tolist() == [*expected, ROW_END]


def test_cuts_are_put_between_words_only():
    [stage] = build_pre_tokenizer(parse_pre_tokenizer(digits(True)))
    codes = stage(Characters(tf.constant([*map(ord, "1a23"), -3, ord("4"), ROW_END]))).codes.numpy().tolist()
    assert codes == [ord("1"), CUT, ord("a"), CUT, ord("2"), CUT, ord("3"), -3, ord("4"), ROW_END]


def test_what_can_be_one_table_is_known():
    def fusable(value):
        return parse_pre_tokenizer(value).fusable

    assert fusable({"type": "BertPreTokenizer"})
    assert fusable(sequence({"type": "WhitespaceSplit"}, punctuation("Isolated"), digits(True)))
    assert not fusable(sequence({"type": "WhitespaceSplit"}, punctuation("Removed")))
    assert not fusable(punctuation("Isolated"))  # keeps white space
    assert not fusable({"type": "Whitespace"})
    assert not fusable(None)


def test_only_a_last_byte_level_is_left_to_the_model():
    assert parse_pre_tokenizer(CASES["Llama 3"]).byte_level
    assert not parse_pre_tokenizer(CASES["Falcon"]).byte_level
    assert not parse_pre_tokenizer(None).byte_level


def test_only_the_first_scheme_asks_for_places():
    assert parse_pre_tokenizer(metaspace("first")).needs_starts
    assert not parse_pre_tokenizer(metaspace("always")).needs_starts


def test_words_that_begin_with_a_prefix():
    assert not parse_pre_tokenizer({"type": "BertPreTokenizer"}).can_begin("##")
    assert parse_pre_tokenizer({"type": "WhitespaceSplit"}).can_begin("##")
    assert parse_pre_tokenizer(None).can_begin("##")


def test_older_metaspace_parameters_mean_what_the_library_takes_them_for():
    old = {"type": "Metaspace", "replacement": "_", "add_prefix_space": True, "str_rep": "_"}
    assert words_of(old, ["a b"]) == [run_pre_tokenizer(json.dumps(old))("a b")]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"type": "UnicodeScripts"}, r"pre-tokenizer `UnicodeScripts` has no exact.*`Metaspace`.*`none`"),
        ({"type": "FixedLength", "length": 5}, r"pre-tokenizer `FixedLength` has no exact"),
        (split("a", "Doubled"), r"`behavior` = `Doubled` has no exact.*`MergedWithNext`"),
        ({**split("a"), "extra": 1}, r"pre-tokenizer `Split` has the parameters \['extra'\]"),
        (split("(?:ab)*c"), r"regular expression `\(\?:ab\)\*c`, at `\(\?:ab\)\*`, has no exact"),
        (split("", kind="String"), "the empty text"),
        (
            split("a", kind="Glob"),
            r"`pattern` of the pre-tokenizer `Split` is \{'Glob': 'a'\}, expected `String`",
        ),
        (split(5), r"`pattern` of the pre-tokenizer `Split` is \{'Regex': 5\}, expected"),
        (
            {**metaspace("first"), "add_prefix_space": False},
            r"is not one that the `tokenizers` library accepts",
        ),
        ({**metaspace("first"), "replacement": "ab"}, r"is not one that the `tokenizers` library accepts"),
        ({**metaspace("always"), "extra": 1}, r"`Metaspace` has the parameters \['extra'\]"),
        (
            ["ByteLevel"],
            r"the pre-tokenizer of the `tokenizer.json` is \['ByteLevel'\], expected a JSON object",
        ),
    ],
)
def test_what_has_no_exact_implementation_is_refused_by_name(value, message):
    with pytest.raises(TokenizerError, match=message):
        parse_pre_tokenizer(value)
