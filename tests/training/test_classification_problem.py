"""What cannot go together in a classification run."""

import numpy as np
import pytest

from kerasllm.config.schema import TrainingConfig
from kerasllm.data.token_ids import EncodedTexts
from kerasllm.errors import ConfigError
from kerasllm.training.classification import TrainingData, classification_problem


def test_packed_rows_are_not_augmented():
    texts = EncodedTexts.from_lists([[5, 6], [7]], [[0, 0], [0]], np.array([0, 1], np.int32))
    data = TrainingData(texts, None, 0, 2, False, augmentation=(lambda inputs: inputs,))
    classification_problem(data, TrainingConfig())
    with pytest.raises(
        ConfigError, match=r"`training.packing` puts several texts into a row.*`augmentation`"
    ):
        classification_problem(data, TrainingConfig(packing=True))
