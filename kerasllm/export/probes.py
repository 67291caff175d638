"""Texts that every export is tried on, besides samples of the user's own."""

from collections.abc import Mapping, Sequence

__all__ = ["BUILTIN_TEXTS", "all_probes", "builtin_probes"]

# Short and long, plain and awkward: what tells one tokenizer, truncation or padding from another.
BUILTIN_TEXTS: tuple[str, ...] = (
    "A joy from start to end.",
    "I want my two hours back.",
    "The delivery came late and the box was open.",
    "please call me back",
    "ok",
    "a",
    "!",
    "",
    " ",
    "\t\n \r\n",
    "don't  can't won't, rock'n'roll",
    "UPPER lower MiXeD camelCase",
    "3.14159 1,000,000 $5.99 50% 2026-11-23 #1",
    "https://example.org/path?q=1&r=2#top someone@example.org",
    '<b>bold</b> &amp; {"json": [1, 2]} \\n \\ ` ~ ^ |',
    "café naïve Übergröße Łódź coöperate",
    "e\u0301 a\u0308 n\u0303 combining marks, \u1e9b\u0323",
    "\ufb01ne \uff21\uff22\uff23 \u2460 \u00bd compatibility forms",
    "Straße İstanbul ΑΣΣ ΟΔΟΣ",
    "한국어 문장입니다",
    "日本語の文章です。中文字符没有空格",
    "हिन्दी में एक वाक्य",
    "مرحبا بالعالم שלום עולם",
    "Привет, мир! Καλημέρα κόσμε",
    "👍🏽 👩‍👩‍👧‍👦 🇩🇪 ❤️ emoji",
    "zero\u200bwidth\u200djoiner\ufeff soft\u00adhyphen",
    "no\u00a0break\u2003space\u2028line\u2029paragraph\u0085next",
    "control \x01\x02\x7f characters \ufffd",
    "[CLS] special [SEP] tokens [MASK] in [PAD] the [UNK] text <s> </s> <|endoftext|>",
    "dots… — “quotes” «guillemets» • ‰",
    "x" * 300,
    "unbelievably" * 20,
    "why " * 40,
    "The same sentence, again and again. " * 60,
    "word " * 3000,
)


def builtin_probes(names: Sequence[str]) -> dict[str, list[str]]:
    """The texts as inputs of a signature; of several inputs each begins elsewhere, so lengths mix.

    Args:
        names: Names of the inputs.

    Returns:
        As many texts for every name.
    """
    texts = list(BUILTIN_TEXTS)
    return {name: texts[7 * i :] + texts[: 7 * i] for i, name in enumerate(names)}


def all_probes(names: Sequence[str], samples: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """The built-in probes, then the samples.

    Args:
        names: Names of the inputs.
        samples: Further inputs by name; empty for none.
    """
    builtin = builtin_probes(names)
    return {name: [*builtin[name], *samples.get(name, ())] for name in names}
