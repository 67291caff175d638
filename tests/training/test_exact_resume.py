"""`ExactResume`: a plain `fit` that is killed anywhere ends in the numbers of one that was not."""

import contextlib
import os
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasllm.errors import CheckpointError, ConfigError, TrainingError
from kerasllm.training.exact_resume import ExactResume
from kerasllm.training.optimizers.unfreezing import GradualUnfreezing
from kerasllm.training.throughput import Throughput

ROWS, BATCH, EPOCHS = 22, 4, 3
STEPS = -(-ROWS // BATCH)
RANDOM = np.random.default_rng(0)
X, Y = RANDOM.normal(size=(ROWS, 6)).astype("float32"), RANDOM.integers(0, 2, ROWS)


def make_model(**options):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6,))
    hidden = keras.layers.Dropout(0.4)(keras.layers.Dense(8, activation="tanh")(inputs))
    model = keras.Model(inputs, keras.layers.Dense(2)(hidden))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.01), loss, metrics=["accuracy"], **options)
    return model


def pipeline():
    dataset = tf.data.Dataset.from_tensor_slices(({"a": X}, Y)).map(lambda x, y: (x["a"], y))
    return dataset.shuffle(ROWS, seed=3, reshuffle_each_iteration=False).batch(BATCH).prefetch(2)


def generator():
    order = np.random.default_rng(5)
    while True:
        rows = order.permutation(ROWS)[:BATCH]
        yield X[rows], Y[rows]


def stream():
    signature = (tf.TensorSpec([None, 6]), tf.TensorSpec([None], tf.int64))
    return tf.data.Dataset.from_generator(generator, output_signature=signature).prefetch(3)


def unknown_length():
    return pipeline().filter(lambda x, y: True)


DATA = {
    "arrays": lambda: {"x": X, "y": Y, "batch_size": BATCH, "shuffle": False},
    "pipeline": lambda: {"x": pipeline(), "shuffle": False},
    "stream": lambda: {"x": stream(), "steps_per_epoch": STEPS, "shuffle": False},
    "repeated": lambda: {"x": pipeline().repeat(), "steps_per_epoch": STEPS - 1, "shuffle": False},
}


class Counts(keras.callbacks.Callback):
    """A callback whose numbers decide the weights: exact only if they are kept."""

    def __init__(self):
        super().__init__()
        self.batches = 0
        self.seen = []

    def on_train_batch_begin(self, batch, logs=None):
        self.batches += 1
        self.model.optimizer.learning_rate = 0.02 / (1 + self.batches / 7)
        self.seen.append([self.params["epochs"], batch])

    def on_epoch_begin(self, epoch, logs=None):
        self.model.optimizer.learning_rate *= 0.9
        self.seen.append(["epoch", epoch])


def dies_at(model, step):
    """A callback that raises before a step; its setting is not a number that a checkpoint would hold."""

    def check(batch, logs):
        if model.optimizer.iterations == step:
            raise RuntimeError("killed")

    return keras.callbacks.LambdaCallback(on_train_batch_begin=check)


def numbers(model):
    return [np.asarray(v) for v in [*model.variables, *model.optimizer.variables]]


def train(folder, kind="arrays", *, dies=-1, epochs=EPOCHS, every=1, model=None, others=(), **options):
    """A process: everything is made anew, but for the folder."""
    model = model or make_model(**options)
    counts = Counts()
    stop = keras.callbacks.EarlyStopping("loss", patience=1, restore_best_weights=True)
    callbacks = [counts, stop, *others, dies_at(model, dies)]
    resume = ExactResume(folder, callbacks=callbacks, every=every)
    history = model.fit(**DATA[kind](), epochs=epochs, validation_data=(X, Y), verbose=0, callbacks=[resume])
    return model, history, counts


def assert_same(one, other):
    for a, b in zip(numbers(one[0]), numbers(other[0]), strict=True):
        np.testing.assert_array_equal(a, b)
    assert one[1].history == other[1].history
    assert one[1].epoch == other[1].epoch == list(range(len(one[1].epoch)))
    assert one[2].batches == other[2].batches
    assert one[2].seen == other[2].seen


def interrupted(folder, kind, steps):
    for step in steps:
        with pytest.raises(RuntimeError, match="killed"):
            train(folder, kind, dies=step)
    return train(folder, kind)


@pytest.mark.parametrize("kind", DATA)
def test_interrupted_it_ends_in_the_same_numbers(tmp_path, kind):
    whole = train(tmp_path / "whole", kind)
    assert whole[0].optimizer.iterations > STEPS + 2
    assert_same(
        whole, interrupted(tmp_path / "run", kind, [2, STEPS, STEPS + 2] if kind == "arrays" else [STEPS + 2])
    )


@pytest.mark.slow
@pytest.mark.parametrize("kind", DATA)
def test_interrupted_at_every_step_it_ends_in_the_same_numbers(tmp_path, kind):
    whole = train(tmp_path / "whole", kind)
    steps = range(1, int(whole[0].optimizer.iterations.numpy()))
    assert_same(whole, interrupted(tmp_path / "run", kind, steps))


