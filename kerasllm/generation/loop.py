"""The decode loop: from prompts to the tokens of answers, the same in Python and in a served graph."""

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from kerasllm.generation.decoder import Cache, CachedDecoder, whole_chunks
from kerasllm.generation.parameters import Parameters
from kerasllm.generation.penalties import History, penalized
from kerasllm.generation.sampling import choose, fresh_seeds

__all__ = ["Answers", "DecodeLoop"]

_MORE_COLUMNS = 128  # that a cache gets at a time, at least


class Answers(NamedTuple):
    """Answers so far, and what is needed to go on with them.

    Attributes:
        token_ids: int32[rows, columns], prompts and answers, each prompt at the right end of its columns.
        starts: int32[rows], the column where each prompt begins.
        prompt_end: int32, the column where all answers begin.
        lengths: int32[rows], tokens of each answer, the one that ended it included.
        stopped: bool[rows], whether an answer is over because a token or a text ended it.
        log_probs: float32[rows, most new tokens], log-probabilities of the answer's tokens, before penalties.
        seeds: int64[rows].
        column: int32, the column of the newest tokens.
        live: int32[live rows], the rows that the cache has; some of them may be over.
        cache: Keys and values of the live rows, of all tokens before the newest.
    """

    token_ids: Any
    starts: Any
    prompt_end: Any
    lengths: Any
    stopped: Any
    log_probs: Any
    seeds: Any
    column: Any
    live: Any
    cache: Cache


