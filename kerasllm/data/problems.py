"""Collects what is wrong with one source of rows, to say all of it at once, with lines and examples."""

import reprlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from kerasllm.data.records import Origin
from kerasllm.errors import DataError, KerasLLMError, LabelError

NUM_EXAMPLES = 3
# Messages may end up in logs: they quote little of the data, and nothing that a terminal would obey.
_NUM_QUOTED = 40

_reprlib = reprlib.Repr()
_reprlib.maxstring = _reprlib.maxother = _reprlib.maxlong = _NUM_QUOTED


def quote(value: object) -> str:
    """Shows a value from the data in a message: short, and with control characters escaped."""
    if isinstance(value, str):
        return repr(value) if len(value) <= _NUM_QUOTED else repr(value[: _NUM_QUOTED - 1] + "…")
    try:
        return _reprlib.repr(value)
    except ValueError:  # an integer of more than 4,300 digits cannot be printed
        return f"a {type(value).__name__} too long to print"


def printable(text: str) -> str:
    """Replaces what a terminal would obey, in words that come from elsewhere."""
    return "".join(character if character.isprintable() else "\ufffd" for character in text)


def plural(number: int, noun: str) -> str:
    """Says `1 row`, `2 rows`, `1,200 rows`."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


@dataclass
class _Kind:
    """One kind of problem: how often, and the first places."""

    noun: str
    is_label: bool
    count: int = 0
    examples: list[tuple[int, str]] = field(default_factory=list)


class Problems:
    """What is wrong with one source.

    Args:
        origin: The source, for its name and for what it counts in (lines, rows, items).
    """

    def __init__(self, origin: Origin):
        self.origin = origin
        self.num_bad_rows = 0
        self._whole: list[str] = []
        self._kinds: dict[str, _Kind] = {}
        self._hints: list[str] = []

    def add(
        self, kind: str, position: int, detail: str = "", *, noun: str = "row", is_label: bool = False
    ) -> None:
        """Notes a problem of one row; the caller leaves the row out and counts it in `num_bad_rows`."""
        found = self._kinds.setdefault(kind, _Kind(noun, is_label))
        found.count += 1
        if len(found.examples) < NUM_EXAMPLES:
            found.examples.append((position, detail))

    def add_whole(self, message: str) -> None:
        """Notes a problem of the source as a whole, which leaving rows out cannot mend."""
        self._whole.append(message)

    def hint(self, sentence: str) -> None:
        """Adds a sentence that says what to do, once."""
        if sentence not in self._hints:
            self._hints.append(sentence)

    def check(self, max_bad_rows: int = 0) -> list[str]:
        """Raises one error for everything found, or returns it as warnings where rows may be dropped.

        Raises:
            DataError: If the source as a whole is unusable, or more than `max_bad_rows` rows are bad.
            LabelError: The same, where labels are all that is wrong.
        """
        if not self._whole and not self._kinds:
            return []
        lines = self._whole + [self._line(kind, found) for kind, found in self._kinds.items()]
        if not self._whole and self.num_bad_rows <= max_bad_rows:
            return [f"`{self.origin.name}`: dropped {line}" for line in lines]
        raise self._error(lines, max_bad_rows)

    def _error(self, lines: list[str], max_bad_rows: int) -> DataError:
        remedy = " ".join(self._hints)
        if self.num_bad_rows and not self._whole:
            number = self.num_bad_rows
            them, those = ("it", "that row") if number == 1 else ("them", f"those {number:,} rows")
            allowed = f" (now {max_bad_rows:,})" if max_bad_rows else ""
            remedy += f" Mend {them}, or drop {those} with `max_bad_rows={number}`{allowed} or "
            remedy += f"`-s data.max_bad_rows={number}`."
        labels_only = not self._whole and all(found.is_label for found in self._kinds.values())
        head = f"`{self.origin.name}` cannot be used: " + (lines[0] if len(lines) == 1 else "")
        body = "" if len(lines) == 1 else "".join(f"\n  - {line}" for line in lines) + "\n"
        end = "" if body else " " if lines[0].endswith(".") else ". "
        message = head.rstrip() + body + end + remedy.strip()
        return (LabelError if labels_only else DataError)(message.rstrip())

    def _line(self, kind: str, found: _Kind) -> str:
        return f"{kind} in {plural(found.count, found.noun)} ({self._places(found)})"

    def _places(self, found: _Kind) -> str:
        unit = self.origin.unit
        more = f" and {found.count - NUM_EXAMPLES:,} more" if found.count > NUM_EXAMPLES else ""
        if any(detail for _, detail in found.examples):
            return "; ".join(f"{unit} {at:,}: {detail}" for at, detail in found.examples) + more
        places = ", ".join(f"{at:,}" for at, _ in found.examples) + more
        return f"{unit}{'' if found.count == 1 else 's'} {places}"


def raise_together(errors: Sequence[KerasLLMError]) -> None:
    """Raises the errors of several sources as one; does nothing where there are none.

    Raises:
        KerasLLMError: The only error as it is, or one of their common class with all messages.
    """
    if not errors:
        return
    if len(errors) == 1:
        raise errors[0]
    kinds = {type(error) for error in errors}
    raise (kinds.pop() if len(kinds) == 1 else DataError)("\n".join(str(error) for error in errors))
