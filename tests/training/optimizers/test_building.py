"""From settings to an optimizer."""

import logging

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasllm.errors import ConfigError
from kerasllm.models.builders import build_classifier
from kerasllm.models.presets import Preset
from kerasllm.testing import tiny_bert
from kerasllm.training.optimizers import Adafactor, AdamW, Lion, Muon, build_optimizer
from kerasllm.training.schedules import Cosine


@pytest.fixture
def model(tmp_path):
    return build_classifier(Preset.load(tiny_bert(tmp_path)), num_classes=2)


def variables():
    return [keras.Variable(np.ones((3, 3), np.float32), name=name) for name in ("kernel", "embeddings")]


def test_settings_reach_the_optimizer(model):
    settings = {
        "name": "adamw",
        "learning_rate": 1e-3,
        "weight_decay": 0.2,
        "beta_1": 0.8,
        "beta_2": 0.98,
        "epsilon": 1e-6,
        "clip_norm": 2.0,
        "schedule": "cosine",
        "warmup": 0.1,
        "layer_decay": 0.5,
        "ema": 0.99,
    }
    optimizer = build_optimizer(settings, model.trainable_variables, 200)
    assert isinstance(optimizer, AdamW)
    config = optimizer.get_config()
    assert (config["beta_1"], config["beta_2"], config["epsilon"]) == (0.8, 0.98, 1e-6)
    assert (config["global_clipnorm"], config["use_ema"], config["ema_momentum"]) == (2.0, True, 0.99)
    schedule = optimizer._learning_rate
    assert isinstance(schedule, Cosine)
    assert (schedule.peak, schedule.total_steps, schedule.warmup_steps) == (1e-3, 200, 20)
    by_path = {v.path: v for v in model.trainable_variables}
    query = "encoder_layer_{}/attention/query/{}"
    assert optimizer.settings_of(by_path[query.format(0, "kernel")]).multiplier == 0.25
    assert optimizer.settings_of(by_path[query.format(1, "kernel")]).multiplier == 0.5
    assert optimizer.weight_decay_of(by_path[query.format(1, "kernel")]) == 0.2
    assert optimizer.weight_decay_of(by_path[query.format(1, "bias")]) == 0.0
    assert optimizer.weight_decay_of(by_path["token_embedding/embeddings"]) == 0.2


def test_frozen_variables_have_no_state_and_no_gradient(model):
    groups = [{"pattern": "embedding|^encoder_layer_0/", "frozen": True}]
    before = len(model.trainable_variables)
    optimizer = build_optimizer({"learning_rate": 0.01, "groups": groups}, model.trainable_variables, 10)
    frozen = [v for v in model.variables if "embedding" in v.path or v.path.startswith("encoder_layer_0/")]
    assert len(model.trainable_variables) == before - len(frozen) == 20
    assert len(optimizer.variables) == 2 * 20 + 2  # and iterations and starts
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    values = [v.numpy() for v in frozen]
    ids = np.random.default_rng(0).integers(5, 100, size=(8, 7)).astype(np.int32)
    inputs = {"token_ids": ids, "padding_mask": np.ones_like(ids), "segment_ids": np.zeros_like(ids)}
    model.fit(inputs, ids[:, 0] % 2, epochs=3, verbose=0)
    for variable, value in zip(frozen, values, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)
    assert np.abs(optimizer._momentums[0].numpy()).max() > 0


