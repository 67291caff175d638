"""Gradual unfreezing in plain `fit`."""

import keras
import numpy as np
import pytest

from kerasllm.errors import ConfigError
from kerasllm.models.builders import build_classifier
from kerasllm.models.presets import Preset
from kerasllm.testing import tiny_bert
from kerasllm.training.optimizers import AdamW, GradualUnfreezing, build_optimizer


class Recorder(keras.callbacks.Callback):
    """Notes which variables change in each epoch."""

    def __init__(self):
        super().__init__()
        self.changed = []

    def on_epoch_begin(self, epoch, logs=None):
        self._before = [v.numpy() for v in self.model.variables]

    def on_epoch_end(self, epoch, logs=None):
        self.changed.append(
            {
                v.path
                for v, values in zip(self.model.variables, self._before, strict=True)
                if not np.array_equal(v.numpy(), values)
            }
        )


def texts():
    ids = np.random.default_rng(0).integers(5, 100, size=(16, 7)).astype(np.int32)
    inputs = {"token_ids": ids, "padding_mask": np.ones_like(ids), "segment_ids": np.zeros_like(ids)}
    return inputs, ids[:, 0] % 2


@pytest.fixture
def classifier(tmp_path):
    return build_classifier(Preset.load(tiny_bert(tmp_path)), num_classes=2, dropout=0.0)


LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


@pytest.mark.parametrize("scaled", [False, True], ids=["plain", "loss_scale"])
def test_layers_join_from_the_top(classifier, scaled):
    settings = {"learning_rate": 1e-3, "schedule": "constant", "ema": 0.9}
    optimizer = build_optimizer(settings, classifier.trainable_variables, 10)
    classifier.compile(keras.optimizers.LossScaleOptimizer(optimizer) if scaled else optimizer, LOSS)
    recorder = Recorder()
    x, y = texts()
    classifier.fit(x, y, epochs=5, verbose=0, callbacks=[GradualUnfreezing({0: 0, 1: 1, 3: 9}), recorder])
    tops = [{path.split("/")[0] for path in changed} for changed in recorder.changed]
    assert tops[0] == {"pooler", "head"}
    assert tops[1] == tops[2] == {"pooler", "head", "encoder_layer_1"}
    bottom = {"encoder_layer_0", "encoder_embeddings", "token_embedding"}
    assert tops[3] == tops[4] == tops[1] | bottom
    assert all(variable.trainable for variable in classifier.trainable_variables)
    assert len(classifier.trainable_variables) == 41


def test_a_layer_that_joins_late_takes_a_step_of_the_usual_size(classifier):
    optimizer = AdamW(1e-3, weight_decay=0.0)
    classifier.compile(optimizer, LOSS)
    x, y = texts()
    kernel = next(v for v in classifier.variables if v.path == "encoder_layer_1/feed_forward/up/kernel")
    before = kernel.numpy()
    # Sixteen steps of the head, then one of everything: a first step of Adam is as large as the rate.
    classifier.fit(x, y, epochs=17, verbose=0, callbacks=[GradualUnfreezing({0: 0, 16: 9})])
    assert np.abs(kernel.numpy() - before).max() == pytest.approx(1e-3, rel=0.01)


def test_resuming_in_a_later_epoch_trains_the_layers_of_that_epoch(classifier):
    optimizer = AdamW(1e-3)
    classifier.compile(optimizer, LOSS)
    optimizer.build(classifier.trainable_variables)
    x, y = texts()
    recorder = Recorder()
    callbacks = [GradualUnfreezing({0: 0, 1: 1, 3: 9}), recorder]
    classifier.fit(x, y, epochs=3, initial_epoch=2, verbose=0, callbacks=callbacks)
    assert {path.split("/")[0] for path in recorder.changed[0]} == {"pooler", "head", "encoder_layer_1"}
    assert not optimizer._starts.numpy().any()  # they joined in epoch 1, not now


def test_layers_of_any_model_count_from_the_last():
    inputs = keras.Input((3,))
    hidden = inputs
    for name in ("first", "second", "third"):
        hidden = keras.layers.Dense(3, name=name)(hidden)
    model = keras.Model(inputs, hidden)
    model.get_layer("first").trainable = False
    model.compile("adam", "mse")
    recorder = Recorder()
    x = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)
    schedule = GradualUnfreezing(lambda epoch: epoch)
    model.fit(x, x[::-1], epochs=3, verbose=0, callbacks=[schedule, recorder])
    tops = [{path.split("/")[0] for path in changed} for changed in recorder.changed]
    assert tops == [{"third"}, {"second", "third"}, {"second", "third"}]
    assert not model.get_layer("first").trainable_variables
    assert model.get_layer("second").kernel.trainable


def test_wrong_schedules_are_errors():
    with pytest.raises(ConfigError, match=r"has the epochs \[1, 2\], but not 0.*Add e\.g\. `0: 0`"):
        GradualUnfreezing({2: 3, 1: 1})
    with pytest.raises(ConfigError, match="has -1 layers in epoch 4; expected 0 or more"):
        GradualUnfreezing(lambda epoch: -1).num_layers(4)