def test_it_changes_nothing_in_a_fit_without_interruption(tmp_path):
    model, history, _ = train(tmp_path / "run", "pipeline")
    plain, counts = make_model(), Counts()
    stop = keras.callbacks.EarlyStopping("loss", patience=1, restore_best_weights=True)
    expected = plain.fit(
        **DATA["pipeline"](), epochs=EPOCHS, validation_data=(X, Y), verbose=0, callbacks=[counts, stop]
    )
    assert history.history == expected.history
    for one, other in zip(numbers(model), numbers(plain), strict=True):
        np.testing.assert_array_equal(one, other)
    assert not hasattr(model.train_function, "resume")
    before = sorted((tmp_path / "run").iterdir())
    model.fit(X, Y, verbose=0)  # another fit, without the callback, is none of its business
    assert sorted((tmp_path / "run").iterdir()) == before


def test_what_has_finished_is_not_trained_again(tmp_path, caplog):
    first = train(tmp_path / "run")
    again = train(tmp_path / "run", dies=0)
    assert "has finished; its weights are put back" in caplog.text
    assert_same(first, again)
    assert len(list((tmp_path / "run").iterdir())) <= 3  # the last two and the best


def test_more_epochs_after_the_end_tell_the_callbacks_of_their_first_step(tmp_path):
    def run(folder, epochs):
        throughput, told = Throughput(), Told()
        model = make_model()
        resume = ExactResume(folder, callbacks=[throughput, told])
        model.fit(**DATA["arrays"](), epochs=epochs, verbose=0, callbacks=[resume])
        return numbers(model), told.epochs

    run(tmp_path / "cut", EPOCHS)
    after, epochs = run(tmp_path / "cut", EPOCHS + 1)
    assert epochs == list(range(EPOCHS + 1))
    for one, other in zip(after, run(tmp_path / "whole", EPOCHS + 1)[0], strict=True):
        np.testing.assert_array_equal(one, other)


class Told(keras.callbacks.Callback):
    """Notes the epoch of each step."""

    def __init__(self):
        super().__init__()
        self.epoch, self.epochs = -1, []

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_begin(self, batch, logs=None):
        self.epochs = sorted({*self.epochs, self.epoch})


def other_order():
    return {"x": X[::-1], "y": Y[::-1], "batch_size": BATCH, "shuffle": False}


def reshuffled():
    dataset = tf.data.Dataset.from_tensor_slices((X, Y)).shuffle(ROWS, seed=3).batch(BATCH)
    return {"x": dataset, "shuffle": False}


def cut_short():
    return {"x": stream().take(3), "steps_per_epoch": STEPS, "shuffle": False}


@pytest.mark.parametrize(
    ("first", "second", "step", "message"),
    [
        (DATA["arrays"], other_order, 2, r"The first 2 batches are not those that were trained on before"),
        (
            reshuffled,
            reshuffled,
            STEPS + 1,
            r"The first 1 batches are not .* `reshuffle_each_iteration=False`",
        ),
        (DATA["arrays"], DATA["repeated"], 2, r"An epoch has 5 steps, but had 6 when"),
        (DATA["stream"], cut_short, 5, r"The data ended after 3 steps of the epoch, .*`dataset.repeat"),
    ],
)
def test_other_data_is_refused(tmp_path, first, second, step, message):
    for data, dies, error, words in (
        (first, step, RuntimeError, "killed"),
        (second, -1, TrainingError, message),
    ):
        model = make_model()
        resume = ExactResume(tmp_path, callbacks=[dies_at(model, dies)], every=1)
        with pytest.raises(error, match=words):
            model.fit(**data(), epochs=EPOCHS, verbose=0, callbacks=[resume])


def test_bad_settings_and_models_are_refused_in_a_sentence(tmp_path):
    with pytest.raises(ConfigError, match=r"`every` is 0, but must be a number of steps from 1"):
        ExactResume(tmp_path, every=0)
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile("adam", "mse")
    with pytest.raises(TrainingError, match=r"no weights yet.* begin with a `keras.Input`, or call it once"):
        model.fit(X, Y, verbose=0, callbacks=[ExactResume(tmp_path)])
    (tmp_path / "step-00000001").mkdir()
    with pytest.raises(CheckpointError, match=r"No intact checkpoint in .*start a new run"):
        make_model().fit(X, Y, verbose=0, callbacks=[ExactResume(tmp_path)])


def test_a_damaged_checkpoint_costs_only_the_steps_since_the_one_before(tmp_path):
    whole = train(tmp_path / "whole")
    with pytest.raises(RuntimeError, match="killed"):
        train(tmp_path / "run", dies=4)
    newest = sorted((tmp_path / "run").iterdir())[-1]
    assert newest.name == "step-00000004"
    (newest / "optimizer.safetensors").write_bytes(b"x")
    assert_same(whole, train(tmp_path / "run"))


