"""A decoder that remembers keys and values, so that each new token costs one token's work.

It owns no weights: it calls the layers of a backbone, in the order and with the numbers of the backbone's own
call, and differs only in where keys and values come from. `tests/generation/test_decoder.py` holds the two
equal, family by family.
"""

from typing import Any, NamedTuple

import tensorflow as tf

from kerasllm.errors import PresetError

__all__ = ["CHUNK", "Cache", "CachedDecoder", "whole_chunks"]

CHUNK = 512  # columns of prompts that are read at a time


class Cache(NamedTuple):
    """What a decoder remembers of the tokens that it has seen.

    Attributes:
        keys: `(layers, batch, key-value heads, columns, head_dim)`.
        values: The same shape.
    """

    keys: Any
    values: Any

    @property
    def columns(self) -> Any:
        """How many tokens a row has room for."""
        return tf.shape(self.keys)[3]

    def with_room(self, columns: Any) -> "Cache":
        """The same with more columns, empty ones at the end."""
        more = columns - self.columns
        return Cache(*(tf.pad(part, [[0, 0], [0, 0], [0, 0], [0, more], [0, 0]]) for part in self))

    def rows(self, rows: Any) -> "Cache":
        """Some of its rows, int32[rows], in that order."""
        return Cache(*(tf.gather(part, rows, axis=1) for part in self))


