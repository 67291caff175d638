# ruff: noqa: RUF001 (ambiguous characters are what these texts are for)
"""Texts on which tokenizers go wrong, and the comparison of eager and graph on them."""

from typing import TYPE_CHECKING

from kerasllm.errors import TokenizerError

if TYPE_CHECKING:
    from kerasllm.tokenization.tokenizer import Tokenizer

__all__ = ["check_graph", "probe_texts"]

_TEXTS = (
    "",
    " ",
    "A joy from start to end.",
    "Don't stop: it's 50% off, e.g. at 10:30 (or 22.30)!?",
    "café naïve ÀÉÎÕÜ Ångström Łódź ß ẞ ſ ﬁ ĳ Ǆ",
    "cafe\u0301 nai\u0308ve e\u0323\u0302 e\u0302\u0323 \u0301alone q\u0307\u0323 d\u0345\u0334x",
    "\u1b44\u1ac5\u08ca \u089e\u1ac4 a\u302f\u302e\u0323 \U0001d165\U0001d16d",
    "İstanbul ıI ΑΣ Σσς ὈΔΥΣΣΕΎΣ Ⅷ ⓐ Ꭰ ꭰ",
    "日本語の文章です。中国話 漢\u2f00 \uf900 \U00020000 \U0002f800 㐀",
    "한국어 문장입니다 한글 \u1112\u1161\u11ab 각",
    "हिन्दी में ไทยนี้ தமிழ் עִבְרִית العَرَبِيَّة",
    "a\xa0b\u2028c\u2029d\u3000e\u1680f\u2009g\x85h\x0bi\x0cj\tk\nl\rm\r\nn",
    "a\u200bb\u200cc\u200dd\u2060e\ufefff\xadg\u180eh\u061ci\u202ej",
    "a\x00b\x01c\x1bd\x7fe\x9ff\ufffdg\ufffeh\U000e0001i\ue000j\U0010ffffk",
    "👩‍👩‍👧‍👦 👍🏽 🇩🇪 ❤️ ☺ 🏴\U000e0067\U000e0062\U000e007f",
    "wait… “quoted” ‘single’ — – − ‐ · • ¿qué? «oui» „so“ 、。！？",
    "$ + < = > ^ ` | ~ © ® ™ ° § ¶ € £ ¥ ½ ² ∑ → ≠",
    "#hashtag @user http://example.com/a?b=c&d=e x_y a-b a/b \\n",
    "[SEP] [CLS]word[SEP]word [PAD][MASK] [UNK] [sep] [ SEP ] [SEP [[SEP]] [SEP",
    "<s> </s> <unk> <pad> <mask> <|endoftext|>",
    "##ing a##b # ## ### '##'",
    "x" * 99 + " " + "x" * 100 + " " + "x" * 101 + " " + "x" * 200,
    "é" * 99 + " " + "é" * 100 + " " + "é" * 101,
    "日" * 120 + " " + "𝒳" * 100 + " " + "한" * 40,
    "unaffable unbelievably antidisestablishmentarianism Donaudampfschifffahrt",
)
_PLACES = ("{}", "a{}b", "a {} b", "{}{}", "A{}.")


def probe_texts() -> list[str]:
    """A few hundred texts: awkward ones, and each of their characters alone and between letters."""
    characters = sorted({character for text in _TEXTS for character in text if not character.isascii()})
    singles = [
        place.format(*[character] * 2)
        for index, character in enumerate(characters)
        for place in ("{}", _PLACES[index % len(_PLACES)])
    ]
    return [*_TEXTS, *singles, " ".join(_TEXTS), "".join(_TEXTS)]


def check_graph(tokenizer: "Tokenizer") -> None:
    """Raises a `TokenizerError` if eager and graph differ on a probe text; see `Tokenizer.check_graph`."""
    texts = probe_texts()
    pairs = texts[1:] + texts[:1]
    for sequence_length in (None, 32):
        for second in (None, pairs):
            _compare(tokenizer, texts, second, sequence_length)
    ids = tokenizer.encode(texts)
    _compare_decoded(tokenizer, ids)


def _compare(
    tokenizer: "Tokenizer", texts: list[str], pairs: list[str] | None, sequence_length: int | None
) -> None:
    expected = tokenizer.encode_with_segments(texts, pairs, sequence_length=sequence_length)
    with_segments = tokenizer.graph_encode_with_segments(texts, pairs, sequence_length=sequence_length)
    found = [values.to_list() for values in with_segments]
    for what, eager, graph in zip(("ids", "segments"), expected, found, strict=True):
        for index, text in enumerate(texts):
            if eager[index] != graph[index]:
                shown = repr(text) if pairs is None else f"{text!r} and {pairs[index]!r}"
                raise TokenizerError(_difference(f"the {what} of {shown}", eager[index], graph[index]))


def _compare_decoded(tokenizer: "Tokenizer", ids: list[list[int]]) -> None:
    import tensorflow as tf

    with tf.init_scope():
        ragged = tf.RaggedTensor.from_row_lengths(
            tf.constant([token for row in ids for token in row], tf.int32), [len(row) for row in ids]
        )
        graph = [text.decode("utf-8") for text in tokenizer.graph_decode(ragged).numpy()]
    for row, expected, found in zip(ids, tokenizer.decode(ids), graph, strict=True):
        if expected != found:
            raise TokenizerError(_difference(f"the text of the ids {row}", expected, found))


def _difference(what: str, eager: object, graph: object) -> str:
    return (
        f"the graph does not tokenize as the checkpoint's `tokenizer.json`: {what} is {eager!r} by the "
        f"`tokenizers` library, but {graph!r} in the graph. Please report this with the name of the "
        "checkpoint, and use another one until then."
    )
