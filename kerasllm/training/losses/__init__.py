"""Losses that give one float32 number an element, a text or a token, and never a mean.

What the elements weigh, and over how many of them the mean is taken, is known to the training step only: it
sums over all micro-batches of a step and divides once (`kerasllm.training.objectives`).
"""

from kerasllm.training.losses.classification import ClassificationLoss, classification_loss
from kerasllm.training.losses.crossentropy import binary_crossentropy, crossentropy
from kerasllm.training.losses.focal import binary_focal, focal
from kerasllm.training.losses.regression import huber, similarity_error, squared_error

__all__ = [
    "ClassificationLoss",
    "binary_crossentropy",
    "binary_focal",
    "classification_loss",
    "crossentropy",
    "focal",
    "huber",
    "similarity_error",
    "squared_error",
]
