"""The Keras layers and models that we put on a backbone."""

from typing import Any

import keras
import tensorflow as tf

from kerasllm.models.transformer.dense import Dense, TiedDense
from kerasllm.models.transformer.dropout import Dropout
from kerasllm.models.transformer.normalization import Normalization
from kerasllm.models.transformer.pooling import TextPooling
from kerasllm.models.transformer.settings import HeadSettings, as_settings, to_dict

__all__ = ["Classifier", "Head", "MeanPooling", "ModelWithHead", "ShiftRight"]


@keras.saving.register_keras_serializable(package="kerasllm")
class MeanPooling(keras.layers.Layer):
    """Averages token vectors, ignoring padding.

    Call arguments:
        inputs: Token vectors of shape `(batch, sequence, dim)`.
        padding_mask: `(batch, sequence)`, 1 for tokens and 0 for padding.

    Example:
    >>> pooled = MeanPooling()(tokens, padding_mask=mask)
    """

    def call(self, inputs, padding_mask):
        """See the class."""
        # float16 sums overflow on long sequences, so average in float32.
        mask = keras.ops.cast(padding_mask, "float32")[..., None]
        total = keras.ops.sum(keras.ops.cast(inputs, "float32") * mask, axis=1)
        count = keras.ops.maximum(keras.ops.sum(mask, axis=1), 1.0)
        return keras.ops.cast(total / count, self.compute_dtype)

    def compute_output_shape(self, input_shape):
        """Drops the sequence."""
        return (input_shape[0], input_shape[2])


