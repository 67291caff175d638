"""What clients ask the server of a language model, and how its answers are read; imports no TensorFlow."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from kerasllm.errors import ConfigError, DataError, ServingError
from kerasllm.generation.settings import DEFAULTS, check_settings, check_stops
from kerasllm.serving.results import Generation

__all__ = ["GenerationRequests", "generations"]

_DTYPES = {
    "max_new_tokens": np.int32,
    "temperature": np.float32,
    "top_k": np.int32,
    "top_p": np.float32,
    "min_p": np.float32,
    "repetition_penalty": np.float32,
    "seed": np.int64,
}
_UNSET = -1
_CUT = "+prompt_cut"
_ERROR = "error: "
_UNFINISHED = "\ufffd"


class GenerationRequests:
    """The methods of a client that ask a language model; `_ask_columns` sends a request."""

    def _ask_columns(self, signature_name: str, columns: Mapping[str, np.ndarray]) -> Mapping[str, Any]:
        raise NotImplementedError

    def generate(
        self,
        prompts: str | Sequence[str],
        *,
        stop: str | Sequence[str] | Sequence[Sequence[str]] | None = None,
        **settings: Any,
    ) -> list[Generation]:
        """Continues prompts, as `kerasllm.TextGenerator.generate` does in Python.

        Args:
            prompts: One text or many.
            stop: Texts that end an answer, for all prompts or a list for each. Defaults to `None`.
            **settings: `max_new_tokens`, `temperature`, `top_k`, `top_p`, `min_p`, `repetition_penalty` and
                `seed`, each for all prompts or a sequence of one for each; the server's defaults without.

        Returns:
            One `Generation` a prompt.

        Raises:
            ConfigError: If a setting is unknown or impossible.
            DataError: If a prompt is not a text.
            ServingError: If the server refuses, does not answer, or serves no language model.
        """
        texts = [prompts] if isinstance(prompts, str) else list(prompts)
        if not all(isinstance(text, str) for text in texts):
            raise DataError("A prompt is a text; pass a list of strings.")
        if not texts:
            return []
        columns = {"prompt": np.array(texts, object), **_columns(settings, stop, len(texts))}
        return generations(self._ask_columns("generate", columns))

    def chat(
        self,
        messages: Sequence[Mapping[str, str]],
        *,
        stop: str | Sequence[str] | None = None,
        **settings: Any,
    ) -> Generation:
        """Says what comes next in a conversation, whose history is the caller's to keep.

        Args:
            messages: Each with `role` (`"system"`, `"user"` or `"assistant"`) and `content`.
            stop: Texts that end the answer. Defaults to `None`.
            **settings: As for `generate`.

        Raises:
            ConfigError: If a setting is unknown or impossible.
            ServingError: As `generate`; also where the model's template does not take the conversation.
        """
        columns = {
            "roles": np.array([[message["role"] for message in messages]], object),
            "contents": np.array([[message["content"] for message in messages]], object),
            **_columns(settings, stop, 1),
        }
        (answer,) = generations(self._ask_columns("chat", columns))
        return answer

    def stream(
        self,
        prompt: str,
        *,
        tokens_at_a_time: int = 16,
        stop: str | Sequence[str] | None = None,
        **settings: Any,
    ) -> Iterator[str]:
        """Continues a prompt piece by piece.

        The protocol has no streaming, so each piece is a request of its own that sends prompt and answer so
        far: the server reads them again for each, and a text that is cut between two tokens may go on
        otherwise than in one request.

        Args:
            prompt: The text.
            tokens_at_a_time: Tokens of a piece. Defaults to 16.
            stop: Texts that end the answer. Defaults to `None`.
            **settings: As for `generate`.

        Yields:
            Texts of whole characters.
        """
        left, said = settings.pop("max_new_tokens", DEFAULTS["max_new_tokens"]), ""
        while left > 0:
            most = min(left, tokens_at_a_time)
            (answer,) = self.generate([prompt + said], stop=stop, max_new_tokens=most, **settings)
            is_over = answer.finish_reason == "stop" or left == most
            piece = answer.text if is_over else answer.text.rstrip(_UNFINISHED)
            if piece:
                yield piece
            if is_over or not piece:
                return
            said, left = said + piece, left - most


def generations(outputs: Mapping[str, Any]) -> list[Generation]:
    """Turns the outputs of an exported language model, as nested lists, into one result a prompt.

    Raises:
        ServingError: If it is no language model, or refused a row.
    """
    if not isinstance(outputs, Mapping) or not {"text", "finish_reason", "num_tokens"} <= set(outputs):
        other = sorted(outputs) if isinstance(outputs, Mapping) else "one unnamed tensor"
        raise ServingError(
            f"The model is not a language model: it answers {other} instead of `text`, `finish_reason` and "
            "`num_tokens`."
        )
    rows = zip(outputs["text"], outputs["finish_reason"], outputs["num_tokens"], strict=True)
    found = []
    for number, (text, reason, num_tokens) in enumerate(rows):
        if reason.startswith(_ERROR):
            raise ServingError(f"The server refused row {number}: {reason.removeprefix(_ERROR)}.")
        found.append(Generation(text, reason.removesuffix(_CUT), int(num_tokens), reason.endswith(_CUT)))
    return found


def _columns(settings: Mapping[str, Any], stop: Any, rows: int) -> dict[str, np.ndarray]:
    local = sorted(set(settings) & set(DEFAULTS) - set(_DTYPES))
    if local:
        raise ConfigError(
            f"{', '.join(f'`{name}`' for name in local)} cannot be sent to a server, only set in Python. "
            f"There are {', '.join(sorted([*_DTYPES, 'stop']))}."
        )
    checked = check_settings({name: value for name, value in settings.items() if value is not None}, rows)
    columns = {name: np.array(checked.get(name, [_UNSET] * rows), dtype) for name, dtype in _DTYPES.items()}
    stops = check_stops(stop, rows)
    columns["stop"] = np.array([own or [""] for own in stops], object)
    return columns
