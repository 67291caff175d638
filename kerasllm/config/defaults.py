"""Derived settings: every `None` that means "derive it" is filled here, by a rule that is written down.

The rules:

- `output_dir`: `runs/` and the name of the first training file, `runs/run` without a file.
- `data.columns`, `data.labels`: what was found in the data.
- `data.sequence_length`: the smallest multiple of 32 that holds 99 % of the training texts, at most
  512 and at most what the checkpoint has positions for. Longer texts are truncated.
- `model.dropout`, `model.pooling`: the checkpoint's own.
- `training.dtype_policy`: what the device computes natively.
- `training.num_widths`: 8 where an accelerator compiles a program for each, 64 where none does.
- `training.packing_length`: `data.sequence_length` where texts are packed.
- `training.monitor`: the first of the task's figures in `kerasllm.config.schema.MONITORS`.
- `training.learning_rate: auto`: what a short search before the run finds.

`None` stays where it means "none": validation, test, max_rows, data.cache, lora, batch_tokens, gradient_clip,
class_weights, patience, patience_steps, evaluate_every, checkpoint_every, layer_decay, groups, unfreeze, ema,
export.path; in the optimizer's `beta_1`, `beta_2` and `epsilon`, which have its own values; and in
`export.version`, which is only known when the export is published.
"""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from pydantic import ValidationError

from kerasllm.config.schema import MONITORS, RunConfig
from kerasllm.errors import ConfigError

__all__ = ["default_output_dir", "default_sequence_length", "resolve"]

LONGEST_DEFAULT = 512
_STEP = 32
_COVERED = 0.99


def resolve(
    config: RunConfig,
    *,
    token_lengths: Sequence[int] | None = None,
    max_sequence_length: int | None = None,
    columns: Mapping[str, str] | None = None,
    labels: Sequence[str] | None = None,
    dropout: float | None = None,
    pooling: str | None = None,
    dtype_policy: str | None = None,
    num_widths: int | None = None,
    learning_rate: float | None = None,
) -> RunConfig:
    """Fills what a config leaves open. Pure: no file, device or clock is looked at.

    May be called more than once, as facts become known; what is set already stays as it is.

    Args:
        config: The config as the user wrote it.
        token_lengths: Tokens of each training text, special tokens included.
            Defaults to `None`, which leaves `data.sequence_length` open.
        max_sequence_length: Positions that the checkpoint has.
        columns: Role to column name, as found in the data.
        labels: Class names in order, as found in the data.
        dropout: The checkpoint's dropout rate.
        pooling: `"cls"` or `"mean"`, what fits the checkpoint.
        dtype_policy: Name of the policy that fits the device.
        num_widths: Padded lengths that fit the device.
        learning_rate: What a search found.

    Returns:
        The same config with the open settings filled.

    Raises:
        ConfigError: If what was derived does not go with what the config says, such as weights of classes
            that the data does not have.

    Example:
    >>> resolve(config, token_lengths=[12, 40, 65], max_sequence_length=512).data.sequence_length
    96
    """
    facts: dict[str, dict[str, Any]] = {
        "data": {"columns": columns and dict(columns), "labels": labels and list(labels)},
        "model": {"dropout": dropout},
        "training": {"monitor": MONITORS[config.task][0], "num_widths": num_widths},
    }
    if token_lengths is not None:
        length = default_sequence_length(token_lengths, max_sequence_length=max_sequence_length)
        facts["data"]["sequence_length"] = length
    resolved = config.model_dump()
    for section, values in facts.items():
        for name, value in values.items():
            if resolved[section][name] is None:
                resolved[section][name] = value
    if resolved["training"]["packing"] and resolved["training"]["packing_length"] is None:
        resolved["training"]["packing_length"] = resolved["data"]["sequence_length"]
    choices = (
        ("model", "pooling", pooling),
        ("training", "dtype_policy", dtype_policy),
        ("training", "learning_rate", learning_rate),
    )
    for section, name, choice in choices:
        if resolved[section][name] == "auto" and choice is not None:
            resolved[section][name] = choice
    if resolved["output_dir"] is None:
        resolved["output_dir"] = default_output_dir(config)
    try:
        return RunConfig.model_validate(resolved)
    except ValidationError as error:  # what was derived and what was written do not go together
        problems = [str(item.get("ctx", {}).get("error", item["msg"])) for item in error.errors()]
        raise ConfigError("; ".join(problems) + ".") from error


def default_sequence_length(token_lengths: Sequence[int], *, max_sequence_length: int | None = None) -> int:
    """Returns the smallest multiple of 32 that holds 99 % of the texts.

    Args:
        token_lengths: Tokens of each text, special tokens included.
        max_sequence_length: Positions that the checkpoint has. Defaults to
            `None`, no limit but 512.

    Returns:
        Number of tokens, at most 512 and at most the checkpoint's limit.
    """
    limit = min(LONGEST_DEFAULT, max_sequence_length or LONGEST_DEFAULT)
    if len(token_lengths) == 0:
        return limit
    position = max(0, math.ceil(_COVERED * len(token_lengths)) - 1)
    longest = int(sorted(token_lengths)[position])
    return min(limit, max(_STEP, math.ceil(longest / _STEP) * _STEP))


def default_output_dir(config: RunConfig) -> str:
    """Returns `runs/` and the name of the first training file without its endings."""
    train = config.data.train
    first = train[0] if isinstance(train, list) else train
    name = PurePosixPath(first.partition("?")[0]).name.partition(".")[0] if first else ""
    return f"runs/{re.sub(r'[^A-Za-z0-9_-]+', '-', name).strip('-') or 'run'}"