@keras.saving.register_keras_serializable(package="kerasllm")
class ShiftRight(keras.layers.Layer):
    """What a decoder reads where it is not told: the encoder's tokens, one place later.

    Args:
        start_id: Token that comes first.

    Call arguments:
        token_ids: Integers of shape `(batch, sequence)`.
    """

    def __init__(self, start_id, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.start_id = start_id

    def call(self, token_ids):
        """See the class."""
        return tf.concat([tf.fill([tf.shape(token_ids)[0], 1], self.start_id), token_ids[:, :-1]], axis=1)

    def compute_output_spec(self, token_ids):
        """Of the shape of the ids."""
        return keras.KerasTensor(token_ids.shape, dtype="int32")

    def get_config(self):
        """Everything that `from_config` needs."""
        return {**super().get_config(), "start_id": self.start_id}


@keras.saving.register_keras_serializable(package="kerasllm")
class Head(keras.layers.Layer):
    """Pools the token vectors, where a text has one answer, and turns them into logits.

    Args:
        settings: `HeadSettings`, or `to_dict` of it.
        initializer_range: Standard deviation of new weights. Defaults to `0.02`.

    Call arguments:
        inputs: Token vectors `(batch, sequence, dim)`; for `pool="pooled"` the pooled vectors `(batch, dim)`.
        padding_mask: `(batch, sequence)`, 1 for tokens and 0 for padding; see `TextPooling` for packed rows.
        table: Token embeddings `(units, dim)`, for `tied`.

    Returns:
        float32 logits, `(batch, units)`, or `(texts, units)` where texts are packed, or
        `(batch, sequence, units)` for `pool="none"`.
    """

    def __init__(self, settings, initializer_range=0.02, **kwargs):
        super().__init__(**kwargs)
        self.settings = settings = as_settings(settings, HeadSettings)
        self.initializer_range = initializer_range
        options: dict[str, Any] = {"dtype": self.dtype_policy}
        self.pooling = None
        if settings.pool not in ("none", "pooled"):
            kind = "last" if settings.pool == "end" else settings.pool
            self.pooling = TextPooling(kind, name="pooling")
        self.dropout_before = None
        if settings.dropout_before:
            self.dropout_before = Dropout(settings.dropout_before, **options)
        self.dropout = Dropout(settings.dropout, **options)
        self.dense = self.norm = None
        if settings.dim:
            self.dense = Dense(
                settings.dim,
                settings.activation,
                initializer_range=initializer_range,
                name="dense",
                **options,
            )
        if settings.norm_epsilon is not None:
            self.norm = Normalization("layer", settings.norm_epsilon, name="norm", **options)
        self.output_dense: Any = None
        if settings.tied:
            self.output_dense = TiedDense(settings.units, settings.bias, name="output", **options)
        else:
            self.output_dense = Dense(
                settings.units,
                use_bias=settings.bias,
                initializer_range=initializer_range,
                name="output",
                **options,
            )

    def build(self, inputs_shape, *shapes, **named_shapes):
        """Makes the weights."""
        dim = inputs_shape[-1]
        if self.dense is not None:
            self.dense.build((None, dim))
            dim = self.settings.dim
        if self.norm is not None:
            self.norm.build((None, dim))
        self.output_dense.build((None, dim))

    def call(self, inputs, padding_mask=None, table=None, training=None):
        """See the class."""
        hidden = tf.cast(inputs, self.compute_dtype)
        if self.pooling is not None:
            hidden = self.pooling(hidden, padding_mask)
        return self.logits(self.features(hidden, training=training), table)

    def features(self, hidden, training=None):
        """The vectors that the output's matrix is multiplied with.

        Args:
            hidden: Pooled vectors `(…, dim)`, or those of tokens, of the head's compute dtype.
            training: Whether dropout is on.
        """
        if self.dropout_before is not None:
            hidden = self.dropout_before(hidden, training=training)
        if self.dense is not None:
            hidden = self.dense(hidden)
        if self.norm is not None:
            hidden = self.norm(hidden)
        hidden = self.dropout(hidden, training=training)
        if self.settings.scale != 1:
            hidden = hidden * tf.cast(self.settings.scale, hidden.dtype)
        return hidden

    def logits(self, hidden, table=None):
        """float32 logits of what `features` gave.

        Args:
            hidden: `(…, dim)`.
            table: Token embeddings `(units, dim)`, for `tied`.
        """
        product = self.output_dense(hidden, table) if self.settings.tied else self.output_dense(hidden)
        logits = tf.cast(product, tf.float32)
        if self.settings.softcap is not None:
            logits = tf.tanh(logits / self.settings.softcap) * self.settings.softcap
        return logits

    def compute_output_spec(self, inputs, padding_mask=None, table=None, training=None):
        """Logits."""
        shape = inputs.shape[:2] if self.settings.pool == "none" else inputs.shape[:1]
        return keras.KerasTensor((*shape, self.settings.units), dtype="float32")

    def get_config(self):
        """Everything that `from_config` needs."""
        return {
            **super().get_config(),
            "settings": to_dict(self.settings),
            "initializer_range": self.initializer_range,
        }


class _Table(keras.layers.Layer):
    """The token embeddings as a tensor, so that a head may use them without owning them."""

    def __init__(self, embedding, **kwargs):
        super().__init__(**kwargs)
        self._embedding = [embedding]  # in a list of a list Keras would track it as a layer of ours too

    def call(self, inputs):
        return tf.convert_to_tensor(self._embedding[0].embeddings)


@keras.saving.register_keras_serializable(package="kerasllm")
class ModelWithHead(keras.Model):
    """A backbone and a head: logits.

    Args:
        backbone: A `TransformerBackbone`.
        head: `HeadSettings`, or `to_dict` of it.
        kind: Kind of the head, as families call it.
        start_id: Token that a decoder begins with, where the head is one for whole texts. Defaults to `None`.
        initializer_range: Standard deviation of a new head. Defaults to `0.02`.
        checkpoint_config: The `config.json` of the backbone's checkpoint, which saving
            starts from. Defaults to `None`.
        labels: Names of the classes. Defaults to `None`.
        problem_type: `"single_label_classification"`, `"multi_label_classification"` or
            `"regression"`: what the logits mean, for whoever reads the saved config.

    Call arguments:
        inputs: Dict of `token_ids`, `padding_mask`, and what else the backbone takes, each int32 of
            shape `(batch, sequence)`.

    Returns:
        Logits, float32 under every dtype policy, of shape `(batch, units)`, or `(batch, sequence, units)`.
    """

    def __init__(
        self,
        backbone,
        head,
        *,
        kind,
        start_id=None,
        initializer_range=0.02,
        checkpoint_config=None,
        labels=None,
        problem_type="single_label_classification",
        **kwargs,
    ):
        head = as_settings(head, HeadSettings)
        # A small head costs nothing in float32, which keeps the logits' digits.
        policy = backbone.dtype_policy if "language" in kind else "float32"
        layer = Head(head, initializer_range, dtype=policy, name="head")
        inputs = {
            name: keras.Input((None,), dtype="int32", name=name)
            for name in backbone.input
            if start_id is None or not name.startswith("decoder_")
        }
        fed = dict(inputs)
        if start_id is not None:
            fed["decoder_token_ids"] = ShiftRight(start_id, name="shift_right")(inputs["token_ids"])
            fed["decoder_padding_mask"] = keras.ops.ones_like(inputs["token_ids"])
        outputs = backbone(fed)
        hidden = outputs["pooled_output" if head.pool == "pooled" else "sequence_output"]
        options = {}
        if head.tied:
            options["table"] = _Table(backbone.token_embedding, dtype=policy, name="table")(hidden)
        logits = layer(hidden, padding_mask=inputs["padding_mask"], **options)
        super().__init__(inputs=inputs, outputs=logits, **kwargs)

        self.backbone = backbone
        self.head = layer
        self.kind = kind
        self.start_id = start_id
        self.initializer_range = initializer_range
        self.checkpoint_config = checkpoint_config or {}
        self.labels = None if labels is None else tuple(labels)
        self.problem_type = problem_type

    def __call__(self, inputs, *args, **kwargs):
        """Like any Keras model; inputs that this family does not take are passed over."""
        if isinstance(inputs, dict):
            inputs = {name: inputs[name] for name in self.input}
        return super().__call__(inputs, *args, **kwargs)

    def get_config(self):
        """Everything that `from_config` needs to compute the same."""
        return {
            "backbone": keras.saving.serialize_keras_object(self.backbone),
            "head": to_dict(self.head.settings),
            "kind": self.kind,
            "start_id": self.start_id,
            "initializer_range": self.initializer_range,
            "checkpoint_config": dict(self.checkpoint_config),
            "labels": None if self.labels is None else list(self.labels),
            "problem_type": self.problem_type,
            "name": self.name,
            "trainable": self.trainable,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """Rebuilds the architecture, with new weights."""
        backbone = keras.saving.deserialize_keras_object(config["backbone"], custom_objects=custom_objects)
        return cls(**{**config, "backbone": backbone})


@keras.saving.register_keras_serializable(package="kerasllm")
class Classifier(ModelWithHead):
    """A backbone and a head with an output for each class.

    Usually made by `kerasllm.models.builders.build_classifier`; see `ModelWithHead` for the arguments.
    """

    @property
    def num_classes(self) -> int:
        """Number of logits."""
        return int(self.head.settings.units)

    @property
    def pooling(self) -> str:
        """`"mean"` (of the token vectors) or `"cls"` (whatever the family's own classifiers look at)."""
        return "mean" if self.head.settings.pool == "mean" else "cls"
