"""Named steps that clean training rows, each with a count of what it did.

Cleaning prepares training rows only. It is not applied to validation and test rows, nor when texts are
predicted or served: those reach the model as they come. So a step is for noise that only the training
data has; what every text has, the model had better learn.
"""

import html
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from kerasllm.data.problems import NUM_EXAMPLES, plural
from kerasllm.data.records import Records
from kerasllm.errors import DataError

# Tab and the line ends are white space that tokenizers know; other control characters are noise.
_CONTROL = {code: None for code in [*range(32), *range(127, 160)] if chr(code) not in "\t\n\r"}


@dataclass(frozen=True)
class StepReport:
    """What one step did.

    Attributes:
        step: Its name.
        num_changed: Rows whose text it changed.
        num_dropped: Rows that it dropped.
        examples: Where the first of those were.
    """

    step: str
    num_changed: int = 0
    num_dropped: int = 0
    examples: tuple[str, ...] = ()

    def __str__(self) -> str:
        verb, number = ("dropped", self.num_dropped) if self.num_dropped else ("changed", self.num_changed)
        where = f" (e.g. {', '.join(self.examples)})" if self.examples else ""
        return f"{self.step}: {verb} {plural(number, 'row')}{where}"


@dataclass(frozen=True)
class CleaningReport:
    """What each step did, in order."""

    steps: tuple[StepReport, ...] = field(default=())

    def to_dict(self) -> list[dict[str, Any]]:
        """Gives plain values, for JSON."""
        return [
            {
                "step": report.step,
                "num_changed": report.num_changed,
                "num_dropped": report.num_dropped,
                "examples": list(report.examples),
            }
            for report in self.steps
        ]

    def __str__(self) -> str:
        return "\n".join(str(report) for report in self.steps) or "no cleaning"


def clean(records: Records, steps: Sequence[str]) -> tuple[Records, CleaningReport]:
    """Runs cleaning steps in the order given.

    Args:
        records: Training rows.
        steps: Names from `STEPS`.

    Returns:
        The cleaned rows, and what each step did.

    Raises:
        DataError: If a step is unknown; lists those that there are.

    Example:
    >>> records, report = clean(records, ["strip", "drop_duplicates"])
    >>> print(report)
    strip: changed 3 rows (e.g. reviews.csv line 2, reviews.csv line 8, reviews.csv line 9)
    drop_duplicates: dropped 1 row (e.g. reviews.csv line 12)
    """
    unknown = [step for step in steps if step not in STEPS]
    if unknown:
        raise DataError(f"{unknown} are no cleaning steps; expected some of {list(STEPS)}.")
    reports = []
    for step in steps:
        records, report = STEPS[step](records)
        reports.append(report)
    return records, CleaningReport(tuple(reports))


def strip(records: Records) -> tuple[Records, StepReport]:
    """Removes white space around texts. Training only: at predict time it reaches the tokenizer."""
    return _change("strip", records, str.strip)


def unicode_nfc(records: Records) -> tuple[Records, StepReport]:
    """Composes characters (`e` + accent to `é`). Training only: predicted texts keep their form."""
    return _change("unicode_nfc", records, lambda text: unicodedata.normalize("NFC", text))


def html_entities(records: Records) -> tuple[Records, StepReport]:
    """Turns `&amp;` into `&`. Training only: entities in predicted texts are tokenized as they are."""
    return _change("html_entities", records, _without_entities)


def control_characters(records: Records) -> tuple[Records, StepReport]:
    """Removes control characters but tab and line ends. Training only, as all steps."""
    return _change("control_characters", records, lambda text: text.translate(_CONTROL))


def drop_empty(records: Records) -> tuple[Records, StepReport]:
    """Drops rows whose text is empty. Training only: an empty text that is predicted gets an answer."""
    empty = set(empty_rows(records))
    return _keep("drop_empty", records, [row not in empty for row in range(records.num_rows)])


def drop_duplicates(records: Records) -> tuple[Records, StepReport]:
    """Keeps the first of rows with equal texts and labels. Training only: every row is evaluated."""
    labels = records.labels or [None] * records.num_rows
    seen = set()
    keep = []
    for key, label in zip(records.keys, labels, strict=True):
        row = (key, tuple(sorted(label)) if isinstance(label, list) else label)
        keep.append(row not in seen)
        seen.add(row)
    return _keep("drop_duplicates", records, keep)


STEPS: dict[str, Callable[[Records], tuple[Records, StepReport]]] = {
    "strip": strip,
    "unicode_nfc": unicode_nfc,
    "html_entities": html_entities,
    "control_characters": control_characters,
    "drop_empty": drop_empty,
    "drop_duplicates": drop_duplicates,
}


# The steps that change texts and keep every row.
TEXT_STEPS = ("strip", "unicode_nfc", "html_entities", "control_characters")


def empty_rows(records: Records) -> list[int]:
    """Finds the rows of which a text is empty or nothing but white space."""
    return [row for row, key in enumerate(records.keys) if not all(text.strip() for text in key)]


def check_no_empty(parts: Sequence[Records], cleaning: Sequence[str]) -> None:
    """Refuses rows without text.

    Args:
        parts: Rows, cleaned.
        cleaning: The steps that were run, for the remedy.

    Raises:
        DataError: If a text is empty; says where.
    """
    places = [part.where(row) for part in parts for row in empty_rows(part)]
    if places:
        shown = ", ".join(places[:NUM_EXAMPLES])
        more = f" and {len(places) - NUM_EXAMPLES:,} more" if len(places) > NUM_EXAMPLES else ""
        steps = [*(step for step in cleaning if step != "drop_empty"), "drop_empty"]
        raise DataError(
            f"Nothing is left of the text after cleaning in {plural(len(places), 'row')} ({shown}{more}). "
            f"Mend them, or drop them with `cleaning={steps}` or `-s 'data.cleaning=[{','.join(steps)}]'`."
        )


def _without_entities(text: str) -> str:
    """Unescapes entities, but none that would make half a character or nothing."""
    if "&" not in text:
        return text
    return html.unescape(text).encode(errors="ignore").decode()


def _change(step: str, records: Records, function: Callable[[str], str]) -> tuple[Records, StepReport]:
    changed: set[int] = set()
    for name in ("text", "text_pair"):
        if name not in records.table.column_names:
            continue
        before = records.table[name].to_pylist()
        after = [function(text) for text in before]
        rows = {row for row, text in enumerate(after) if text != before[row]}
        if rows:
            records = records.with_column(name, after)
            changed |= rows
    examples = tuple(records.where(row) for row in sorted(changed)[:NUM_EXAMPLES])
    return records, StepReport(step, num_changed=len(changed), examples=examples)


def _keep(step: str, records: Records, keep: list[bool]) -> tuple[Records, StepReport]:
    dropped = [row for row, stays in enumerate(keep) if not stays]
    if not dropped:
        return records, StepReport(step)
    examples = tuple(records.where(row) for row in dropped[:NUM_EXAMPLES])
    left = records.take([row for row, stays in enumerate(keep) if stays])
    return left, StepReport(step, num_dropped=len(dropped), examples=examples)
