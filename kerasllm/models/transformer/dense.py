"""The dense layer and the embedding of every backbone."""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import keras
import tensorflow as tf

from kerasllm.models.transformer.activations import activation_of
from kerasllm.models.transformer.weights import Weighted

__all__ = ["Dense", "Embedding", "TiedDense", "matrices_in"]

_matrices: ContextVar[str | None] = ContextVar("matrices", default=None)


@contextlib.contextmanager
def matrices_in(dtype: str) -> Iterator[None]:
    """Dense layers and embeddings that are made inside keep their matrices, and multiply, in this precision.

    Everything else stays as asked: with float32 around them, additions, norms and softmax lose no digits.

    Args:
        dtype: E.g. `"bfloat16"`.
    """
    token = _matrices.set(dtype)
    try:
        yield
    finally:
        _matrices.reset(token)


@keras.saving.register_keras_serializable(package="kerasllm")
class Dense(Weighted, keras.layers.Dense):
    """`keras.layers.Dense` on a matrix of all tokens at once.

    Product, bias and exact GELU stand one after the other so that TensorFlow makes one op of them.

    Args:
        units: Width of the output.
        activation: A key of `activations.ACTIVATIONS`, or `None`.
        use_bias: Whether a bias is added. Defaults to `True`.
        initializer_range: Standard deviation of new weights. Defaults to `0.02`.
    """

    def __init__(self, units, activation=None, use_bias=True, initializer_range=0.02, **kwargs):
        super().__init__(
            units,
            use_bias=use_bias,
            kernel_initializer=keras.initializers.TruncatedNormal(stddev=initializer_range),
            **_with_dtype(kwargs),
        )
        self.activation_name = activation
        self.initializer_range = initializer_range
        if activation is not None:
            activation_of(activation)  # an unknown name is an error here
        self.adapter: Any = None
        self.int8: Any = None  # instead of `kernel`, where the matrix is kept in 8 bits

    def call(self, inputs, training=None):
        """See the class."""
        if self.lora_enabled or getattr(self, "quantization_mode", None):
            product = super().call(inputs, training=training)
            return self._activate(product, training)
        shape = tf.shape(inputs)
        rows = inputs if inputs.shape.rank == 2 else tf.reshape(inputs, [-1, inputs.shape[-1]])
        product = self._activate(self._product(rows, training=training), training)
        if inputs.shape.rank == 2:
            return product
        return tf.ensure_shape(
            tf.reshape(product, tf.concat([shape[:-1], [self.units]], 0)), [*inputs.shape[:-1], self.units]
        )

    def _activate(self, product: Any, training: bool | None) -> Any:
        if self.activation_name is None:
            return product
        return activation_of(self.activation_name, training=bool(training))(product)

    def matrix(self) -> Any:
        """The matrix that inputs are multiplied with, `(dim, units)`, without an adapter."""
        return tf.convert_to_tensor(self.kernel) if self.int8 is None else self.int8.matrix()

    @property
    def input_dim(self) -> int:
        """Width of the input."""
        return int((self.kernel if self.int8 is None else self.int8.values).shape[0])

    def _product(self, rows: Any, *, training: bool | None) -> Any:
        """Product, adapter and bias."""
        product = tf.matmul(rows, self.kernel) if self.int8 is None else self.int8(rows)
        adapter = self.adapter
        if adapter is not None and adapter.settings.dora:  # which scales what has no bias yet
            matrix = self.kernel if self.int8 is None else self.int8.matrix(rows.dtype)
            product = product + adapter(rows, training=training)
            product = product * tf.cast(adapter.ratio(matrix), product.dtype)
        if self.bias is not None:
            add = _add_bias_in_16_bits if training and product.dtype.size == 2 else tf.nn.bias_add
            product = add(product, tf.convert_to_tensor(self.bias))
        if adapter is not None and not adapter.settings.dora:
            product = product + adapter(rows, training=training)
        return product

    def save_own_variables(self, store):
        """As Keras' own; a matrix in 8 bits is saved by the layer that it is in."""
        if self.int8 is None:
            super().save_own_variables(store)
        elif self.bias is not None:
            store["0"] = self.bias

    def load_own_variables(self, store):
        """See `save_own_variables`."""
        if self.int8 is None:
            super().load_own_variables(store)
        elif self.bias is not None:
            self.bias.assign(store["0"])

    def get_config(self):
        """Everything that `from_config` needs."""
        config = super().get_config()
        return {
            **{key: config[key] for key in ("name", "trainable", "dtype", "units", "use_bias")},
            "activation": self.activation_name,
            "initializer_range": self.initializer_range,
        }


class TiedDense(Weighted, keras.layers.Layer):
    """A dense layer whose matrix is that of an embedding; of its own it has the bias.

    Args:
        units: Width of the output.
        use_bias: Whether a bias is added.

    Call arguments:
        inputs: `(…, dim)`.
        table: The embeddings, `(units, dim)`.
    """

    def __init__(self, units, use_bias, **kwargs):
        super().__init__(**_with_dtype(kwargs))
        self.units = units
        self.use_bias = use_bias
        self.bias = None

    def build(self, input_shape):
        """Makes the bias."""
        if self.use_bias:
            self.bias = self.add_weight(name="bias", shape=(self.units,), initializer="zeros")

    def call(self, inputs, table):
        """See the class."""
        rows = tf.reshape(inputs, [-1, inputs.shape[-1]])
        product = tf.matmul(rows, tf.cast(table, rows.dtype), transpose_b=True)
        if self.bias is not None:
            product = tf.nn.bias_add(product, tf.convert_to_tensor(self.bias))
        return tf.reshape(product, tf.concat([tf.shape(inputs)[:-1], [self.units]], 0))


@keras.saving.register_keras_serializable(package="kerasllm")
class Embedding(Weighted, keras.layers.Embedding):
    """`keras.layers.Embedding` that begins with a checkpoint's rows.

    Attributes:
        augmentation: From vectors and ids to vectors, what training does to them; `None` but for the time
            that `kerasllm.data.augmentation.augmented` puts something there.
    """

    def __init__(self, input_dim, output_dim, initializer_range=0.02, **kwargs):
        super().__init__(
            input_dim,
            output_dim,
            embeddings_initializer=keras.initializers.TruncatedNormal(stddev=initializer_range),
            **_with_dtype(kwargs),
        )
        self.initializer_range = initializer_range
        self.augmentation: Any = None

    def call(self, inputs, training=None):
        """See the class."""
        vectors = super().call(inputs)
        if not training or self.augmentation is None:
            return vectors
        return self.augmentation(vectors, inputs)

    def get_config(self):
        """Everything that `from_config` needs."""
        config = super().get_config()
        return {
            **{key: config[key] for key in ("name", "trainable", "dtype", "input_dim", "output_dim")},
            "initializer_range": self.initializer_range,
        }


@tf.custom_gradient
def _add_bias_in_16_bits(rows: Any, bias: Any) -> Any:
    """`tf.nn.bias_add`, with the gradient of the bias as a product: twice as fast, and summed in float32."""

    def backward(upstream: Any) -> Any:
        ones = tf.ones([1, tf.shape(upstream)[0]], upstream.dtype)
        return upstream, tf.matmul(ones, upstream)[0]

    return tf.nn.bias_add(rows, bias), backward


def _with_dtype(options: dict[str, Any]) -> dict[str, Any]:
    dtype = _matrices.get()
    return options if dtype is None else {**options, "dtype": dtype}
