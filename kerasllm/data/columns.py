"""Which column is the text, which the second text, and which the label."""

import difflib
import shlex
from collections.abc import Collection, Mapping, Sequence

from kerasllm.errors import ColumnError

ROLES = ("text", "text_pair", "label")

# Names by which a column is recognised, where only one column has such a name. Compared without case.
_TEXT_NAMES = frozenset(
    {"text", "sentence", "review", "document", "content", "message", "body", "comment", "tweet"}
    | {"utterance", "query", "question", "review_text", "reviewtext", "review_body"}
)
_LABEL_NAMES = frozenset(
    {"label", "labels", "category", "class", "target", "sentiment", "intent", "topic", "label_text"}
)
_PAIR_NAMES = (
    ("text", "text_pair"),
    ("sentence1", "sentence2"),
    ("text1", "text2"),
    ("text_a", "text_b"),
    ("sentence_a", "sentence_b"),
    ("question1", "question2"),
    ("premise", "hypothesis"),
)


def map_columns(
    names: Sequence[str],
    *,
    columns: Mapping[str, str] | None = None,
    usual: Mapping[str, str] | None = None,
    task: str = "text_classification",
    require_label: bool = True,
    source: str = "data",
) -> dict[str, str]:
    """Finds the column of each role: as told, as usual, or by name where only one reading fits.

    Args:
        names: Columns that there are.
        columns: Column of `text`, `text_pair` and `label`, as far as told. Defaults to none.
        usual: The same, for roles that were not told and where there is such a column. Defaults to none.
        task: For messages. Defaults to text classification.
        require_label: Whether there must be a label. Defaults to `True`.
        source: How messages call the data.

    Returns:
        Column by role: `text`, `text_pair` if there is one, `label` if there is one.

    Raises:
        ColumnError: If a column is missing, or more than one reading fits; with a mapping to copy.

    Example:
    >>> map_columns(["id", "review", "category"])
    {'text': 'review', 'label': 'category'}
    """
    told = dict(columns or {})
    _check_told(told, names, source)
    found = dict(told)
    for role, column in (usual or {}).items():
        if column in names and column not in found.values():
            found.setdefault(role, column)
    for role, column in _recognise(names, taken=set(found.values()), roles=set(found)).items():
        found.setdefault(role, column)
    wanted = [role for role in ROLES if role == "text" or (role == "label" and require_label)]
    if not found.keys() >= set(wanted):
        raise ColumnError(_missing(names, wanted, told, found, task, source))
    return {role: found[role] for role in ROLES if role in found}


def _check_told(told: dict[str, str], names: Sequence[str], source: str) -> None:
    for role in told:
        if role not in ROLES:
            close = difflib.get_close_matches(role, ROLES, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise ColumnError(f"`columns` has the key {role!r}, but the keys are {list(ROLES)}.{hint}")
    absent = {role: column for role, column in told.items() if column not in names}
    if absent:
        raise ColumnError(_absent(absent, names, taken=set(told.values()), source=source))
    twice = sorted({column for column in told.values() if list(told.values()).count(column) > 1})
    if twice:
        roles = sorted(role for role, column in told.items() if column == twice[0])
        raise ColumnError(f"`columns` maps {roles} to the same column {twice[0]!r}; each needs its own.")


def _absent(absent: Mapping[str, str], names: Sequence[str], *, taken: Collection[str], source: str) -> str:
    left = [name for name in names if name and name not in taken]
    recognised = _recognise(left, taken=set(), roles=set())
    examples: dict[str, str] = {}
    for role, column in absent.items():
        close = difflib.get_close_matches(column, left, n=1) or [recognised.get(role, "")]
        others = left[-1:] if role == "label" else left[:1]
        examples[role] = close[0] if close[0] in left else (others or ["COLUMN"])[0]
        left = [name for name in left if name != examples[role]]
    wanted = " and ".join(f"no column {column!r} for `{role}`" for role, column in absent.items())
    return f"`{source}` has {wanted}; it has {_listed(names)}. Map them, e.g. {_examples(examples)}."


def _recognise(names: Sequence[str], *, taken: set[str], roles: set[str]) -> dict[str, str]:
    free = [name for name in names if name not in taken]
    found: dict[str, str] = {}
    label = _only(free, _LABEL_NAMES, canonical="label")
    if label is not None:
        found["label"] = label
    if "text" in roles:
        if "text_pair" in free:
            found["text_pair"] = "text_pair"
        return found
    if "text_pair" not in roles:
        lower = {name.lower(): name for name in free}
        pairs = [pair for pair in _PAIR_NAMES if pair[0] in lower and pair[1] in lower]
        if len(pairs) == 1:
            return found | {"text": lower[pairs[0][0]], "text_pair": lower[pairs[0][1]]}
    text = _only(free, _TEXT_NAMES, canonical="text")
    if text is None and len(names) == 1 and label is None:
        text = free[0] if free else None
    return found if text is None else found | {"text": text}


def _only(names: Sequence[str], known: Collection[str], *, canonical: str) -> str | None:
    """The one column with a known name; the name of the role itself wins over others."""
    if canonical in names:
        return canonical
    matches = [name for name in names if name.strip().lower() in known]
    return matches[0] if len(matches) == 1 else None


def _missing(
    names: Sequence[str],
    wanted: list[str],
    told: dict[str, str],
    found: dict[str, str],
    task: str,
    source: str,
) -> str:
    missing = [role for role in wanted if role not in found]
    left = [name for name in names if name and name not in found.values()]
    examples = dict(told)
    for role in missing:
        close = difflib.get_close_matches(role, left, n=1, cutoff=0.5)
        candidates = close or (left[-1:] if role == "label" else left[:1]) or ["COLUMN"]
        examples[role] = candidates[0]
        left = [name for name in left if name != examples[role]]
    known = _LABEL_NAMES if missing == ["label"] else _TEXT_NAMES
    matches = [name for name in names if name.strip().lower() in known]
    several = f" Several could be meant: {matches}." if len(matches) > 1 else ""
    return (
        f"`{source}` needs the columns {sorted(wanted)} for the task `{task}`, but has "
        f"{_listed(names)}.{several} Rename them or map them, e.g. {_examples(examples)}."
    )


def _examples(examples: Mapping[str, str]) -> str:
    python = ", ".join(f"{role!r}: {_shown(column)!r}" for role, column in examples.items())
    shell = " ".join(_setting(role, column) for role, column in examples.items())
    return f"`columns={{{python}}}` or `{shell}`"


def _setting(role: str, column: str) -> str:
    return f"-s data.columns.{role}={shlex.quote(_shown(column))}"


def _shown(column: str) -> str:
    """A column to copy; one that is long, or that a terminal would obey, is left for the user to write."""
    return column if column.isprintable() and len(column) <= 40 else "COLUMN"


def _listed(names: Sequence[str]) -> str:
    shown = [name if len(name) <= 40 else name[:39] + "…" for name in sorted(names)[:20]]
    return f"{shown}" + (f" and {len(names) - 20:,} more" if len(names) > 20 else "")
