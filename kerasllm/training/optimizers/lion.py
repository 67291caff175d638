"""Lion: the sign of a momentum, with half the state of Adam."""

import keras
import tensorflow as tf

from kerasllm.training.optimizers.grouped import Grouped

__all__ = ["Lion"]


@keras.saving.register_keras_serializable(package="kerasllm")
class Lion(Grouped, keras.optimizers.Lion):
    """Keras' `Lion`, with parameter groups and right for sparse gradients.

    Wants about a tenth of AdamW's learning rate and ten times its weight decay.

    Args:
        *args: As `keras.optimizers.Lion`.
        **kwargs: As `keras.optimizers.Lion`, and `groups` and `layer_decay` (see `Grouped`).

    Source: Chen et al., 2023 (https://arxiv.org/abs/2302.06675).
    """

    def update_variable(self, gradient, variable, rate):
        """See `Grouped`."""
        momentum = self._momentums[self._get_variable_index(variable)]
        gradient = tf.cast(gradient, momentum.dtype)
        mixed = self.beta_1 * momentum + (1.0 - self.beta_1) * gradient
        variable.assign_sub(tf.cast(tf.cast(rate, mixed.dtype) * tf.sign(mixed), variable.dtype))
        momentum.assign(self.beta_2 * momentum + (1.0 - self.beta_2) * gradient)
