"""SIGTERM and Ctrl-C at any moment: a checkpoint, the shell's exit status, and then the same weights."""

import json
import signal

import numpy as np
import pytest

from kerasllm.resources.manifest import sha256_file, verify_manifest
from kerasllm.testing import tiny_bert, tiny_reviews

SIGNALS = 50
STATUS = {signal.SIGTERM: 143, signal.SIGINT: 130}


@pytest.fixture(scope="module")
def train(training_server, tmp_path_factory):
    """Fine-tunes in a folder, from where it stands."""
    rows = tiny_reviews(60)
    preset = tiny_bert(tmp_path_factory.mktemp("preset") / "bert", texts=[row["text"] for row in rows])
    request = {"run": "finetune", "preset": str(preset), "data": rows}

    def train(folder, *signals, at="beginning"):
        return training_server.train(folder, *signals, at=at, **request)

    return train


def state_of(run):
    return json.loads((run / "manifest.json").read_text())["state"]


def assert_same(whole, run):
    assert state_of(run) == "finished"
    for name in ("model/model.safetensors", "history.csv", "metrics.json"):
        assert sha256_file(whole / name) == sha256_file(run / name), name
    assert [path for path in run.rglob(".*") if path.name != ".lock"] == []


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_50_signals_at_random_moments_change_no_bit(train, tmp_path):
    assert train(tmp_path / "first")["status"] == 0
    whole = train(tmp_path / "whole")
    assert whole["status"] == 0, whole
    random, sent, run = np.random.default_rng(0), 0, 0
    waits = []
    while sent < SIGNALS:
        folder = tmp_path / f"run-{run}"
        run += 1
        for attempt in range(9):
            number = (signal.SIGTERM, signal.SIGINT)[sent % 2]
            seconds = random.uniform(0, 0.8 * whole["seconds"])
            answer = train(folder, *([(seconds, number)] if attempt < 8 else []))
            if answer["status"] == 0:
                break
            # After training, SIGTERM is the default of Python again, which ends it there and then.
            assert answer["status"] in (STATUS[number], -number), answer
            if answer["status"] == STATUS[number]:
                assert state_of(folder) == "interrupted"
            for checkpoint in folder.glob("checkpoints/step-*"):
                verify_manifest(checkpoint)
            sent += 1
            waits.append(answer["seconds"] - seconds)
        assert_same(tmp_path / "whole", folder)
    print(f"{sent} signals, {run} runs, 0 differ, exit after {np.median(waits):.2f} s ({max(waits):.2f} s)")


@pytest.mark.slow
@pytest.mark.parametrize("at", ["first batch", "save", "validation"])
@pytest.mark.parametrize("number", STATUS)
def test_a_signal_waits_for_what_is_being_done(train, tmp_path, at, number):
    """Of the first batch that is the compilation. What it interrupts is done once, and goes on exactly."""
    assert train(tmp_path / "whole", at=at)["status"] == 0
    answer = train(tmp_path / "run", (0.05, number), at=at)
    assert answer["status"] == STATUS[number], answer
    assert "config.yaml --resume`." in answer["error"]
    run = tmp_path / "run"
    assert state_of(run) == "interrupted"
    newest = max(path.name for path in run.glob("checkpoints/step-*"))
    assert (
        newest == {"first batch": "step-00000001", "save": "step-00000004", "validation": "step-00000007"}[at]
    )
    assert train(run, at=at)["status"] == 0
    assert_same(tmp_path / "whole", run)


@pytest.mark.slow
def test_a_second_signal_ends_it_at_once(train, tmp_path):
    """In a save that hangs, say on a network disk: what was there before it is what is left."""
    assert train(tmp_path / "whole")["status"] == 0
    run = tmp_path / "run"
    answer = train(run, (0.05, signal.SIGTERM), (0.1, signal.SIGTERM), at="save that hangs")
    assert answer["status"] == 143, answer
    assert "Stopped at once; the newest checkpoint is what is left of the run." in answer["error"]
    assert state_of(run) == "interrupted"
    assert [path.name for path in run.rglob("step-*")] == []
    assert not (run / "model").exists()
    assert train(run)["status"] == 0
    assert_same(tmp_path / "whole", run)
