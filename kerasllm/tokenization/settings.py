"""What is read from `tokenizer_config.json`."""

from collections.abc import Callable
from typing import Any

from kerasllm.errors import TokenizerError

__all__ = ["named_special_tokens", "pad_tokens", "split_special_tokens", "truncation_side"]

_NAMES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


def pad_tokens(
    config: dict[str, Any], default: str | None, token_to_id: Callable[[str], int | None]
) -> list[str]:
    """The tokens that may be the padding token, the likeliest first.

    Args:
        config: The settings.
        default: The padding token that the `tokenizer.json` names.
        token_to_id: Tells which tokens there are.

    Raises:
        TokenizerError: If the settings name one that is not there.
    """
    named = config.get("pad_token")
    content = named.get("content") if isinstance(named, dict) else named
    if content is not None and (not isinstance(content, str) or token_to_id(content) is None):
        raise TokenizerError(
            f"the padding token {content!r} of the `tokenizer_config.json` is not in the vocabulary. "
            "Name one of its tokens as `pad_token` there."
        )
    return [token for token in (content, default, "[PAD]", "<pad>") if token is not None]


def named_special_tokens(config: dict[str, Any]) -> dict[str, str]:
    """The special tokens that the settings name, e.g. `{"bos_token": "<s>"}`: what a chat template knows."""
    found = {}
    for name in _NAMES:
        value = config.get(name)
        content = value.get("content") if isinstance(value, dict) else value
        if isinstance(content, str):
            found[name] = content
    return found


def split_special_tokens(config: dict[str, Any]) -> bool:
    """Whether special tokens that stand in a text are text like any other."""
    value = config.get("split_special_tokens", False)
    if not isinstance(value, bool):
        raise TokenizerError(
            f"`split_special_tokens` of the `tokenizer_config.json` is {value!r}, expected true or false. "
            "Correct it there."
        )
    return value


def truncation_side(config: dict[str, Any], default: str) -> str:
    """Where texts are cut that are too long, `"left"` or `"right"`."""
    side = config.get("truncation_side") or default
    if side not in ("left", "right"):
        raise TokenizerError(
            f"`truncation_side` of the `tokenizer_config.json` is {side!r}, expected 'left' or 'right'. "
            "Correct it there."
        )
    return str(side)
