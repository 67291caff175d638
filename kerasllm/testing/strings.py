# ruff: noqa: RUF001, SIM905 (ambiguous characters are what these texts are for; lists would be longer)
"""Texts on which tokenizers go wrong: awkward pieces, random characters, real text that was changed."""

import functools
import random
import sys
import unicodedata
from collections.abc import Callable, Sequence
from itertools import groupby

from kerasllm.testing.corpus import TEXTS

__all__ = ["adversarial_strings", "code_point_strings"]

_WORDS = """
the reader sees re-read unbelievable 10:30 a.b x_y ... #tag ##s def camelCase HTTPServer XMLHttp2 x_1 != ->
Don't I'M we'LL they'Ve 's 'S ’s '\u017f '' `` 're'd l'été O'Neil's // /* \\n {} "quoted" (x) [i] ();
0 12 123 1234 12345678901234567890 3.14 1,000 ٣٤٥ १२३ ²³ Ⅷ ½ １２３ 0x1F -5 50%
""".split()
_MARKERS = """
[SEP] [CLS] [UNK] [MASK] [PAD] [SEP SEP] [sep] [ ] [[SEP]] [CLS][SEP] <tag> <ta </w> a</w> < ## @@
<s> </s> <unk> <pad> <mask> <s </s <S> <mask>s <extra_id_0> <extra_id_1>x <bos> <eos> <start_of_turn> [INST]
<|endoftext|> <|im_start|> <|im_end|> <|begin_of_text|> <|endoftext |> <|eot_id|> <| <｜User｜>
<0x0A> <0xE2> <0xFF> ▁ ▁▁ ▁the a▁b Ġ Ġthe Ċ \u096c \u0134 \u0134A \u0134B \ue000 \ufffd
""".split()
_SPACES = (
    *(
        " ",
        "  ",
        "   ",
        "\t",
        "\n",
        "\r\n",
        "\r",
        "\n\n",
        " \n ",
        "\n \n",
        "\t ",
        " \t",
        "\r\n\r\n",
        "      ",
    ),
    *("\xa0", "\u2028", "\u2029", "\u3000", "\x85", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x1f", "\u180e"),
    *(
        "\u1680",
        "\u2000",
        "\u2009",
        "\u200a",
        "\u202f",
        "\u205f",
        " \xa0",
        "\xa0 ",
        "\u3000\u3000",
        "\u2028 ",
    ),
    *("\u200b", "\u200c", "\u200d", "\u200e", "\u2060", "\ufeff", "\xad", "\0", "\x01", "\x7f", "\ufffe"),
    *(" <mask> ", " \u096c", "\u0134B ", "@@ ", "the reader", "\t\tif", "();\n", "{\n    ", ".  ", "- "),
)
_LETTERS = """
café cafe\u0301 naïve \u212bngström İ ı ß ẞ ﬁ Σς ΑΣ ǅ ª \u2126 \u212a ĳ ŉ ﬀ Ǆ \u1e9b\u0323 \u0344 \u0958
日本 中文 한국어 \u1100\u1161\u11a8 हिन्दी ไทย العَرَبِيَّة עִבְרִית \U00020000 \uf900 \U0002f800 ำ ຳ \u0f73
ｶﾞ ガ か\u3099 ㍿ ﷺ ① ㎏ ｱｲｳ ＡＢＣ ゛ \u00b4 \u00a8 … “ ” ’ — – ¿ « 、 。 ！ € © → ‐ · \u0387 ～ 〜 \u037e
👩\u200d👩\u200d👧 👍🏽 🇩🇪 🇩 ❤\ufe0f 🏴\U000e0067\U000e007f 𝒳 \ue001 \U0010ffff 😀😀 \u061c
\u0301 \u0323 \u0302 \u0345 \u0334 \u08ca \u1ac5 \u089e \u302e \U0001d165 \u0308 \u094d \u3099
""".split()
_LONG = (
    *(
        "x" * 99,
        "x" * 100,
        "x" * 101,
        "é" * 100,
        "日" * 101,
        "e\u0301" * 60,
        "word" * 50,
        " " * 40,
        "\n" * 20,
    ),
    *("a" * 300, "ab" * 80, "0" * 70, "!" * 50, "=" * 64, "-" * 33, "aaab" * 40, "▁" * 30, "\u0301" * 20),
)
_PIECES = (*_WORDS, *_MARKERS, *_SPACES, *_LETTERS, *_LONG)


def adversarial_strings(count: int, seed: int = 0, *, texts: Sequence[str] = TEXTS) -> list[str]:
    """Makes texts on which tokenizers go wrong.

    A third is made of awkward pieces (words, special tokens and other tokenizers' sentinels, white space and
    line ends of every kind, digits, apostrophes, marks, emoji, long runs), a third of random characters of
    all planes and categories, a third of real text that was changed in some places.

    Args:
        count: How many.
        seed: Same seed and texts, same strings. Defaults to `0`.
        texts: Real texts that are changed. Defaults to the small corpus of this package.

    Returns:
        Texts without lone surrogates.

    Example:
    >>> len(adversarial_strings(3))
    3
    """
    generator = random.Random(seed)  # noqa: S311, not cryptography
    makers = (_of_pieces, _of_characters, lambda random: _changed(random, texts))
    return [generator.choice(makers)(generator) for _ in range(count)]


def code_point_strings(start: int = 0, end: int = sys.maxunicode + 1) -> list[str]:
    """Every code point of a range alone and between letters; surrogates, which are no text, left out."""
    characters = [chr(code) for code in range(start, end) if not 0xD800 <= code < 0xE000]
    return [text for character in characters for text in (character, f"a{character}b")]


def _of_pieces(generator: random.Random) -> str:
    glue = generator.choice(("", "", "", " "))
    return glue.join(generator.choices(_PIECES, k=generator.randint(0, 12)))


def _of_characters(generator: random.Random) -> str:
    pools = generator.choices(_pools(), k=3)
    return "".join(generator.choice(generator.choice(pools)) for _ in range(generator.randint(0, 30)))


def _changed(generator: random.Random, texts: Sequence[str]) -> str:
    text = generator.choice(texts)
    if len(text) > 200:
        start = generator.randrange(len(text) - 100)
        text = text[start : start + generator.randint(1, 200)]
    text = _FORMS_OR_NOT[generator.randrange(len(_FORMS_OR_NOT))](text)
    characters = list(text)
    for _ in range(generator.randint(0, 5)):
        if characters:
            place = generator.randrange(len(characters))
            kept = generator.choice(("", characters[place], characters[place] * 2))
            characters[place] = kept + generator.choice(generator.choice((_PIECES, _SPACES, *_pools()[:1])))
    return "".join(characters)


def _unchanged(text: str) -> str:
    return text


_FORMS_OR_NOT: tuple[Callable[[str], str], ...] = (
    *(_unchanged,) * 6,
    lambda text: unicodedata.normalize("NFC", text),
    lambda text: unicodedata.normalize("NFD", text),
    lambda text: unicodedata.normalize("NFKC", text),
    lambda text: unicodedata.normalize("NFKD", text),
    str.upper,
    str.title,
    lambda text: text.replace("\n", "\r\n"),
    lambda text: text.replace(" ", "  "),
    lambda text: text.replace("'", "’"),
)


@functools.cache
def _pools() -> tuple[Sequence[str], ...]:
    """Characters to draw from: all, assigned ones, those of each category, marks, and a few letters."""
    everything = [chr(code) for code in range(sys.maxunicode + 1) if not 0xD800 <= code < 0xE000]
    assigned = [character for character in everything if unicodedata.category(character)[0] != "C"]
    by_category = sorted(assigned, key=unicodedata.category)
    categories = [list(members) for _, members in groupby(by_category, unicodedata.category)]
    marks = [character for character in assigned if unicodedata.combining(character)]
    latin = assigned[:400]
    return (everything, assigned, latin, assigned[:3000], marks, "abcdefXYZ .,'-", "[SEP]C", *categories)