@pytest.mark.parametrize(
    ("name", "kind"), [("adamw", AdamW), ("adafactor", Adafactor), ("lion", Lion), ("muon", Muon)]
)
def test_each_optimizer_trains_in_fit(name, kind, model):
    rate = 0.03 if kind is Adafactor else 3e-3  # relative to the weights
    settings = {"name": name, "learning_rate": rate, "schedule": "constant", "ema": 0.9, "layer_decay": 0.9}
    optimizer = build_optimizer(settings, model.trainable_variables, 40)
    assert type(optimizer) is kind
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    ids = np.random.default_rng(0).integers(5, 100, size=(32, 7)).astype(np.int32)
    inputs = {"token_ids": ids, "padding_mask": np.ones_like(ids), "segment_ids": np.zeros_like(ids)}
    losses = model.fit(inputs, ids[:, 0] % 2, epochs=20, batch_size=16, verbose=0).history["loss"]
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize(
    ("clip_by", "attribute"),
    [("global_norm", "global_clipnorm"), ("norm", "clipnorm"), ("value", "clipvalue")],
)
def test_gradients_are_clipped_as_asked(clip_by, attribute):
    optimizer = build_optimizer({"learning_rate": 0.01, "clip_norm": 0.5, "clip_by": clip_by}, variables(), 5)
    assert getattr(optimizer, attribute) == 0.5
    clipped = optimizer._clip_gradients([tf.fill((3, 3), 2.0), tf.fill((3, 3), 2.0)])
    norms = [float(tf.norm(gradient)) for gradient in clipped]
    expected = {"global_norm": 0.5 / 2**0.5, "norm": 0.5, "value": 1.5}[clip_by]
    assert norms == pytest.approx([expected, expected], rel=1e-6)


def test_no_clipping_and_no_decay():
    optimizer = build_optimizer(
        {"learning_rate": 0.01, "clip_norm": None, "weight_decay": None}, variables(), 5
    )
    assert (optimizer.global_clipnorm, optimizer.clipnorm, optimizer.clipvalue) == (None, None, None)
    assert optimizer.weight_decay_of(optimizer._trainable_variables[0]) == 0.0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, r"`learning_rate` is None; expected a positive number, such as 5\.0e-5"),
        ({"learning_rate": 0.0}, r"`learning_rate` is 0\.0; expected a positive number"),
        ({"learning_rate": -1e-4}, r"`learning_rate` is -0\.0001; expected a positive number"),
        ({"learning_rate": float("nan")}, r"`learning_rate` is nan"),
        (
            {"learning_rate": 1e-3, "name": "adam"},
            r"no optimizer `adam`; expected one of \['adafactor', 'adamw'",
        ),
        ({"learning_rate": 1e-3, "warm_up": 0.1}, r"`warm_up` is no setting .* Did you mean `warmup`\?"),
        ({"learning_rate": 1e-3, "warmup": 11}, r"`warmup` is 11 steps, the whole run has 10"),
        ({"learning_rate": 1e-3, "beta_2": 1.0}, r"`beta_2` is 1\.0; expected 0 to below 1, such as 0\.999"),
        ({"learning_rate": 1e-3, "weight_decay": -1.0}, r"`weight_decay` is -1\.0; expected 0 or more"),
        ({"learning_rate": 1e-3, "clip_norm": 0.0}, r"`clip_norm` is 0\.0; expected a positive number"),
        ({"learning_rate": 1e-3, "clip_by": "max"}, r"`clip_by` is `max`; expected one of \['global_norm'"),
        ({"learning_rate": 1e-3, "ema": 1.0}, r"`ema` is 1\.0; expected 0 to below 1"),
        (
            {"learning_rate": 1e-3, "name": "lion", "epsilon": 1e-8},
            r"`lion` has no `epsilon`; it has \['beta_1'",
        ),
        ({"learning_rate": 1e-3, "name": "adafactor", "beta_1": 0.9}, r"`adafactor` has no `beta_1`"),
        ({"learning_rate": 1e-3, "groups": [{"pattern": "kernal"}]}, r"Close ones: `kernel`"),
        ({"learning_rate": 1e-3, "groups": [{"pattern": ".", "frozen": True}]}, r"freeze all 2 variables"),
    ],
)
def test_settings_that_cannot_be_are_errors(settings, message):
    with pytest.raises(ConfigError, match=message):
        build_optimizer(settings, variables(), 10)


@pytest.mark.parametrize(("name", "warned"), [("adamw", True), ("lion", True), ("adafactor", False)])
def test_an_absurd_learning_rate_is_warned_of(name, warned, caplog):
    with caplog.at_level(logging.WARNING, logger="kerasllm.training"):
        build_optimizer({"name": name, "learning_rate": 0.5}, variables(), 10)
    assert ("0.5 is very high" in caplog.text) == warned
