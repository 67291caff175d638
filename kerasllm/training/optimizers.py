"""AdamW as fine-tuning needs it: exact for embeddings, no decay on biases and norms, one fused kernel."""

import keras
import tensorflow as tf

from kerasllm.training.schedules import WarmupDecay

# Parts of the names of variables that weight decay leaves alone: biases and the scales of norms.
NO_DECAY = ("bias", "gamma", "beta", "norm")


@keras.saving.register_keras_serializable(package="kerasllm")
class AdamW(keras.optimizers.AdamW):
    """Keras' `AdamW` with the right update for embeddings, and faster.

    Keras 3.15 on TensorFlow scatters the rows of an embedding's sparse gradient one after the other:
    a token that occurs twice in a batch gets the moments of its last occurrence only, and clipping counts
    it as two. Here repeated rows are summed first, the global norm is taken of the sums, and the update
    is TensorFlow's fused `ResourceApplyAdam` over the whole variable, as the definition has it.

    Source: Loshchilov and Hutter, 2019 (https://arxiv.org/abs/1711.05101).
    """

    def apply(self, grads, trainable_variables=None):
        """Applies gradients; sparse ones are summed per row first."""
        return super().apply([_sum_repeated_rows(grad) for grad in grads], trainable_variables)

    def update_step(self, gradient, variable, learning_rate):
        """Updates one variable and its two moments in place."""
        variable = variable.value if isinstance(variable, keras.Variable) else variable
        index = self._get_variable_index(variable)
        if variable.dtype != tf.float32 or self.amsgrad:
            super().update_step(tf.convert_to_tensor(gradient), variable, learning_rate)
            return
        step = tf.cast(self.iterations + 1, tf.float32)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].value.handle,
            v=self._velocities[index].value.handle,
            beta1_power=tf.pow(self.beta_1, step),
            beta2_power=tf.pow(self.beta_2, step),
            lr=tf.cast(learning_rate, tf.float32),
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=tf.cast(tf.convert_to_tensor(gradient), tf.float32),
        )


def _sum_repeated_rows(gradient):
    if not isinstance(gradient, tf.IndexedSlices):
        return gradient
    rows, positions = tf.unique(gradient.indices)
    values = tf.math.unsorted_segment_sum(gradient.values, positions, tf.size(rows))
    return tf.IndexedSlices(values, rows, dense_shape=gradient.dense_shape)


def build_optimizer(
    model: keras.Model,
    *,
    learning_rate: float,
    num_steps: int,
    weight_decay: float = 0.01,
    warmup: float = 0.1,
    schedule: str = "linear",
    gradient_clip: float | None = 1.0,
) -> AdamW:
    """Builds the optimizer of a fine-tuning run, with its moments allocated.

    Args:
        model: The model to train; its trainable variables get moments, frozen ones none.
        learning_rate: Peak learning rate.
        num_steps: Optimizer steps of the whole run.
        weight_decay: Decoupled decay of matrices and embeddings, not of biases and norms. Defaults to 0.01.
        warmup: Share of the steps in which the rate rises. Defaults to 0.1.
        schedule: `"linear"`, `"cosine"` or `"constant"` after the warm-up. Defaults to `"linear"`.
        gradient_clip: Largest global norm of the gradients, `None` for no clipping. Defaults to 1.0.
    """
    optimizer = AdamW(
        learning_rate=WarmupDecay(learning_rate, num_steps, round(warmup * num_steps), schedule),
        weight_decay=weight_decay,
        beta_2=0.999,
        epsilon=1e-8,
        global_clipnorm=gradient_clip,
    )
    optimizer.exclude_from_weight_decay(
        var_list=[v for v in model.trainable_variables if any(part in v.path.lower() for part in NO_DECAY)]
    )
    optimizer.build(model.trainable_variables)
    return optimizer
