"""Texts that are in training and held out, too: found, and removed from training.

Two texts are the same where only case and white space tell them apart, as in splits: to an uncased
model they are.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kerasllm.data.problems import NUM_EXAMPLES, plural
from kerasllm.data.records import Records
from kerasllm.data.splits import normalised_keys
from kerasllm.errors import DataError

# Of the held-out rows: more than that, and the figures say little about new texts.
MAX_LEAKED_SHARE = 0.2


@dataclass(frozen=True)
class Leak:
    """Texts of one held-out part that training has, too.

    Attributes:
        split: Name of the held-out part.
        num_rows: Rows of it whose text is in training, letter for letter.
        num_similar: Further rows whose text is in training but for case and white space.
        num_training_rows: Training rows that are equal, letter for letter or nearly.
        share: `num_rows` and `num_similar` together, as a share of the held-out rows.
        examples: Where the first of them are, on both sides.
    """

    split: str
    num_rows: int
    num_similar: int
    num_training_rows: int
    share: float
    examples: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Gives plain values, for JSON."""
        return {**vars(self), "examples": list(self.examples)}

    def __str__(self) -> str:
        similar = f" and {self.num_similar:,} but for case and white space" if self.num_similar else ""
        return (
            f"{plural(self.num_rows, self.split + ' row')} with a text that is in training, too,{similar} "
            f"({self.share:.1%} of {self.split}; {'; '.join(self.examples)})"
        ).replace(", (", " (")


@dataclass(frozen=True)
class LeakReport:
    """Leaks by held-out part; only those that were found.

    Attributes:
        leaks: What was found.
        num_removed: Training rows that were removed.
    """

    leaks: tuple[Leak, ...] = ()
    num_removed: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Gives plain values, for JSON."""
        return {"leaks": [leak.to_dict() for leak in self.leaks], "num_removed": self.num_removed}

    def __str__(self) -> str:
        if not self.leaks:
            return "no leaks"
        done = (
            f"removed {plural(self.num_removed, 'training row')}" if self.num_removed else "removed nothing"
        )
        return "\n".join([*map(str, self.leaks), done])


def remove_leaks(
    train: Records, held_out: Mapping[str, Records], *, remove: bool = True
) -> tuple[Records, LeakReport]:
    """Removes training rows whose text is also held out, letter for letter or but for case and white space.

    Args:
        train: Training rows.
        held_out: Validation and test rows, by name.
        remove: Whether to remove them, or to report them only. Defaults to `True`.

    Returns:
        The training rows left, and what was found.

    Raises:
        DataError: If no training row is left; or if they are not to be removed, and more than a fifth
            of a held-out part is in training.

    Example:
    >>> train, report = remove_leaks(train, {"test": test})
    >>> print(report)
    1 test row with a text that is in training, too (0.4% of test; test.csv line 7 is reviews.csv line 3)
    removed 1 training row
    """
    leaks, leaked = find_leaks(train, held_out)
    if not remove:
        _check_shares(leaks)
        return train, LeakReport(leaks)
    if train.num_rows and len(leaked) == train.num_rows:
        raise DataError(
            f"Every training row of `{train.source}` is held out, too: {leaks[0]}. "
            "Give other rows for validation and test, or a fraction."
        )
    left = train.take([row for row in range(train.num_rows) if row not in leaked]) if leaked else train
    return left, LeakReport(leaks, len(leaked))


def find_leaks(train: Records, held_out: Mapping[str, Records]) -> tuple[tuple[Leak, ...], set[int]]:
    """Finds leaks, and the numbers of the training rows that are held out, too."""
    rows_of: dict[str, list[int]] = defaultdict(list)
    for row, text in enumerate(normalised_keys(train)):
        rows_of[text].append(row)
    first_row = {key: row for row, key in reversed(list(enumerate(train.keys)))}
    leaks: list[Leak] = []
    leaked: set[int] = set()
    for split, records in held_out.items():
        equal: list[tuple[int, int]] = []
        similar: list[tuple[int, int]] = []
        rows: set[int] = set()
        for row, (key, text) in enumerate(zip(records.keys, normalised_keys(records), strict=True)):
            if text not in rows_of:
                continue
            rows.update(rows_of[text])
            if key in first_row:
                equal.append((row, first_row[key]))
            else:
                similar.append((row, rows_of[text][0]))
        if rows:
            examples = [f"{records.where(row)} is {train.where(twin)}" for row, twin in equal[:NUM_EXAMPLES]]
            examples += [
                f"{records.where(row)} is like {train.where(twin)}" for row, twin in similar[:NUM_EXAMPLES]
            ]
            share = (len(equal) + len(similar)) / records.num_rows
            shown = tuple(examples[:NUM_EXAMPLES])
            leaks.append(Leak(split, len(equal), len(similar), len(rows), share, shown))
            leaked |= rows
    return tuple(leaks), leaked


def _check_shares(leaks: tuple[Leak, ...]) -> None:
    for leak in leaks:
        if leak.share > MAX_LEAKED_SHARE:
            raise DataError(
                f"{leak}. More than {MAX_LEAKED_SHARE:.0%} says little about new texts: "
                "set `remove_leaks=True` (`-s data.remove_leaks=true`), or give other rows."
            )
