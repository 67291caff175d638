"""What a server is asked and answers: signatures with text in and text out, as `tf.function`s."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from kerasllm.errors import ExportError
from kerasllm.export.forward import HeadForward, KerasForward, make_forward

if TYPE_CHECKING:
    import keras

    from kerasllm.tokenization.tokenizer import Tokenizer

__all__ = ["ClassificationModule"]

_DOCS: dict[str, tuple[str, list[Any], str]] = {
    "text": ("string", ["batch"], "Texts, UTF-8; cut at the sequence length."),
    "text_pair": ("string", ["batch"], "The second text of each pair."),
    "label": ("string", ["batch"], "The label with the highest score; of equal ones the first."),
    "score": ("float32", ["batch"], "Its score."),
    "labels": ("string", ["batch", "classes"], "All labels, in the order of `scores`."),
    "scores": ("float32", ["batch", "classes"], "Softmax over the classes, or a sigmoid each (multi-label)."),
}
_OUTPUTS = ("label", "score", "labels", "scores")


@dataclass(frozen=True)
class _Parts:
    """What `serve` reads; in one plain object so that TensorFlow does not track and save it."""

    forward: HeadForward | KerasForward
    tokenizer: "Tokenizer"
    labels: tuple[str, ...]
    sequence_length: int
    multi_label: bool
    pair: bool
    chunk_tokens: int
    dtype: str


class ClassificationModule(tf.Module):
    """A text classifier as one graph: tokenizer, model and labels.

    `serve` is what the exported model's `serving_default` runs and what Python's `predict` calls, so the
    two cannot differ in how they treat a text. Inside, the texts of a request are sorted by length and run
    in chunks of a few, each padded to its own longest text only, then put back in order: with texts of
    mixed lengths that is more than twice as fast as one padded batch.

    Args:
        model: Keras model that takes `token_ids`, `padding_mask` and `segment_ids`, all int32 of shape
            `(batch, sequence)`, and returns logits `(batch, classes)`.
        tokenizer: Its tokenizer.
        labels: Names of the classes, in the order of the logits.
        sequence_length: Tokens kept of each text, special tokens included.
        multi_label: Whether the classes are independent, each with a sigmoid of its own. Defaults to
            `False`, one softmax.
        pair: Whether an input is two texts. Defaults to `False`.
        chunk_tokens: Tokens of one forward pass, as far as one text does not have more. Defaults to `512`.
        dtype: Precision of the weights and of the computation: `"float32"`, `"bfloat16"` or `"float16"`.
            Defaults to `"float32"`. The scores are always float32.

    Raises:
        ExportError: If the labels or the sequence length do not fit the model.

    Example:
    >>> module = ClassificationModule(model, tokenizer, labels=["negative", "positive"], sequence_length=128)
    >>> module.serve(tf.constant(["A joy from start to end."]))["label"].numpy()
    array([b'positive'], dtype=object)
    """

    def __init__(
        self,
        model: "keras.Model",
        tokenizer: "Tokenizer",
        *,
        labels: Sequence[str],
        sequence_length: int,
        multi_label: bool = False,
        pair: bool = False,
        chunk_tokens: int = 512,
        dtype: str = "float32",
    ):
        super().__init__(name="classification")
        if model.output_shape[-1] != len(labels):
            raise ExportError(
                f"The model has {model.output_shape[-1]} outputs, but there are {len(labels)} labels: "
                f"{list(labels)}. Pass the labels that the model was trained with."
            )
        forward = make_forward(model, dtype)
        limit = forward.max_sequence_length
        if limit is not None and sequence_length > limit:
            raise ExportError(
                f"The model has positions for {limit} tokens, not for {sequence_length}. Pass a "
                f"`sequence_length` of {limit} or less."
            )
        self._parts = _Parts(
            forward, tokenizer, tuple(labels), sequence_length, multi_label, pair, chunk_tokens, dtype
        )
        # TensorFlow saves what the module holds. The model itself would bring its optimizer along.
        self._weights = forward.variables
        self._tokenizer_state = tokenizer.trackable
        text = tf.TensorSpec([None], tf.string, name="text")
        text_pair = tf.TensorSpec([None], tf.string, name="text_pair")
        if pair:
            self.serve = tf.function(self._serve_pairs, input_signature=[text, text_pair], autograph=False)
        else:
            self.serve = tf.function(self._serve_texts, input_signature=[text], autograph=False)

    @property
    def tokenizer(self) -> "Tokenizer":
        """The tokenizer that was passed."""
        return self._parts.tokenizer

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the scores."""
        return self._parts.labels

    @property
    def multi_label(self) -> bool:
        """Whether each class has a sigmoid of its own."""
        return self._parts.multi_label

    @property
    def sequence_length(self) -> int:
        """Tokens kept of each text."""
        return self._parts.sequence_length

    @property
    def dtype(self) -> str:
        """Precision of the weights."""
        return self._parts.dtype

    @property
    def input_names(self) -> tuple[str, ...]:
        """Names of the signature's inputs."""
        return ("text", "text_pair") if self._parts.pair else ("text",)

    @property
    def signatures(self) -> dict[str, tf.types.experimental.PolymorphicFunction]:
        """Endpoints by signature name."""
        return {"serving_default": self.serve}

    @property
    def description(self) -> dict[str, Any]:
        """What each signature takes and gives, for `kerasllm.json`."""
        return {"serving_default": {"inputs": _describe(self.input_names), "outputs": _describe(_OUTPUTS)}}

    def _serve_texts(self, text):
        return self._answer(text, None)

    def _serve_pairs(self, text, text_pair):
        same = tf.debugging.assert_equal(
            tf.size(text), tf.size(text_pair), message="`text` and `text_pair` need the same number of rows."
        )
        with tf.control_dependencies([same]):
            return self._answer(tf.identity(text), text_pair)

    def _answer(self, text, text_pair):
        """Input: texts. Output: the likeliest label with its score, and all labels with theirs."""
        parts = self._parts
        token_ids, segment_ids = parts.tokenizer.graph_encode_with_segments(
            text, text_pair, sequence_length=parts.sequence_length
        )
        logits = self._logits(token_ids, segment_ids)
        scores = tf.sigmoid(logits) if parts.multi_label else tf.nn.softmax(logits)
        names = tf.constant(parts.labels)
        return {
            "label": tf.gather(names, tf.argmax(scores, axis=-1)),
            "score": tf.reduce_max(scores, axis=-1),
            "labels": tf.tile(names[None], [tf.shape(scores)[0], 1]),
            "scores": scores,
        }

    def _logits(self, token_ids, segment_ids):
        """Runs the model over the texts, longest first, a chunk of about equally long ones at a time."""
        parts = self._parts
        # A text without any token is one padding token, as in `Tokenizer.encode_for_model`.
        lengths = tf.maximum(tf.cast(token_ids.row_lengths(), tf.int32), 1)
        missing = [[0, 0], [0, tf.cast(tf.equal(token_ids.bounding_shape()[1], 0), tf.int32)]]
        pad_id = parts.tokenizer.pad_id
        padded = tf.pad(token_ids.to_tensor(pad_id), missing, constant_values=pad_id)
        segments = tf.pad(segment_ids.to_tensor(0), missing)
        order = tf.argsort(lengths, direction="DESCENDING", stable=True)

        def run(start, logits):
            width = lengths[order[start]]
            rows = order[start : start + tf.maximum(1, parts.chunk_tokens // width)]
            chunk = parts.forward(
                tf.gather(padded, rows)[:, :width],
                tf.gather(lengths, rows),
                tf.gather(segments, rows)[:, :width],
            )
            return start + tf.size(rows), tf.tensor_scatter_nd_update(logits, rows[:, None], chunk)

        first = (tf.constant(0), tf.zeros([tf.size(lengths), len(parts.labels)]))
        shapes = (tf.TensorShape([]), tf.TensorShape([None, len(parts.labels)]))
        return tf.while_loop(lambda start, _: start < tf.size(lengths), run, first, shape_invariants=shapes)[
            1
        ]


def _describe(names: Sequence[str]) -> dict[str, dict[str, Any]]:
    keys = ("dtype", "shape", "description")
    return {name: dict(zip(keys, _DOCS[name], strict=True)) for name in names}
