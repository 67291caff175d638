"""Checkpoints that a power cut, a bad disk or another version left: noticed, named, and gone back from."""

import json
import os
import shutil
import signal

import numpy as np
import pytest
import safetensors.numpy

import tests.training.test_loop as loop
from kerasllm.errors import CheckpointError
from kerasllm.resources import atomic
from kerasllm.resources.manifest import MANIFEST, verify_manifest, write_manifest
from kerasllm.training import checkpoints as module
from kerasllm.training.checkpoints import Checkpoints, RunState

NEWEST, BEFORE = "step-00000002", "step-00000001"


@pytest.fixture(scope="module")
def model():
    return loop.make_model()


@pytest.fixture
def folder(model, tmp_path):
    """A folder with two checkpoints."""
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    for step in (1, 2):
        checkpoints.save(model, RunState(step=step, best=BEFORE, best_step=1))
    return checkpoints.directory


def flip(content, random):
    content[random.integers(len(content))] ^= 1 << random.integers(8)


def cut(content, random):
    del content[random.integers(len(content) - 1) :]  # the last line end of a manifest is no loss


def zero_tail(content, random):
    tail = int(random.integers(2, len(content) + 1))
    content[-tail:] = bytes(tail)


@pytest.mark.parametrize(("damage", "number"), [(flip, 300), (cut, 200), (zero_tail, 100)])
def test_all_damage_is_noticed_and_the_checkpoint_before_used(folder, model, caplog, damage, number):
    random = np.random.default_rng(0)
    files = sorted(folder.joinpath(NEWEST).iterdir())
    for trial in range(number):
        path = files[trial % len(files)]
        intact = path.read_bytes()
        content = bytearray(intact)
        while content == intact:  # a tail may be zero already
            content = bytearray(intact)
            damage(content, random)
        path.write_bytes(content)
        caplog.clear()
        assert Checkpoints(folder).restore_newest(model).step == 1, (path.name, damage)
        assert f"Checkpoint {NEWEST} is damaged: " in caplog.text
        # Damage in a name, size or hash of the manifest shows at the file that it belongs to.
        assert path.name in caplog.text or path.name == MANIFEST
        assert f"Using {BEFORE}, the newest that is intact" in caplog.text
        path.write_bytes(intact)
    assert Checkpoints(folder).restore_newest(model).step == 2


def test_without_any_that_is_intact_it_stops_and_says_what_to_do(folder, model):
    for name in (BEFORE, NEWEST):
        (folder / name / "model.safetensors").unlink()
    said = (
        rf"No intact checkpoint in {folder}. `.*{NEWEST}` is damaged \(model.safetensors: missing\)\. "
        r"Restore it from a copy.* Or start a new run with another `output_dir`\."
    )
    for read in (Checkpoints.newest_state, lambda known: known.restore_newest(model)):
        with pytest.raises(CheckpointError, match=said):
            read(Checkpoints(folder))


def tamper(checkpoint, change):
    """Changes the state and makes the manifest true again, as another program would write it."""
    path = checkpoint / "state.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    write_manifest(checkpoint)


@pytest.mark.parametrize(
    ("change", "said"),
    [({"format_version": 99}, "format version 99, this one reads up to 1"), ({"x": 1}, "unknown: x")],
)
def test_a_checkpoint_of_a_newer_version_is_refused_not_skipped(folder, model, change, said):
    tamper(folder / NEWEST, change)
    with pytest.raises(CheckpointError, match=rf"was written by a newer kerasllm .*{said}.*Update kerasllm"):
        Checkpoints(folder).restore_newest(model)


@pytest.mark.parametrize("kind", ["a variable less", "another shape", "another dtype", "no file"])
def test_a_missing_part_of_the_optimizer_is_an_error_and_changes_nothing(folder, kind):
    """What a full disk makes of HDF5: a file that loads, without the moments."""
    path = folder / NEWEST / "optimizer.safetensors"
    arrays = safetensors.numpy.load_file(path)
    last = max(arrays)
    if kind == "a variable less":
        del arrays[last]
    elif kind == "another shape":
        arrays[last] = np.zeros([7], "float32")
    else:
        arrays[last] = arrays[last].astype("float64")
    safetensors.numpy.save_file(arrays, path)
    if kind == "no file":
        path.unlink()
    write_manifest(folder / NEWEST)
    model = loop.make_model()
    for variable in model.trainable_variables:
        variable.assign(np.full(variable.shape, 0.5))
    with pytest.raises(OSError, match=r"optimizer.safetensors (does not fit|has `.*` as|could not be read)"):
        Checkpoints(folder).restore_newest(model)
    assert all((np.asarray(variable) == 0.5).all() for variable in model.trainable_variables)


