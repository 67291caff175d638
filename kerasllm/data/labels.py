"""Label names and their numbers: stable, whatever the order or the kind of the source's rows."""

import difflib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kerasllm.data.problems import NUM_EXAMPLES, plural, quote
from kerasllm.data.records import Records
from kerasllm.errors import LabelError

_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,17})")


@dataclass(frozen=True)
class LabelMap:
    """The classes in the order of their numbers.

    Attributes:
        names: Name of class 0, 1, 2 …
        multi_label: Whether a text has any number of them instead of exactly one.
    """

    names: tuple[str, ...]
    multi_label: bool = False

    @classmethod
    def fit(cls, records: Records, *, names: Sequence[str] | None = None) -> "LabelMap":
        """Finds the classes of training rows: in numeric order where all are integers, else in that of text.

        Args:
            records: Training rows.
            names: The classes in order, where they were told. Defaults to those found.

        Raises:
            LabelError: If there are fewer than two classes, or other labels than those told.
        """
        counts = label_counts(records)
        found = sorted_names(counts)
        if names is None:
            _check_minus_one(found, counts, records)
        else:
            _check_known(counts, names, records)
        if len(found) < 2 and not (records.multi_label and len(found) == 1):
            raise LabelError(_one_class(found, records))
        if records.multi_label and len({frozenset(labels) for labels in records.labels or ()}) < 2:
            raise LabelError(
                f"All {plural(records.num_rows, 'row')} of `{records.source}` have the same labels "
                f"{found[:5]}; there is nothing to tell apart."
            )
        return cls(tuple(found if names is None else names), records.multi_label)

    def encode(self, records: Records) -> np.ndarray:
        """Turns labels into targets.

        Args:
            records: Rows with labels of this map.

        Returns:
            `int32[n]` class numbers, or for multi-label `float32[n, classes]` of zeros and ones.

        Raises:
            LabelError: If a label is unknown; names it, how often, and where.
        """
        if not records.has_labels:
            raise LabelError(f"`{records.source}` has no labels, which are needed here.")
        if records.num_rows and records.multi_label != self.multi_label:
            expected = "a list of labels" if self.multi_label else "one label"
            raise LabelError(
                f"`{records.where(0)}`: expected {expected} in every row, as in the training data."
            )
        numbers = {name: number for number, name in enumerate(self.names)}
        labels: list[Any] = records.labels or []
        _check_known(label_counts(records), self.names, records)
        if not self.multi_label:
            return np.array([numbers[label] for label in labels], np.int32)
        targets = np.zeros((len(labels), len(self.names)), np.float32)
        for row, names in enumerate(labels):
            targets[row, [numbers[name] for name in names]] = 1.0
        return targets

    def to_dict(self) -> dict[str, Any]:
        """Gives plain values, for JSON."""
        return {"names": list(self.names), "multi_label": self.multi_label}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "LabelMap":
        """Makes the map that `to_dict` gave."""
        return cls(tuple(values["names"]), bool(values["multi_label"]))


def label_counts(records: Records) -> Counter[str]:
    """Counts the rows of each label."""
    labels = records.labels or []
    if records.multi_label:
        return Counter(name for names in labels for name in names)
    return Counter(labels)


def sorted_names(names: Any) -> list[str]:
    """Sorts integers as numbers, and everything else as text."""
    if all(_INTEGER.fullmatch(name) for name in names):
        return sorted(names, key=int)
    return sorted(names)


def select_labels(
    records: Records, labels: Sequence[str] | Mapping[str, str] | None, *, other_labels: str = "error"
) -> tuple[Records, list[str] | None, int]:
    """Applies the labels of a config: a selection in order, or a map from raw values to names.

    Args:
        records: Rows with labels.
        labels: Names to use, or name by raw value; several values may share a name. `None` for all.
        other_labels: `"error"`, or `"drop"` for rows whose label is another. Of multi-label rows, the
            other labels are dropped and the row stays.

    Returns:
        The rows left, the classes in order (`None` where none were told), and how many were dropped.

    Raises:
        LabelError: If there are other labels, and they are not to be dropped.
    """
    if labels is None:
        return records, None, 0
    renamed = dict(labels) if isinstance(labels, Mapping) else {name: name for name in labels}
    names = list(dict.fromkeys(renamed.values()))
    if other_labels == "error":
        _check_known(label_counts(records), list(renamed), records)
    values: list[Any] = records.labels or []
    if records.multi_label:
        kept = [list(dict.fromkeys(renamed[name] for name in row if name in renamed)) for row in values]
        dropped = sum(name not in renamed for row in values for name in row)
        return records.with_column("label", kept), names, dropped
    rows = [row for row, value in enumerate(values) if value in renamed]
    if not rows:
        raise LabelError(
            f"No row of `{records.source}` has one of the labels {list(renamed)}; it has "
            f"{sorted_names(set(values))[:10]}."
        )
    left = records.take(rows)
    return left.with_column("label", [renamed[values[row]] for row in rows]), names, len(values) - len(rows)


