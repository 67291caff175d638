"""kill -9 at random moments: the run that was killed again and again ends in the numbers of the whole one."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from kerasllm.resources.manifest import sha256_file, verify_manifest

KILLS, RUNS, CLI_KILLS = 200, 20, 25
ATTEMPTS = 15  # kills of one run, after which it is let go to its end


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_200_kills_change_no_bit(training_server, tmp_path):
    began, random = time.monotonic(), np.random.default_rng(0)
    assert training_server.train(tmp_path / "first")["status"] == 0  # warms the machine up
    whole = training_server.train(tmp_path / "whole")
    kills = completed = 0
    while kills < KILLS or completed < RUNS:
        folder = tmp_path / f"run-{completed}"
        for attempt in range(ATTEMPTS + 1):
            kill = (random.uniform(0, 0.5 * whole["seconds"]), signal.SIGKILL)
            answer = training_server.train(folder, *([kill] if attempt < ATTEMPTS else []))
            assert answer["status"] in (0, -signal.SIGKILL), answer
            for checkpoint in folder.glob("checkpoints/step-*"):
                verify_manifest(checkpoint)
            if answer["status"] == 0:
                break
            kills += 1
        _assert_same(tmp_path / "whole", folder)
        completed += 1
    print(f"{kills} kills, {completed} runs, 0 differ, {time.monotonic() - began:.0f} s")


def _assert_same(whole, folder):
    with np.load(whole / "last.npz") as one, np.load(folder / "last.npz") as other:
        assert one.files == other.files
        for name in one.files:
            np.testing.assert_array_equal(one[name], other[name])
    assert (whole / "history.csv").read_text() == (folder / "history.csv").read_text()
    assert [path for path in folder.rglob(".*") if path.name != ".lock"] == []


@pytest.fixture
def command(tmp_path):
    """Starts `kerasllm finetune` in a run directory of that name; its complaints go to a file beside it."""
    from kerasllm.testing import tiny_bert, tiny_reviews

    rows = tiny_reviews(120)
    lines = "".join(f"{row['text']}\t{row['label']}\n" for row in rows)
    (tmp_path / "reviews.tsv").write_text("text\tlabel\n" + lines)
    settings = {
        "task": "text_classification",
        "preset": str(tiny_bert(tmp_path / "bert", texts=[row["text"] for row in rows])),
        "data": {"train": str(tmp_path / "reviews.tsv")},
        "training": {"epochs": 8, "batch_size": 4, "checkpoint_every": 7},
        "evaluation": {"report": False},
    }
    (tmp_path / "config.yaml").write_text(json.dumps(settings))  # YAML reads JSON

    processes = []

    def start(name, *options):
        with open(tmp_path / f"{name}.log", "a") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "kerasllm", "finetune", tmp_path / "config.yaml", *options,
                 "-s", f"output_dir={tmp_path / name}"],
                stdout=log, stderr=log,
            )  # fmt: skip
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.wait()


def _kill_after_a_checkpoint(process, run, seconds):
    """Kills the process so long after it wrote a checkpoint, or began to evaluate; returns its status."""
    known = _published(run)
    while process.poll() is None and not _published(run) - known:
        time.sleep(0.02)
    time.sleep(seconds)
    process.kill()  # one that has ended is not signalled
    return process.wait()


def _published(run):
    return {path.name for path in [*run.glob("checkpoints/step-*"), *run.glob("model")]}


def _has_finished(run):
    path = run / "manifest.json"
    return path.exists() and json.loads(path.read_text())["state"] == "finished"


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_25_kills_of_the_real_command_change_no_bit(command, tmp_path):
    began, random = time.monotonic(), np.random.default_rng(1)
    assert command("whole").wait() == 0, (tmp_path / "whole.log").read_text()
    kills = completed = 0
    while kills < CLI_KILLS:  # the same command again goes on, with and without `--resume`
        run = tmp_path / f"run-{completed}"
        for attempt in range(7):
            process = command(run.name, *(["--resume"] if attempt % 2 else []))
            if attempt < 6:
                status = _kill_after_a_checkpoint(process, run, random.uniform(0, 1.5))
            else:
                status = process.wait()
            assert status in (0, -signal.SIGKILL), (tmp_path / f"{run.name}.log").read_text()
            kills += status != 0
            if _has_finished(run):  # also where the kill came while the process ended
                break
        assert _has_finished(run)
        for name in ("model/model.safetensors", "history.csv", "metrics.json"):
            assert sha256_file(tmp_path / "whole" / name) == sha256_file(run / name), name
        assert os.listdir(tmp_path / "whole" / "model") == os.listdir(run / "model")
        completed += 1
    print(f"{kills} kills of the command, {completed} runs, 0 differ, {time.monotonic() - began:.0f} s")
