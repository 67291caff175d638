# ruff: noqa: RUF001 (ambiguous characters are what these texts are for)
"""Texts on which tokenizers go wrong, and the comparison of eager and graph on them."""

import itertools
from typing import TYPE_CHECKING, Any

from kerasllm.errors import TokenizerError

if TYPE_CHECKING:
    import tensorflow as tf

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
    "x" * 99 + " " + "x" * 100 + " " + "x" * 101,
    "é" * 99 + " " + "é" * 100 + " " + "é" * 101,
    "日" * 101 + " " + "𝒳" * 100 + " " + "한" * 40,
    "  two  spaces   three\t\ttabs \n\n \r\n lines\r\n\n  end  ",
    "it's I'LL we've 'quoted' don''t ``so'' l'été O'Neil 12 123 1234567 3.14 ٣٤٥ Ⅷ ½",
    "def f(x):\n    return x + 1  # camelCase HTTPServer\n\n\n",
    "▁ ▁the a▁b ĠĊ <0x0A> <0xE2> ``a'' \ufb01\x1f\u0301 \x0bﷺ",
    "unaffable unbelievably antidisestablishmentarianism Donaudampfschifffahrt",
)
_SHORT = 40  # characters of texts that are also tried in pairs
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
    texts = [*probe_texts(), *_with_tokens(list(tokenizer.special_ids))]
    ids = tokenizer.encode(texts)
    if tokenizer.trackable.is_fused:  # then offsets come by another way than ids alone
        _compare("the ids of", texts, None, ids, _rows(tokenizer.graph_encode(texts)))
    _compare_complete(tokenizer, texts, None, sequence_length=None)
    short = [text for text in texts if len(text) < _SHORT]
    _compare_complete(tokenizer, short, short[1:] + short[:1], sequence_length=32)
    for skip in (True, False):
        _compare_decoded(tokenizer, ids, skip_special_tokens=skip)


def _compare_complete(
    tokenizer: "Tokenizer", texts: list[str], pairs: list[str] | None, *, sequence_length: int | None
) -> None:
    """Compares ids, segments and offsets."""
    ids, segments = tokenizer.encode_with_segments(texts, pairs, sequence_length=sequence_length)
    offsets = tokenizer.offsets(texts, pairs, sequence_length=sequence_length)
    found = tokenizer.trackable.encode(
        *(None if values is None else _strings(values) for values in (texts, pairs)),
        sequence_length=sequence_length,
        segments=True,
        offsets=True,
        keep_special=tokenizer.split_special_tokens,
    )
    _compare("the ids of", texts, pairs, ids, _rows(found.ids))
    _compare("the segments of", texts, pairs, segments, _rows(found.segments))
    as_lists = [[list(offset) for offset in row] for row in offsets]
    _compare("the offsets of", texts, pairs, as_lists, _rows(found.offsets))


def _strings(texts: list[str]) -> "tf.Tensor":
    import tensorflow as tf

    return tf.constant(texts, tf.string)


def _with_tokens(tokens: list[str]) -> list[str]:
    chosen = tokens[:8]
    return [place.format(*[token] * 2) for token in chosen for place in _PLACES] + ["".join(chosen)]


def _rows(ragged: "tf.RaggedTensor") -> list[list[Any]]:
    values, splits = ragged.values.numpy().tolist(), ragged.row_splits.numpy().tolist()
    return [values[start:end] for start, end in itertools.pairwise(splits)]


def _compare(
    what: str, texts: list[str], pairs: list[str] | None, expected: list[list[Any]], found: list[list[Any]]
) -> None:
    for index, (eager, graph) in enumerate(zip(expected, found, strict=True)):
        if eager != graph:
            shown = repr(texts[index]) if pairs is None else f"{texts[index]!r} and {pairs[index]!r}"
            raise TokenizerError(_difference(f"{what} {shown}", eager, graph))


def _compare_decoded(tokenizer: "Tokenizer", ids: list[list[int]], *, skip_special_tokens: bool) -> None:
    import tensorflow as tf

    ragged = tf.RaggedTensor.from_row_lengths(
        tf.constant([token for row in ids for token in row], tf.int32), [len(row) for row in ids]
    )
    graph = tokenizer.graph_decode(ragged, skip_special_tokens).numpy()
    for row, expected, found in zip(ids, tokenizer.decode(ids, skip_special_tokens), graph, strict=True):
        if expected != found.decode("utf-8"):
            raise TokenizerError(_difference(f"the text of the ids {row}", expected, found.decode("utf-8")))


def _difference(what: str, eager: object, graph: object) -> str:
    return (
        f"the graph does not tokenize as the checkpoint's `tokenizer.json`: {what} is {eager!r} by the "
        f"`tokenizers` library, but {graph!r} in the graph. Please report this with the name of the "
        "checkpoint, and use another one until then."
    )