class DecodeLoop:
    """Chooses token after token until all answers are over.

    Rows that are over cost no more logits, and leave the cache when they are half of it. The cache grows by
    pieces, so that a large `max_new_tokens` costs nothing before it is used.

    Args:
        decoder: The model.
        stop_ids: Tokens that end an answer.
        ends: From answers and the numbers of some rows `int32[rows]`, whether a text ends each of those,
            bool[rows]. Defaults to `None`, only tokens do.
        keep_log_probs: Whether log-probabilities are computed. Defaults to `False`; they are 0 then.
    """

    def __init__(
        self,
        decoder: CachedDecoder,
        stop_ids: tuple[int, ...],
        *,
        ends: Callable[[Any, Any], Any] | None = None,
        keep_log_probs: bool = False,
    ):
        self.decoder = decoder
        self.stop_ids = stop_ids
        self.ends = ends
        self.keep_log_probs = keep_log_probs

    def begin(self, token_ids: Any, starts: Any, parameters: Parameters, copies: Any = 1) -> Answers:
        """Reads the prompts and chooses the first token of each answer.

        Args:
            token_ids: int32[batch, columns], each prompt at the right end of its row.
            starts: int32[batch], the column of its first token.
            parameters: Of `batch * copies` rows, the answers to one prompt one after the other.
            copies: Answers to each prompt. Defaults to `1`.
        """
        token_ids, starts = whole_chunks(token_ids, starts)
        hidden, cache = self.decoder.prefill(token_ids, starts)
        batch, columns = tf.shape(token_ids)[0], tf.shape(token_ids)[1]
        prompts = tf.repeat(tf.range(batch), copies)
        rows = batch * copies
        most = tf.maximum(tf.reduce_max(parameters.max_new_tokens), 1)
        answers = Answers(
            token_ids=tf.pad(tf.gather(token_ids, prompts), [[0, 0], [0, most]]),
            starts=tf.gather(starts, prompts),
            prompt_end=columns,
            lengths=tf.zeros([rows], tf.int32),
            stopped=tf.zeros([rows], tf.bool),
            log_probs=tf.zeros([rows, most]),
            seeds=fresh_seeds(parameters.seed),
            column=columns - 1,
            live=tf.range(rows),
            cache=cache.rows(prompts),
        )
        return self._chosen(answers, tf.gather(hidden, prompts), parameters)

    def go_on(self, answers: Answers, parameters: Parameters, steps: Any = None) -> Answers:
        """Goes on until all answers are over, or for some tokens.

        Args:
            answers: What `begin` or `go_on` gave.
            parameters: As for `begin`.
            steps: Most tokens of each answer that are added. Defaults to `None`, all.
        """
        last = tf.shape(answers.token_ids)[1] if steps is None else answers.column + steps

        def may_go_on(answers: Answers) -> Any:
            return tf.reduce_any(self._is_live(answers, parameters)) & (answers.column < last)

        def run(answers: Answers) -> Answers:
            answers = self._with_room(self._without_finished(answers, parameters))
            rows, room = tf.size(answers.live), answers.cache.columns

            def has_room(answers: Answers) -> Any:
                live = tf.reduce_sum(tf.cast(self._is_live(answers, parameters), tf.int32))
                return (live * 2 > rows) & (answers.column < room) & (answers.column < last)

            return _loop(has_room, lambda answers: self._step(answers, parameters), answers)

        return _loop(may_go_on, run, answers)

    def _is_live(self, answers: Answers, parameters: Parameters) -> Any:
        """bool[live rows], the ones that are not over."""
        over = answers.stopped | (answers.lengths >= parameters.max_new_tokens)
        return tf.logical_not(tf.gather(over, answers.live))

    def _without_finished(self, answers: Answers, parameters: Parameters) -> Answers:
        kept = tf.cast(tf.where(self._is_live(answers, parameters))[:, 0], tf.int32)
        fewer = tf.size(kept) < tf.size(answers.live)
        cache = tf.cond(fewer, lambda: answers.cache.rows(kept), lambda: answers.cache)
        return answers._replace(live=tf.gather(answers.live, kept), cache=Cache(*cache))

    def _with_room(self, answers: Answers) -> Answers:
        columns = answers.cache.columns
        more = tf.maximum(_MORE_COLUMNS, columns // 4)
        wanted = tf.minimum(columns + more, tf.shape(answers.token_ids)[1])
        wanted = tf.where(answers.column < columns, columns, wanted)
        cache = tf.cond(wanted > columns, lambda: answers.cache.with_room(wanted), lambda: answers.cache)
        return answers._replace(cache=Cache(*cache))

    def _step(self, answers: Answers, parameters: Parameters) -> Answers:
        newest = tf.gather(answers.token_ids[:, answers.column], answers.live)
        starts = tf.gather(answers.starts, answers.live)
        hidden, cache = self.decoder.step(newest, answers.column, starts, answers.cache)
        return self._chosen(answers._replace(cache=cache), hidden, parameters)

    def _chosen(self, answers: Answers, hidden: Any, parameters: Parameters) -> Answers:
        """Chooses the next tokens of the rows that are not over.

        Args:
            answers: Where the rows stand.
            hidden: Vectors of the newest tokens of the live rows.
            parameters: Of all rows.
        """
        places = tf.cast(tf.where(self._is_live(answers, parameters))[:, 0], tf.int32)
        rows = tf.gather(answers.live, places)
        column = answers.column + 1
        own = parameters.rows(rows)
        plain = self.decoder.logits(tf.gather(hidden, places))
        history = History(
            tf.gather(answers.token_ids, rows), tf.gather(answers.starts, rows), answers.prompt_end, column
        )
        logits = penalized(plain, history, own, tf.constant(self.stop_ids, tf.int32))
        step = column - answers.prompt_end
        tokens = choose(logits, own, tf.gather(answers.seeds, rows), step)
        where = tf.stack([rows, tf.fill(tf.shape(rows), column)], axis=1)
        token_ids = tf.tensor_scatter_nd_update(answers.token_ids, where, tokens)
        lengths = tf.tensor_scatter_nd_add(answers.lengths, rows[:, None], tf.ones_like(rows))
        log_probs = answers.log_probs
        if self.keep_log_probs:
            where = tf.stack([rows, tf.fill(tf.shape(rows), step)], axis=1)
            log_probs = tf.tensor_scatter_nd_update(log_probs, where, _log_probs(plain, tokens))
        answers = answers._replace(token_ids=token_ids, lengths=lengths, log_probs=log_probs, column=column)
        over = tf.reduce_any(tokens[:, None] == tf.constant(self.stop_ids, tf.int32), axis=1)
        if self.ends is not None:
            over |= self.ends(answers, rows)
        return answers._replace(stopped=tf.tensor_scatter_nd_update(answers.stopped, rows[:, None], over))


def _log_probs(logits: Any, tokens: Any) -> Any:
    return tf.gather(logits, tokens, axis=1, batch_dims=1) - tf.reduce_logsumexp(logits, axis=1)


def _loop(condition: Any, body: Any, answers: Answers) -> Answers:
    """`tf.while_loop` over `Answers`, in which any axis may change its length."""
    shapes = tf.nest.map_structure(lambda part: tf.TensorShape([None] * part.shape.rank), answers)
    cache = answers.cache
    shapes = shapes._replace(
        cache=Cache(
            *(
                tf.TensorShape([p.shape[0], None, p.shape[2], None, p.shape[4]])
                for p in (cache.keys, cache.values)
            )
        )
    )
    (found,) = tf.while_loop(
        condition,
        lambda answers: (body(answers),),
        (answers,),
        shape_invariants=(shapes,),
        parallel_iterations=1,
    )
    return found
