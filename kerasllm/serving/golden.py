"""Compares answers with those that were stored when the model was exported."""

import math
from collections.abc import Mapping
from typing import Any

from kerasllm.errors import ServingError

__all__ = ["compare_outputs"]


def compare_outputs(
    expected: Mapping[str, Any], found: Mapping[str, Any], *, tolerance: float, source: str
) -> float:
    """Compares the outputs of a signature, as nested lists.

    Args:
        expected: Outputs of the export; others are not looked at.
        found: Outputs now.
        tolerance: Largest difference allowed between numbers; texts must be equal.
        source: Who answered, for the message.

    Returns:
        Largest difference of a number.

    Raises:
        ServingError: If they differ by more.
    """
    worst = 0.0
    for name, value in expected.items():
        if name not in found:
            raise ServingError(
                f"{source} answered without `{name}`: it gave {sorted(found)}. It serves another model."
            )
        for place, wanted, got in _pairs(value, found[name], name):
            same = wanted == got
            if isinstance(wanted, float) and isinstance(got, (int, float)):
                difference = abs(wanted - got)
                worst = max(worst, 0.0 if math.isnan(difference) else difference)
                same = difference <= tolerance
            if not same:
                raise ServingError(
                    f"{source} answered a golden request with {place} = {got!r}, but the export answered "
                    f"{wanted!r} (tolerance {tolerance:g}). It serves another model or computes otherwise; "
                    "export the model again, or check which version is served."
                )
    return worst


def _pairs(expected: Any, found: Any, place: str) -> Any:
    if isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        for index, (wanted, got) in enumerate(zip(expected, found, strict=True)):
            yield from _pairs(wanted, got, f"{place}[{index}]")
    else:
        yield place, expected, found
