"""The last screen of a command: the figures, where things are, and what to type next."""

import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kerasllm.cli.terminal import printable, write_json

if TYPE_CHECKING:
    from kerasllm.evaluation.evaluator import Evaluation
    from kerasllm.models.presets import Preset
    from kerasllm.serving.exported_model import ExportedModel
    from kerasllm.tasks.text_classification import TextClassifier
    from kerasllm.training.plan import Plan

__all__ = [
    "RunSummary",
    "show_adapted",
    "show_evaluation",
    "show_export",
    "show_plan",
    "show_run",
    "summarize_run",
]

_REST_URL = "http://127.0.0.1:8501"
_EXAMPLE = ("A joy from start to end.", "I left before the end.")


@dataclass(frozen=True)
class RunSummary:
    """What the last screen of a run says.

    Attributes:
        run_directory: Where the run is.
        metrics: Value and, where there is one, lower and upper end of the interval, by name.
        split: Which rows the metrics are of.
        confidence: Confidence level of the intervals.
        num_rows: How many rows they are of.
        kept: Which state of the run was kept.
        seeds: Mean and deviation over several seeds, by name, where there were some.
        export_directory: The exported version, `None` where there was no export.
        pair: Whether an input is two texts.
        warnings: What to know before trusting the figures.
    """

    run_directory: str
    metrics: Mapping[str, Sequence[float]] = field(default_factory=dict)
    split: str = "test"
    confidence: float = 0.95
    num_rows: int | None = None
    kept: str = ""
    seeds: Mapping[str, str] = field(default_factory=dict)
    export_directory: str | None = None
    pair: bool = False
    warnings: Sequence[str] = ()


def summarize_run(classifier: "TextClassifier") -> RunSummary:
    """Collects what the last screen says about a finished run."""
    directory = _shown_path(classifier.run_directory) if classifier.run_directory else ""
    written = _read_metrics(classifier.run_directory)
    metrics: dict[str, Sequence[float]] = {}
    for name in ("accuracy", "macro_f1"):
        if name in written:
            metrics[name] = [written[name], *written.get("intervals", {}).get(name, ())]
    exported = classifier.exported
    return RunSummary(
        run_directory=directory,
        metrics=metrics,
        split=written.get("split", "test"),
        confidence=written.get("confidence", 0.95),
        num_rows=written.get("num_rows"),
        kept=_kept(written),
        seeds=_seeds(classifier),
        export_directory=_shown_path(exported.path) if exported is not None else None,
        pair=classifier.pair,
    )


def show_run(summary: RunSummary) -> None:
    """Prints the last screen of a run: styled on a terminal, plain lines in a pipe."""
    rows = [
        (_metric_name(name, summary), _metric(values, summary)) for name, values in summary.metrics.items()
    ]
    if not rows:
        rows.append(("Figures", "none: the run had neither test nor validation rows"))
    rows.extend(summary.seeds.items())
    if summary.kept:
        rows.append(("Kept", summary.kept))
    rows.append(("Run", summary.run_directory))
    if summary.metrics:
        rows.append(("Report", str(Path(summary.run_directory) / "report.html")))
    rows.append(("Export", summary.export_directory or "none (`export.path` is not set)"))
    rows.extend(("Warning", warning) for warning in summary.warnings)
    _show(rows, next_commands(summary))


def show_adapted(preset: "Preset") -> None:
    """Prints the last screen of a run that made a checkpoint to go on from."""
    model = Path(preset.path)
    figures = _read_metrics(model.parent)
    rows = [
        (f"Validation {name.replace('_', ' ')}", f"{figures[name]:.4g}")
        for name in ("loss", "perplexity", "token_accuracy")
        if name in figures
    ]
    if kept := _kept(figures):
        rows.append(("Kept", kept))
    rows += [("Run", _shown_path(model.parent)), ("Checkpoint", _shown_path(model))]
    path = shlex.quote(_shown_path(model))
    _show(rows, [f"kerasllm finetune text_classification/my_data -s preset={path} -s data.train=FILE"])


