"""Looks closely at rows before training: what a careful person would count, counted."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from kerasllm.data.cleaning import empty_rows
from kerasllm.data.findings import label_problems, leak_warnings, split_problems, split_warnings
from kerasllm.data.labels import label_counts, sorted_names
from kerasllm.data.leaks import find_leaks
from kerasllm.data.problems import NUM_EXAMPLES, quote
from kerasllm.data.records import Records
from kerasllm.data.report import DataReport

Encode = Callable[[list[str], list[str] | None], list[list[int]]]

_SWALLOWED_TIMES, _SWALLOWED_LINES = 15, 10
_ENCODE_ROWS = 1024
_UNKNOWN = ("[UNK]", "<unk>")
_PERCENTILES = (50, 90, 95, 99)


def _mojibake() -> list[str]:
    """What common characters become when their UTF-8 is read as cp1252 or Latin-1."""
    common = "äöüßÄÖÜéèêàâçñóíáúôîûëï¿¡…•€™\u00a0\ufeff\u2013\u2014\u2018\u2019\u201c\u201d"
    found = {character.encode().decode("latin-1") for character in common}
    for character in common:
        try:
            found.add(character.encode().decode("cp1252"))
        except UnicodeDecodeError:  # five bytes mean nothing in cp1252
            continue
    return sorted(re.escape(wrong) for wrong in found)


_SUSPICIOUS = {
    "control characters": re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]"),
    "replacement characters (U+FFFD)": re.compile("\ufffd"),
    "mojibake": re.compile("|".join(_mojibake())),
    "HTML entities": re.compile(r"&(?:[a-zA-Z]{2,8}|#[0-9]{2,6});"),
}


def audit(
    records_by_split: Mapping[str, Records],
    *,
    encode: Encode | None = None,
    sequence_length: int | None = None,
    special_ids: Mapping[str, int] | None = None,
) -> DataReport:
    """Counts rows, labels, lengths, duplicates, conflicts, leaks and suspicious characters.

    Args:
        records_by_split: Rows by name: `train`, `validation`, `test`.
        encode: Turns texts (and second texts) into token ids, special tokens included and not truncated.
            Defaults to `None`: tokens are not counted.
        sequence_length: Tokens kept of each text, to say how many rows are truncated.
        special_ids: Ids of the tokens that stand for no text, by their content, such as `[SEP]`; `[UNK]`
            or `<unk>` stands for unknown text.

    Returns:
        The report; nothing is raised for what it finds.

    Example:
    >>> print(audit({"train": read_records("reviews.csv")}))
    train: 1,200 rows of reviews.csv …
    """
    splits: dict[str, dict[str, Any]] = {}
    warnings: list[str] = []
    problems: list[str] = []
    for name, records in records_by_split.items():
        splits[name] = _split_facts(records)
        if encode is not None and records.num_rows:
            splits[name]["tokens"] = token_facts(
                records,
                _encoded(records, encode),
                sequence_length=sequence_length,
                special_ids=special_ids or {},
            )
        warnings.extend(records.notes)
        warnings.extend(split_warnings(name, splits[name]))
        problems.extend(split_problems(name, splits[name]))
    leaks = _leaks(records_by_split)
    warnings.extend(leak_warnings(leaks))
    problems.extend(label_problems(splits))
    return DataReport(splits, leaks, tuple(warnings), tuple(problems))


def _split_facts(records: Records) -> dict[str, Any]:
    texts = records.texts
    empty = empty_rows(records)
    facts: dict[str, Any] = {
        "source": records.source,
        "num_rows": records.num_rows,
        "labels": None,
        "multi_label": records.multi_label,
        "characters": _lengths([len(text) for text in texts]),
        "empty": _found(records, empty),
        "duplicates": _found(records, _duplicates(records)),
        "conflicts": find_conflicts(records),
        "suspicious": _suspicious(records),
        "tokens": None,
    }
    if records.has_labels:
        counts = label_counts(records)
        facts["labels"] = {name: counts[name] for name in sorted_names(counts)}
    return facts


def _found(records: Records, rows: list[int]) -> dict[str, Any]:
    return {"num_rows": len(rows), "examples": [records.where(row) for row in rows[:NUM_EXAMPLES]]}


def _lengths(lengths: list[int]) -> dict[str, float] | None:
    if not lengths:
        return None
    values = np.asarray(lengths)
    percentiles = {f"p{share}": float(np.percentile(values, share)) for share in _PERCENTILES}
    return {"mean": float(values.mean()), **percentiles, "max": float(values.max())}


def _duplicates(records: Records) -> list[int]:
    seen: set[tuple[str, ...]] = set()
    rows = []
    for row, key in enumerate(records.keys):
        if key in seen:
            rows.append(row)
        seen.add(key)
    return rows


def find_conflicts(records: Records) -> dict[str, Any]:
    """Finds texts that have one label here and another there."""
    if not records.has_labels:
        return {"num_texts": 0, "examples": []}
    rows_of: dict[tuple[str, ...], dict[Any, int]] = defaultdict(dict)
    for row, (key, label) in enumerate(zip(records.keys, records.labels or (), strict=True)):
        rows_of[key].setdefault(tuple(sorted(label)) if isinstance(label, list) else label, row)
    conflicts = [labels for labels in rows_of.values() if len(labels) > 1]
    examples = [
        ", ".join(f"{records.where(row)} is {quote(label)}" for label, row in list(labels.items())[:2])
        for labels in conflicts[:NUM_EXAMPLES]
    ]
    return {"num_texts": len(conflicts), "examples": examples}


def _suspicious(records: Records) -> dict[str, dict[str, Any]]:
    found = {}
    for name, pattern in _SUSPICIOUS.items():
        rows = [row for row, key in enumerate(records.keys) if any(pattern.search(text) for text in key)]
        if rows:
            found[name] = _found(records, rows)
    swallowed = _rows_with_swallowed_rows(records.texts)
    if swallowed:
        found["many lines, perhaps other rows that an open quote swallowed"] = _found(records, swallowed)
    return found


def _rows_with_swallowed_rows(texts: list[str]) -> list[int]:
    """Finds texts of many lines among short ones: mostly damage from where the file was made."""
    usual = float(np.median([len(text) for text in texts])) if texts else 0.0
    return [
        row
        for row, text in enumerate(texts)
        if len(text) > _SWALLOWED_TIMES * usual and text.count("\n") >= _SWALLOWED_LINES
    ]


def _encoded(records: Records, encode: Encode) -> Iterator[list[int]]:
    texts, pairs = records.texts, records.text_pairs
    for start in range(0, len(texts), _ENCODE_ROWS):
        rows = slice(start, start + _ENCODE_ROWS)
        yield from encode(texts[rows], None if pairs is None else pairs[rows])


def token_facts(
    records: Records,
    encoded: Iterable[Sequence[int]],
    *,
    sequence_length: int | None,
    special_ids: Mapping[str, int],
) -> dict[str, Any]:
    """Counts tokens, truncated rows, and what the tokenizer does not know.

    Args:
        records: Rows.
        encoded: Token ids of each, special tokens included and not truncated.
        sequence_length: Tokens kept of each text, `None` for all.
        special_ids: As in `audit`.
    """
    unknown_id = next((special_ids[name] for name in _UNKNOWN if name in special_ids), None)
    says_nothing = frozenset(special_ids.values())
    lengths: list[int] = []
    num_unknown = 0
    without_tokens: list[int] = []
    for row, (ids, key) in enumerate(zip(encoded, records.keys, strict=True)):
        if says_nothing.issuperset(ids) and any(text.strip() for text in key):
            without_tokens.append(row)
        lengths.append(len(ids))
        num_unknown += 0 if unknown_id is None else ids.count(unknown_id)
    total = sum(lengths)
    limit = sequence_length
    truncated = None if limit is None else sum(length > limit for length in lengths) / len(lengths)
    return {
        "total": total,
        "lengths": _lengths(lengths),
        "sequence_length": limit,
        "truncated_share": truncated,
        "unknown_share": None if unknown_id is None else num_unknown / max(total, 1),
        "without_tokens": _found(records, without_tokens),
    }


def _leaks(records_by_split: Mapping[str, Records]) -> list[dict[str, Any]]:
    """Texts that two parts share; each part is compared with those after it."""
    names = [name for name, records in records_by_split.items() if records.num_rows]
    found: list[dict[str, Any]] = []
    for at, name in enumerate(names):
        others = {other: records_by_split[other] for other in names[at + 1 :]}
        leaks, _ = find_leaks(records_by_split[name], others)
        found.extend({**leak.to_dict(), "of": name} for leak in leaks)
    return found
