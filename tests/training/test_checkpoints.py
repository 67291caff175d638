"""Checkpoints: complete, checked, and gone back from when damaged."""

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest

from kerasllm.errors import CheckpointError, ResourceError  # noqa: F401 (the child of a test uses it)
from kerasllm.training.checkpoints import Checkpoints, RunState, checkpoint_name


def make_model():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8,))
    hidden = keras.layers.Dropout(0.3)(keras.layers.Dense(16, activation="relu")(inputs))
    model = keras.Model(inputs, keras.layers.Dense(2)(hidden))
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.optimizer.build(model.trainable_variables)
    return model


X = np.random.default_rng(0).normal(size=(64, 8)).astype(np.float32)
Y = (X.sum(axis=1) > 0).astype(np.int32)


def fit(model, epochs):
    model.fit(X, Y, epochs=epochs, shuffle=False, verbose=0)
    return model


def weights(model):
    return [np.asarray(v) for v in model.variables]


@pytest.fixture
def saved(tmp_path):
    """Two checkpoints of a trained model."""
    model, checkpoints = make_model(), Checkpoints(tmp_path / "checkpoints")
    for epoch in (1, 2):
        fit(model, 1)
        checkpoints.save(model, RunState(step=epoch, epoch=epoch, best="step-00000001", best_value=0.5))
    return model, checkpoints


def test_a_restored_run_goes_on_bit_for_bit_with_dropout(saved):
    model, checkpoints = saved
    fit(model, 2)
    resumed = make_model()
    state = checkpoints.restore_newest(resumed)
    assert (state.epoch, state.best, state.best_value) == (2, "step-00000001", 0.5)
    fit(resumed, 2)
    for one, other in zip(weights(model), weights(resumed), strict=True):
        np.testing.assert_array_equal(one, other)


def test_only_the_last_two_and_the_best_are_kept(tmp_path):
    model, checkpoints = make_model(), Checkpoints(tmp_path)
    for epoch in range(1, 6):
        checkpoints.save(model, RunState(step=epoch, best="step-00000002"))
    assert checkpoints.names() == ["step-00000002", "step-00000004", "step-00000005"]
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "state.json"])
@pytest.mark.parametrize("damage", ["flip", "cut", "zero tail", "delete"])
def test_a_damaged_checkpoint_is_noticed_and_the_one_before_it_used(saved, name, damage, caplog):
    _, checkpoints = saved
    path = checkpoints.directory / "step-00000002" / name
    content = bytearray(path.read_bytes())
    if damage == "flip":
        content[len(content) // 2] ^= 4
    elif damage == "zero tail":
        content[-16:] = bytes(16)
    if damage == "delete":
        path.unlink()
    else:
        path.write_bytes(content[: -len(content) // 3] if damage == "cut" else content)
    state = checkpoints.restore_newest(make_model())
    assert state.epoch == 1
    assert "step-00000002 is damaged" in caplog.text
    assert name in caplog.text


def test_without_an_intact_checkpoint_it_says_so(saved):
    _, checkpoints = saved
    for epoch in (1, 2):
        (checkpoints.directory / f"step-{epoch:08d}" / "state.json").write_text("{}")
    said = r"No intact checkpoint in .*step-00000002` is damaged \(state.json: 2 bytes.*Or start a new run"
    with pytest.raises(CheckpointError, match=said):
        checkpoints.restore_newest(make_model())


def test_an_empty_folder_is_a_fresh_start(tmp_path):
    assert Checkpoints(tmp_path).restore_newest(make_model()) is None


def test_another_model_is_refused(saved):
    _, checkpoints = saved
    inputs = keras.Input((8,))
    other = keras.Model(inputs, keras.layers.Dense(2)(inputs))
    other.compile("adam", "mse")
    other.optimizer.build(other.trainable_variables)
    with pytest.raises(CheckpointError, match=r"does not fit the model: \d+ variables differ"):
        checkpoints.restore_newest(other)


def test_weights_that_are_not_finite_are_never_published(tmp_path):
    model, checkpoints = make_model(), Checkpoints(tmp_path)
    model.layers[1].kernel.assign(np.full((8, 16), np.nan, np.float32))
    with pytest.raises(CheckpointError, match=r"`dense.*/kernel` has values that are not finite"):
        checkpoints.save(model, RunState(step=1))
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_the_last_checkpoint_and_nothing_else(saved):
    """In a child, since a file-size limit cannot be lifted again."""
    _, checkpoints = saved
    size = (checkpoints.directory / "step-00000002" / "model.safetensors").stat().st_size
    script = textwrap.dedent("""
        import resource, signal, sys
        import tests.training.test_checkpoints as t
        from pathlib import Path
        model = t.make_model()
        checkpoints = t.Checkpoints(Path(sys.argv[1]))
        state = checkpoints.restore_newest(model)
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        for fraction in (0.1, 0.5, 0.9):
            limit = int(int(sys.argv[2]) * fraction)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
            try:
                checkpoints.save(model, t.RunState(step=3))
            except t.ResourceError as error:
                print("refused:", str(error)[:20])
    """)
    answer = subprocess.run(
        [sys.executable, "-c", script, checkpoints.directory, str(size)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    )
    assert answer.stdout.splitlines() == ["refused: The disk is full: `/"] * 3
    assert sorted(path.name for path in checkpoints.directory.iterdir()) == ["step-00000001", "step-00000002"]


def test_a_kill_while_saving_never_publishes_half_a_checkpoint(saved, tmp_path):
    model, checkpoints = saved
    random = np.random.default_rng(0)
    for _ in range(20):
        child = os.fork()
        if child == 0:  # TensorFlow is imported already; only files are written here
            for step in range(3, 1000):
                checkpoints.save(model, RunState(step=step))
            os._exit(0)
        signal.sigtimedwait([], random.uniform(0.001, 0.05))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        fresh = Checkpoints(checkpoints.directory)
        for name in fresh.names():
            state = json.loads((fresh.directory / name / "state.json").read_text())
            assert checkpoint_name(state["step"]) == name
        assert fresh.restore_newest(make_model()).step >= 2
        for name in fresh.names():
            if name > "step-00000002":
                shutil.rmtree(fresh.directory / name)
        if "step-00000002" not in fresh.names():
            checkpoints.save(model, RunState(step=2))