def test_several_steps_per_execution(tmp_path):
    whole = train(tmp_path / "whole", "pipeline", steps_per_execution=2)
    with pytest.raises(RuntimeError, match="killed"):
        train(tmp_path / "run", "pipeline", dies=STEPS + 2, steps_per_execution=2)
    assert_same(whole, train(tmp_path / "run", "pipeline", steps_per_execution=2))


def test_with_callbacks_that_make_the_train_function_anew(tmp_path):
    def run(folder, dies=-1):
        model = make_model()
        unfreezing = GradualUnfreezing({0: 0, 1: 1})
        resume = ExactResume(folder, callbacks=[unfreezing, dies_at(model, dies)], every=1)
        history = model.fit(**DATA["arrays"](), epochs=2, verbose=0, callbacks=[resume])
        return model, history, Counts()

    whole = run(tmp_path / "whole")
    with pytest.raises(RuntimeError, match="killed"):
        run(tmp_path / "run", STEPS + 2)
    assert_same(whole, run(tmp_path / "run"))


def test_in_a_loop_of_ones_own_it_says_that_it_can_do_nothing(tmp_path):
    model = make_model()
    model.make_train_function()
    everyone = keras.callbacks.CallbackList([ExactResume(tmp_path)], True, model=model, epochs=1, steps=2)
    everyone.on_train_begin()
    everyone.on_epoch_begin(0)
    everyone.on_train_batch_begin(0)
    with pytest.raises(TrainingError, match=r"is for Keras' own `fit`.*leave this callback out, and go on"):
        everyone.on_train_batch_end(0, {"loss": 1.0})


CHILD = """
import json, os, sys, time
sys.path.insert(0, os.getcwd())
import numpy as np
import tensorflow as tf
from pathlib import Path
import tests.training.test_exact_resume as here

def run(folder, kind):
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    slow = here.keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: time.sleep(0.02))
    os.write(1, b"begins\\n")
    model, history, counts = here.train(folder, kind, every=2, epochs=6, others=[slow])
    known = {"history": history.history, "epochs": history.epoch, "seen": counts.seen}
    np.savez(folder / "numbers.npz", *here.numbers(model))
    (folder / "known.json").write_text(json.dumps(known))

# A fork server, where TensorFlow is imported but has not run anything: each line is a run.
for line in sys.stdin:
    folder, kind = line.split()
    child = os.fork()
    if child == 0:
        try:
            run(Path(folder), kind)
        except BaseException as error:
            print("failed", repr(error), file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    os.write(1, f"child {child}\\n".encode())
    _, status = os.waitpid(child, 0)
    os.write(1, f"ended {status}\\n".encode())
"""


def run_child(server, folder, kind, seconds=None):
    """Trains in a forked process to its end, or to its death so many seconds after training began.

    Returns:
        Whether it came to its end, and the seconds from the beginning of training.
    """
    folder.mkdir(exist_ok=True)
    server.stdin.write(f"{folder} {kind}\n")
    server.stdin.flush()
    child, began = 0, False
    while not (child and began):
        words = server.stdout.readline().split()
        assert words, "the fork server died"
        assert words[0] in ("child", "begins"), words
        child, began = (int(words[1]), began) if words[0] == "child" else (child, True)
    since = time.monotonic()
    if seconds is not None:
        time.sleep(seconds)
        with contextlib.suppress(ProcessLookupError):  # it has come to its end
            os.kill(child, signal.SIGKILL)
    status = int(server.stdout.readline().split()[1])
    assert status in (0, signal.SIGKILL), status
    return status == 0, time.monotonic() - since


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", ["arrays", "pipeline", "stream"])
def test_killed_at_random_moments_it_ends_in_the_same_numbers(tmp_path, kind):
    """SIGKILL in a plain `fit`: the weights, the optimizer, the logs of each epoch, and the callbacks."""
    random = np.random.default_rng(0)
    command = [sys.executable, "-c", CHILD]
    kills = runs = 0
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        ended, seconds = run_child(server, tmp_path / "whole", kind)
        assert ended
        while runs < 3 or (kills < 6 and runs < 12):  # how many hit depends on the machine
            folder = tmp_path / str(runs)
            runs += 1
            for _ in range(8):
                if run_child(server, folder, kind, random.uniform(0, 0.6) * seconds)[0]:
                    break
                kills += 1
            else:
                assert run_child(server, folder, kind)[0]
            with (
                np.load(tmp_path / "whole" / "numbers.npz") as one,
                np.load(folder / "numbers.npz") as other,
            ):
                assert one.files == other.files
                for name in one.files:
                    np.testing.assert_array_equal(one[name], other[name])
            assert (tmp_path / "whole" / "known.json").read_text() == (folder / "known.json").read_text()
            assert not list(folder.rglob(".tmp-*"))
    assert kills >= 6
    print(f"{kind}: {kills} kills, {runs} runs, 0 differ")
