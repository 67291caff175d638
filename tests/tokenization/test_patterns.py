"""Regular expressions in the graph, against the library's own."""

import numpy as np
import pytest
import tensorflow as tf

from kerasllm.errors import TokenizerError
from kerasllm.testing import byte_level_patterns
from kerasllm.testing.strings import adversarial_strings
from kerasllm.tokenization.characters import cache
from kerasllm.tokenization.graph.characters import ROW_END
from kerasllm.tokenization.graph.patterns import PatternMatcher
from kerasllm.tokenization.patterns import literal_pattern, measure, parse_pattern
from kerasllm.tokenization.patterns.measure import run_regex
from kerasllm.tokenization.patterns.nodes import Choice, OneOf, Sequence, Source

TEXTS = [
    *(
        "",
        "",
        " ",
        "\n",
        "a",
        "aaaa",
        "aab aaab\naab\n",
        "a1b22c333d4444e55555",
        "st SQ sq1 'T'tx'\u017f K1KK1KKK1kkkk1",
    ),
    *(
        "xyxxyxxxyxxxxxy x{2}",
        "<a><b c>d< e>",
        "12345 5 515",
        " \n x \r\n\r\n y \t",
        "ab abc ac c acabc",
        "1.5 .5 a.b",
    ),
    *adversarial_strings(400, seed=1),
]


def matches(pattern, texts):
    """The matches in each text, from one call."""
    rows = [[*map(ord, text), ROW_END] for text in texts]
    offsets = np.cumsum([0, *map(len, rows)])
    codes = tf.constant(np.concatenate([np.zeros(0), *rows]).astype(np.int32))
    starts, ends = (values.numpy() for values in PatternMatcher(pattern)(codes))
    row = np.searchsorted(offsets, starts, side="right") - 1
    found = [[] for _ in texts]
    for index, start, end in zip(row, starts - offsets[row], ends - offsets[row], strict=True):
        found[index].append((int(start), int(end)))
    return found


PATTERNS = [
    *(r"\s+", r"\w+|[^\w\s]+", r"a(?=b)|[^a ]+a$", r"^\s+|\s+$", r"\A.|.\z", r".\Z", r"\n\z", r"^.", r".$"),
    *(r"(?<=[a-z])\d", r"(?<!\p{L})\.(?!\d)", r"(?>a|ab)c", r"(?:ab|a)?c", r"x{2,4}y", r"x{,2}y", r"x{3}"),
    *(
        r"\d+?5|<[^>]*?>",
        r"\d{1,3}?\p{L}",
        r"\d+?",
        r"a??b",
        r"\p{L}{1,2}?\p{N}",
        r"\s{2,}(?=\S)",
        r"\d{2,}5",
    ),
    *(
        r"[^\s]*+ ",
        r"a++b|a+",
        r"\p{L}?+b",
        r"\p{Lu}*\p{L}\p{Ll}*",
        r"(?:\p{L}\p{N}){1,3}",
        r"(?:\p{N}{1,3})+",
    ),
    *(
        r"\p{N}{1,3}+",
        r"(?i)sq1|[xyz]+'T|K{1,3}1",
        r"(?i:K)1|(?-i:K)k",
        r"\p{^L}+",
        r"\P{L}[[:alpha:]]",
        r"\x61\x{62}",
    ),
    *(
        "[a-z&&[^aeiou]]+",
        r"a|ab|abc",
        r"(?:|a)b",
        r"aab|<\|endoftext\|>",
        r"(a)(b)",
        r"\u0041|\.",
        r"[\]\[]",
        "{|}|a{",
    ),
    *(
        r"\s*[\r\n]+|\s+(?!\S)|\s+",
        r"'(?:[sdmt]|ll|ve|re)",
        r"(?!a)\w",
        r"(?=ab)a|b",
        r"(?!\s)(?=\W).",
        r"\h\H",
        r"(^)?b|(a$|x){1,2}",
    ),
    byte_level_patterns.LLAMA3,
    byte_level_patterns.O200K,
    byte_level_patterns.CLIP,
    *byte_level_patterns.DEEPSEEK_V2,
    *byte_level_patterns.DEEPSEEK_V3,
]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_matches_are_those_of_the_library(pattern):
    run = run_regex(pattern)
    expected = [[place for _, place in run(text)] for text in TEXTS]
    assert matches(parse_pattern(pattern), TEXTS) == expected


@pytest.mark.parametrize("text", ["a", "aa", " ", "<|endoftext|>", "aaab", ".*", "日本", "'\n"])
def test_a_text_is_found_as_it_stands(text):
    texts = [*TEXTS, "aaaaaaa.*.**", "日本日本", "<|endoftext|><|endoftext|"]
    found = []
    for given in texts:
        places, place = [], given.find(text)
        while place >= 0:
            places.append((place, place + len(text)))
            place = given.find(text, place + len(text))
        found.append(places)
    assert matches(literal_pattern(text), texts) == found


def test_nothing_is_found_across_a_barrier():
    codes = [*map(ord, "ab"), -2, *map(ord, "ab"), -3, *map(ord, "aab"), -1, -1, ord("b"), -1]
    starts, ends = PatternMatcher(parse_pattern(r"ba|\w+"))(tf.constant(codes))
    assert list(zip(starts.numpy(), ends.numpy(), strict=True)) == [(0, 2), (3, 5), (6, 9), (11, 12)]


def test_no_text_has_no_match():
    for pattern in (byte_level_patterns.LLAMA3, "a", r"\s+$", "aaaa", r"\s*\n"):
        matcher = PatternMatcher(parse_pattern(pattern))
        starts, ends = matcher(tf.zeros([0], tf.int32))
        assert starts.shape == ends.shape == (0,)
        assert matcher.pieces(tf.zeros([0], tf.int32)).begins.shape == (0,)


