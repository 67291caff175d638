"""How far below the top of a model a variable is, by the number of its layer in its path."""

import re
from collections.abc import Sequence

from kerasllm.errors import ConfigError

__all__ = ["distances_from_top"]

# `encoder_layer_3/...`, `transformer_layer_3/...`, `blocks_3/...`; but not `layer_normalization_3/...`.
_NUMBERED = re.compile(r"(?:^|/)([a-z_]*(?:layers?|blocks?))[_/](\d+)(?:/|$)")
# What comes before the first layer, or is read by all of them.
_BOTTOM = re.compile(r"embedding|_distances/")


def distances_from_top(paths: Sequence[str]) -> list[int]:
    """Counts layers from the top: 0 for head, pooler and last norm, 1 for the last layer, and so on.

    Each stack counts from its own top, so that the last layers of an encoder and of the decoder that reads it
    have the same distance. Embeddings (tokens, positions, segments, relative positions) lie one below the
    first layer of the deeper stack.

    Args:
        paths: Paths of variables, such as `encoder_layer_3/attention/query/kernel`.

    Raises:
        ConfigError: If no path has the number of a layer.

    Example:
    >>> distances_from_top(["token_embedding/embeddings", "encoder_layer_0/up/kernel", "head/output/kernel"])
    [2, 1, 0]
    """
    found = [_NUMBERED.search(path) for path in paths]
    top: dict[str, int] = {}
    for match in found:
        if match:
            top[match[1]] = max(top.get(match[1], 0), int(match[2]))
    if not top:
        raise ConfigError(
            "Layers are counted by the numbers in the paths of their variables, as in "
            f"`encoder_layer_3/attention/query/kernel`, but none of the {len(paths)} variables has one; the "
            f"first is `{paths[0] if paths else ''}`. Name the layers so, or give learning rates by `groups`."
        )
    bottom = max(top.values()) + 2
    return [
        top[match[1]] - int(match[2]) + 1 if match else bottom if _BOTTOM.search(path) else 0
        for match, path in zip(found, paths, strict=True)
    ]
