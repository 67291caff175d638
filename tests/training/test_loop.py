"""The loop of a run: Keras' `fit`, from any step on."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasllm.errors import ResourceError
from kerasllm.training.callbacks import RunCheckpoints
from kerasllm.training.checkpoints import Checkpoints, RunState
from kerasllm.training.keras_metrics import classification_metrics
from kerasllm.training.loop import run_epochs
from kerasllm.training.losses import classification_loss
from kerasllm.training.objectives import Classification
from kerasllm.training.run_directory import RunDirectory
from kerasllm.training.step import TrainingStep
from kerasllm.training.timetable import Timetable, windows

STEPS, EPOCHS = 5, 4
TABLE = Timetable([STEPS] * EPOCHS)
RANDOM = np.random.default_rng(0)
BATCHES = [
    (RANDOM.normal(size=(4, 6)).astype("float32"), RANDOM.integers(0, 2, 4)) for _ in range(STEPS * EPOCHS)
]


def make_model():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6,))
    hidden = keras.layers.Dropout(0.4)(keras.layers.Dense(8, activation="tanh")(inputs))
    model = keras.Model(inputs, keras.layers.Dense(2)(hidden))
    loss = classification_loss(multi_label=False)
    model.compile(keras.optimizers.Adam(0.01), loss, metrics=classification_metrics(2, multi_label=False))
    model.optimizer.build(model.trainable_variables)
    return model


def dataset(first=0):
    signature = (tf.TensorSpec([None, 6]), tf.TensorSpec([None], tf.int64), tf.TensorSpec([None]))
    batches = [(*batch, np.ones(4, "float32")) for batch in BATCHES[first:]]
    return tf.data.Dataset.from_generator(lambda: itertools.cycle(batches), output_signature=signature)


def make_step(model):
    loss = classification_loss(multi_label=False)
    return TrainingStep(model, Classification(loss, 2), dataset().element_spec)


def batches_from(step):
    return windows(lambda epoch, batch: dataset(epoch * STEPS + batch), TABLE, first_step=step)


def weights(model):
    return [np.asarray(v) for v in [*model.variables, *model.optimizer.variables]]


def same(one, other):
    return all(np.array_equal(a, b) for a, b in zip(weights(one), weights(other), strict=True))


class Calls(keras.callbacks.Callback):
    """What a callback is told, in order."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def on_epoch_begin(self, epoch, logs=None):
        self.seen.append(("begin", epoch))

    def on_train_batch_end(self, batch, logs=None):
        self.seen.append(("batch", batch, float(logs["loss"]), float(logs["accuracy"])))

    def on_epoch_end(self, epoch, logs=None):
        self.seen.append(("end", epoch, sorted(logs), float(logs["loss"]), float(logs["val_loss"])))


def test_it_does_what_fit_does_bit_for_bit():
    ours, theirs, seen, expected = make_model(), make_model(), Calls(), Calls()
    rows = BATCHES[0]
    theirs.fit(
        dataset(), epochs=EPOCHS, steps_per_epoch=STEPS, shuffle=False, verbose=0,
        validation_data=rows, callbacks=[expected],
    )  # fmt: skip

    def evaluate():
        logs = ours.evaluate(*rows, verbose=0, return_dict=True)
        return {f"val_{name}": value for name, value in logs.items()}

    run_epochs(make_step(ours), batches_from(0), TABLE, evaluate=evaluate, callbacks=[seen])
    assert same(ours, theirs)
    assert seen.seen == expected.seen


class Dies(keras.callbacks.Callback):
    """Raises after a step."""

    def __init__(self, step):
        super().__init__()
        self.step = step

    def on_train_batch_begin(self, batch, logs=None):
        if self.model.optimizer.iterations == self.step:
            raise RuntimeError("killed")


def train(model, folder, *callbacks, **options):
    """Trains in a run directory, from where it stands to the end."""
    run = RunDirectory.create(folder, "") if not folder.exists() else RunDirectory.reopen(folder)
    step = make_step(model)
    checkpoints = Checkpoints(run.checkpoints, {"metrics": step.metric_variables})
    state = checkpoints.restore_newest(model) or RunState()

    def validate():
        logs = model.evaluate(*BATCHES[-1], verbose=0, return_dict=True)
        return {f"val_{name}": value for name, value in logs.items()}

    options = {"monitor": "val_loss", "every": 3, "evaluate": validate, **options}
    evaluate = options["evaluate"]
    keeper = RunCheckpoints(run, checkpoints, state, TABLE, others=callbacks, **options)
    try:
        run_epochs(
            step, batches_from(state.step), TABLE, first_step=state.step,
            epochs_done=state.epoch, evaluate=evaluate, callbacks=[*callbacks, keeper],
        )  # fmt: skip
    finally:
        run.close()
    return state


@pytest.mark.parametrize("evaluate_every", [None, 4])
@pytest.mark.parametrize("step", [1, 3, 4, 5, 6, 13, 19])
def test_a_run_that_died_at_any_step_goes_on_to_the_same_numbers(tmp_path, step, evaluate_every):
    whole, broken = make_model(), make_model()
    expected = train(whole, tmp_path / "whole", evaluate_every=evaluate_every)
    with pytest.raises(RuntimeError, match="killed"):
        train(broken, tmp_path / "broken", Dies(step), evaluate_every=evaluate_every)
    resumed = make_model()
    state = train(resumed, tmp_path / "broken", evaluate_every=evaluate_every)
    assert same(whole, resumed)
    assert (state.history, state.evaluations) == (expected.history, expected.evaluations)
    assert (state.best, state.best_value) == (expected.best, expected.best_value)
    files = [(tmp_path / name / "history.csv").read_text() for name in ("whole", "broken")]
    assert files[0] == files[1]


def test_keras_callbacks_go_on_with_what_they_knew(tmp_path):
    """Early stopping that forgets its best value would wait anew after each kill."""

    class Remembers(keras.callbacks.EarlyStopping):
        waits: list

        def on_epoch_end(self, epoch, logs=None):
            super().on_epoch_end(epoch, {"val_loss": float(epoch)})  # never better than the first
            waits.append(self.wait)

    waits: list[int] = []
    train(make_model(), tmp_path / "whole", Remembers(patience=3, monitor="val_loss"))
    assert waits == [0, 1, 2, 3]
    waits.clear()
    with pytest.raises(RuntimeError, match="killed"):
        train(make_model(), tmp_path / "broken", Remembers(patience=3, monitor="val_loss"), Dies(12))
    train(make_model(), tmp_path / "broken", Remembers(patience=3, monitor="val_loss"))
    assert waits == [0, 1, 2, 3]


def test_patience_in_steps_stops_in_the_middle_of_an_epoch(tmp_path):
    losses = iter(range(100))  # the first is the best
    options = {"patience_steps": 4, "evaluate_every": 2, "evaluate": lambda: {"val_loss": next(losses)}}
    state = train(make_model(), tmp_path / "run", **options)
    assert (state.step, state.best_step, state.is_over) == (6, 2, True)


def test_a_full_disk_costs_a_checkpoint_and_not_the_run(tmp_path, monkeypatch, caplog):
    save = Checkpoints.save

    def full(self, model, state, **options):
        if 5 < state.step < 16:
            raise ResourceError("The disk is full: `x`")
        return save(self, model, state, **options)

    monkeypatch.setattr(Checkpoints, "save", full)
    state = train(make_model(), tmp_path / "run")
    assert state.step == STEPS * EPOCHS
    assert "The checkpoint of step 10 was not written (The disk is full" in caplog.text
    assert (tmp_path / "run" / "checkpoints" / state.best).is_dir()
