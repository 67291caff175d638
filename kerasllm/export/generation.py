"""What a server of a language model is asked and answers: prompts or conversations in, texts out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from kerasllm.generation.parameters import Parameters
from kerasllm.generation.settings import DEFAULTS, LONGEST_STOP
from kerasllm.generation.texts import TextLoop

if TYPE_CHECKING:
    from kerasllm.generation.conversations import CompiledTemplate
    from kerasllm.tokenization.tokenizer import Tokenizer

__all__ = ["GenerationModule"]

# What a request may set, and what it must be: the limits of `kerasllm.generation.settings`, in a graph.
_SETTINGS: dict[str, Any] = {
    "max_new_tokens": lambda value: value >= 1,
    "temperature": lambda value: value >= 0.0,
    "top_k": lambda value: value >= 0,
    "top_p": lambda value: (value > 0.0) & (value <= 1.0),
    "min_p": lambda value: (value >= 0.0) & (value <= 1.0),
    "repetition_penalty": lambda value: value > 0.0,
    "seed": lambda value: value >= 0,
}
_UNSET = -1  # in a request: the default
_OUTPUTS = ("text", "finish_reason", "num_tokens")
_DOCS: dict[str, tuple[str, list[Any], str]] = {
    "prompt": ("string", ["batch"], "What the model continues, UTF-8; cut on the left where it is too long."),
    "roles": ("string", ["batch", "turns"], "system, user or assistant; empty ones at the end are padding."),
    "contents": ("string", ["batch", "turns"], "What was said, by turn."),
    "max_new_tokens": ("int32", ["batch"], "Most tokens of the answer, from 1 up; -1 for the default."),
    "temperature": ("float32", ["batch"], "0 for the likeliest token each time; -1 for the default."),
    "top_k": ("int32", ["batch"], "How many of the likeliest tokens may be drawn, 0 for all; -1: default."),
    "top_p": ("float32", ["batch"], "Probability that the tokens to draw from have together; -1: default."),
    "min_p": ("float32", ["batch"], "Least share of the likeliest token's probability; -1 for the default."),
    "repetition_penalty": ("float32", ["batch"], "Above 0, 1 for none; -1 for the default."),
    "seed": ("int64", ["batch"], "Of the draws, from 0 up; -1 for another one each time."),
    "stop": ("string", ["batch", "stops"], "Texts that end the answer; empty ones for none."),
    "text": ("string", ["batch"], "The answer, valid UTF-8, without the prompt and the stop string."),
    "finish_reason": (
        "string",
        ["batch"],
        "stop or length, with +prompt_cut where the prompt was cut; or error: and what is wrong.",
    ),
    "num_tokens": ("int32", ["batch"], "Tokens of the answer, the one that ended it included."),
    "completion": ("string", ["batch"], "A text that comes after the prompt."),
    "log_prob": ("float32", ["batch"], "Sum of the log-probabilities of the completion's tokens."),
}


@dataclass(frozen=True)
class _Parts:
    """What the signatures read; in one plain object so that TensorFlow does not track and save it."""

    loop: TextLoop
    template: "CompiledTemplate | None"
    defaults: Mapping[str, int | float]


class GenerationModule(tf.Module):
    """A language model as one graph: tokenizer, decode loop and tokenizer.

    Every input is optional but the prompt: -1 (in `stop`, an empty text) stands for the default, also as the
    signature's own default value. A row whose settings or conversation are impossible gets an empty text, and
    what is wrong as its `finish_reason`, so that it does no harm to the rows that a server joined with it.

    Args:
        loop: The language model.
        template: How conversations become texts. Defaults to `None`, no signature `chat`.
        defaults: What is not as in `kerasllm.generation.settings.DEFAULTS`. Defaults to nothing.
    """

    def __init__(
        self,
        loop: TextLoop,
        *,
        template: "CompiledTemplate | None" = None,
        defaults: Mapping[str, int | float] | None = None,
    ):
        super().__init__(name="generation")
        self._parts = _Parts(loop, template, {**DEFAULTS, **(defaults or {})})
        # TensorFlow saves what the module holds. The model itself would bring its optimizer along.
        self._weights = loop.variables
        self._tokenizer_state = loop.tokenizer.trackable
        # One function for all signatures, so that the graph holds the model once.
        self._answers = tf.function(self._answered, input_signature=_core_specs(), autograph=False)
        self.serve = tf.function(self._serve, input_signature=[_texts("prompt")], autograph=False)
        self.generate = _generate_signature(self._generate)
        texts = [_texts("prompt"), _texts("completion")]
        self.score = tf.function(self._score, input_signature=texts, autograph=False)
        self.chat = None if template is None else _chat_signature(self._chat)

    @property
    def signatures(self) -> dict[str, Any]:
        """Endpoints by signature name."""
        found = {"serving_default": self.serve, "generate": self.generate, "score": self.score}
        return found if self.chat is None else {**found, "chat": self.chat}

    @property
    def description(self) -> dict[str, Any]:
        """What each signature takes and gives, for `kerasllm.json`."""
        inputs = {"serving_default": ("prompt",), "generate": ("prompt", *_SETTINGS, "stop")}
        if self.chat is not None:
            inputs["chat"] = ("roles", "contents", *_SETTINGS, "stop")
        found = {
            name: {"inputs": _described(names), "outputs": _described(_OUTPUTS)}
            for name, names in inputs.items()
        }
        scored = ("log_prob", "num_tokens")
        return found | {
            "score": {"inputs": _described(("prompt", "completion")), "outputs": _described(scored)}
        }

    def unset(self, rows: int) -> dict[str, np.ndarray]:
        """Inputs of so many rows that stand for the defaults, by name."""
        settings = {name: np.full(rows, _UNSET, dtype.as_numpy_dtype) for name, dtype in _dtypes().items()}
        return {**settings, "stop": np.full((rows, 1), "", object)}

    @property
    def max_length(self) -> int:
        """Most tokens of prompt and answer together."""
        return self._parts.loop.max_length

    @property
    def dtype(self) -> str:
        """Precision of the matrices and of the cache."""
        return self._parts.loop.dtype

    @property
    def tokenizer(self) -> "Tokenizer":
        """The tokenizer."""
        return self._parts.loop.tokenizer

    def _serve(self, prompt):
        """Input: prompts. Output: their answers by the defaults."""
        return self._generate(prompt, *map(tf.constant, self.unset(1).values()))

    def _generate(self, prompt, *given):
        return self._answers(prompt, *self._read(given, tf.shape(prompt)[0]))

    def _chat(self, roles, contents, *given):
        template: Any = self._parts.template
        text, is_taken = template.graph_render(roles, contents)
        settings, stops, wrong = self._read(given, tf.shape(roles)[0])
        refused = "error: the chat template does not take this conversation"
        return self._answers(text, settings, stops, tf.where(is_taken, wrong, refused))

    def _score(self, prompt, completion):
        """Input: prompts, and what comes after them. Output: how likely that is."""
        log_prob, num_tokens = self._parts.loop.score(prompt, completion)
        return {"log_prob": log_prob, "num_tokens": num_tokens}

    def _read(self, given, rows):
        """Settings, stop strings, and for each row what is wrong with its own."""
        *values, stops = given
        wrong, settings = tf.fill([rows], ""), []
        for (name, holds), value in zip(_SETTINGS.items(), values, strict=True):
            value = tf.broadcast_to(value, [rows])
            is_set = value != tf.cast(_UNSET, value.dtype)
            message = f"error: {name} is out of its range"
            wrong = tf.where(is_set & ~holds(value), message, wrong)
            default = tf.cast(self._parts.defaults[name], value.dtype)
            settings.append(tf.where(is_set & holds(value), value, default))
        stops = tf.broadcast_to(stops, [rows, tf.shape(stops)[1]])
        is_long = tf.reduce_any(tf.strings.length(stops) > LONGEST_STOP, axis=1)
        wrong = tf.where(is_long, f"error: stop has a text of more than {LONGEST_STOP} bytes", wrong)
        return tuple(settings), tf.where(is_long[:, None], "", stops), wrong

    def _answered(self, prompt, settings, stops, wrong):
        rows = tf.shape(prompt)[0]
        named = dict(zip(_SETTINGS, settings, strict=True))
        parameters = Parameters.of(rows, **{**self._parts.defaults, **named})
        is_wrong = wrong != ""
        # A row that is wrong is over before it begins.
        parameters = parameters._replace(max_new_tokens=tf.where(is_wrong, 0, parameters.max_new_tokens))
        found = self._parts.loop.answer(tf.where(is_wrong, "", prompt), parameters, stops)
        reason = tf.where(found.stopped, "stop", "length")
        reason = tf.where(found.cut, tf.strings.join([reason, "prompt_cut"], "+"), reason)
        return {
            "text": tf.where(is_wrong, "", found.texts),
            "finish_reason": tf.where(is_wrong, wrong, reason),
            "num_tokens": found.lengths,
        }


def _described(names: Sequence[str]) -> dict[str, dict[str, Any]]:
    keys = ("dtype", "shape", "description")
    return {name: dict(zip(keys, _DOCS[name], strict=True)) for name in names}


def _texts(name: str, rank: int = 1) -> Any:
    return tf.TensorSpec([None] * rank, tf.string, name=name)


def _generate_signature(answer: Any) -> Any:
    whole, real, long, none = _unset()

    # Defaults of Python become defaults of the signature.
    def generate(
        prompt,
        max_new_tokens=whole,
        temperature=real,
        top_k=whole,
        top_p=real,
        min_p=real,
        repetition_penalty=real,
        seed=long,
        stop=none,
    ):
        settings = (max_new_tokens, temperature, top_k, top_p, min_p, repetition_penalty, seed, stop)
        return answer(prompt, *settings)

    return tf.function(generate, input_signature=[_texts("prompt"), *_setting_specs()], autograph=False)


def _chat_signature(answer: Any) -> Any:
    whole, real, long, none = _unset()

    def chat(
        roles,
        contents,
        max_new_tokens=whole,
        temperature=real,
        top_k=whole,
        top_p=real,
        min_p=real,
        repetition_penalty=real,
        seed=long,
        stop=none,
    ):
        settings = (max_new_tokens, temperature, top_k, top_p, min_p, repetition_penalty, seed, stop)
        return answer(roles, contents, *settings)

    specs = [_texts("roles", 2), _texts("contents", 2), *_setting_specs()]
    return tf.function(chat, input_signature=specs, autograph=False)


def _unset() -> tuple[Any, Any, Any, Any]:
    dtypes = (tf.int32, tf.float32, tf.int64)
    return *(tf.constant([_UNSET], dtype) for dtype in dtypes), tf.constant([[""]])


def _dtypes() -> dict[str, Any]:
    dtypes = {name: tf.float32 if isinstance(DEFAULTS[name], float) else tf.int32 for name in _SETTINGS}
    return {**dtypes, "seed": tf.int64}


def _setting_specs() -> list[Any]:
    specs = [tf.TensorSpec([None], dtype, name=name) for name, dtype in _dtypes().items()]
    return [*specs, _texts("stop", 2)]


def _core_specs() -> list[Any]:
    *settings, stops = _setting_specs()
    return [_texts("prompt"), tuple(settings), stops, _texts("wrong")]
