"""`report.html`: one page that needs nothing else, with figures, plots, data report, config and mistakes."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from kerasllm.evaluation.evaluator import Evaluation, Mistake
from kerasllm.evaluation.plots import MAX_CLASSES, confusion_svg, history_svg, reliability_svg
from kerasllm.evaluation.table import FIGURES, visible
from kerasllm.resources.atomic import atomic_write

__all__ = ["write_report"]

_TEMPLATE = "report.html.jinja"
_NUM_CONFUSIONS = 10
_MAX_TEXT = 600


def write_report(
    path: str | os.PathLike[str],
    *,
    title: str,
    evaluation: Evaluation | None = None,
    history: Sequence[Mapping[str, float]] = (),
    data_report: Mapping[str, Any] | None = None,
    config: Mapping[str, Any] | None = None,
    training: Mapping[str, str] | None = None,
    examples: Sequence[Mapping[str, Any] | Mistake] | None = None,
) -> Path:
    """Writes a page that opens in any browser, without network and without scripts.

    Labels, texts and settings come from elsewhere; all of them are escaped.

    Args:
        path: HTML file to write; an older one is replaced.
        title: Heading, such as the name of the run.
        evaluation: Figures. Defaults to `None`: the page has none.
        history: The logs of each epoch. Defaults to none.
        data_report: What an audit of the data found, as plain values. Defaults to `None`.
        config: The settings of the run, as plain values. Defaults to `None`.
        training: What is to be said about the training, by name. Defaults to `None`.
        examples: Mistakes to show, with `text`, `target`, `predicted` and `score`. Defaults to `None`: the
            surest mistakes of the evaluation.

    Returns:
        The path.

    Raises:
        ResourceError: If the file cannot be written; an older one stays.
    """
    import jinja2
    import markupsafe

    def plot(svg: str) -> markupsafe.Markup:
        return markupsafe.Markup(svg)  # noqa: S704 - matplotlib escapes its text, and a test sees to it

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["visible"] = visible
    environment.filters["text"] = _text
    page = environment.get_template(_TEMPLATE).render(
        title=title,
        evaluation=evaluation,
        figures=FIGURES,
        training=training or {},
        history_plot=plot(history_svg(history)) if history else None,
        **{name: plot(svg) for name, svg in _plots(evaluation).items()},
        confusions=_confusions(evaluation) if evaluation else [],
        examples=examples if examples is not None else evaluation.mistakes if evaluation else (),
        data_report=data_report,
        config=yaml.safe_dump(_plain(config), sort_keys=False, allow_unicode=True) if config else None,
    )
    atomic_write(path, page)
    return Path(path)


def _plots(evaluation: Evaluation | None) -> dict[str, str]:
    if evaluation is None:
        return {}
    plots = {"reliability_plot": reliability_svg(evaluation.calibration_bins)}
    if evaluation.confusion_matrix is not None and len(evaluation.labels) <= MAX_CLASSES:
        plots["confusion_plot"] = confusion_svg(evaluation.confusion_matrix, evaluation.labels)
    return plots


def _confusions(evaluation: Evaluation) -> list[dict[str, Any]]:
    """Returns which label is most often taken for which other one; of two labels, the plot says it."""
    matrix = evaluation.confusion_matrix
    if matrix is None or len(evaluation.labels) < 3:
        return []
    pairs: list[dict[str, Any]] = [
        {"target": target, "predicted": predicted, "count": count, "share": count / sum(row)}
        for target, row in zip(evaluation.labels, matrix, strict=True)
        for predicted, count in zip(evaluation.labels, row, strict=True)
        if count and target != predicted
    ]
    return sorted(pairs, key=lambda pair: -pair["count"])[:_NUM_CONFUSIONS]


def _text(value: str) -> str:
    """Shortens a text, and shows what is not printable but for line breaks."""
    short = value if len(value) <= _MAX_TEXT else value[:_MAX_TEXT] + "…"
    return "\n".join(visible(line) for line in short.replace("\r\n", "\n").split("\n"))


def _plain(value: Any) -> Any:
    """Turns what YAML has no word for, such as paths, into text."""
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)
