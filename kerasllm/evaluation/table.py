"""An evaluation as plain text: the figures, and a line a label."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kerasllm.evaluation.evaluator import Evaluation

__all__ = ["FIGURES", "format_table", "visible"]

FIGURES = {
    "accuracy": "accuracy",
    "macro_f1": "macro F1",
    "weighted_f1": "weighted F1",
    "micro_f1": "micro F1",
    "log_loss": "log loss",
    "brier_score": "Brier score",
    "calibration_error": "calibration error",
}
_MAX_LABELS = 50
_MAX_WIDTH = 30


def format_table(evaluation: "Evaluation") -> str:
    """Returns the figures of an evaluation, a line each, and a table with a line a label."""
    lines = [f"{evaluation.num_rows:,} rows, {len(evaluation.labels)} labels"]
    for name, title in FIGURES.items():
        if name == "micro_f1" and not evaluation.multi_label:
            continue  # it is the accuracy
        line = f"  {title:<18}{getattr(evaluation, name):>7.3f}"
        if name in evaluation.intervals:
            low, high = evaluation.intervals[name]
            line += f"   {100 * evaluation.confidence:g} % interval {low:.3f} to {high:.3f}"
        lines.append(line)
    shown = list(evaluation.per_label.items())[:_MAX_LABELS]
    names = [_short(name) for name, _ in shown]
    width = max(len("label"), *map(len, names))
    lines += ["", f"  {'label':<{width}}  precision  recall     f1  support"]
    for name, (_, row) in zip(names, shown, strict=True):
        figures = f"{row['precision']:>9.3f}  {row['recall']:>6.3f}  {row['f1']:>5.3f}  {row['support']:>7,}"
        lines.append(f"  {name:<{width}}  {figures}")
    if len(evaluation.per_label) > _MAX_LABELS:
        lines.append(f"  … and {len(evaluation.per_label) - _MAX_LABELS:,} labels more")
    return "\n".join(lines)


def visible(text: str) -> str:
    """Escapes what a terminal or a browser would obey instead of showing.

    Example:
    >>> visible("red\\x1b[31m")
    'red\\\\x1b[31m'
    """
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )


def _short(name: str) -> str:
    name = visible(name)
    return name if len(name) <= _MAX_WIDTH else name[: _MAX_WIDTH - 1] + "…"
