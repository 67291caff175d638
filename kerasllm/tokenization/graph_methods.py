"""What a tokenizer does in TensorFlow graphs: `tf.data` and SavedModels."""

from typing import TYPE_CHECKING, Any

from kerasllm.errors import TokenizerError
from kerasllm.tokenization.eager import as_texts, check_pairs, explain_texts
from kerasllm.tokenization.spec import Specification

if TYPE_CHECKING:
    import tensorflow as tf

    from kerasllm.tokenization.graph.pipeline import Encoded, GraphTokenizer

__all__ = ["GraphMethods"]


class GraphMethods:
    """The methods of `Tokenizer` that make operations; only they import TensorFlow."""

    _specification: Specification
    _truncation_side: str
    split_special_tokens: bool

    def __init__(self) -> None:
        self._graph: GraphTokenizer | None = None

    @property
    def pad_id(self) -> int:
        """Id of the padding token."""
        raise NotImplementedError

    def _check_length(self, sequence_length: int | None, *, pair: bool) -> None:
        raise NotImplementedError

    def graph_encode(
        self,
        texts: Any,
        pairs: Any = None,
        *,
        sequence_length: int | None = None,
        split_special_tokens: bool | None = None,
    ) -> "tf.RaggedTensor":
        """`encode` as TensorFlow operations, for `tf.data` and SavedModels: the same ids.

        Bytes that are not UTF-8 are read as U+FFFD. Attach `trackable` to the object that is exported. What
        loads a SavedModel with a WordPiece tokenizer must import `tensorflow_text`; servers have it.

        Args:
            texts: string[batch] as a tensor, or a list or an array of strings.
            pairs: string[batch], the second text of every pair. Defaults to `None`.
            sequence_length: As in `encode`.
            split_special_tokens: As in `encode`.

        Returns:
            Token ids int32[batch, None].

        Raises:
            TokenizerError: If the texts are not one-dimensional, or as in `encode`.

        Example:
        >>> dataset.map(lambda texts: tokenizer.graph_encode(texts, sequence_length=128))
        >>> module = tf.Module()
        >>> module.tokenizer = tokenizer.trackable
        >>> module.encode = tf.function(
        ...     lambda texts: {"ids": tokenizer.graph_encode(texts).to_tensor()},
        ...     input_signature=[tf.TensorSpec([None], tf.string)],
        ... )
        >>> tf.saved_model.save(module, "tokenizer/1", signatures=module.encode)
        """
        return self._graph_encode(texts, pairs, sequence_length, split_special_tokens).ids

    def graph_encode_with_segments(
        self,
        texts: Any,
        pairs: Any = None,
        *,
        sequence_length: int | None = None,
        split_special_tokens: bool | None = None,
    ) -> "tuple[tf.RaggedTensor, tf.RaggedTensor]":
        """Like `graph_encode`, with the segment (0 or 1) of every token as a second ragged tensor."""
        encoded = self._graph_encode(
            texts,
            pairs,
            sequence_length=sequence_length,
            split_special_tokens=split_special_tokens,
            segments=True,
        )
        return encoded.ids, encoded.segments

    def graph_offsets(
        self,
        texts: Any,
        pairs: Any = None,
        *,
        sequence_length: int | None = None,
        split_special_tokens: bool | None = None,
    ) -> "tf.RaggedTensor":
        """`offsets` as TensorFlow operations: int32[batch, None, 2]; arguments as for `graph_encode`."""
        return self._graph_encode(
            texts,
            pairs,
            sequence_length=sequence_length,
            split_special_tokens=split_special_tokens,
            offsets=True,
        ).offsets

    def graph_batch(
        self,
        texts: Any,
        pairs: Any = None,
        *,
        sequence_length: int | None = None,
        fixed: bool = False,
        pad_to_multiple: int = 1,
        split_special_tokens: bool | None = None,
    ) -> "dict[str, tf.Tensor]":
        """A padded batch as a model takes it, made by TensorFlow operations; padding stands at the end.

        ```
        # Output: {"token_ids": int32[b, s], "padding_mask": int32[b, s], "segment_ids": int32[b, s]}
        ```

        Args:
            texts: As for `graph_encode`.
            pairs: As for `graph_encode`. Defaults to `None`.
            sequence_length: As for `graph_encode`. Defaults to `None`.
            fixed: Whether `s` is `sequence_length`; without it, the length of the longest row. Defaults to
                `False`.
            pad_to_multiple: `s` is rounded up to a multiple of this, also beyond `sequence_length`. Defaults
                to `1`.
            split_special_tokens: As in `encode`. Defaults to `None`.

        Returns:
            Token ids, filled up with `pad_id`; 1 for tokens and 0 for padding; segments, filled up with 0.

        Raises:
            TokenizerError: If there is no padding token, if `fixed` lacks a `sequence_length`, or as for
                `graph_encode`.

        Example:
        >>> tokenizer.graph_batch(["Great film."], sequence_length=128)["token_ids"].numpy()
        array([[ 101, 2307, 2143, 1012,  102]], dtype=int32)
        """
        _check_positive("pad_to_multiple", pad_to_multiple)
        if fixed and sequence_length is None:
            raise TokenizerError(
                "`fixed=True` needs a length, but `sequence_length` is None. Give one, e.g. "
                "`sequence_length=128`."
            )
        encoded = self._graph_encode(
            texts,
            pairs,
            sequence_length=sequence_length,
            split_special_tokens=split_special_tokens,
            segments=True,
        )
        from kerasllm.tokenization.graph.batches import pad_batch

        width = sequence_length if fixed else None
        return pad_batch(
            encoded.ids, encoded.segments, pad_id=self.pad_id, width=width, multiple=pad_to_multiple
        )

    def graph_decode(self, token_ids: Any, skip_special_tokens: bool = True) -> Any:
        """`decode` as TensorFlow operations: texts string[batch] of token ids [batch, None].

        Ids that are no token are left out, as the `tokenizers` library does.

        Args:
            token_ids: A ragged or dense tensor, an array, or a list of rows.
            skip_special_tokens: As in `decode`. Defaults to `True`.

        Raises:
            TokenizerError: If they are no rows of whole numbers.
        """
        return self.trackable.decode(_ragged_ids(token_ids), skip_special_tokens=skip_special_tokens)

    def _keeps_special(self, split_special_tokens: bool | None) -> bool:
        if split_special_tokens is None:
            return self.split_special_tokens
        if not isinstance(split_special_tokens, bool):
            raise TokenizerError(
                f"`split_special_tokens` is {split_special_tokens!r}, expected True, False or None."
            )
        return split_special_tokens

    def _graph_encode(
        self,
        texts: Any,
        pairs: Any,
        sequence_length: int | None,
        split_special_tokens: bool | None,
        **wanted: bool,
    ) -> "Encoded":
        self._check_length(sequence_length, pair=pairs is not None)
        first = _string_vector(texts, "texts")
        second = None if pairs is None else _string_vector(pairs, "pairs")
        if second is not None and None not in (first.shape[0], second.shape[0]):
            check_pairs(first.shape[0], second.shape[0])
        return self.trackable.encode(
            first,
            second,
            sequence_length=sequence_length,
            keep_special=self._keeps_special(split_special_tokens),
            **wanted,
        )

    @property
    def trackable(self) -> "GraphTokenizer":
        """The `tf.Module` that owns the tables of the graph; made when it is first needed."""
        if self._graph is None:
            from kerasllm.tokenization.graph.pipeline import GraphTokenizer

            self._graph = GraphTokenizer(self._specification, truncation_side=self._truncation_side)
        return self._graph


