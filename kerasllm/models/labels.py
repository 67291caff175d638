"""What a checkpoint's config says about the classes of its trained head."""

import difflib
from collections.abc import Mapping

from kerasllm.errors import PresetError

PROBLEM_TYPES = ("single_label_classification", "multi_label_classification", "regression")


def read_labels(config: Mapping, num_classes: int, *, source: str) -> tuple[str, ...]:
    """Reads the class names in the order of the logits.

    Args:
        config: The checkpoint's `config.json`.
        num_classes: Number of logits of its head.
        source: Names the checkpoint in messages.

    Returns:
        The names of `id2label`; `LABEL_0`, `LABEL_1`, … where the config has none, as
        transformers would say.

    Raises:
        PresetError: If `id2label` does not name each class once.

    Example:
    >>> read_labels({"id2label": {"1": "good", "0": "bad"}}, 2, source="reviews")
    ('bad', 'good')
    """
    id2label = config.get("id2label")
    if id2label is None:
        return tuple(f"LABEL_{i}" for i in range(num_classes))
    try:
        names = {int(key): name for key, name in id2label.items()}
    except (AttributeError, TypeError, ValueError):
        names = {}
    complete = sorted(names) == list(range(num_classes)) and all(isinstance(n, str) for n in names.values())
    if not complete or len(set(names.values())) != num_classes:
        raise PresetError(
            f"`id2label` in the `config.json` of `{source}` must give each of its {num_classes} classes one "
            "name of "
            f'its own, as in {{"0": "negative", "1": "positive"}}, but is {id2label!r}.'
        )
    return tuple(names[i] for i in range(num_classes))


def read_problem_type(config: Mapping, num_classes: int, *, source: str) -> str:
    """Reads what the logits mean.

    Args:
        config: The checkpoint's `config.json`.
        num_classes: Number of logits of its head.
        source: Names the checkpoint in messages.

    Returns:
        One of `PROBLEM_TYPES`; where the config is silent, `"regression"` for one logit and
        `"single_label_classification"` for more, as in transformers.

    Raises:
        PresetError: If the config says something else.
    """
    stated = config.get("problem_type")
    if stated is None:
        return "regression" if num_classes == 1 else "single_label_classification"
    if stated not in PROBLEM_TYPES:
        close = difflib.get_close_matches(str(stated), PROBLEM_TYPES, n=1, cutoff=0.4)
        hint = f" Did you mean `{close[0]}`?" if close else ""
        raise PresetError(
            f"`problem_type` in the `config.json` of `{source}` is {stated!r}, but must be one of "
            f"{', '.join(PROBLEM_TYPES)}.{hint}"
        )
    return str(stated)