class CachedDecoder:
    """The decoder of a language model.

    Prompts stand at the right of their rows, after padding, so that the next token of each has the same
    column. Positions are counted from the first token of a row.

    Args:
        model: A `kerasllm.models.heads.ModelWithHead` with a causal language head.

    Raises:
        PresetError: If the model is none that continues texts.
    """

    def __init__(self, model: Any):
        settings = model.backbone.settings
        if model.kind != "causal_language" or settings.encoder is not None or not settings.decoder.causal:
            raise PresetError(
                f"A model with the head {model.kind!r} cannot continue a text. Take a causal language model, "
                "such as those of the families gpt2, llama or qwen2."
            )
        self.model = model
        self.backbone = model.backbone
        self.stack = settings.decoder
        self.layers = self.backbone.stack_layers("decoder")
        names = {layer.name: layer for layer in self.backbone.layers}
        self._embeddings = names["decoder_embeddings"]
        self._rotary = {False: names.get("decoder_rotary"), True: names.get("decoder_local_rotary")}
        self._relative = names.get("decoder_relative_bias")
        self._norm = names.get("decoder_norm")
        self._projection = names.get("output_projection")

    @property
    def dim(self) -> int:
        """Width of the vectors that logits are made of."""
        return int(self.backbone.settings.hidden_dim)

    @property
    def max_length(self) -> int | None:
        """Tokens of prompt and answer that there are position embeddings for; `None` without limit."""
        embedding = self.backbone.settings.embedding
        return embedding.num_positions - embedding.position_offset if embedding.num_positions else None

    def prefill(self, token_ids: Any, starts: Any) -> tuple[Any, Cache]:
        """Reads prompts, many tokens at once.

        Args:
            token_ids: int32[batch, columns], each prompt at the right end of its row; as `whole_chunks` gives
                them.
            starts: int32[batch], the column of its first token.

        Returns:
            The vectors of the last tokens, `(batch, dim)`, and the cache, of as many columns.
        """
        columns = tf.shape(token_ids)[1]
        width = tf.minimum(columns, CHUNK)
        cache = self._empty(tf.shape(token_ids)[0], columns)
        last = tf.zeros([tf.shape(token_ids)[0], self.dim])

        def read(column: Any, _: Any, cache: Cache) -> tuple[Any, Any, Cache]:
            hidden, cache = self.read(token_ids[:, column : column + width], column, starts, cache)
            return column + width, tf.cast(hidden[:, -1], tf.float32), cache

        _, last, cache = tf.while_loop(
            lambda column, *_: column < columns, read, (0, last, cache), parallel_iterations=1
        )
        return last, cache

    def states(self, token_ids: Any, starts: Any) -> Any:
        """The vectors of all tokens, `(batch, columns, dim)`; arguments as for `prefill`."""
        columns = tf.shape(token_ids)[1]
        width = tf.minimum(columns, CHUNK)
        found = tf.TensorArray(tf.float32, 0, dynamic_size=True, element_shape=[None, None, self.dim])

        def read(number: Any, cache: Cache, found: Any) -> tuple[Any, Cache, Any]:
            column = number * width
            hidden, cache = self.read(token_ids[:, column : column + width], column, starts, cache)
            return number + 1, cache, found.write(number, tf.cast(hidden, tf.float32))

        cache = self._empty(tf.shape(token_ids)[0], columns)
        number, _, found = tf.while_loop(
            lambda number, *_: number * width < columns, read, (0, cache, found), parallel_iterations=1
        )
        parts = tf.transpose(found.stack(), [1, 0, 2, 3])
        return tf.reshape(parts, [tf.shape(token_ids)[0], number * width, self.dim])

    def step(self, token_ids: Any, column: Any, starts: Any, cache: Cache) -> tuple[Any, Cache]:
        """Reads one more token of each row, int32[batch]; as `read`, with vectors `(batch, dim)`."""
        hidden, cache = self.read(token_ids[:, None], column, starts, cache)
        return hidden[:, 0], cache

    def read(self, token_ids: Any, column: Any, starts: Any, cache: Cache) -> tuple[Any, Cache]:
        """Reads some more tokens of each row.

        Args:
            token_ids: int32[batch, tokens].
            column: Where the first of them stands, the same for all rows.
            starts: int32[batch], the column of the first token of each row.
            cache: With room for the tokens; its memory is used again.

        Returns:
            The vectors of the tokens, `(batch, tokens, dim)`, and the cache.
        """
        seen, asking = tf.range(cache.columns), column + tf.range(tf.shape(token_ids)[1])
        biases = {
            window: self._bias(asking, seen, starts, window)
            for window in {self.stack.window(number) for number in range(self.stack.num_layers)}
        }
        keys, values = cache

        def remember(number: int, key: Any, value: Any) -> tuple[Any, Any, Any]:
            nonlocal keys, values
            keys, values = _written(keys, number, column, key), _written(values, number, column, value)
            return keys[number], values[number], biases[self.stack.window(number)]

        places = asking - starts[:, None]
        mask = tf.cast(places >= 0, tf.int32)
        hidden = self._run(token_ids, tf.maximum(places, 0), mask, remember)
        return hidden, Cache(keys, values)

    def logits(self, hidden: Any) -> Any:
        """float32 logits of the next tokens.

        Args:
            hidden: Vectors that `prefill` or `step` gave, `(rows, dim)`.
        """
        head = self.model.head
        table = tf.convert_to_tensor(self.backbone.token_embedding.embeddings) if head.settings.tied else None
        return head.logits(head.features(tf.cast(hidden, head.compute_dtype)), table)

    def _run(self, token_ids: Any, positions: Any, mask: Any, remember: Any) -> Any:
        hidden = self._embeddings(self.backbone.token_embedding(token_ids), positions, mask)
        plain, local = self._rotary[False], self._rotary[True]
        turned = None if plain is None else plain(positions)
        near = turned if local is None else local(positions)
        for number, layer in enumerate(self.layers):
            rotary = near if self.stack.window(number) is not None else turned
            rotary = None if number in self.stack.without_rotary else rotary

            def attend(tokens: Any, number: int = number, layer: Any = layer, rotary: Any = rotary) -> Any:
                query = layer.attention.queries(tokens, rotary)
                key, value, bias = remember(number, *layer.attention.keys_and_values(tokens, rotary))
                return layer.attention.attend(query, key, value, bias)

            hidden = layer.steps(hidden, attend, None, layer.feed_forward)
        hidden = hidden if self._norm is None else self._norm(hidden)
        return hidden if self._projection is None else self._projection(hidden)

    def _bias(self, asking: Any, seen: Any, starts: Any, window: int | None) -> Any:
        """What is added to scores: float32[batch, 1 or heads, asking, seen], lowest for the unseen."""
        back = asking[:, None] - seen
        near = back >= 0 if window is None else (back >= 0) & (back < window)
        visible = near & (seen >= starts[:, None])[:, None, :]
        bias = tf.where(visible, 0.0, tf.float32.min)[:, None]
        return bias if self._relative is None else bias + self._relative.between(asking, seen)

    def _empty(self, batch: Any, columns: Any) -> Cache:
        stack, dtype = self.stack, self.layers[0].attention.key.compute_dtype
        shape = [stack.num_layers, batch, stack.num_key_value_heads, columns, stack.head_dim]
        return Cache(tf.zeros(shape, dtype), tf.zeros(shape, dtype))


def whole_chunks(token_ids: Any, starts: Any) -> tuple[Any, Any]:
    """Long prompts with so much padding before them that `prefill` reads them in chunks of one size.

    The scores of a whole prompt grow with the square of its length; those of a chunk do not.

    Args:
        token_ids: int32[batch, columns], each prompt at the right end of its row.
        starts: int32[batch], the column of its first token.
    """
    columns = tf.shape(token_ids)[1]
    more = tf.where(columns > CHUNK, -columns % CHUNK, 0)
    return tf.pad(token_ids, [[0, 0], [more, 0]]), starts + more


def _written(cache: Any, number: int, column: Any, new: Any) -> Any:
    """The cache with the keys or values of some tokens in it, in the same memory.

    `TensorStridedSliceUpdate` is what a stock server can run; Keras' `slice_update` is an XLA op there.
    """
    begin, size = tf.stack([number, 0, 0, column, 0]), tf.stack([1, 1, 1, tf.shape(new)[2], 1])
    whole = 0b10110  # the axes of rows, heads and numbers
    return tf.raw_ops.TensorStridedSliceUpdate(
        input=cache,
        begin=begin,
        end=begin + size,
        strides=[1] * 5,
        value=new[None],
        begin_mask=whole,
        end_mask=whole,
    )