def _string_vector(texts: Any, name: str) -> Any:
    import tensorflow as tf

    if not tf.is_tensor(texts):
        texts = as_texts(texts, name)
        explain_texts(texts, name)  # also lone surrogates
        texts = tf.constant(texts, tf.string, shape=[len(texts)])
    if texts.dtype != tf.string or texts.shape.rank != 1:
        raise TokenizerError(
            f"`{name}` has the dtype {texts.dtype.name} and the shape {texts.shape}, expected strings of "
            "shape (batch,). Flatten other shapes first, e.g. `tf.reshape(texts, [-1])`."
        )
    return texts


def _ragged_ids(token_ids: Any) -> "tf.RaggedTensor":
    import tensorflow as tf

    if isinstance(token_ids, tf.RaggedTensor):
        return token_ids
    try:
        if tf.is_tensor(token_ids) or hasattr(token_ids, "dtype"):
            return tf.RaggedTensor.from_tensor(tf.cast(token_ids, tf.int32))
        return tf.ragged.constant(token_ids, tf.int32, ragged_rank=1, row_splits_dtype=tf.int64)
    except (TypeError, ValueError) as error:
        raise TokenizerError(
            f"expected token ids of shape (batch, None), such as `[[101, 102]]`, but: {error}. One row alone "
            "goes into a list: `graph_decode([ids])`."
        ) from error


def _check_positive(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise TokenizerError(f"`{name}` is {value!r}, expected a whole number from 1 on.")
