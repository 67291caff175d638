"""The audit's findings, as text for people and as plain values for the run directory."""

from dataclasses import dataclass
from typing import Any

from kerasllm.data.problems import printable

_MAX_LABELS = 20
_BAR_WIDTH = 24


@dataclass(frozen=True)
class DataReport:
    """What an audit found; `str()` is the report to read.

    Attributes:
        splits: Facts by part: rows, labels, lengths, duplicates, suspicious characters …
        leaks: Texts that two parts share.
        warnings: What is worth a look, in sentences.
        problems: What makes training impossible, in sentences.
    """

    splits: dict[str, dict[str, Any]]
    leaks: list[dict[str, Any]]
    warnings: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether one can train on these rows."""
        return not self.problems

    def to_dict(self) -> dict[str, Any]:
        """Gives plain values, for JSON."""
        return {
            "splits": self.splits,
            "leaks": self.leaks,
            "warnings": list(self.warnings),
            "problems": list(self.problems),
        }

    def __str__(self) -> str:
        lines: list[str] = []
        for name, facts in self.splits.items():
            lines.extend(_split_lines(name, facts))
        lines.extend(f"✘ {problem}" for problem in self.problems)
        lines.extend(f"⚠ {warning}" for warning in self.warnings)
        if not self.problems and not self.warnings:
            lines.append("✔ nothing suspicious")
        return "\n".join(lines)


def _split_lines(name: str, facts: dict[str, Any]) -> list[str]:
    lines = [f"{name}: {facts['num_rows']:,} rows of {facts['source']}"]
    if facts["labels"]:
        lines.extend(_label_lines(facts["labels"], facts["num_rows"]))
    if facts["characters"]:
        lines.append("  characters   " + _lengths_shown(facts["characters"]))
    tokens = facts["tokens"]
    if tokens:
        lines.append("  tokens       " + _lengths_shown(tokens["lengths"]))
        if tokens["truncated_share"] is not None:
            lines.append(
                f"  truncated    {tokens['truncated_share']:.1%} of rows at "
                f"{tokens['sequence_length']} tokens"
            )
        if tokens["unknown_share"] is not None:
            lines.append(f"  unknown      {tokens['unknown_share']:.2%} of tokens")
    lines.append(
        f"  duplicates   {facts['duplicates']['num_rows']:,} rows, of which texts with different labels: "
        f"{facts['conflicts']['num_texts']:,}"
    )
    lines.append(f"  empty        {facts['empty']['num_rows']:,} rows")
    suspicious = [f"{found['num_rows']:,} rows with {kind}" for kind, found in facts["suspicious"].items()]
    lines.append(f"  suspicious   {', '.join(suspicious) or 'none'}")
    return lines


def _label_lines(labels: dict[str, int], num_rows: int) -> list[str]:
    shown = sorted(labels.items(), key=lambda item: -item[1])[:_MAX_LABELS]
    width = min(max(len(printable(name)) for name, _ in shown), 30)
    most = max(labels.values())
    lines = []
    for name, count in shown:
        bar = "█" * max(1, round(_BAR_WIDTH * count / most))
        lines.append(f"  {printable(name)[:30]:<{width}}  {count:>9,}  {count / num_rows:>6.1%}  {bar}")
    if len(labels) > _MAX_LABELS:
        lines.append(f"  … and {len(labels) - _MAX_LABELS:,} labels more")
    return lines


def _lengths_shown(lengths: dict[str, float]) -> str:
    named = "  ".join(f"{name} {value:,.0f}" for name, value in lengths.items())
    return named
