"""The figures of one config under several seeds: mean and deviation."""

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["SeedFigures"]

_NAMES = ("accuracy", "macro_f1", "weighted_f1", "micro_f1", "log_loss", "brier_score", "calibration_error")


@dataclass(frozen=True)
class SeedFigures:
    """What several runs of one config, which differ in their seed alone, came to.

    The splits are the same in all of them, so that the deviation is that of training: of new weights, order,
    dropout and augmentation.

    Attributes:
        figures: Figures of each run by its seed, on the test rows, or on the validation rows without any.
        split: `"test"` or `"validation"`.
        best_seed: Seed of the run with the best monitored validation figure, which is the one that is kept.
    """

    figures: Mapping[int, Mapping[str, float]]
    split: str
    best_seed: int

    @classmethod
    def of(cls, metrics: Mapping[int, Mapping[str, Any]], *, best_seed: int) -> "SeedFigures":
        """From the `metrics.json` of each run.

        Args:
            metrics: By seed.
            best_seed: Seed of the best run.
        """
        figures = {
            seed: {name: float(values[name]) for name in _NAMES if name in values}
            for seed, values in metrics.items()
        }
        splits = {str(values.get("split", "test")) for values in metrics.values()}
        return cls(figures, splits.pop() if len(splits) == 1 else "test", best_seed)

    @property
    def means(self) -> dict[str, tuple[float, float]]:
        """Mean and standard deviation (with n - 1; 0 of a single run) of each figure."""
        names = next(iter(self.figures.values()), {})
        columns = {name: [values[name] for values in self.figures.values()] for name in names}
        return {
            name: (statistics.fmean(column), statistics.stdev(column) if len(column) > 1 else 0.0)
            for name, column in columns.items()
        }

    def to_dict(self) -> dict[str, Any]:
        """A JSON-able dict."""
        return {
            "split": self.split,
            "best_seed": self.best_seed,
            "seeds": {str(seed): dict(values) for seed, values in self.figures.items()},
            "mean": {name: mean for name, (mean, _) in self.means.items()},
            "standard_deviation": {name: deviation for name, (_, deviation) in self.means.items()},
        }

    def __str__(self) -> str:
        lines = [f"{name:<18} {mean:.4f} ± {spread:.4f}" for name, (mean, spread) in self.means.items()]
        return f"{len(self.figures)} seeds, {self.split} rows\n" + "\n".join(lines)