def next_commands(summary: RunSummary) -> list[str]:
    """Returns what to type next: predict, and then serve and curl, or export."""
    run = shlex.quote(summary.run_directory)
    texts = _EXAMPLE if summary.pair else _EXAMPLE[:1]
    quoted = " ".join(f'"{text}"' for text in texts)
    commands = [f"kerasllm predict {run} {quoted}"]
    if summary.export_directory is None:
        return [*commands, f"kerasllm export {run} models/{shlex.quote(Path(summary.run_directory).name)}"]
    return commands + _serving_commands(Path(summary.export_directory), pair=summary.pair)


def _serving_commands(version: Path, *, pair: bool) -> list[str]:
    instance: Any = dict(zip(("text", "text_pair"), _EXAMPLE, strict=True)) if pair else _EXAMPLE[0]
    body = json.dumps({"instances": [instance]})
    name = version.parent.name
    return [
        f"kerasllm serve {shlex.quote(str(version.parent))}",
        f"curl -d {shlex.quote(body)} {shlex.quote(f'{_REST_URL}/v1/models/{name}:predict')}",
    ]


def show_export(exported: "ExportedModel") -> None:
    """Prints where an export is, and how to serve it."""
    path = _shown_path(exported.path)
    pair = "text_pair" in str(exported.signatures)
    _show([("Export", path)], _serving_commands(Path(path), pair=pair))


def show_plan(plan: "Plan") -> None:
    """Prints what a run would do."""
    click.echo(printable(str(plan)))


def show_evaluation(evaluation: "Evaluation", *, as_json: bool) -> None:
    """Prints the figures of an evaluation: a table for people, or all of them as JSON."""
    if as_json:
        write_json(evaluation.to_dict())
    else:
        click.echo(printable(str(evaluation)))


def _show(rows: Sequence[tuple[str, str]], commands: Sequence[str]) -> None:
    width = max(len(name) for name, _ in rows) + 2
    lines = [(name.ljust(width), printable(value)) for name, value in rows]
    if not sys.stdout.isatty():
        click.echo("\n".join(name + value for name, value in lines))
        click.echo("\nNext:\n" + "\n".join(f"  {printable(command)}" for command in commands))
        return
    from rich.console import Console
    from rich.text import Text

    console = Console(soft_wrap=True)  # a command that is broken into lines cannot be copied
    console.rule(style="green")
    for name, value in lines:
        console.print(Text.assemble((name, "bold"), value))
    console.print(Text("\nNext", style="bold"))
    for command in commands:
        console.print(Text(f"  {printable(command)}", style="cyan"))


def _metric_name(name: str, summary: RunSummary) -> str:
    readable = {"accuracy": "accuracy", "macro_f1": "macro F1"}.get(name, name.replace("_", " "))
    return f"{summary.split.capitalize()} {readable}"


def _metric(values: Sequence[float], summary: RunSummary) -> str:
    text = f"{values[0]:.3f}"
    if len(values) == 3:
        text += f"  ({summary.confidence:.0%} interval {values[1]:.3f} to {values[2]:.3f}"
        text += f", {summary.num_rows:,} rows)" if summary.num_rows else ")"
    return text


def _kept(written: Mapping[str, Any]) -> str:
    if not written.get("best_step"):
        return ""
    value = written.get("best_value")
    figure = "" if value is None else f": {written['monitor']} {value:.4g}"
    return f"step {written['best_step']:,}, in epoch {written['best_epoch']}{figure}"


def _seeds(classifier: "TextClassifier") -> dict[str, str]:
    """Mean and deviation of what the screen shows of one run."""
    if classifier.seeds is None:
        return {}
    count, split = len(classifier.seeds.figures), classifier.seeds.split
    shown = {}
    for name in ("accuracy", "macro_f1"):
        mean, deviation = classifier.seeds.means[name]
        title = f"{split.capitalize()} {name.replace('_f1', ' F1')}"
        shown[f"{title}, {count} seeds"] = f"{mean:.3f} ± {deviation:.3f} (standard deviation)"
    return {**shown, "Best seed": str(classifier.seeds.best_seed)}


def _read_metrics(run_directory: Path | None) -> dict[str, Any]:
    file = run_directory / "metrics.json" if run_directory else None
    if file is None or not file.is_file():
        return {}
    return json.loads(file.read_text(encoding="utf-8"))


def _shown_path(path: Path) -> str:
    """The path as one would type it here."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
