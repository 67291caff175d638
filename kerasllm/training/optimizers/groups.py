"""Parameter groups: learning rate, weight decay and freezing by patterns on the paths of variables."""

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from kerasllm.errors import ConfigError
from kerasllm.training.optimizers.depth import distances_from_top

__all__ = ["NO_DECAY", "ParameterGroup", "VariableSettings", "as_groups", "settings_of"]

# Biases, the scales of norms and DoRA's magnitudes, which weight decay would pull towards zero for nothing;
# T5's table of relative biases is one of them, as in transformers' `Trainer`.
NO_DECAY = r"bias|(?:^|/)(?:gamma|beta|scale|magnitude)$|norm(?:alization)?(?:_\d+)?/[^/]*$"


@dataclass(frozen=True)
class ParameterGroup:
    """What is different about the variables whose path a pattern is found in.

    Attributes:
        pattern: Regular expression, searched anywhere in the path: `"encoder_layer_(0|1)/"`.
        learning_rate_multiplier: Their rate is this times the optimizer's; `None` for no change.
        weight_decay: Theirs instead of the optimizer's, 0 for none; `None` for no change.
        frozen: Whether they are not trained at all, and have no state; `None` for no change.
        optional: Whether the pattern may be found in no path; otherwise that is an error.
    """

    pattern: str
    learning_rate_multiplier: float | None = None
    weight_decay: float | None = None
    frozen: bool | None = None
    optional: bool = False

    def __post_init__(self) -> None:
        try:
            re.compile(self.pattern)
        except re.error as error:
            raise ConfigError(
                f"`{self.pattern}` is no regular expression ({error}). Escape what is meant literally, e.g. "
                f"`{re.escape(self.pattern)}`."
            ) from error
        for name in ("learning_rate_multiplier", "weight_decay"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < float("inf"):
                raise ConfigError(
                    f"The group `{self.pattern}` has `{name}` {value}; expected a number from 0 up. To leave "
                    "variables as they are, say `frozen: true`."
                )
        if self.learning_rate_multiplier == 0:
            raise ConfigError(
                f"The group `{self.pattern}` has `learning_rate_multiplier` 0; say `frozen: true` instead, "
                "which also saves the memory of the optimizer's state."
            )


@dataclass(frozen=True)
class VariableSettings:
    """What holds for one variable, after all groups.

    Attributes:
        multiplier: Its learning rate is this times the optimizer's.
        weight_decay: Its weight decay, or `None` for the optimizer's.
        frozen: Whether it is left alone.
    """

    multiplier: float = 1.0
    weight_decay: float | None = None
    frozen: bool = False


def as_groups(groups: Iterable[ParameterGroup | Mapping[str, Any]] | None) -> tuple[ParameterGroup, ...]:
    """Reads groups from plain dicts, as a config has them.

    Raises:
        ConfigError: If a group has unknown keys or no pattern.
    """
    known = [field.name for field in fields(ParameterGroup)]
    found = []
    for group in groups or ():
        given = asdict(group) if isinstance(group, ParameterGroup) else dict(group)
        unknown = sorted(set(given) - set(known))
        if unknown or not given.get("pattern"):
            problem = f"the unknown keys {unknown}" if unknown else "no `pattern`"
            raise ConfigError(f"The parameter group {given} has {problem}; its keys are {known}.")
        found.append(ParameterGroup(**given))
    return tuple(found)


def settings_of(
    paths: Sequence[str], groups: Sequence[ParameterGroup], *, layer_decay: float | None = None
) -> list[VariableSettings]:
    """Works out what holds for each variable.

    Where several groups match a variable, the later one decides what it sets.

    Args:
        paths: Paths of the variables.
        groups: The groups, in order.
        layer_decay: Factor by which the learning rate falls from layer to layer downwards, on top of the
            groups' multipliers. Defaults to `None`, the same for all.

    Raises:
        ConfigError: If a pattern that is not optional is found in no path, `layer_decay` is out of (0, 1], or
            layers have no numbers.
    """
    multipliers = _layer_multipliers(paths, layer_decay)
    chosen: list[dict[str, Any]] = [{} for _ in paths]
    for group in groups:
        matching = [place for place, path in enumerate(paths) if re.search(group.pattern, path)]
        if not matching and not group.optional:
            raise ConfigError(_nothing_found(group.pattern, paths))
        changes = {name: value for name, value in asdict(group).items() if value is not None}
        for place in matching:
            chosen[place].update(changes)
    return [
        VariableSettings(
            multiplier * choice.get("learning_rate_multiplier", 1.0),
            choice.get("weight_decay"),
            choice.get("frozen", False),
        )
        for multiplier, choice in zip(multipliers, chosen, strict=True)
    ]


def _layer_multipliers(paths: Sequence[str], layer_decay: float | None) -> list[float]:
    if layer_decay is None:
        return [1.0] * len(paths)
    if not 0 < layer_decay <= 1:
        raise ConfigError(
            f"`layer_decay` is {layer_decay}; expected more than 0 and at most 1, such as 0.9, by which the "
            "learning rate of each layer is multiplied once more than that of the layer above."
        )
    return [layer_decay**distance for distance in distances_from_top(paths)]


def _nothing_found(pattern: str, paths: Sequence[str]) -> str:
    literal = re.sub(r"\\.|[^\w/]+", "", pattern).lower()
    heads = dict.fromkeys(
        "/".join(path.split("/")[:n]) for path in paths for n in range(1, path.count("/") + 2)
    )
    close = difflib.get_close_matches(literal, heads, n=4, cutoff=0.4)
    close += [path for path in paths if path not in close][: 4 - len(close)]
    return (
        f"The pattern `{pattern}` is found in the path of none of the {len(paths)} variables that can be "
        f"trained. Close ones: {', '.join(f'`{path}`' for path in close)}. Correct it or drop its group."
    )
