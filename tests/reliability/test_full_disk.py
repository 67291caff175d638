"""A disk that fills while a run trains: the checkpoints before are untouched, and the end is the same."""

import contextlib
import logging
import shutil
import signal
import subprocess

import numpy as np
import pytest

from kerasllm.errors import ResourceError
from kerasllm.resources.manifest import read_manifest, sha256_file, verify_manifest
from kerasllm.training.run_directory import RunDirectory

LIMITS = 40


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_disk_that_is_full_at_any_size_loses_no_checkpoint(training_server, tmp_path):
    assert training_server.train(tmp_path / "first")["status"] == 0  # warms the machine up
    whole = training_server.train(tmp_path / "whole")
    assert whole["status"] == 0, whole
    random = np.random.default_rng(0)
    for _ in range(200):
        if list(tmp_path.glob("begun/checkpoints/step-0000000[5-9]*")):  # half-way, with two checkpoints
            break
        shutil.rmtree(tmp_path / "begun", ignore_errors=True)
        training_server.train(tmp_path / "begun", (random.uniform(0, 0.8) * whole["seconds"], signal.SIGKILL))
    else:
        raise AssertionError("no run was killed half-way")
    sizes = [path.stat().st_size for path in (tmp_path / "begun").rglob("*.safetensors")]
    for number, limit in enumerate(np.linspace(40, max(sizes) - 1, LIMITS, dtype=int)):
        run = tmp_path / f"run-{number}"
        shutil.copytree(tmp_path / "begun", run)
        before = {path: hashes(path) for path in run.glob("checkpoints/step-*")}
        answer = training_server.train(run, largest_file=int(limit))
        assert answer["status"] == 3, answer  # trained to the end on the full disk
        for path in run.glob("checkpoints/step-*"):
            verify_manifest(path)
        assert {path: hashes(path) for path in run.glob("checkpoints/step-*")} == before
        answer = training_server.train(run)
        assert answer["status"] == 0, answer
        with np.load(tmp_path / "whole" / "last.npz") as one, np.load(run / "last.npz") as other:
            assert all(np.array_equal(one[name], other[name]) for name in one.files)
        assert (tmp_path / "whole" / "history.csv").read_text() == (run / "history.csv").read_text()
        assert [path for path in run.rglob(".*") if path.name != ".lock"] == []
        shutil.rmtree(run)


def hashes(checkpoint):
    return {name: sha256_file(checkpoint / name) for name in read_manifest(checkpoint)}


@contextlib.contextmanager
def small_disk(folder, size):
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    if answer.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {answer.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def test_a_disk_that_is_really_full(tmp_path, caplog):
    """Room for two checkpoints and not for three: with the third being written, there is none."""
    import tests.training.test_loop as loop

    expected = loop.train(loop.make_model(), tmp_path / "whole", evaluate_every=4)
    newest = tmp_path / "whole" / "checkpoints" / expected.best
    pages = sum(-(-path.stat().st_size // 4096) for path in newest.iterdir())
    with small_disk(tmp_path / "disk", (2 * pages + 8) * 4096) as disk:
        with caplog.at_level(logging.WARNING, logger="kerasllm"):
            state = loop.train(loop.make_model(), disk / "run", evaluate_every=4)
        assert state.history == expected.history
        assert "was not written (The disk is full" in caplog.text
        for path in (disk / "run").glob("checkpoints/step-*"):
            verify_manifest(path)
        shutil.copytree(disk / "run", tmp_path / "run")
    resumed = loop.make_model()
    assert loop.train(resumed, tmp_path / "run", evaluate_every=4).history == expected.history
    whole = loop.make_model()
    loop.train(whole, tmp_path / "whole", evaluate_every=4)
    assert loop.same(whole, resumed)


def test_no_line_of_history_kills_a_run(tmp_path, caplog, monkeypatch):
    def full(path, data):
        raise ResourceError("The disk is full: `x`")

    with contextlib.closing(RunDirectory.create(tmp_path / "run", "")) as run:
        monkeypatch.setattr("kerasllm.training.run_directory.atomic_write", full)
        run.write_history([{"loss": 0.5}])
    assert "history.csv was not written (The disk is full: `x`); the checkpoint has the same" in caplog.text
    assert not (tmp_path / "run" / "history.csv").exists()


def test_a_directory_that_vanishes_while_a_run_trains_costs_its_past_and_not_the_run(tmp_path):
    import keras

    import tests.training.test_loop as loop

    class Vanish(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 1:
                shutil.rmtree(tmp_path / "run")

    state = loop.train(loop.make_model(), tmp_path / "run", Vanish())
    assert len(state.history) == loop.EPOCHS
    verify_manifest(tmp_path / "run" / "checkpoints" / "step-00000020-end")
