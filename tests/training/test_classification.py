"""From a config to what a classifier minimises."""

import numpy as np
import pytest

from kerasllm.config.schema import TrainingConfig
from kerasllm.data.token_ids import EncodedTexts
from kerasllm.training.classification import TrainingData, classification_problem
from kerasllm.training.objectives import Classification, RDrop


@pytest.mark.parametrize("multi_label", [False, True])
def test_the_config_chooses_the_loss(multi_label):
    ids, segments = [[2, 5, 3]] * 4, [[0, 0, 0]] * 4
    targets = np.eye(4, 2, dtype=np.float32) if multi_label else np.array([0, 1, 0, 1], np.int32)
    texts = EncodedTexts.from_lists(ids, segments, targets)
    data = TrainingData(texts, None, pad_id=0, num_classes=2, multi_label=multi_label)
    plain = classification_problem(data, TrainingConfig(label_smoothing=0.1)).objective
    assert isinstance(plain, Classification)
    assert plain.classification_loss.kind == "crossentropy"
    assert plain.classification_loss.label_smoothing == 0.1
    rich = classification_problem(data, TrainingConfig(loss="focal", focal_gamma=1.5, r_drop=0.5)).objective
    assert isinstance(rich, RDrop)
    assert rich.alpha == 0.5
    assert rich.objective.classification_loss.kind == "focal"
    assert rich.objective.classification_loss.focal_gamma == 1.5
    assert rich.objective.classification_loss.multi_label is multi_label
