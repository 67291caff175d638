"""AdamW as fine-tuning needs it: exact for embeddings, equal to PyTorch's, one fused kernel a variable."""

from collections.abc import Iterable
from typing import Any

import keras
import tensorflow as tf

from kerasllm.training.optimizers.grouped import Grouped

__all__ = ["AdamW", "bias_correction", "fused_adam"]


def bias_correction(step: Any, beta_1: float, beta_2: float, epsilon: float) -> tuple[tf.Tensor, tf.Tensor]:
    """What Adam's learning rate is multiplied by, and its epsilon, so that no further correction is needed.

    PyTorch divides both moments by `1 - beta**step` and adds `epsilon` after the root; `ResourceApplyAdam`
    adds it to the root of the uncorrected moment. Taking the correction out of the fraction gives the same.

    Args:
        step: Updates of the variable, this one included; integers of any shape.
        beta_1: Decay of the first moment.
        beta_2: Decay of the second moment.
        epsilon: That of the definition, added to the root of the corrected moment.

    Returns:
        Factors of the rate and epsilons, float32, of the shape of `step`.
    """
    # In float64, because `1 - beta_2**step` is a small difference; of the betas that the kernel multiplies
    # with, those rounded to float32, so that its rounding cancels.
    step = tf.cast(step, tf.float64)
    beta_1, beta_2 = (tf.cast(tf.constant(beta, tf.float32), tf.float64) for beta in (beta_1, beta_2))
    root = tf.sqrt(1.0 - tf.pow(beta_2, step))
    factor = root / (1.0 - tf.pow(beta_1, step))
    return tf.cast(factor, tf.float32), tf.cast(epsilon * root, tf.float32)


def fused_adam(
    variable: Any,
    moments: tuple[Any, Any],
    gradient: Any,
    *,
    rate: Any,
    betas: tuple[float, float],
    epsilon: Any,
) -> None:
    """Updates a variable and its moments, in float32 in one pass over the memory.

    Args:
        variable: The `tf.Variable`.
        moments: First and second moment, `keras.Variable`s, float32 or more precise.
        gradient: Dense gradient.
        rate: Learning rate, times the factor of `bias_correction`.
        betas: `beta_1` and `beta_2`.
        epsilon: That of `bias_correction`.
    """
    if variable.dtype == tf.float32:
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=moments[0].value.handle,
            v=moments[1].value.handle,
            beta1_power=0.0,
            beta2_power=0.0,
            lr=rate,
            beta1=betas[0],
            beta2=betas[1],
            epsilon=epsilon,
            grad=tf.cast(gradient, tf.float32),
        )
        return
    first, second = moments
    gradient = tf.cast(gradient, first.dtype)
    first.assign_add((gradient - first) * (1.0 - betas[0]))
    second.assign_add((tf.square(gradient) - second) * (1.0 - betas[1]))
    root = tf.sqrt(tf.convert_to_tensor(second))
    change = tf.cast(rate, root.dtype) * first / (root + tf.cast(epsilon, root.dtype))
    variable.assign_sub(tf.cast(change, variable.dtype))


@keras.saving.register_keras_serializable(package="kerasllm")
class AdamW(Grouped, keras.optimizers.AdamW):
    """AdamW by its definition, faster than Keras' own, with parameter groups.

    Keras 3.15 on TensorFlow scatters the rows of an embedding's sparse gradient one after the other: a token
    that occurs twice in a batch gets the moments of its last occurrence only, and clipping counts it as two.
    Here repeated rows are summed first and the update is that of the whole variable. Numbers equal those of
    `torch.optim.AdamW`, epsilon included.

    A variable that is trained from a later step on (`GradualUnfreezing`) has its bias correction counted from
    there, as in PyTorch: see `start`.

    Args:
        learning_rate: Rate or schedule. Defaults to 0.001.
        weight_decay: Decoupled weight decay. Defaults to 0.01.
        beta_1: Decay of the first moment. Defaults to 0.9.
        beta_2: Decay of the second moment. Defaults to 0.999.
        epsilon: Added to the root of the corrected second moment. Defaults to 1e-8.
        **kwargs: `groups`, `layer_decay` (see `Grouped`), and Keras' `clipnorm`, `clipvalue`,
            `global_clipnorm`, `use_ema`, `ema_momentum` and so on.

    Source: Loshchilov and Hutter, 2019 (https://arxiv.org/abs/1711.05101).

    Example:
    >>> optimizer = AdamW(5e-5, groups=[{"pattern": "head/", "learning_rate_multiplier": 10.0}])
    """

    def __init__(
        self, learning_rate=0.001, weight_decay=0.01, beta_1=0.9, beta_2=0.999, epsilon=1e-8, **kwargs
    ):
        super().__init__(
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            beta_1=beta_1,
            beta_2=beta_2,
            epsilon=epsilon,
            **kwargs,
        )

    def build(self, variables):
        """Allocates two moments a variable, and the steps at which variables start."""
        if self.built:
            return
        super().build(variables)
        count = len(self._trainable_variables)
        self._starts = self.add_variable(shape=(count,), dtype="int64", name="starts")

    def start(self, variables: Iterable[Any]) -> None:
        """Counts the steps of variables from now on, for those that join the training late.

        Otherwise their moments, zero so far, would be taken for averages over all steps, and their first
        updates would be about three times too large.
        """
        starts = self._starts.numpy()
        for variable in variables:
            starts[self._get_variable_index(variable)] = int(self.iterations.numpy())
        self._starts.assign(starts)

    def _distributed_tf_update_step(self, distribution, grads_and_vars, learning_rate):
        # The corrections of all variables at once: op by op they would cost as much as the updates of small
        # variables.
        steps = tf.cast(self.iterations, tf.int64) + 1 - tf.convert_to_tensor(self._starts)
        factors, epsilons = bias_correction(steps, self.beta_1, self.beta_2, self.epsilon)
        corrections = list(zip(tf.unstack(factors), tf.unstack(epsilons), strict=True))
        object.__setattr__(self, "_corrections", corrections)
        try:
            super()._distributed_tf_update_step(distribution, grads_and_vars, learning_rate)
        finally:
            object.__delattr__(self, "_corrections")

    def update_variable(self, gradient, variable, rate):
        """See `Grouped`."""
        if self.amsgrad:
            super().update_variable(gradient, variable, rate)
            return
        index = self._get_variable_index(variable)
        factor, epsilon = self._corrections[index]
        fused_adam(
            variable,
            (self._momentums[index], self._velocities[index]),
            gradient,
            rate=rate * factor,
            betas=(self.beta_1, self.beta_2),
            epsilon=epsilon,
        )