def test_a_long_run_of_digits_takes_few_rounds():
    starts, ends = PatternMatcher(parse_pattern(r"\p{N}{1,3}"))(tf.constant([ord("1")] * 100_000 + [-1]))
    np.testing.assert_array_equal(starts, np.arange(0, 100_000, 3))
    np.testing.assert_array_equal(ends, [*range(3, 100_000, 3), 100_000])


def test_a_match_that_ends_before_an_earlier_one_would():
    # From `ab` the match goes on to the end, from `b` it stops at once: ends do not rise with starts.
    text = "abxxxb xab abxx"
    assert matches(parse_pattern("abx*b|b|x+"), [text]) == [[p for _, p in run_regex("abx*b|b|x+")(text)]]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        (r"(?:ab)*c", r"at `\(\?:ab\)\*`, has no exact.*any number of repetitions of more than a character"),
        (r"a*", "it matches the empty text"),
        (r"(?=a)", "it matches the empty text"),
        (r"(?<=ab)c", r"at `\(\?<=ab\)`.*looking behind for more than a character"),
        (r"(a)\1", r"at `\\1`.*this escape"),
        (r"\bword\b", r"at `\\b`.*this escape"),
        (r"(?<name>a)", r"at `\(\?<n`.*this kind of group"),
        (r"a(?i)b", r"this kind of group"),
        (r"(?i:ss)", r"at `s`.*two letters here match one when case is ignored"),
        (r"(?i:s+)", r"at `s\+`.*two letters here match one"),
        (r"(?i:ß)", r"at `ß`.*a letter here matches several when case is ignored"),
        (r"(?i:[^a])", r"a letter here matches several"),
        (r"a{17}", r"at `a\{17\}`.*more than 16 repetitions"),
        (r"(?:a+b){2}", r"at `\(\?:a\+b\)\{2\}`.*repetitions of a repetition"),
        (r"a{2}?", r"at `a\{2\}\?|\{2\}\?`.*this repetition"),
        (r"(^)+b", r"at `\(\^\)\+`.*any number of repetitions of more than a character"),
        ("[]a]", r"a `\]` right after `\[`"),
        ("(a", r"`\(a` is not one that the `tokenizers` library accepts.*end pattern.*damaged"),
    ],
)
def test_what_has_no_exact_match_is_refused_by_name(pattern, message):
    with pytest.raises(TokenizerError, match=message):
        parse_pattern(pattern)


def test_the_empty_text_is_refused():
    with pytest.raises(TokenizerError, match=r"`the empty text`.*it matches everywhere"):
        literal_pattern("")


def test_too_many_classes_are_refused():
    pattern = parse_pattern("".join(f"{chr(code)}?" for code in range(0x4E00, 0x4E40)) + "!")
    with pytest.raises(TokenizerError, match=r"has 65 different classes of characters.*room for 62"):
        PatternMatcher(pattern)


def test_more_classes_than_bits_of_an_int32():
    pattern = "|".join(f"{chr(code)}+{chr(code + 1)}" for code in range(0x4E00, 0x4E32, 2))
    texts = ["".join(map(chr, range(0x4E00, 0x4E32))), "\u4e00\u4e00\u4e01\u4e30\u4e30\u4e31\u4e2e"]
    assert matches(parse_pattern(pattern), texts) == [[p for _, p in run_regex(pattern)(t)] for t in texts]


def test_options_that_begin_alike_are_put_together():
    def one(*characters):
        return OneOf(tuple(Source("character", character) for character in characters))

    found = parse_pattern("'s|'t|'re|'ve|'m").root
    assert found == Sequence((one("'"), Choice((one("s", "t", "m"), Sequence((one("r", "v"), one("e")))))))


def test_the_order_of_options_is_kept_where_it_counts():
    texts = ["abcd acd", "aab ba", "  a  b "]
    for pattern in ("ab|abc|a|[bc]d", "a|ab|b", "ab?|a?b", " ?a| ?[ b]| +"):
        assert matches(parse_pattern(pattern), texts) == [
            [p for _, p in run_regex(pattern)(t)] for t in texts
        ]


@pytest.fixture
def cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("KERASLLM_CACHE", str(tmp_path))
    measure.members.cache_clear()
    cache.forget()
    yield tmp_path / "tokenization"
    measure.members.cache_clear()
    cache.forget()


def test_sets_are_remembered_on_disk(cache_folder, monkeypatch):
    source = Source("regex", r"\p{N}")
    first = measure.members(source)
    [file] = cache_folder.iterdir()
    assert file.stat().st_size < 20_000
    measure.members.cache_clear()
    cache.forget()
    with monkeypatch.context() as patched:
        patched.setattr(measure, "run_regex", None)  # not needed again
        np.testing.assert_array_equal(measure.members(source), first)
    assert {chr(code) for code in np.flatnonzero(first)} >= set("09²½Ⅷ٣")
    assert not first[ord("a")]
    with pytest.raises(ValueError, match="read-only"):
        first[0] = True


@pytest.mark.slow
@pytest.mark.parametrize("name", [r"\s", r"\p{L}", r"\p{N}", r"\w", r"[^\s\p{L}\p{N}]", r"\p{M}", "."])
def test_a_set_is_right_for_every_code_point(name):
    found = measure.members(Source("regex", name))
    run = run_regex(name)
    for start in range(0, 0x110000, 256):
        if not 0xD800 <= start < 0xE000:
            page = "".join(map(chr, range(start, start + 256)))
            assert [start + place for _, (place, _) in run(page)] == [
                *np.flatnonzero(found[start : start + 256]) + start
            ]
