"""One optimizer step: the gradients of its micro-batches, divided by what they weigh, applied if finite."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from kerasllm.data.augmentation.embedding_layer import augmented
from kerasllm.training.loss_scale import LossScale
from kerasllm.training.mixing import mixed_loss
from kerasllm.training.optimizers.sparse import values_of

__all__ = ["NotFiniteError", "TrainingStep"]


class NotFiniteError(Exception):
    """A loss or a gradient was no number; the weights are as they were before the step.

    Attributes:
        loss: Mean loss of the micro-batches of the step.
        batches: Its micro-batches.
    """

    def __init__(self, loss: float, batches: Sequence[Any]):
        super().__init__(f"The loss is {loss}.")
        self.loss = loss
        self.batches = list(batches)


class TrainingStep:
    """Trains a model by one optimizer step at a time, and evaluates it.

    The loss of a step is the mean over everything that counts in it: `k` micro-batches give the gradient of
    one batch that holds them all, however unequal they are (a mean of the means of batches, as of Keras'
    `gradient_accumulation_steps`, is another number). A gradient that is not finite changes nothing.

    Args:
        model: Compiled with a built optimizer.
        objective: What is minimised (`kerasllm.training.objectives.Objective`).
        spec: `element_spec` of the data set of `(inputs, targets, weights)`.
        augmentation: Layers that change the inputs in training, in order. Defaults to none.
        loss_scaling: Whether the loss is scaled for float16. Defaults to `False`.
        jit_compile: Whether XLA compiles the step, once for each shape of a batch. Defaults to `False`.

    Attributes:
        metrics: Running metrics of the epoch; the first is the loss.
        loss_scale: The dynamic loss scale, 1 without scaling.
    """

    def __init__(
        self,
        model: keras.Model,
        objective: Any,
        spec: Any,
        *,
        augmentation: Sequence[Any] = (),
        loss_scaling: bool = False,
        jit_compile: bool = False,
    ):
        self.model = model
        self.objective = objective
        self.augmentation = tuple(augmentation)
        self.metrics = [keras.metrics.Mean(name="loss"), *objective.metrics()]
        self.loss_scale = LossScale(active=loss_scaling)
        self._spec = spec
        self._jit_compile = jit_compile
        self._functions: dict[str, Any] = {}
        self._traced_for: Any = None
        self._test: tuple[Any, Any] | None = None
        self._sums: list[tf.Variable] = []
        self._summed: list[bool] = []
        self._weight = tf.Variable(0.0, trainable=False)
        self._results = tf.function(lambda: {metric.name: metric.result() for metric in self.metrics})

    @property
    def metric_variables(self) -> list[Any]:
        """The running sums of the metrics."""
        return [variable for metric in self.metrics for variable in metric.variables]

    @property
    def own_variables(self) -> list[Any]:
        """What the next step depends on beside the model and its optimizer: loss scale, random generators."""
        parts = [*self.augmentation, self.objective]
        variables = [variable for part in parts for variable in getattr(part, "variables", ())]
        return [*self.loss_scale.variables, *variables]

    def __call__(self, batches: Sequence[Any]) -> dict[str, float]:
        """Makes one optimizer step.

        Args:
            batches: Its micro-batches, one or several.

        Returns:
            The metrics of the epoch so far.

        Raises:
            NotFiniteError: If the loss or a gradient is not finite, and no loss scale can help.
        """
        self._trace_if_changed()
        if len(batches) == 1:
            loss, finite = self._functions["single"](batches[0])
        else:
            self._make_sums()
            total = weight = 0.0
            for batch in batches:
                one, counted = self._functions["add"](batch)
                total, weight = total + one * counted, weight + counted
            loss, finite = total / weight, self._functions["apply"]()
        if not bool(finite):
            self._skipped(float(loss), batches)
        return self.results()

    def _skipped(self, loss: float, batches: Sequence[Any]) -> None:
        if not self.loss_scale.active or self.loss_scale.has_collapsed:
            raise NotFiniteError(loss, batches)

    def results(self) -> dict[str, float]:
        """The metrics of the epoch so far."""
        # One call of a graph: op by op, the metrics would cost a good part of a short step.
        return {name: float(value) for name, value in self._results().items()}

    def reset_metrics(self) -> None:
        """Begins an epoch."""
        for metric in self.metrics:
            metric.reset_state()

    def evaluate(
        self, batches: tf.data.Dataset, callbacks: Sequence[keras.callbacks.Callback] = ()
    ) -> dict[str, float]:
        """Measures the objective over a data set, exactly: no mean of the means of batches.

        Args:
            batches: Finite data set of `(inputs, targets, weights)`.
            callbacks: Told as Keras' `evaluate` tells them.

        Returns:
            Loss and metrics.
        """
        metrics = [keras.metrics.Mean(name="loss"), *self.objective.metrics()]
        for callback in callbacks:
            callback.on_test_begin()
        test = self._test_function(batches.element_spec)
        seen: list[tuple[Any, Any]] = []
        for number, batch in enumerate(batches):
            for callback in callbacks:
                callback.on_test_batch_begin(number)
            value = test(batch)
            _count(metrics, value, batch[1], batch[2])
            seen.append((batch[1], value.outputs))
            for callback in callbacks:
                callback.on_test_batch_end(number, {})
        logs = {metric.name: float(metric.result()) for metric in metrics}
        logs.update(self.objective.figures(seen))
        for callback in callbacks:
            callback.on_test_end(logs)
        return logs

    def _test_function(self, spec: Any) -> Any:
        if self._test is None or self._test[0] != spec:
            self._test = (spec, tf.function(self._measure, input_signature=[spec]))
        return self._test[1]

    def measure(self, batch: Any) -> Any:
        """The `LossValue` of one batch, without training, eagerly."""
        return self._measure(batch)

    def _measure(self, batch: Any) -> Any:
        inputs, targets, weights = batch
        return self.objective.loss(self.model, inputs, targets, weights, training=False)

    # The graph ------------------------------------------------------------------------------------------

    def _trace_if_changed(self) -> None:
        """Makes the graph anew when the model asks for it, as `fit` does: what is trainable has changed."""
        if self.model.train_function is None:
            self.model.make_train_function()
        if self._traced_for is self.model.train_function:
            return
        self._traced_for = self.model.train_function
        signature = [self._spec]
        self._sums = []
        self._functions = {
            "single": self._function(self._single, signature),
            "add": self._function(self._add, signature),
            "apply": self._function(self._apply_sums, []),
        }

    def _function(self, python_function: Any, signature: list[Any]) -> Any:
        # `None` leaves it to the surrounding, `False` would forbid it.
        return tf.function(python_function, input_signature=signature, jit_compile=self._jit_compile or None)

    def _single(self, batch: Any) -> tuple[Any, Any]:
        value, loss, gradients = self._gradients(batch)
        gradients = self.loss_scale.unscaled(gradients)
        finite = self._apply(gradients, loss)
        self._count_if_finite(value, batch)
        return loss, finite

    def _add(self, batch: Any) -> tuple[Any, Any]:
        """Adds the gradients of a micro-batch, times its weight, to the sums."""
        value, loss, gradients = self._gradients(batch)
        self._summed = [gradient is not None for gradient in gradients]
        for total, gradient in zip(self._sums, gradients, strict=True):
            if gradient is None:
                continue
            if isinstance(gradient, tf.IndexedSlices):
                values = tf.cast(gradient.values, total.dtype) * value.weight
                total.scatter_add(tf.IndexedSlices(values, gradient.indices))
            else:
                total.assign_add(tf.cast(gradient, total.dtype) * value.weight)
        self._weight.assign_add(value.weight)
        self._count_if_finite(value, batch)
        return loss, value.weight

    def _apply_sums(self) -> Any:
        weight = tf.maximum(self._weight, _LEAST)
        means = [
            total / weight if summed else None for total, summed in zip(self._sums, self._summed, strict=True)
        ]
        gradients = self.loss_scale.unscaled(means)
        finite = self._apply(gradients, 0.0)
        with tf.control_dependencies([finite]):
            for total in self._sums:
                total.assign(tf.zeros_like(total))
            self._weight.assign(0.0)
        return finite

    def _gradients(self, batch: Any) -> tuple[Any, Any, list[Any]]:
        inputs, targets, weights = batch
        variables = self.model.trainable_variables
        with tf.GradientTape() as tape, augmented(self.model, self.augmentation, inputs) as changed:
            value = mixed_loss(self.objective, self.model, self.augmentation, changed, targets, weights)
            loss = value.total / tf.maximum(value.weight, _LEAST)
            scaled = self.loss_scale.scaled(loss)
        return value, loss, tape.gradient(scaled, variables)

    def _apply(self, gradients: list[Any], loss: Any) -> Any:
        """Applies gradients if all of them are finite, and says whether they were."""
        pairs = [
            (gradient, variable)
            for gradient, variable in zip(gradients, self.model.trainable_variables, strict=True)
            if gradient is not None
        ]
        # A sum of squares is finite only where each of them is, and cheaper than looking at each.
        squares = [tf.nn.l2_loss(values_of(gradient)) for gradient, _ in pairs]
        finite = tf.math.is_finite(tf.add_n([tf.cast(square, tf.float32) for square in squares]) + loss)

        def update() -> Any:
            self.model.optimizer.apply(*map(list, zip(*pairs, strict=True)))
            return True

        tf.cond(finite, update, lambda: False)
        self.loss_scale.update(finite)
        return finite

    def _make_sums(self) -> None:
        if not self._sums:
            self._sums = [
                tf.Variable(tf.zeros(variable.shape, tf.float32), trainable=False)
                for variable in self.model.trainable_variables
            ]

    def _count_if_finite(self, value: Any, batch: Any) -> None:
        # One overflow of float16 must not make the mean of the whole epoch no number.
        known = tf.math.is_finite(value.total)
        total, weight = tf.where(known, value.total, 0.0), tf.where(known, value.weight, 0.0)
        _count(self.metrics, type(value)(total, weight, value.outputs), batch[1], batch[2])


_LEAST = 1e-30  # of a weight, so that a batch in which nothing counts has the loss 0


def _count(metrics: Sequence[Any], value: Any, targets: Any, weights: Any) -> None:
    loss, *others = metrics
    loss.update_state(value.total / tf.maximum(value.weight, _LEAST), sample_weight=value.weight)
    for metric in others:
        metric.update_state(targets, value.outputs, sample_weight=weights)
