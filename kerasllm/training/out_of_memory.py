"""What a user is told where memory is short: before the run if it can be foreseen, and after it ran out."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import keras
import tensorflow as tf

from kerasllm.data.limits import available_memory
from kerasllm.training.memory import MemoryEstimate, estimate_memory, in_gib

__all__ = ["MemoryPlan", "Smaller"]

_SHORTEST = 16


@dataclass(frozen=True)
class Smaller:
    """A setting that takes less memory.

    Attributes:
        options: Of the command line.
        price: What it costs.
        estimate: What training then takes.
    """

    options: str
    price: str
    estimate: MemoryEstimate

    def __str__(self) -> str:
        return f"`{self.options}` ({in_gib(self.estimate.total)}; {self.price})"


class MemoryPlan:
    """The memory of a run, and what would take less.

    Args:
        model: What is trained; its optimizer is built if it has one.
        batch_size: Texts of the largest micro-batch.
        width: Tokens of each, padding included.
        accumulate: Micro-batches of a step. Defaults to 1.
        logits_at_once: See `estimate_memory`. Defaults to `None`.

    Attributes:
        estimate: What training takes as it is set.
    """

    def __init__(
        self,
        model: keras.Model,
        *,
        batch_size: int,
        width: int,
        accumulate: int = 1,
        logits_at_once: int | None = None,
    ):
        self.batch_size, self.width, self.accumulate = batch_size, width, accumulate
        self._model, self._logits_at_once = model, logits_at_once
        self._known: dict[Any, Any] = {}
        self.estimate = self._estimate()

    @cached_property
    def smaller(self) -> tuple[Smaller, ...]:
        """Settings that take less, those first that change the result least."""
        every = _smaller(self._estimate, self.batch_size, self.width, self.accumulate, self.estimate)
        return tuple(smaller for smaller in every if smaller.estimate.total < self.estimate.total)

    def _estimate(self, **changes: Any) -> MemoryEstimate:
        settings = {"batch_size": self.batch_size, "width": self.width, "accumulate": self.accumulate}
        return estimate_memory(
            self._model, logits_at_once=self._logits_at_once, known=self._known, **{**settings, **changes}
        )

    def warning(self, available: int | None = None) -> str | None:
        """What to say before the run if it is likely to run out of memory, else `None`.

        Args:
            available: Bytes that are free while the weights and the optimizer's state are there already.
                Defaults to `None`: of this machine, where the CPU trains; on a GPU nothing is foreseen.
        """
        if available is None:
            if tf.config.list_physical_devices("GPU"):
                return None
            available = available_memory()
        needed = self.estimate.in_a_step + self.estimate.runtime
        if needed <= available:
            return None
        there = self.estimate.total - needed
        return (
            f"Training with {self._shape} needs about {in_gib(needed)} more than the weights, but only "
            f"{in_gib(available)} are free. {self._remedy(available + there)}"
        )

    def out_of_memory(self) -> str:
        """What to say when memory ran out."""
        return (
            f"Out of memory with {self._shape}; training needs {self.estimate}. {self._remedy(None)} "
            "The last checkpoint is intact."
        )

    @property
    def _shape(self) -> str:
        texts = "batches of one text" if self.batch_size == 1 else f"batches of {self.batch_size} texts"
        return f"{texts} of up to {self.width} tokens"

    def _remedy(self, limit: int | None) -> str:
        """The settings to try: all that fit."""
        if not self.smaller:
            return "No setting takes less: use a smaller model, or a machine with more memory."
        fitting = [smaller for smaller in self.smaller if limit is None or smaller.estimate.total <= limit]
        if not fitting:
            least = min(self.smaller, key=lambda smaller: smaller.estimate.total)
            return f"None of the next smaller settings fits; the smallest is {least}. Combine several."
        # Of several batch sizes, the largest.
        largest = {smaller.price: smaller for smaller in reversed(fitting)}
        return f"Try {', or '.join(map(str, reversed(largest.values())))}."


def _smaller(
    estimate: Callable[..., MemoryEstimate], batch_size: int, width: int, accumulate: int, now: MemoryEstimate
) -> list[Smaller]:
    found = [
        Smaller(
            "-s training.gradient_checkpointing=true",
            "the same result, slower steps",
            estimate(recompute=True),
        )
    ]
    half = batch_size // 2
    while half:
        times = accumulate * -(-batch_size // half)
        options = f"-s training.batch_size={half} -s training.gradient_accumulation={times}"
        found.append(Smaller(options, "steps about as large", estimate(batch_size=half, accumulate=times)))
        half //= 2
    if width // 2 >= _SHORTEST:
        options = f"-s data.sequence_length={width // 2}"
        found.append(Smaller(options, "longer texts are cut", estimate(width=width // 2)))
    if now.gradients > now.weights // 2:
        # Adapters are a few hundredths of the weights; the frozen rest has neither gradients nor moments.
        adapters = replace(now, optimizer=now.optimizer // 50, gradients=now.gradients // 50)
        found.append(Smaller("-s model.lora.rank=8", "only adapters are trained", adapters))
    return found
