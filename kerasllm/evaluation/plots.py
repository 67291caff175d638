"""The report's plots as inline SVG. Matplotlib without `pyplot`: no global state, no window, no leak."""

import io
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kerasllm.evaluation.table import visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["confusion_svg", "history_svg", "reliability_svg"]

_BLUE, _ORANGE, _GREY = "#2563eb", "#d97706", "#9ca3af"
_COLOURS = (_BLUE, _ORANGE, "#059669", "#7c3aed", "#db2777", _GREY)
_TEXT_SETTINGS = {
    "svg.fonttype": "none",  # text stays text: small, searchable, and in the reader's own fonts
    "svg.hashsalt": "kerasllm",  # the same plot is the same bytes
    "font.family": "sans-serif",
    "axes.spines.top": False,
    "axes.spines.right": False,
}
_NOT_CURVES = {"epoch", "learning_rate", "lr", "seconds"}
MAX_CLASSES = 40
_MAX_NUMBERED = 16


def history_svg(history: Sequence[Mapping[str, float]]) -> str:
    """Draws the losses on the left and the other metrics of each epoch on the right."""
    with _settings():
        figure = _figure(9.0, 3.2)
        left, right = figure.subplots(1, 2)
        names = list(dict.fromkeys(name for logs in history for name in logs if name not in _NOT_CURVES))
        losses = [name for name in names if name.endswith("loss")]
        _curves(left, history, losses, "loss")
        _curves(right, history, [name for name in names if name not in losses], "metrics")
        return _svg(figure)


def _curves(axes: "Axes", history: Sequence[Mapping[str, float]], names: Sequence[str], title: str) -> None:
    bases = list(dict.fromkeys(name.removeprefix("val_") for name in names))
    for name in names:
        values = [logs.get(name, np.nan) for logs in history]
        colour = _COLOURS[bases.index(name.removeprefix("val_")) % len(_COLOURS)]
        line, filling = ("o-", colour) if name.startswith("val_") else ("o--", "white")
        (drawn,) = axes.plot(range(1, len(values) + 1), values, line, color=colour, label=_plain(name))
        drawn.set(markersize=4, markerfacecolor=filling, clip_on=False)
    axes.set_title(title, loc="left", fontsize=10)
    axes.set_xlabel("epoch")
    axes.set_xticks(_ticks(len(history)))
    axes.grid(axis="y", color="#e5e7eb", linewidth=0.6)
    axes.set_axisbelow(True)
    if names:
        axes.legend(fontsize=8, frameon=False)


def _ticks(epochs: int) -> list[int]:
    return sorted({1 + round(i * (epochs - 1) / max(1, min(epochs, 8) - 1)) for i in range(min(epochs, 8))})


def confusion_svg(confusion: Sequence[Sequence[int]], labels: Sequence[str]) -> str:
    """Draws a confusion matrix; colour is the share of the row, numbers are counts.

    Args:
        confusion: Counts by true label (row) and predicted label (column).
        labels: Their names; at most `MAX_CLASSES` can be read.
    """
    counts = np.asarray(confusion)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    size = min(9.0, 2.6 + 0.45 * len(labels))
    with _settings():
        figure = _figure(size + 0.8, size)
        axes = figure.subplots()
        # Not `imshow`, which would put a bitmap into the page.
        axes.pcolormesh(share, cmap="Blues", vmin=0, vmax=1, edgecolors="white", linewidth=0.5)
        axes.set_aspect("equal")
        axes.invert_yaxis()
        names = [_short(label) for label in labels]
        font = 9 if len(labels) <= _MAX_NUMBERED else 6
        ticks = np.arange(len(labels)) + 0.5
        axes.set_xticks(ticks, names, rotation=45, ha="right", fontsize=font, parse_math=False)
        axes.set_yticks(ticks, names, fontsize=font, parse_math=False)
        axes.set_xlabel("predicted label")
        axes.set_ylabel("true label")
        if len(labels) <= _MAX_NUMBERED:
            for (row, column), value in np.ndenumerate(counts):
                colour = "white" if share[row, column] > 0.55 else "#111827"
                axes.text(
                    column + 0.5, row + 0.5, f"{value:,}", ha="center", va="center", fontsize=8, color=colour
                )
        return _svg(figure)


def reliability_svg(bins: Sequence[Mapping[str, float]]) -> str:
    """Draws how often decisions were right against how sure the model was; the diagonal is calibrated."""
    with _settings():
        figure = _figure(4.6, 4.4)
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
        upper.plot([0, 1], [0, 1], color=_GREY, linewidth=1, linestyle="--")
        sure = [each["confidence"] for each in bins]
        upper.plot(sure, [each["frequency"] for each in bins], "o-", color=_BLUE, markersize=4, linewidth=1)
        upper.set_ylabel("share that is right")
        upper.set_xlim(0, 1)
        upper.set_ylim(0, 1)
        lower.bar(
            [each["lower"] for each in bins],
            [each["count"] for each in bins],
            width=[each["upper"] - each["lower"] for each in bins],
            align="edge",
            color=_BLUE,
            alpha=0.35,
        )
        lower.set_ylabel("decisions")
        lower.set_xlabel("confidence")
        return _svg(figure)


def _settings() -> Any:
    import matplotlib

    return matplotlib.rc_context(_TEXT_SETTINGS)


def _figure(width: float, height: float) -> "Figure":
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _svg(figure: "Figure") -> str:
    """Renders without the XML declaration, so that it can stand in a page."""
    buffer = io.StringIO()
    with warnings.catch_warnings():
        # Labels in scripts that matplotlib's own font lacks are drawn by the browser in its fonts.
        warnings.filterwarnings("ignore", message=".*[Gg]lyph.*", category=UserWarning)
        figure.savefig(buffer, format="svg", metadata={"Date": None}, transparent=True)
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def _plain(name: str) -> str:
    """Without what matplotlib reads as mathematics or as a name to leave out of the legend."""
    return visible(name).replace("$", r"\$").lstrip("_")


def _short(label: str) -> str:
    label = visible(label)
    return label if len(label) <= 24 else label[:23] + "…"
