"""Reading one component of a `tokenizer.json` so that no parameter is passed over."""

from collections.abc import Collection
from typing import Any

from kerasllm.errors import TokenizerError

__all__ = ["Component", "refuse"]

_MISSING = object()


def refuse(kind: str, found: object, supported: Collection[object]) -> TokenizerError:
    """The error for something that has no exact implementation; the caller raises it."""
    names = ", ".join(f"`{name}`" for name in sorted(map(str, supported)))
    return TokenizerError(
        f"the {kind} `{found}` has no exact implementation in the TensorFlow graph; supported: {names}. "
        "Use a checkpoint whose tokenizer is made of these."
    )


class Component:
    """A component's parameters, taken one by one; those left over are refused.

    Args:
        kind: Where it stands, e.g. `"normalizer"`.
        value: The JSON object.
        name: Its name in messages. Defaults to its `type`.
    """

    def __init__(self, kind: str, value: Any, *, name: str | None = None):
        if not isinstance(value, dict):
            raise TokenizerError(
                f"the {kind} of the `tokenizer.json` is {value!r:.40}, expected a JSON object. "
                "The file is damaged: download it again."
            )
        self.kind = kind
        self._left = dict(value)
        self.type: str = name if name is not None else str(self._left.pop("type", "without a type"))

    def take(self, name: str, kinds: type | tuple[type, ...], default: Any = _MISSING) -> Any:
        """Takes a parameter, which must be of one of `kinds` (Python types)."""
        value = self._left.pop(name, default)
        if value is _MISSING:
            raise TokenizerError(
                f"the {self.kind} `{self.type}` lacks `{name}`. "
                "The `tokenizer.json` is damaged: download it again."
            )
        wrong_bool = isinstance(value, bool) and kinds is int
        if value is not default and (wrong_bool or not isinstance(value, kinds)):
            expected = " or ".join(k.__name__ for k in (kinds if isinstance(kinds, tuple) else (kinds,)))
            raise TokenizerError(
                f"`{name}` of the {self.kind} `{self.type}` is {value!r:.40}, expected {expected}. "
                "The `tokenizer.json` is damaged: download it again."
            )
        return value

    def require(self, name: str, supported: Collection[Any], default: Any = _MISSING) -> Any:
        """Takes a parameter of which only some values have an exact implementation."""
        value = self.take(name, object, default)
        if value not in supported:
            raise refuse(f"{self.kind} `{self.type}` with `{name}` =", value, supported)
        return value

    def finish(self) -> None:
        """Refuses the parameters that nobody took."""
        if self._left:
            raise TokenizerError(
                f"the {self.kind} `{self.type}` has the parameters {sorted(self._left)}, which have no exact "
                "implementation in the TensorFlow graph. Use a checkpoint whose tokenizer does without them."
            )