def check_held_out_labels(train: Records, held_out: Mapping[str, Records], names: Sequence[str]) -> list[str]:
    """Compares the labels of validation and test with those of training.

    Args:
        train: Training rows.
        held_out: Validation and test rows by name.
        names: The classes.

    Returns:
        Warnings about classes that are not evaluated, or not trained.

    Raises:
        LabelError: If a held-out row has a label that no training row has.
    """
    trained = label_counts(train)
    warnings = [f"No training row has the label {quote(name)}." for name in names if name not in trained]
    for split, records in held_out.items():
        counts = label_counts(records)
        unseen = [name for name in sorted_names(counts) if name not in trained]
        if unseen:
            listed = ", ".join(f"{quote(name)} ({plural(counts[name], 'row')})" for name in unseen[:5])
            raise LabelError(
                f"Only the {split} rows (`{records.source}`) have the label {listed}: training has "
                f"{sorted_names(trained)[:10]}. Add training rows with it, or leave those rows out with "
                f"`labels=[…]` and `other_labels='drop'` (`-s data.other_labels=drop`)."
            )
        absent = [quote(name) for name in names if name in trained and name not in counts]
        if absent:
            warnings.append(f"No {split} row has the label {', '.join(absent[:5])}, so it is not evaluated.")
    return warnings


def _check_known(counts: Counter[str], names: Sequence[str], records: Records) -> None:
    others = [name for name in sorted_names(counts) if name not in names]
    if not others:
        return
    listed = ", ".join(
        f"{quote(name)} ({plural(counts[name], 'row')}, e.g. {_where(records, name)})"
        for name in others[:NUM_EXAMPLES]
    )
    more = f" and {len(others) - NUM_EXAMPLES:,} more" if len(others) > NUM_EXAMPLES else ""
    folded = {name.strip().casefold(): name for name in names}
    close = difflib.get_close_matches(others[0].casefold(), list(folded), n=1)
    hint = f" Did you mean {quote(folded[close[0]])}?" if close else ""
    if not close and all(_INTEGER.fullmatch(name) for name in counts):
        pairs = zip(sorted_names(counts), names, strict=False)
        mapping = ", ".join(f"{value!r}: {name!r}" for value, name in pairs)
        hint = f" To name numbers, map them, e.g. `labels={{{mapping}}}`."
    raise LabelError(
        f"`{records.source}` has labels that are not among {list(names)[:10]}: {listed}{more}.{hint} "
        "Mend them in the data; `finetune` can also map them with `labels={…}`, or leave such rows out with "
        "`other_labels='drop'` (`-s data.other_labels=drop`)."
    )


def _check_minus_one(found: list[str], counts: Counter[str], records: Records) -> None:
    """Refuses a single -1 below 0, 1, 2 …: mostly it marks rows that have no label."""
    if found[:2] != ["-1", "0"] or not all(_INTEGER.fullmatch(name) for name in found):
        return
    rest = found[1:]
    raise LabelError(
        f"`{records.source}` has the label -1 ({plural(counts['-1'], 'row')}, e.g. {_where(records, '-1')}) "
        f"beside {rest[:10]}. If it marks rows without a label, leave them out with `labels={rest[:10]}` and "
        f"`other_labels='drop'`; if it is a class, say so with `labels={found[:10]}`."
    )


def _one_class(found: list[str], records: Records) -> str:
    if not found:
        return f"No row of `{records.source}` has a label; a classifier needs at least 2."
    return (
        f"All {plural(records.num_rows, 'row')} of `{records.source}` have the label {quote(found[0])}; "
        "a classifier needs at least 2 labels. Is another column the label?"
    )


def _where(records: Records, name: str) -> str:
    labels: list[Any] = records.labels or []
    row = next(row for row, label in enumerate(labels) if label == name or name in (label or ()))
    return records.where(row)
