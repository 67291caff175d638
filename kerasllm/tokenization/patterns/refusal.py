"""The error for a pattern that has no exact implementation."""

from kerasllm.errors import TokenizerError

__all__ = ["refuse_pattern"]


def refuse_pattern(text: str, part: str, reason: str) -> TokenizerError:
    """The error for a pattern; the caller raises it.

    Args:
        text: The whole pattern.
        part: What of it has no exact implementation; may be empty.
        reason: Why.
    """
    where = f", at `{part}`" if part else ""
    return TokenizerError(
        f"the regular expression `{text}`{where}, has no exact implementation in the TensorFlow graph: "
        f"{reason}. "
        "Supported are characters and classes, `|`, groups, look-ahead, repetitions of one character "
        "(`*`, `+`, `?`, `{m,n}`), short repetitions of groups, `^` and `$`. Use another checkpoint."
    )
