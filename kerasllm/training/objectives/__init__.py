"""What a training step minimises: from a model and a batch to a sum of losses and a sum of weights."""

from kerasllm.training.objectives.causal_language_model import CausalLanguageModel
from kerasllm.training.objectives.classification import Classification
from kerasllm.training.objectives.masked_language_model import MaskedLanguageModel, Masking
from kerasllm.training.objectives.objective import LossValue, Objective
from kerasllm.training.objectives.r_drop import RDrop
from kerasllm.training.objectives.regression import PairSimilarity, Regression

__all__ = [
    "CausalLanguageModel",
    "Classification",
    "LossValue",
    "MaskedLanguageModel",
    "Masking",
    "Objective",
    "PairSimilarity",
    "RDrop",
    "Regression",
]
