"""From prompts to texts: tokenizer, decode loop and tokenizer again, in one graph."""

from typing import Any, NamedTuple

import tensorflow as tf

from kerasllm.errors import PresetError
from kerasllm.generation.decoder import CachedDecoder
from kerasllm.generation.loop import Answers, DecodeLoop
from kerasllm.generation.parameters import Parameters
from kerasllm.generation.scoring import log_likelihoods
from kerasllm.generation.stopping import cut_at_stops
from kerasllm.models.twins import inference_twin
from kerasllm.tokenization.tokenizer import Tokenizer

__all__ = ["Answered", "Begun", "Prompts", "TextLoop"]

_CONTEXT = 8  # tokens of the prompt that are read with an answer: a decoder may strip what comes first


class Prompts(NamedTuple):
    """Prompts as the decode loop reads them.

    Attributes:
        token_ids: int32[batch, columns], each prompt at the right end of its row.
        starts: int32[batch], the column of its first token.
        cut: bool[batch], whether it had more tokens than there is room for.
        room: int32[batch], most tokens of an answer that there is room for.
    """

    token_ids: Any
    starts: Any
    cut: Any
    room: Any


class Begun(NamedTuple):
    """Answers that have begun.

    Attributes:
        answers: Where they stand.
        parameters: As asked for, with no more tokens than there is room for.
        cut: bool[rows], whether the prompt was cut.
    """

    answers: Answers
    parameters: Parameters
    cut: Any


class Answered(NamedTuple):
    """Answers that are over.

    Attributes:
        texts: string[rows].
        lengths: int32[rows], tokens, the one that ended an answer included.
        stopped: bool[rows], whether a token or a text ended it.
        cut: bool[rows], whether the prompt was cut.
        log_probs: float32[rows, most tokens].
    """

    texts: Any
    lengths: Any
    stopped: Any
    cut: Any
    log_probs: Any


