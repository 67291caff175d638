"""From the settings of a run to its optimizer."""

import difflib
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from kerasllm.errors import ConfigError
from kerasllm.training.optimizers.adafactor import Adafactor
from kerasllm.training.optimizers.adamw import AdamW
from kerasllm.training.optimizers.groups import NO_DECAY, ParameterGroup, as_groups, settings_of
from kerasllm.training.optimizers.lion import Lion
from kerasllm.training.optimizers.muon import Muon
from kerasllm.training.schedules import make_schedule

__all__ = ["OPTIMIZERS", "build_optimizer"]

_log = logging.getLogger("kerasllm.training")

# By name: the class, and what it calls those settings that not all of them have.
OPTIMIZERS: dict[str, tuple[Any, dict[str, str]]] = {
    "adafactor": (Adafactor, {}),
    "adamw": (AdamW, {"beta_1": "beta_1", "beta_2": "beta_2", "epsilon": "epsilon"}),
    "lion": (Lion, {"beta_1": "beta_1", "beta_2": "beta_2"}),
    "muon": (Muon, {"beta_1": "adam_beta_1", "beta_2": "adam_beta_2", "epsilon": "epsilon"}),
}
_CLIPPING = {"global_norm": "global_clipnorm", "norm": "clipnorm", "value": "clipvalue"}
_DEFAULTS: dict[str, Any] = {
    "name": "adamw",
    "learning_rate": None,
    "weight_decay": 0.01,
    "beta_1": None,
    "beta_2": None,
    "epsilon": None,
    "clip_norm": 1.0,
    "clip_by": "global_norm",
    "schedule": "linear",
    "warmup": 0.0,
    "groups": None,
    "layer_decay": None,
    "ema": None,
}
# Updates are about as large as the rate, whatever the gradient: above this, weights soon are noise.
ABSURD_RATE = 0.1


def build_optimizer(settings: Mapping[str, Any], variables: Sequence[Any], total_steps: int) -> Any:
    """Builds the optimizer of a run, with its state allocated.

    Variables of frozen groups are marked `trainable = False`, and have no state.

    Args:
        settings: `learning_rate`, the peak of the schedule, and what is to differ from the defaults: `name`
            (`"adamw"`, a key of `OPTIMIZERS`), `weight_decay` (0.01; never of biases and norms unless a group
            says so), `beta_1`, `beta_2`, `epsilon` (those of the optimizer), `clip_norm` (1.0; `None` for no
            clipping) and what it limits, `clip_by` (`"global_norm"`, or `"norm"` of each gradient, or each
            `"value"`), `schedule` (`"linear"`, a key of `SCHEDULES`), `warmup` (0.0; a share of the steps, or
            an integer number of them), `groups` (see `ParameterGroup`), `layer_decay` and `ema` (decay of the
            averaged weights, such as 0.999; `None` for no averages).
        variables: The variables that may be trained.
        total_steps: Optimizer steps of the whole run.

    Returns:
        A Keras optimizer.

    Raises:
        ConfigError: If a setting is unknown, out of its range, or not one of this optimizer, or if a pattern
            matches nothing.

    Example:
    >>> optimizer = build_optimizer({"learning_rate": 5e-5, "warmup": 0.1}, model.trainable_variables, 1000)
    """
    chosen = {**_DEFAULTS, **_known(settings)}
    if chosen["name"] not in OPTIMIZERS:
        raise ConfigError(f"There is no optimizer `{chosen['name']}`; expected one of {sorted(OPTIMIZERS)}.")
    kind, own = OPTIMIZERS[chosen["name"]]
    _check(chosen)
    groups = _with_default_groups(chosen["groups"], variables)
    _freeze(variables, groups)
    optimizer = kind(
        learning_rate=make_schedule(
            chosen["schedule"], chosen["learning_rate"], total_steps, chosen["warmup"]
        ),
        weight_decay=chosen["weight_decay"] or 0.0,
        groups=groups,
        layer_decay=chosen["layer_decay"],
        use_ema=chosen["ema"] is not None,
        **{_CLIPPING[chosen["clip_by"]]: chosen["clip_norm"]},
        **({} if chosen["ema"] is None else {"ema_momentum": chosen["ema"]}),
        **_own_settings(chosen, own),
    )
    optimizer.build(list(variables))
    return optimizer


