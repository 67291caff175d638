"""The trainer: every setting reaches the run, and numbers that are none are told and survived."""

import dataclasses
import logging

import keras
import numpy as np
import pytest

from kerasllm.config.schema import TrainingConfig
from kerasllm.data.token_ids import EncodedTexts
from kerasllm.errors import ConfigError, TrainingError
from kerasllm.models.builders import build_classifier
from kerasllm.models.presets import Preset
from kerasllm.testing import tiny_bert
from kerasllm.training.automatic_rate import automatic_learning_rate
from kerasllm.training.callbacks import is_better
from kerasllm.training.classification import TrainingData, classification_problem
from kerasllm.training.optimizers import AdamW, Muon, average_weights
from kerasllm.training.run_directory import RunDirectory
from kerasllm.training.trainer import train

RANDOM = np.random.default_rng(0)
# The label is whether the text has more small ids than large ones.
IDS = [RANDOM.integers(10, 40, RANDOM.integers(3, 12)).tolist() for _ in range(48)]
LABELS = np.array([int(np.median(ids) < 25) for ids in IDS], np.int32)
SETTINGS = {"epochs": 2, "batch_size": 8, "learning_rate": 3.0e-3, "monitor": "val_macro_f1"}


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    return Preset.load(tiny_bert(tmp_path_factory.mktemp("preset") / "bert"))


@pytest.fixture
def model(preset):
    return make_model(preset)


def make_model(preset, policy="float32"):
    keras.utils.set_random_seed(0)
    return build_classifier(preset, num_classes=2, dtype_policy=policy)


def data(**changes):
    segments = [[0] * len(ids) for ids in IDS]
    texts = EncodedTexts.from_lists(IDS, segments, LABELS)
    return TrainingData(dataclasses.replace(texts, **changes), texts, 0, 2, False)


def run(model, folder, *callbacks, texts=None, **settings):
    config = TrainingConfig(**{**SETTINGS, "dtype_policy": "float32", **settings})
    problem = classification_problem(texts or data(), config)
    directory = RunDirectory.create(folder, "") if not folder.exists() else RunDirectory.reopen(folder)
    try:
        return train(model, problem, config, run=directory, callbacks=callbacks)
    finally:
        directory.close()


def values(model):
    return [np.asarray(variable) for variable in model.variables]


@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        ({"gradient_accumulation": 4, "schedule": "cosine", "warmup": 2}, AdamW),
        ({"optimizer": "muon", "layer_decay": 0.8, "clip_by": "norm"}, Muon),
        ({"unfreeze": [0, 2], "schedule": "inverse_sqrt", "beta_2": 0.98, "epsilon": 1.0e-7}, AdamW),
        ({"groups": [{"pattern": "head/", "learning_rate_multiplier": 5.0}], "batch_tokens": 96}, AdamW),
    ],
)
def test_the_settings_of_the_optimizer_reach_the_run(model, tmp_path, settings, kind):
    result = run(model, tmp_path / "run", **settings)
    assert isinstance(model.optimizer, kind)
    history = result.state.history
    assert history[1]["loss"] < history[0]["loss"]
    steps = 2 * 6 // settings.get("gradient_accumulation", 1) if "batch_tokens" not in settings else None
    if settings.get("gradient_accumulation"):
        steps = 2 * 2  # windows of four and of two batches
    assert steps in (None, result.state.step)


def test_frozen_groups_stay_and_have_no_state(model, tmp_path):
    before = np.asarray(model.backbone.token_embedding.embeddings)
    run(model, tmp_path / "run", epochs=1, groups=[{"pattern": "token_embedding", "frozen": True}])
    np.testing.assert_array_equal(before, np.asarray(model.backbone.token_embedding.embeddings))
    assert not any("token_embedding" in variable.path for variable in model.optimizer.variables)


def test_averaged_weights_are_what_is_measured_and_kept(model, preset, tmp_path):
    result = run(model, tmp_path / "run", ema=0.8)
    plain = make_model(preset)
    run(plain, tmp_path / "plain")
    assert not np.array_equal(values(model)[0], values(plain)[0])
    config = TrainingConfig(**SETTINGS, dtype_policy="float32")
    problem = classification_problem(data(), config)
    from kerasllm.training.step import TrainingStep

    step = TrainingStep(model, problem.objective, problem.train.element_spec)
    best = result.state.history[result.state.best_epoch - 1]
    assert step.evaluate(problem.validation)["loss"] == pytest.approx(best["val_loss"], abs=1e-6)


def test_of_equal_figures_the_lower_loss_decides():
    """A small validation set may be all right from the first epoch on; the last is better calibrated."""
    assert is_better("val_accuracy", (1.0, 0.1), (1.0, 0.4))
    assert not is_better("val_accuracy", (1.0, 0.5), (1.0, 0.4))
    assert is_better("val_accuracy", (0.9, 9.0), (0.8, 0.1))
    assert is_better("val_brier_score", (0.1, 9.0), (0.2, 0.1))
    assert not is_better("val_accuracy", (float("nan"), 0.1), (None, None))


def test_a_run_of_one_step_learns_and_is_warned_of(model, tmp_path, caplog):
    before = np.asarray(model.backbone.token_embedding.embeddings)
    with caplog.at_level(logging.WARNING, logger="kerasllm.training"):
        run(model, tmp_path / "run", epochs=1, batch_size=1000, warmup=0.1)
    assert "The whole run has 1 optimizer steps" in caplog.text
    assert not np.array_equal(before, np.asarray(model.backbone.token_embedding.embeddings))


