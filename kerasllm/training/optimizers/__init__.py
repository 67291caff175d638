"""Optimizers with parameter groups, averages of weights, and the search for a learning rate."""

from kerasllm.training.optimizers.adafactor import Adafactor
from kerasllm.training.optimizers.adamw import AdamW
from kerasllm.training.optimizers.averages import EvaluateAverages, average_weights, averaged_weights
from kerasllm.training.optimizers.building import build_optimizer
from kerasllm.training.optimizers.groups import NO_DECAY, ParameterGroup
from kerasllm.training.optimizers.lion import Lion
from kerasllm.training.optimizers.muon import Muon
from kerasllm.training.optimizers.rate_finder import RateSearch, find_learning_rate
from kerasllm.training.optimizers.unfreezing import GradualUnfreezing

__all__ = [
    "NO_DECAY",
    "Adafactor",
    "AdamW",
    "EvaluateAverages",
    "GradualUnfreezing",
    "Lion",
    "Muon",
    "ParameterGroup",
    "RateSearch",
    "average_weights",
    "averaged_weights",
    "build_optimizer",
    "find_learning_rate",
]
