"""Reads how a config turns positions into rotations, in transformers 5's spelling and in the ones before."""

from collections.abc import Mapping
from typing import Any

from kerasllm.models.transformer.settings import RotarySettings

__all__ = ["KINDS", "read_rotary", "rotary_problems"]

KINDS = ("default", "linear", "dynamic", "yarn", "longrope", "llama3")
_OLD_KINDS = {"su": "longrope", "mrope": "default"}
_NEEDED = {
    "linear": ("factor",),
    "dynamic": ("factor",),
    "yarn": (),
    "longrope": ("short_factor", "long_factor"),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor"),
}


def read_rotary(
    config: Mapping[str, Any], head_dim: int, *, theta: float, share: float = 1.0, layers: str | None = None
) -> RotarySettings:
    """Reads the rotary positions of a config.

    Args:
        config: The `config.json`, defaults filled in.
        head_dim: Width of an attention head.
        theta: The family's base where the config is silent.
        share: The family's share of a head that is rotated, where the config is silent.
        layers: `"full_attention"` or `"sliding_attention"` where the two are rotated differently.

    Returns:
        The settings.
    """
    options = _options(config, layers)
    kind = _kind(options)
    theta = float(options.pop("rope_theta", None) or config.get("rope_theta") or theta)
    share = options.pop("partial_rotary_factor", None) or config.get("partial_rotary_factor") or share
    most = int(config["max_position_embeddings"])
    options.pop("rope_type", None)
    options.pop("type", None)
    if kind in ("yarn", "longrope", "llama3"):
        original = config.get("original_max_position_embeddings") if kind == "longrope" else None
        original = original or options.get("original_max_position_embeddings") or most
        options["original_max_position_embeddings"] = original
    return RotarySettings(int(head_dim * share), theta, kind, options, most)


def rotary_problems(config: Mapping[str, Any]) -> list[str]:
    """What of a config's rotary positions cannot be computed."""
    problems = []
    for layers in (None, "full_attention", "sliding_attention"):
        options = _options(config, layers)
        kind = _kind(options)
        if kind not in KINDS:
            problems.append(f"`rope_type` is {kind!r}, known are: {', '.join(KINDS)}")
            continue
        problems += [
            f"`{name}` is missing for `rope_type` {kind!r}"
            for name in _NEEDED.get(kind, ())
            if name not in options
        ]
    return list(dict.fromkeys(problems))


def _options(config: Mapping[str, Any], layers: str | None) -> dict[str, Any]:
    stated = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if any(isinstance(value, Mapping) for value in stated.values()):
        stated = stated.get(layers or "full_attention") or {}
    return dict(stated)


def _kind(options: Mapping[str, Any]) -> str:
    kind = options.get("rope_type") or options.get("type") or "default"
    return _OLD_KINDS.get(kind, kind)
