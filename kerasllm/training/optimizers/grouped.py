"""What our optimizers do beyond Keras' own: parameter groups, and sparse gradients by the definition."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

import keras
import tensorflow as tf

from kerasllm.training.optimizers.groups import ParameterGroup, VariableSettings, as_groups, settings_of
from kerasllm.training.optimizers.sparse import densify, sum_repeated_rows, values_of

__all__ = ["Grouped"]


class Grouped:
    """Base of our optimizers, before one of Keras' own.

    - Each variable may have its own learning rate and weight decay, or be frozen, in one `apply`.
    - Weight decay is decoupled, and taken at the rate of the variable.
    - Repeated rows of sparse gradients are summed before anything else, clipping included, and the update is
      that of the whole embedding: in rows that a batch does not touch the moments decay as well.
    - Moments and averages of bfloat16 and float16 weights are float32: in bfloat16 0.999 is 1, and Keras' own
      AdamW never moves such a weight, nor its average.
    - At the end of `fit` averaged weights are put where they belong, whatever is trainable then.

    Args:
        *args: Of Keras' optimizer.
        groups: `ParameterGroup`s or dicts of their attributes; the later one decides. Defaults to `None`.
        layer_decay: Factor of the learning rate from each layer to the one below. Defaults to `None`.
        **kwargs: Of Keras' optimizer.
    """

    def __init__(
        self,
        *args: Any,
        groups: Iterable[ParameterGroup | Mapping[str, Any]] | None = None,
        layer_decay: float | None = None,
        **kwargs: Any,
    ):
        super().__init__(*args, **kwargs)
        self._groups = as_groups(groups)
        self.layer_decay = layer_decay
        self._settings: dict[Any, VariableSettings] = {}

    @property
    def groups(self) -> tuple[ParameterGroup, ...]:
        """The parameter groups, in order."""
        return tuple(self._groups)

    def build(self: Any, variables: Any) -> None:
        """Allocates the state of all variables that are not frozen.

        Raises:
            ConfigError: If a group's pattern is found in no variable's path.
        """
        if self.built:
            return
        paths = [getattr(variable, "path", variable.name) for variable in variables]
        settings = settings_of(paths, self.groups, layer_decay=self.layer_decay)
        # A plain dict by key, hidden from Keras' and TensorFlow's tracking of attributes.
        by_key = {self._var_key(v): s for v, s in zip(variables, settings, strict=True)}
        object.__setattr__(self, "_settings", by_key)
        super().build([v for v, s in zip(variables, settings, strict=True) if not s.frozen])  # type: ignore[misc]

    def add_variable_from_reference(
        self: Any, reference_variable: Any, name: str | None = None, initializer: Any = "zeros"
    ) -> Any:
        """Adds a variable of the shape of another, float32 where that is less precise."""
        if reference_variable.dtype not in ("bfloat16", "float16"):
            return super().add_variable_from_reference(reference_variable, name, initializer)  # type: ignore[misc]
        path = reference_variable.path.replace("/", "_")
        return self.add_variable(reference_variable.shape, initializer, "float32", name=f"{path}_{name}")

    def apply(self: Any, grads: Any, trainable_variables: Any = None) -> None:
        """Applies gradients once; those of frozen variables are dropped."""
        grads = [sum_repeated_rows(gradient) for gradient in grads]
        if trainable_variables is not None:
            trainable_variables = list(trainable_variables)
            if not self.built:
                with keras.name_scope(self.name):
                    self.build(trainable_variables)
            kept = [
                (gradient, variable)
                for gradient, variable in zip(grads, trainable_variables, strict=True)
                if not self.settings_of(variable).frozen
            ]
            grads = [gradient for gradient, _ in kept]
            trainable_variables = [variable for _, variable in kept]
        super().apply(grads, trainable_variables)  # type: ignore[misc]

    def _clip_gradients(self: Any, grads: Any) -> Any:
        if self.clipnorm or not self.global_clipnorm:
            return super()._clip_gradients(grads)  # type: ignore[misc]
        # `l2_loss` reads each gradient once; Keras squares all of them into new memory first.
        squares = [tf.nn.l2_loss(tf.cast(values_of(gradient), tf.float32)) for gradient in grads]
        norm = tf.sqrt(2.0 * tf.add_n(squares))
        # What is not finite stays so: as in Keras, all gradients become no number.
        factor = self.global_clipnorm / tf.maximum(norm, self.global_clipnorm) + (norm - norm)
        return [_scaled(gradient, factor) for gradient in grads]

    def settings_of(self: Any, variable: Any) -> VariableSettings:
        """What holds for a variable."""
        return self._settings.get(self._var_key(variable), VariableSettings())

    def weight_decay_of(self: Any, variable: Any) -> float:
        """Weight decay of a variable, 0 for none."""
        own = self.settings_of(variable).weight_decay
        if own is not None:
            return own
        return (self._default_decay(variable) or 0.0) if self._use_weight_decay(variable) else 0.0

    def _default_decay(self: Any, variable: Any) -> float | None:
        return self.weight_decay

    def _apply_weight_decay(self, variables: Any) -> None:
        # `update_step` does it, at the rate of the variable.
        return

    def update_step(self: Any, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Decays and updates one variable and its state in place."""
        variable = variable.value if isinstance(variable, keras.Variable) else variable
        rate = tf.cast(learning_rate, tf.float32)
        multiplier = self.settings_of(variable).multiplier
        if multiplier != 1:
            rate *= multiplier
        decay = self.weight_decay_of(variable)
        if decay:
            variable.assign(variable * tf.cast(1.0 - rate * decay, variable.dtype))
        self.update_variable(densify(gradient, variable.shape), variable, rate)

    def update_variable(self: Any, gradient: Any, variable: Any, rate: Any) -> None:
        """Updates one variable, after its weight decay.

        Args:
            gradient: Dense gradient.
            variable: The `tf.Variable`.
            rate: Its own learning rate, float32.
        """
        super().update_step(gradient, variable, rate)  # type: ignore[misc]

    def _update_model_variables_moving_average(self: Any, trainable_variables: Any) -> None:
        # After the first step the averages are the weights.
        momentum = tf.where(tf.equal(self.iterations, 0), 0.0, self.ema_momentum)
        for variable, average in zip(trainable_variables, self._model_variables_moving_average, strict=True):
            share = tf.cast(1.0 - momentum, average.dtype)
            average.assign_add(share * (tf.cast(variable, average.dtype) - average))

    def finalize_variable_values(self: Any, var_list: Any) -> None:
        """Puts averaged weights into all variables that have some (Keras calls this at the end of `fit`)."""
        if self.use_ema:
            self._overwrite_model_variables_with_average_value(self._trainable_variables)

    def get_config(self) -> dict[str, Any]:
        """The arguments, for serialisation."""
        return {
            **super().get_config(),  # type: ignore[misc]
            "groups": [asdict(group) for group in self.groups] or None,
            "layer_decay": self.layer_decay,
        }


def _scaled(gradient: Any, factor: Any) -> Any:
    values = values_of(gradient) * tf.cast(factor, gradient.dtype)
    if not isinstance(gradient, tf.IndexedSlices):
        return values
    # A product with the sparse gradient itself would make it dense first.
    return tf.IndexedSlices(values, gradient.indices, gradient.dense_shape)
