"""The mixed loss: lambda times the row's own, the rest its partner's, of one forward pass."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasllm.data.augmentation import Mixup
from kerasllm.errors import TrainingError
from kerasllm.training.losses import classification_loss
from kerasllm.training.mixing import mixed_loss
from kerasllm.training.objectives import Classification, LossValue, Objective


@pytest.fixture
def problem():
    random = np.random.default_rng(0)
    logits = tf.constant(random.normal(size=(12, 3)), tf.float32)
    calls = []

    def model(inputs, training):
        calls.append(training)
        return logits

    objective = Classification(classification_loss(multi_label=False, label_smoothing=0.1), 3)
    targets = tf.constant(random.integers(0, 3, 12), tf.int32)
    weights = tf.constant(random.uniform(size=12), tf.float32)
    return objective, model, calls, targets, weights


def mixed():
    layer = Mixup(0.5, seed=0)
    layer(
        {"token_ids": np.ones((12, 4), np.int32), "padding_mask": np.ones((12, 4), np.int32)}, training=True
    )
    return layer


def test_it_is_the_sum_of_both_losses_and_the_model_runs_once(problem):
    objective, model, calls, targets, weights = problem
    layer = mixed()
    value = mixed_loss(objective, model, [layer], {}, targets, weights)
    assert calls == [True]
    share, other = layer.mixing.share, layer.mixing.permutation
    own = objective.classification_loss.call(targets, model(None, True))
    theirs = objective.classification_loss.call(tf.gather(targets, other), model(None, True))
    other_weights = (1 - share) * tf.gather(weights, other)
    expected = tf.reduce_sum(share * weights * own + other_weights * theirs)
    assert float(value.total) == pytest.approx(float(expected), rel=1e-5)
    assert float(value.weight) == pytest.approx(
        float(tf.reduce_sum(share * weights + other_weights)), rel=1e-5
    )
    assert value.outputs is model(None, True)


def test_without_mixup_it_is_the_objective_itself(problem):
    objective, model, _, targets, weights = problem
    value = mixed_loss(objective, model, [keras.layers.Identity()], {}, targets, weights)
    plain = objective.loss(model, {}, targets, weights, training=True)
    assert float(value.total) == float(plain.total)


def test_what_cannot_be_mixed_is_refused(problem):
    objective, model, _, targets, weights = problem
    with pytest.raises(TrainingError, match="`augmentation` has 2 `Mixup` layers; leave one"):
        mixed_loss(objective, model, [mixed(), mixed()], {}, targets, weights)

    class Silent(Objective):
        def loss(self, model, inputs, targets, weights, *, training):
            return LossValue(tf.constant(1.0), tf.constant(1.0))

    with pytest.raises(TrainingError, match="`Mixup` cannot mix the targets of `Silent`"):
        mixed_loss(Silent(), model, [mixed()], {}, targets, weights)
