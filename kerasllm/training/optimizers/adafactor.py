"""Adafactor: a row and a column instead of the second moment of each matrix."""

import keras
import tensorflow as tf

from kerasllm.training.optimizers.grouped import Grouped

__all__ = ["Adafactor"]


@keras.saving.register_keras_serializable(package="kerasllm")
class Adafactor(Grouped, keras.optimizers.Optimizer):
    """Adafactor with the memory that it is chosen for, and with parameter groups.

    Keras' own keeps the product of row and column as a third variable, as large as the matrix, so that it
    needs half of AdamW's memory; this one needs next to none. The numbers are those of
    `torch.optim.Adafactor`: the rate is relative to the root mean square of each variable, so that
    `learning_rate` is rather 1e-3 to 1e-2.

    Args:
        learning_rate: Rate or schedule; never more than `1 / sqrt(step)` is used. Defaults to 0.001.
        weight_decay: Decoupled weight decay, of `learning_rate`. Defaults to `None`.
        beta_2_decay: Exponent by which the second moment forgets less and less. Defaults to -0.8.
        epsilon_1: Added to squared gradients. Defaults to 1e-30.
        epsilon_2: Least root mean square that a variable is taken to have. Defaults to 1e-3.
        clip_threshold: Root mean square above which an update is scaled down. Defaults to 1.0.
        **kwargs: `groups`, `layer_decay` (see `Grouped`), and those of every Keras optimizer.

    Source: Shazeer and Stern, 2018 (https://arxiv.org/abs/1804.04235), algorithms 4 and 5.
    """

    def __init__(
        self,
        learning_rate=0.001,
        weight_decay=None,
        beta_2_decay=-0.8,
        epsilon_1=1e-30,
        epsilon_2=1e-3,
        clip_threshold=1.0,
        **kwargs,
    ):
        super().__init__(learning_rate=learning_rate, weight_decay=weight_decay, **kwargs)
        self.beta_2_decay = beta_2_decay
        self.epsilon_1 = epsilon_1
        self.epsilon_2 = epsilon_2
        self.clip_threshold = clip_threshold

    def build(self, variables):
        """Allocates a row and a column a matrix, and a whole second moment only for vectors."""
        if self.built:
            return
        super().build(variables)
        self._rows, self._columns = [], []
        for variable in self._trainable_variables:
            shape = tuple(variable.shape)
            rows = shape if len(shape) < 2 else shape[:-1]
            columns = (0,) if len(shape) < 2 else (*shape[:-2], shape[-1])
            name = getattr(variable, "path", variable.name).replace("/", "_")
            self._rows.append(self.add_variable(shape=rows, dtype="float32", name=f"{name}_rows"))
            self._columns.append(self.add_variable(shape=columns, dtype="float32", name=f"{name}_columns"))

    def update_variable(self, gradient, variable, rate):
        """See `Grouped`."""
        gradient = tf.cast(gradient, tf.float32)
        step = tf.cast(self.iterations + 1, tf.float32)
        share = tf.pow(step, self.beta_2_decay)  # of this gradient in the second moment
        squares = tf.square(gradient) + self.epsilon_1
        index = self._get_variable_index(variable)
        rows = self._rows[index]
        if gradient.shape.rank < 2:
            rows.assign(rows + share * (squares - rows))
            update = gradient * tf.math.rsqrt(tf.convert_to_tensor(rows))
        else:
            columns = self._columns[index]
            rows.assign(rows + share * (tf.reduce_mean(squares, -1) - rows))
            columns.assign(columns + share * (tf.reduce_mean(squares, -2) - columns))
            mean = tf.reduce_mean(tf.convert_to_tensor(rows), -1, keepdims=True)
            update = gradient * tf.math.rsqrt(rows / mean)[..., None]
            update *= tf.math.rsqrt(tf.convert_to_tensor(columns))[..., None, :]
        size = _root_mean_square(tf.cast(variable, tf.float32))
        rate = tf.minimum(rate, tf.math.rsqrt(step)) * tf.maximum(self.epsilon_2, size)
        rate /= tf.maximum(1.0, _root_mean_square(update) / self.clip_threshold)
        variable.assign_sub(tf.cast(rate * update, variable.dtype))

    def get_config(self):
        """The arguments, for serialisation."""
        return {
            **super().get_config(),
            "beta_2_decay": self.beta_2_decay,
            "epsilon_1": self.epsilon_1,
            "epsilon_2": self.epsilon_2,
            "clip_threshold": self.clip_threshold,
        }


def _root_mean_square(values):
    return tf.sqrt(tf.reduce_mean(tf.square(values)))