class TextLoop:
    """A language model that continues texts.

    Args:
        model: A `kerasllm.models.heads.ModelWithHead` with a causal language head.
        tokenizer: Its tokenizer.
        stop_ids: Tokens that end an answer.
        max_length: Most tokens of prompt and answer together.
        start_id: Token that stands for a prompt without any.
        dtype: Precision of the matrices and of the cache. Defaults to `"float32"`.
        keep_log_probs: Whether log-probabilities are computed. Defaults to `False`.

    Raises:
        PresetError: If the model cannot continue a text, or has no positions for so long a one.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Tokenizer,
        *,
        stop_ids: tuple[int, ...],
        max_length: int,
        start_id: int,
        dtype: str = "float32",
        keep_log_probs: bool = False,
    ):
        self.tokenizer = tokenizer
        self.stop_ids = stop_ids
        self.max_length = max_length
        self.start_id = start_id
        self.dtype = dtype
        self.model = inference_twin(model, dtype)
        self.keep_log_probs = keep_log_probs
        self.decoder = CachedDecoder(self.model)
        most = self.decoder.max_length
        if most is not None and max_length > most:
            raise PresetError(
                f"The model has positions for {most} tokens, not for {max_length}. Set the longest context "
                f"to {most} or less."
            )

    @property
    def variables(self) -> list[Any]:
        """The weights that the loop reads."""
        return [weight.value for weight in self.model.weights]

    def prompts(self, texts: Any, max_new_tokens: Any) -> Prompts:
        """Tokenizes prompts, and cuts off at the left what there is no room for.

        A prompt gets what the answer leaves of the context, and half of it at least.

        Args:
            texts: string[batch].
            max_new_tokens: int32[batch].
        """
        ids = self.tokenizer.graph_encode(texts)
        ids, lengths = self._with_start(ids, ids.row_lengths() == 0)
        most = tf.maximum(self.max_length - max_new_tokens, self.max_length // 2)
        kept = tf.minimum(lengths, most)
        token_ids, starts = self._right(ids, lengths, kept)
        shapes = ([None, None], [None], [None], [None])  # which the ragged ops forget
        found = (token_ids, starts, kept < lengths, self.max_length - kept)
        return Prompts(*map(tf.ensure_shape, found, shapes))

    def score(self, prompts: Any, completions: Any) -> tuple[Any, Any]:
        """How likely completions are after prompts.

        The tokens of a completion are those that it adds to its prompt, as evaluation harnesses count them.
        Of a text that is longer than the context the beginning is cut off.

        Args:
            prompts: string[batch].
            completions: string[batch].

        Returns:
            Sums of the log-probabilities of the completions' tokens, float32[batch], and their numbers,
            int32[batch].
        """
        prompt_ids = self.tokenizer.graph_encode(prompts)
        is_empty = prompt_ids.row_lengths() == 0
        _, before = self._with_start(prompt_ids, is_empty)
        whole = self.tokenizer.graph_encode(tf.strings.join([prompts, completions]))
        ids, lengths = self._with_start(whole, is_empty)
        kept = tf.minimum(lengths, self.max_length)
        asked = tf.minimum(tf.maximum(lengths - before, 0), kept - 1)
        return log_likelihoods(self.decoder, *self._right(ids, lengths, kept), asked), asked

    def begin(self, texts: Any, parameters: Parameters, stops: Any, copies: Any = 1) -> Begun:
        """Reads prompts, and chooses the first token of each answer.

        Args:
            texts: string[batch].
            parameters: Of `batch * copies` rows, the answers to one prompt one after the other.
            stops: string[batch * copies, n], texts that end an answer; empty ones for none.
            copies: Answers to each prompt. Defaults to `1`.
        """
        prompts = self.prompts(texts, parameters.max_new_tokens[::copies])
        room = tf.minimum(parameters.max_new_tokens, tf.repeat(prompts.room, copies))
        parameters = parameters._replace(max_new_tokens=room)
        answers = self._loop(stops).begin(prompts.token_ids, prompts.starts, parameters, copies)
        return Begun(answers, parameters, tf.repeat(prompts.cut, copies))

    def answer(self, texts: Any, parameters: Parameters, stops: Any, copies: Any = 1) -> Answered:
        """Answers prompts, from the first token to the last; arguments as for `begin`."""
        begun = self.begin(texts, parameters, stops, copies)
        answers = self.go_on(begun.answers, begun.parameters, stops)
        found = self.texts(answers, stops)
        return Answered(found, answers.lengths, answers.stopped, begun.cut, answers.log_probs)

    def go_on(self, answers: Answers, parameters: Parameters, stops: Any, steps: Any = None) -> Answers:
        """Goes on until all answers are over, or for some tokens; see `DecodeLoop.go_on`."""
        return self._loop(stops).go_on(answers, parameters, steps)

    def texts(self, answers: Answers, stops: Any) -> Any:
        """The texts of answers so far, cut before their stop strings, string[rows]."""
        return cut_at_stops(self._decoded(answers, tf.range(tf.size(answers.starts))), stops)[0]

    def _loop(self, stops: Any) -> DecodeLoop:
        def ends(answers: Answers, rows: Any) -> Any:
            own = tf.gather(stops, rows)
            return tf.cond(
                tf.reduce_any(own != ""),
                lambda: cut_at_stops(self._decoded(answers, rows), own)[1],
                lambda: tf.zeros(tf.shape(rows), tf.bool),
            )

        return DecodeLoop(self.decoder, self.stop_ids, ends=ends, keep_log_probs=self.keep_log_probs)

    def _decoded(self, answers: Answers, rows: Any) -> Any:
        """What the answers of some rows add to the texts of their prompts, string[rows]."""
        end = answers.prompt_end
        first = tf.maximum(tf.gather(answers.starts, rows), end - _CONTEXT)[:, None]
        last = (end + tf.gather(answers.lengths, rows))[:, None]
        token_ids = tf.gather(answers.token_ids, rows)
        places = tf.range(tf.shape(token_ids)[1])
        is_stop = tf.reduce_any(token_ids[:, :, None] == tf.constant(self.stop_ids, tf.int32), axis=2)
        written = (places >= end) & (places < last) & ~(is_stop & (places == last - 1))

        def decoded(mask: Any) -> Any:
            return self.tokenizer.graph_decode(tf.ragged.boolean_mask(token_ids, mask))

        context = (places >= first) & (places < end)
        before, whole = decoded(context), decoded(context | written)
        size = tf.strings.length(before)
        goes_on = tf.strings.substr(whole, tf.zeros_like(size), size) == before
        rest = tf.strings.substr(whole, size, tf.strings.length(whole))
        # A character that the prompt began and the answer ends is neither in the one nor in the other.
        return tf.cond(
            tf.reduce_all(goes_on), lambda: rest, lambda: tf.where(goes_on, rest, decoded(written))
        )

    def _with_start(self, ids: Any, wanted: Any) -> tuple[Any, Any]:
        """Ragged token ids and their numbers, after the start token in the rows that want it."""
        count = tf.cast(wanted, tf.int64)
        start = tf.RaggedTensor.from_row_lengths(tf.fill([tf.reduce_sum(count)], self.start_id), count)
        ids = tf.concat([start, ids], axis=1)
        return ids, tf.cast(ids.row_lengths(), tf.int32)

    def _right(self, ids: Any, lengths: Any, kept: Any) -> tuple[Any, Any]:
        """Some tokens of each row at its right end: the special ones before the text, and the last others."""
        columns = tf.maximum(tf.reduce_max(kept), 1)  # an empty batch has no largest
        starts = columns - kept
        place = tf.range(columns) - starts[:, None]
        place = tf.where(place < self._num_first(), place, place + (lengths - kept)[:, None])
        token_ids = tf.gather(ids.to_tensor(shape=[None, None]), tf.maximum(place, 0), axis=1, batch_dims=1)
        return tf.where(tf.range(columns) >= starts[:, None], token_ids, 0), starts

    def _num_first(self) -> int:
        """Special tokens that stand before every text."""
        (ids,), special = self.tokenizer.encode(["a"]), set(self.tokenizer.special_ids.values())
        return next((place for place, token in enumerate(ids) if token not in special), 0)
