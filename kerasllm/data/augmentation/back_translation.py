"""New training texts by way of another language, made once before training."""

from collections.abc import Callable
from typing import Any

import numpy as np

from kerasllm.data.reading import read_records
from kerasllm.data.records import Origin, Records
from kerasllm.data.splits import normalised_keys
from kerasllm.errors import DataError

__all__ = ["back_translate"]


def back_translate(data: Any, there: Any, back: Any, *, batch_size: int = 256) -> Records:
    """Translates texts to another language and back (Sennrich et al., 2016), and keeps their labels.

    What comes back as it was, case and white space aside, or twice, or empty, is left out. Train on both:
    `Records.concatenate([records, back_translate(records, ...)])`.

    Args:
        data: Records, or anything that `finetune` takes as training data.
        there: Translates into the other language: a task model, or any object with `predict(texts)`, or a
            function. It returns one result a text: a string, or something with a `text`.
        back: The same, for the way back.
        batch_size: Texts of one call. Defaults to 256.

    Returns:
        New rows, with the labels of those that they were made of. `where(row)` says which these were, and
        that they were translated back.

    Raises:
        DataError: If a translator gives another number of results than it got texts, or no texts.

    Example:
    >>> new = back_translate("reviews.csv", to_german, to_english)
    >>> new.where(0)
    'reviews.csv, translated and back, line 2'
    """
    records = read_records(data)
    columns = [records.texts, *([records.text_pairs] if records.text_pairs is not None else [])]
    translated = [_there_and_back(column, there, back, batch_size) for column in columns]
    new = records
    for name, column in zip(("text", "text_pair"), translated, strict=False):
        new = new.with_column(name, column)
    known, kept = set(normalised_keys(records)), []
    for number, (row, key) in enumerate(
        zip(zip(*translated, strict=True), normalised_keys(new), strict=True)
    ):
        if all(text.strip() for text in row) and key not in known:
            known.add(key)
            kept.append(number)
    origins = tuple(
        Origin(f"{origin.name}, translated and back,", _unit(origin)) for origin in records.origins
    )
    new = Records(new.table, origins, records.origin_ids, records.positions, records.notes)
    return new.take(np.asarray(kept, np.int64))


def _there_and_back(texts: list[str], there: Any, back: Any, batch_size: int) -> list[str]:
    found: list[str] = []
    for start in range(0, len(texts), batch_size):
        batch = texts[start : start + batch_size]
        for translator, name in ((there, "there"), (back, "back")):
            batch = _texts(_predict(translator, name)(batch), len(batch), name)
        found += batch
    return found


def _predict(translator: Any, name: str) -> Callable[[list[str]], Any]:
    predict = getattr(translator, "predict", translator)
    if not callable(predict):
        raise DataError(
            f"`{name}` is a {type(translator).__name__}, expected a task model, an object with "
            "`predict(texts)`, or a function from texts to texts."
        )
    return predict  # type: ignore[no-any-return]


def _texts(results: Any, count: int, name: str) -> list[str]:
    found = [_text(result, name) for result in results]
    if len(found) != count:
        raise DataError(
            f"`{name}` gave {len(found)} results for {count} texts, expected one for each, in their order."
        )
    return found


def _text(result: Any, name: str) -> str:
    text = result.get("text") if isinstance(result, dict) else getattr(result, "text", result)
    if not isinstance(text, str):
        raise DataError(
            f"`{name}` gave a {type(result).__name__} ({str(result)[:40]!r}), expected a string, or "
            "something with a `text`."
        )
    return text


def _unit(origin: Origin) -> Any:
    # An item is shown as `data[3]`, which a longer name would not fit.
    return "row" if origin.unit == "item" else origin.unit