def test_a_best_checkpoint_that_is_damaged_is_warned_of_and_the_last_weights_stay(folder, model, caplog):
    checkpoints = Checkpoints(folder)
    state = checkpoints.restore_newest(model)
    (folder / BEFORE / "model.safetensors").write_bytes(b"")
    checkpoints.restore_best(model, state)
    assert "The best checkpoint cannot be used: " in caplog.text
    assert "The model has the weights of step 2." in caplog.text
    assert (state.best, state.best_step, state.best_value) == ("", 2, None)


def test_the_best_one_of_a_checkpoint_that_may_be_gone_back_to_is_kept(tmp_path, model):
    """With a new best the old best was removed, which the checkpoint before the new one still needs."""
    checkpoints = Checkpoints(tmp_path)
    for step, best in ((1, 1), (2, 1), (3, 1), (4, 4)):
        checkpoints.save(model, RunState(step=step, best=f"step-{best:08d}"))
    assert checkpoints.names() == ["step-00000001", "step-00000003", "step-00000004"]


# Where a kill can come in a save: (module, function, which of its calls in the save of the third checkpoint).
POINTS = [
    (module, "write_variables", 1),
    (module, "write_variables", 3),
    (module, "write_manifest", 1),
    (atomic, "_flush_tree", 1),
    (atomic, "_rename_new", 1),
    (atomic.os, "rename", 1),
    (atomic, "_flush", -1),
    (Checkpoints, "_rotate", 1),
    (module, "atomic_remove", 1),
    (atomic.shutil, "rmtree", 1),
]


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("point", POINTS, ids=lambda point: f"{point[1]} {point[2]}")
def test_an_end_at_any_point_of_a_save_leaves_whole_checkpoints(folder, model, point, after):
    place, name, call = point
    Checkpoints(folder).save(model, RunState(step=2, best=NEWEST))  # so that the first is removed
    child = os.fork()
    if child == 0:
        _end_at(place, name, call, after)
        Checkpoints(folder).save(model, RunState(step=3, best=NEWEST))
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == (0 if call < 0 else 7)
    fresh = Checkpoints(folder)
    assert list(folder.glob(".*")) == []
    assert set(fresh.names()) >= {NEWEST}
    for checkpoint in fresh.names():
        verify_manifest(folder / checkpoint)
    assert fresh.restore_newest(model).step in (2, 3)


def _end_at(place, name, call, after):
    """Ends the process before or after a call of a function."""
    original, calls = getattr(place, name), []

    def ending(*arguments, **options):
        calls.append(name)
        if len(calls) == call and not after:
            os._exit(7)
        answer = original(*arguments, **options)
        if len(calls) == call:
            os._exit(7)
        return answer

    setattr(place, name, ending)


@pytest.mark.slow
def test_200_kills_while_saving_publish_nothing_that_is_damaged(folder, model):
    random, last = np.random.default_rng(0), 2
    for _ in range(200):
        child = os.fork()
        if child == 0:
            checkpoints = Checkpoints(folder)
            for step in range(last + 1, last + 1000):
                checkpoints.save(model, RunState(step=step, best=BEFORE))
            os._exit(0)
        signal.sigtimedwait([], random.uniform(0.001, 0.2))
        os.kill(child, signal.SIGKILL)  # not waited for yet, so the number is still its own
        os.waitpid(child, 0)
        fresh = Checkpoints(folder)
        assert list(folder.glob(".*")) == []
        for name in fresh.names():
            verify_manifest(folder / name)
        state = fresh.restore_newest(model)
        assert state.step >= last  # nothing that was published is lost
        last = state.step
        assert BEFORE in fresh.names()
    print(f"200 kills, {last} checkpoints, 0 damaged, 0 lost")


def test_best_history_and_patience_survive_a_kill_in_any_epoch(tmp_path):
    """The validation loss is best in the second epoch; with a patience of one the third is the last."""
    values = {5: 0.9, 10: 0.5, 15: 0.7, 20: 0.6}

    def train(name, *callbacks):
        model = loop.make_model()
        evaluate = lambda: {"val_loss": values[int(model.optimizer.iterations)]}  # noqa: E731
        return loop.train(model, tmp_path / name, *callbacks, evaluate=evaluate, patience=1)

    expected = train("whole")
    assert (expected.best_step, expected.best_value, expected.step) == (10, 0.5, 15)
    for step in (2, 10, 12):
        with pytest.raises(RuntimeError, match="killed"):
            train(f"run-{step}", loop.Dies(step))
        state = train(f"run-{step}")
        state.callbacks = expected.callbacks
        assert state == expected
        shutil.rmtree(tmp_path / f"run-{step}")
