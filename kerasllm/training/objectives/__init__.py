"""What a training step minimises: from a model and a batch to a sum of losses and a sum of weights."""

from kerasllm.training.objectives.classification import Classification
from kerasllm.training.objectives.objective import LossValue, Objective

__all__ = ["Classification", "LossValue", "Objective"]
