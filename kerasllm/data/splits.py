"""Splits training rows from held-out rows: seeded, stratified, equal texts on one side."""

import hashlib
from collections import defaultdict
from typing import Any

from kerasllm.data.labels import label_counts
from kerasllm.data.problems import plural, quote
from kerasllm.data.records import Records
from kerasllm.errors import DataError, LabelError

# A label with as many rows has different texts; to compare them all would only take time.
_MANY_ROWS = 1_000


def split_records(
    records: Records, fraction: float, *, stratify: bool = True, seed: int = 0
) -> tuple[Records, Records]:
    """Splits rows in two, keeping the share of each label.

    Rows with the same text always land on the same side, also where only case or white space differ,
    so that no text is both learned and evaluated. Which side that is depends on the text and the seed
    alone: rows that are added later leave the others nearly where they were.

    Args:
        records: Rows.
        fraction: Share of the rows for the second part, between 0 and 1.
        stratify: Whether each label keeps its share, and has at least one row on both sides. A
            multi-label row counts for the rarest of its labels. Defaults to `True`.
        seed: Same seed and rows, same split. Defaults to `0`.

    Returns:
        The larger and the smaller part, each in the order of the rows.

    Raises:
        DataError: If the fraction is none, or a part would be empty.
        LabelError: If a label has fewer than two different texts.

    Example:
    >>> train, validation = split_records(reviews, 0.2)
    >>> train.num_rows, validation.num_rows
    (80, 20)
    """
    if not 0 < fraction < 1:
        raise DataError(f"A split needs a fraction between 0 and 1, not {fraction}.")
    stratify = stratify and records.has_labels
    if stratify:
        check_splittable(records, num_parts=2)
    groups = _groups(records)
    strata: dict[Any, list[list[int]]] = defaultdict(list)
    names = _strata(records) if stratify else [None] * records.num_rows
    ordered = sorted(groups, key=lambda key: hashlib.blake2b(f"{seed}\0{key}".encode()).digest())
    for key in ordered:
        strata[names[groups[key][0]]].append(groups[key])
    held_out: set[int] = set()
    for stratum in strata.values():
        held_out.update(_choose(stratum, fraction))
    if not held_out:
        raise DataError(
            f"`{records.source}` cannot be split: a share of {fraction:g} of "
            f"{plural(records.num_rows, 'row')} with different texts is no row. "
            "Give more rows, a larger share, or files."
        )
    rows = range(records.num_rows)
    return (
        records.take([row for row in rows if row not in held_out]),
        records.take([row for row in rows if row in held_out]),
    )


def check_splittable(records: Records, *, num_parts: int) -> None:
    """Checks that each label has enough different texts to have one in every part.

    Multi-label rows are not checked: their rare labels go where their rows go.

    Raises:
        LabelError: If one has not; lists them.
    """
    if records.multi_label or not records.has_labels:
        return
    counts = label_counts(records)
    labels: list[str] = records.labels or []
    few = [row for row, label in enumerate(labels) if counts[label] < _MANY_ROWS]
    texts: dict[str, set[str]] = defaultdict(set)
    for row, key in zip(few, normalised_keys(records.take(few)), strict=True):
        texts[labels[row]].add(key)
    rare = sorted(
        (name for name, keys in texts.items() if len(keys) < num_parts), key=lambda n: len(texts[n])
    )
    if rare:
        listed = ", ".join(f"{quote(name)} ({plural(counts[name], 'row')})" for name in rare[:5])
        more = f" and {len(rare) - 5:,} more" if len(rare) > 5 else ""
        raise LabelError(
            f"`{records.source}` has labels with fewer than {num_parts} different texts: {listed}{more}. "
            f"A split that keeps the share of each label needs {num_parts}. Add rows, leave the label out "
            "with `labels=[…]` and `other_labels='drop'`, or give validation and test as files."
        )


def _strata(records: Records) -> list[Any]:
    labels: list[Any] = records.labels or []
    if not records.multi_label:
        return labels
    counts = label_counts(records)
    return [min(names, key=lambda name: (counts[name], name), default=None) for names in labels]


def _choose(groups: list[list[int]], fraction: float) -> list[int]:
    """Takes groups in their order until the share is reached, but neither none nor all of them."""
    if len(groups) < 2:
        return []
    total = sum(len(group) for group in groups)
    wanted = min(max(1, round(fraction * total)), total - 1)
    chosen: list[int] = []
    for group in groups:
        if len(chosen) + len(group) <= wanted:
            chosen.extend(group)
    # Where every group is larger than the share, the smallest is nearest to it.
    return chosen or min(groups, key=len)


def _groups(records: Records) -> dict[str, list[int]]:
    groups: dict[str, list[int]] = defaultdict(list)
    for row, key in enumerate(normalised_keys(records)):
        groups[key].append(row)
    return groups


def normalised_keys(records: Records) -> list[str]:
    """What is left of a row's texts without case and runs of white space."""
    return ["\0".join(" ".join(text.casefold().split()) for text in key) for key in records.keys]