def test_the_mean_of_the_last_checkpoints_is_kept_where_it_is_better(model, tmp_path):
    result = run(model, tmp_path / "run", epochs=4, average_checkpoints=3, monitor="val_loss")
    names = sorted(path.name for path in (tmp_path / "run" / "checkpoints").glob("*-end"))
    assert len(names) >= 3
    best = min(logs["val_loss"] for logs in result.state.history)
    means = average_weights([tmp_path / "run" / "checkpoints" / name for name in names[-3:]])
    kept = np.asarray(model.backbone.token_embedding.embeddings)
    is_mean = np.array_equal(
        kept, next(v for k, v in means.items() if k.endswith("token_embedding/embeddings"))
    )
    assert result.averaged == is_mean == (result.state.best_value < best)


@pytest.mark.parametrize("monitor", ["val_log_loss", "val_calibration_error", "val_micro_f1"])
def test_any_figure_decides_which_state_is_the_best(model, tmp_path, monitor):
    state = run(model, tmp_path / "run", monitor=monitor, epochs=3).state
    figures = [logs[monitor] for logs in state.history]
    best = max(figures) if monitor.endswith("f1") else min(figures)
    assert (state.best_value, figures[state.best_epoch - 1]) == (best, best)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_both_mixed_policies_train(preset, tmp_path, policy):
    result = run(make_model(preset, policy), tmp_path / "run", dtype_policy=policy)
    assert result.state.history[1]["loss"] < result.state.history[0]["loss"]


# Numbers that are none ------------------------------------------------------------------------------------


def test_a_row_that_gives_no_number_is_named_at_the_first_step(model, tmp_path):
    weights = np.ones(48, np.float32)
    weights[17] = np.inf
    with pytest.raises(TrainingError) as said:
        run(model, tmp_path / "run", texts=data(weights=weights), batch_size=48)
    message = str(said.value)
    assert "The loss became nan in epoch 1, step 1, at learning rate" in message or "became inf" in message
    assert "1 of the 48 training rows of this step give it (rows 17," in message
    assert "not the learning rate" in message
    assert not list((tmp_path / "run" / "checkpoints").glob("step-*"))


def test_a_rate_that_is_too_high_is_named(model, tmp_path):
    with pytest.raises(TrainingError, match=r"The learning rate 9.9e\+37 is the cause.* Lower"):
        run(model, tmp_path / "run", learning_rate=1.0e38, warmup=0, gradient_clip=None, epochs=20)


class Poison(keras.callbacks.Callback):
    """Makes a weight NaN before one step, once."""

    def __init__(self, step):
        super().__init__()
        self.step, self.done = step, {1}  # a set is no counter, and so is not set back by going on

    def on_train_batch_begin(self, batch, logs=None):
        if self.model.optimizer.iterations == self.step and self.done:
            self.done.clear()
            weight = self.model.trainable_variables[0]
            weight.assign(np.full(weight.shape, np.nan, np.float32))


def test_a_run_goes_on_from_the_last_good_state_in_a_safer_policy(preset, tmp_path, caplog):
    model = make_model(preset, "mixed_bfloat16")
    poison = Poison(8)
    with caplog.at_level(logging.WARNING, logger="kerasllm.training"):
        result = run(
            model, tmp_path / "run", poison, dtype_policy="mixed_bfloat16", on_nonfinite="safer_policy"
        )
    assert "in epoch 2, step 3" in caplog.text
    assert "Going on in float32 from the last good state." in caplog.text
    assert (result.state.dtype_policy, result.state.epoch, result.state.step) == ("float32", 2, 12)
    assert result.model is not model
    assert all(np.isfinite(value).all() for value in values(result.model))
    for file in (tmp_path / "run" / "checkpoints").glob("*/model.safetensors"):
        import safetensors.numpy

        assert all(np.isfinite(v).all() for v in safetensors.numpy.load_file(file).values())


def test_float32_has_no_safer_policy_and_stops(model, tmp_path):
    with pytest.raises(TrainingError, match="the last good one is step-00000006-end"):
        run(model, tmp_path / "run", Poison(8), on_nonfinite="safer_policy")


# The rate ----------------------------------------------------------------------------------------------


def test_a_rate_is_found_and_the_model_is_as_before(model):
    config = TrainingConfig(**{**SETTINGS, "learning_rate": "auto"}, dtype_policy="float32")
    before = values(model)
    rate = automatic_learning_rate(model, classification_problem(data(), config), config)
    assert 1e-5 < rate < 1.0
    for one, other in zip(before, values(model), strict=True):
        np.testing.assert_array_equal(one, other)


# Bad input ---------------------------------------------------------------------------------------------


class Breaks(keras.callbacks.Callback):
    """A user's callback with a mistake in it."""

    def on_train_batch_end(self, batch, logs=None):
        if self.model.optimizer.iterations == 9:
            raise ZeroDivisionError("of the user")


def test_a_callback_that_raises_is_seen_as_it_is_and_the_checkpoint_is_kept(model, preset, tmp_path):
    with pytest.raises(ZeroDivisionError, match="of the user") as caught:
        run(model, tmp_path / "run", Breaks(), checkpoint_every=4)
    assert "on_train_batch_end" in [entry.name for entry in caught.traceback]
    names = [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()]
    assert "step-00000008" in names
    assert run(make_model(preset), tmp_path / "run", checkpoint_every=4).state.step == 12


def test_a_warmup_longer_than_the_run_is_refused(model, tmp_path):
    with pytest.raises(ConfigError, match="`warmup` is 40 steps, the whole run has 12"):
        run(model, tmp_path / "run", warmup=40)
