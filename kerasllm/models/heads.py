"""The Keras layers and models that we put on a backbone."""

import keras


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
class Classifier(keras.Model):
    """A backbone, a pooled vector and one dense layer: logits for each class.

    Usually made by `kerasllm.models.builders.build_classifier`.

    Args:
        backbone: Gives `sequence_output` and, for `pooling="cls"`, `pooled_output`.
        num_classes: Number of logits.
        pooling: `"cls"` (the backbone's pooled output) or `"mean"` (of the token vectors).
        dropout: Rate for the pooled vector. Defaults to `0.0`.
        initializer_range: Standard deviation of the new head. Defaults to `0.02`.
        checkpoint_config: The `config.json` of the backbone's checkpoint, which saving
            starts from. Defaults to `None`.
        labels: Names of the classes. Defaults to `None`.
        problem_type: `"single_label_classification"`, `"multi_label_classification"` or
            `"regression"`: what the logits mean, for whoever reads the saved config.

    Call arguments:
        inputs: Dict of `token_ids`, `padding_mask` and `segment_ids`, each int32 of
            shape `(batch, sequence)`.

    Returns:
        Logits, float32 under every dtype policy, of shape `(batch, num_classes)`.
    """

    def __init__(
        self,
        backbone,
        num_classes,
        *,
        pooling,
        dropout=0.0,
        initializer_range=0.02,
        checkpoint_config=None,
        labels=None,
        problem_type="single_label_classification",
        **kwargs,
    ):
        # === Layers ===
        # The head is small: in float32 it costs nothing and keeps the logits' digits.
        mean_pooling = MeanPooling(dtype="float32", name="mean_pooling")
        head_dropout = keras.layers.Dropout(dropout, dtype="float32", name="classifier_dropout")
        head = keras.layers.Dense(
            num_classes,
            kernel_initializer=keras.initializers.TruncatedNormal(stddev=initializer_range),
            dtype="float32",
            name="classifier",
        )

        # === Functional model ===
        inputs = {
            name: keras.Input(shape=(None,), dtype="int32", name=name)
            for name in ("token_ids", "padding_mask", "segment_ids")
        }
        outputs = backbone(inputs)
        if pooling == "mean":
            pooled = mean_pooling(outputs["sequence_output"], padding_mask=inputs["padding_mask"])
        else:
            pooled = outputs["pooled_output"]
        logits = head(head_dropout(pooled))
        super().__init__(inputs=inputs, outputs=logits, **kwargs)
        if pooling == "mean":
            # It gets no gradient, so the optimizer must not expect one for it.
            backbone.pooled_dense.trainable = False

        # === Config ===
        self.backbone = backbone
        self.num_classes = num_classes
        self.pooling = pooling
        self.dropout = dropout
        self.initializer_range = initializer_range
        self.checkpoint_config = checkpoint_config or {}
        self.labels = None if labels is None else tuple(labels)
        self.problem_type = problem_type

    def get_config(self):
        """Everything that `from_config` needs to compute the same."""
        return {
            "backbone": keras.saving.serialize_keras_object(self.backbone),
            "num_classes": self.num_classes,
            "pooling": self.pooling,
            "dropout": self.dropout,
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
