"""The text generator: prompts in, texts out, all at once or piece by piece."""

import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kerasllm.data.reading import stream_records
from kerasllm.errors import ConfigError, DataError, PresetError
from kerasllm.export.generation import GenerationModule
from kerasllm.export.generation_model import export_generation_model
from kerasllm.generation.parameters import Parameters
from kerasllm.generation.settings import check_settings, check_stops
from kerasllm.generation.texts import TextLoop
from kerasllm.models.builders import build_with_head
from kerasllm.models.presets import Preset
from kerasllm.models.stop_tokens import start_id_of, stop_ids_of
from kerasllm.serving.exported_model import ExportedModel
from kerasllm.serving.results import Generation, Score
from kerasllm.tokenization.tokenizer import Tokenizer

__all__ = ["TextGenerator"]

_log = logging.getLogger("kerasllm")
_BATCH = 8
_TOKENS_A_PIECE = 4
_UNFINISHED = "\ufffd"


class TextGenerator:
    """A language model that continues texts.

    Made by `kerasllm.load`. What a prompt is answered depends on that prompt, its settings and its seed
    alone, not on the prompts beside it.

    Args:
        keras_model: Plain Keras model from token ids to logits `float32[batch, sequence, vocabulary]`.
        tokenizer: The checkpoint's tokenizer.
        stop_ids: Tokens that end an answer.
        start_id: Token that stands for an empty prompt.
        max_length: Most tokens of prompt and answer together.
        preset: Handle of the checkpoint. Defaults to `""`.
        dtype: Precision of the matrices and of the cache: `"float32"`, or `"bfloat16"`, which is faster and
            takes half the memory where the processor multiplies it. Defaults to `"float32"`.

    Example:
    >>> generator = kerasllm.load("hf://openai-community/gpt2")
    >>> generator.generate(["The sea is"], max_new_tokens=8)
    [Generation(text=' a great place to live and work.', finish_reason='length', num_tokens=8, …)]
    """

    task = "text_generation"

    def __init__(
        self,
        keras_model: keras.Model,
        tokenizer: Tokenizer,
        *,
        stop_ids: Sequence[int],
        start_id: int,
        max_length: int,
        preset: str = "",
        dtype: str = "float32",
    ):
        self.keras_model = keras_model
        self.tokenizer = tokenizer
        self.stop_ids = tuple(stop_ids)
        self.start_id = start_id
        self.max_length = max_length
        self.preset = preset
        self.dtype = dtype

    def __repr__(self) -> str:
        return f"{type(self).__name__}(preset={self.preset!r}, max_length={self.max_length})"

    @classmethod
    def from_preset(cls, preset: Preset, *, dtype: str = "float32") -> "TextGenerator":
        """A generator from a checkpoint with a causal language head.

        Raises:
            PresetError: If the checkpoint has no such head.
        """
        if preset.head != "causal_language":
            raise PresetError(
                f"`{preset.handle}` cannot continue a text: its head is {preset.head or 'missing'}. Take a "
                "causal language model, such as those of the families gpt2, llama or qwen2."
            )
        preset.tokenizer.check_graph()
        return cls(
            build_with_head(preset),
            preset.tokenizer,
            stop_ids=stop_ids_of(preset),
            start_id=start_id_of(preset),
            max_length=preset.max_sequence_length,
            preset=str(preset.handle),
            dtype=dtype,
        )

    def generate(
        self,
        prompts: str | Sequence[str],
        *,
        num_return_sequences: int = 1,
        stop: str | Sequence[str] | Sequence[Sequence[str]] | None = None,
        log_probs: bool = False,
        batch_size: int = _BATCH,
        **settings: Any,
    ) -> list[Any]:
        """Continues prompts.

        Args:
            prompts: One text or many.
            num_return_sequences: Answers to each prompt, drawn apart. Defaults to 1.
            stop: Texts that end an answer, for all prompts or a list for each. Defaults to `None`.
            log_probs: Whether the answers say how likely each of their tokens was. Defaults to `False`.
            batch_size: Answers that are computed together. Defaults to 8; they do not depend on it.
            **settings: `max_new_tokens` (128, or what the context has room for), `min_new_tokens` (0),
                `temperature` (0, the likeliest token each time), `top_k` (0, all), `top_p` (1), `min_p` (0),
                `repetition_penalty` (1), `presence_penalty` (0), `no_repeat_ngram_size` (0) and `seed`
                (`None`, another one each time), each for all prompts or a sequence of one for each; see
                `kerasllm.generation.parameters.Parameters`.

        Returns:
            A `Generation` for each prompt, or a list of them for each where several were asked for.

        Raises:
            ConfigError: If a setting is unknown or impossible; lists all of them.
            DataError: If a prompt is not a text.
        """
        texts = self._checked(prompts)
        checked = check_settings(settings, len(texts))
        stops = check_stops(stop, len(texts))
        copies = _checked_copies(num_return_sequences, checked.get("temperature", [0.0]))
        answers: list[Any] = []
        at_once = max(1, batch_size // copies)
        for start in range(0, len(texts), at_once):
            part = slice(start, start + at_once)
            own = {name: np.repeat(values[part], copies) for name, values in checked.items()}
            if "seed" in own:  # the answers to one prompt differ, and one answer is that of its seed
                own["seed"] = own["seed"] + np.tile(np.arange(copies), len(own["seed"]) // copies)
            own_stops = [each for each in stops[part] for _ in range(copies)]
            found = self._generated(texts[part], own, own_stops, copies, log_probs)
            answers += found if copies == 1 else [found[i : i + copies] for i in range(0, len(found), copies)]
        return answers

    def score(self, prompts: str | Sequence[str], completions: str | Sequence[str]) -> list[Score]:
        """How likely the model finds texts after prompts.

        The tokens of a completion are those that it adds to its prompt.

        Args:
            prompts: One text or many.
            completions: As many.

        Returns:
            A `Score` for each pair: `log_prob`, a sum over `num_tokens` tokens.

        Raises:
            DataError: If there are not as many of the one as of the other, or one is not a text.
        """
        before, after = self._checked(prompts), self._checked(completions)
        if len(before) != len(after):
            raise DataError(f"There are {len(before)} prompts and {len(after)} completions; give as many.")
        found: list[Score] = []
        for start in range(0, len(before), _BATCH):
            part = slice(start, start + _BATCH)
            sums, counts = self._score(tf.constant(before[part]), tf.constant(after[part]))
            found += map(Score, map(float, sums.numpy()), map(int, counts.numpy()))
        return found

    def predict(self, prompts: str | Sequence[str], **settings: Any) -> list[Any]:
        """As `generate`; of a `Chat`, each text is a turn of the user."""
        return self.generate(prompts, **settings)

    def predict_file(
        self,
        path: str | Path,
        *,
        columns: dict[str, str] | None = None,
        batch_size: int = _BATCH,
        **settings: Any,
    ) -> Iterator[dict[str, Any]]:
        """Answers the rows of a file of any size, holding only one batch in memory.

        Args:
            path: CSV, TSV, JSON Lines, Parquet or plain text (one text a line), also compressed; `-` for
                standard input.
            columns: Which column is `text`; found by name when left out.
            batch_size: Rows held at a time. Defaults to 8.
            **settings: As for `generate`.

        Yields:
            One JSON-able dict a row: `prompt`, `text`, `finish_reason`, `num_tokens` and `prompt_cut`.
        """
        for records in stream_records(path, columns=columns, batch_size=batch_size):
            for prompt, answer in zip(records.texts, self.predict(records.texts, **settings), strict=True):
                yield {"prompt": prompt, **answer.to_dict()}

    def stream(
        self, prompt: str, *, stop: str | Sequence[str] | None = None, **settings: Any
    ) -> Iterator[str]:
        """Continues a prompt, and yields the answer piece by piece as it comes.

        The pieces are whole characters, and together they are the text that `generate` gives.

        Args:
            prompt: The text.
            stop: Texts that end the answer. Defaults to `None`.
            **settings: As for `generate`.

        Raises:
            ConfigError: As `generate`.
            DataError: As `generate`.
        """
        texts = self._checked([prompt])
        parameters = Parameters.of(1, **check_settings(settings, 1))
        return self._pieces(tf.constant(texts), parameters, _as_tensor(check_stops(stop, 1)))

    def _pieces(self, texts: Any, parameters: Parameters, stops: Any) -> Iterator[str]:
        answers, parameters, cut = self._begin(texts, parameters, stops, tf.constant(1))
        self._warn_of_cut(cut.numpy())
        longest = max((len(each) for each in stops.numpy()[0]), default=0)
        said = ""
        while True:
            is_over = bool(answers.stopped[0]) or int(answers.lengths[0]) >= int(parameters.max_new_tokens[0])
            text = self._loop.texts(answers, stops).numpy()[0].decode("utf-8")
            # What may yet become another character, or the beginning of a stop string, waits.
            ready = text if is_over else text.rstrip(_UNFINISHED)[: max(len(said), len(text) - longest)]
            if len(ready) > len(said):
                yield ready[len(said) :]
                said = ready
            if is_over:
                return
            answers = self._go_on(answers, parameters, stops, tf.constant(_TOKENS_A_PIECE))

    def export(
        self, path: str | os.PathLike[str], *, version: int | None = None, dtype: str | None = None
    ) -> ExportedModel:
        """Writes `<path>/<version>/`, a SavedModel that a stock TF Serving serves, prompts in and texts out.

        Signatures: `serving_default` takes prompts, `generate` also settings for each row, and `chat`, where
        there is a chat template, conversations. The written model is read back and compared with the plain
        Keras model before it is published.

        Args:
            path: Directory of the served model.
            version: Number of the version. Defaults to one more than the newest.
            dtype: Precision of the weights and of the cache: `"float32"`, `"bfloat16"` or `"float16"`.
                Defaults to that of the generator.

        Raises:
            ExportError: If the written model answers otherwise, a server could not run it, or the chat
                template cannot be written into a graph; no version appears.
        """
        loop = self._make_loop(dtype or self.dtype, keep_log_probs=False)
        folder = export_generation_model(
            path,
            GenerationModule(loop, template=self._compiled_template()),
            reference=self._greedy_texts,
            metadata={"task": self.task, "preset": self.preset},
            version=version,
        )
        return ExportedModel(folder)

    def _compiled_template(self) -> Any:
        return None

    def _greedy_texts(self, prompts: Sequence[str], num_tokens: int) -> tuple[list[str], np.ndarray]:
        """Texts by the other road: eager tokenizer, and the plain Keras model over all tokens each time."""
        begun = [row or [self.start_id] for row in self.tokenizer.encode(list(prompts))]
        rows, margins = [list(row) for row in begun], np.full(len(begun), np.inf)
        live = list(range(len(rows)))
        for _ in range(num_tokens):
            width = max((len(rows[row]) for row in live), default=0)
            ids = np.array([rows[row] + [0] * (width - len(rows[row])) for row in live], np.int32)
            lengths = np.array([len(rows[row]) for row in live])
            mask = (np.arange(width) < lengths[:, None]).astype(np.int32)
            logits = np.asarray(self.keras_model({"token_ids": ids, "padding_mask": mask}, training=False))
            for row, own in zip(live, logits[np.arange(len(live)), lengths - 1], strict=True):
                second, first = np.partition(own, -2)[-2:]
                margins[row] = min(margins[row], first - second)
                rows[row].append(int(own.argmax()))
            live = [row for row in live if rows[row][-1] not in self.stop_ids]
            if not live:
                break
        ended = [row[:-1] if row[-1] in self.stop_ids else row for row in rows]
        before, whole = self.tokenizer.decode(begun), self.tokenizer.decode(ended)
        return [text[len(start) :] for start, text in zip(before, whole, strict=True)], margins

    # The graph -----------------------------------------------------------------------------------------

    @cached_property
    def _loop(self) -> TextLoop:
        return self._make_loop(self.dtype)

    def _make_loop(self, dtype: str, *, keep_log_probs: bool = True) -> TextLoop:
        return TextLoop(
            self.keras_model,
            self.tokenizer,
            stop_ids=self.stop_ids,
            start_id=self.start_id,
            max_length=self.max_length,
            dtype=dtype,
            keep_log_probs=keep_log_probs,
        )

    @cached_property
    def _signature(self) -> tuple[Any, ...]:
        texts, stops = tf.TensorSpec([None], tf.string), tf.TensorSpec([None, None], tf.string)
        settings = Parameters(*(tf.TensorSpec([None], part.dtype) for part in Parameters.of(1)))
        return texts, settings, stops, tf.TensorSpec([], tf.int32)

    @cached_property
    def _score(self) -> Any:
        texts = tf.TensorSpec([None], tf.string)
        return tf.function(self._loop.score, autograph=False, input_signature=[texts, texts])

    @cached_property
    def _begin(self) -> Any:
        return tf.function(self._loop.begin, autograph=False, input_signature=self._signature)

    @cached_property
    def _answer(self) -> Any:
        return tf.function(self._loop.answer, autograph=False, input_signature=self._signature)

    @cached_property
    def _go_on(self) -> Any:
        _, settings, stops, number = self._signature
        begun = self._begin.get_concrete_function().structured_outputs
        answers = tf.nest.map_structure(lambda part: tf.TensorSpec(part.shape, part.dtype), begun.answers)
        signature = [answers, settings, stops, number]
        return tf.function(self._loop.go_on, autograph=False, input_signature=signature)

    def _generated(
        self,
        texts: Sequence[str],
        settings: dict[str, Any],
        stops: list[list[str]],
        copies: int,
        log_probs: bool,
    ) -> list[Generation]:
        parameters = Parameters.of(len(texts) * copies, **settings)
        found = self._answer(tf.constant(texts), parameters, _as_tensor(stops), tf.constant(copies))
        said, lengths, stopped, cut, chances = (part.numpy() for part in found)
        self._warn_of_cut(cut)
        return [
            Generation(
                text.decode("utf-8"),
                "stop" if is_stopped else "length",
                int(length),
                bool(is_cut),
                tuple(map(float, row[:length])) if log_probs else None,
            )
            for text, length, is_stopped, is_cut, row in zip(
                said, lengths, stopped, cut, chances, strict=True
            )
        ]

    def _warn_of_cut(self, cut: np.ndarray) -> None:
        if cut.any():
            _log.warning(
                "%d of %d prompts had no room in the context of %d tokens: their beginnings were cut off.",
                cut.sum(),
                len(cut),
                self.max_length,
            )

    def _checked(self, prompts: Any) -> list[str]:
        if not isinstance(prompts, str) and not isinstance(prompts, Iterable):
            raise DataError(f"The prompts are {prompts!r}; expected a text, or a list of them.")
        texts = [prompts] if isinstance(prompts, str) else list(prompts)
        for number, text in enumerate(texts):
            if not isinstance(text, str):
                raise DataError(
                    f"Prompt {number} is {str(text)[:40]!r} ({type(text).__name__}), but a prompt is a text. "
                    "Pass a list of strings."
                )
            try:
                text.encode("utf-8")
            except UnicodeEncodeError as error:
                raise DataError(
                    f"Prompt {number} has a lone surrogate at character {error.start}, half of a character "
                    "that was cut in two. Repair it, e.g. by "
                    "`text.encode('utf-16', 'surrogatepass').decode('utf-16', 'replace')`."
                ) from error
        return texts


def _as_tensor(stops: list[list[str]]) -> Any:
    return tf.constant(stops, tf.string, shape=[len(stops), len(stops[0]) if stops else 0])


def _checked_copies(copies: int, temperatures: Sequence[float]) -> int:
    if isinstance(copies, bool) or not isinstance(copies, int) or copies < 1:
        raise ConfigError(f"`num_return_sequences` is {copies!r}; expected a whole number from 1 up.")
    if copies > 1 and min(temperatures, default=0) == 0:
        raise ConfigError(
            f"`num_return_sequences` is {copies}, but with `temperature` 0 all of them would be the same. "
            "Set a `temperature` such as 0.7."
        )
    return copies