def _known(settings: Mapping[str, Any]) -> dict[str, Any]:
    for name in settings:
        if name not in _DEFAULTS:
            close = difflib.get_close_matches(str(name), _DEFAULTS, n=1)
            meant = f" Did you mean `{close[0]}`?" if close else ""
            raise ConfigError(f"`{name}` is no setting of an optimizer; expected {sorted(_DEFAULTS)}.{meant}")
    return dict(settings)


def _check(chosen: dict[str, Any]) -> None:
    rate = chosen["learning_rate"]
    if rate is None or not 0 < rate < math.inf:
        raise ConfigError(
            f"`learning_rate` is {rate}; expected a positive number, such as 5.0e-5 to fine-tune all weights "
            "or 1.0e-4 to 1.0e-3 for adapters."
        )
    if rate > ABSURD_RATE and chosen["name"] != "adafactor":
        _log.warning(
            "The learning rate %g is very high for `%s`, whose updates are about as large as the rate "
            "whatever the gradient; 1e-5 to 1e-3 is usual.",
            rate,
            chosen["name"],
        )
    ranges = {
        "weight_decay": (0, math.inf, "0 or more, such as 0.01"),
        "beta_1": (0, 1, "0 to below 1, such as 0.9"),
        "beta_2": (0, 1, "0 to below 1, such as 0.999"),
        "epsilon": (0, 1, "a small number, such as 1.0e-8"),
        "ema": (0, 1, "0 to below 1, such as 0.999"),
        "clip_norm": (1e-30, math.inf, "a positive number, such as 1.0, or none for no clipping"),
    }
    for name, (least, end, expected) in ranges.items():
        value = chosen[name]
        if value is not None and not least <= value < end:
            raise ConfigError(f"`{name}` is {value}; expected {expected}.")
    if chosen["clip_by"] not in _CLIPPING:
        raise ConfigError(f"`clip_by` is `{chosen['clip_by']}`; expected one of {sorted(_CLIPPING)}.")


def _own_settings(chosen: dict[str, Any], own: Mapping[str, str]) -> dict[str, Any]:
    given = [name for name in ("beta_1", "beta_2", "epsilon") if chosen[name] is not None]
    foreign = [name for name in given if name not in own]
    if foreign:
        raise ConfigError(
            f"`{chosen['name']}` has no {', '.join(f'`{name}`' for name in foreign)}; it has "
            f"{sorted(own) or 'none of these'}. Leave it out, or choose another optimizer."
        )
    return {own[name]: chosen[name] for name in given}


def _with_default_groups(groups: Any, variables: Sequence[Any]) -> tuple[ParameterGroup, ...]:
    """The given groups, after the default: no weight decay of biases and norms."""
    given = as_groups(groups)
    settings_of(
        [variable.path for variable in variables], given
    )  # patterns that match nothing are errors here
    # Later, when an optimizer is built anew, frozen variables are no longer among those to be trained.
    given = tuple(replace(group, optional=True) if group.frozen else group for group in given)
    return (ParameterGroup(NO_DECAY, weight_decay=0.0, optional=True), *given)


def _freeze(variables: Sequence[Any], groups: Sequence[ParameterGroup]) -> None:
    settings = settings_of([variable.path for variable in variables], groups)
    if all(chosen.frozen for chosen in settings):
        raise ConfigError(
            f"The groups freeze all {len(settings)} variables, so that there is nothing to train. Narrow "
            f"{[group.pattern for group in groups if group.frozen]}."
        )
    for variable, chosen in zip(variables, settings, strict=True):
        if chosen.frozen:
            variable.trainable = False
