"""kill -9 at random moments: the run that was killed again and again ends in the numbers of the whole one.

Children are forked from this process, where TensorFlow is imported but has not run anything yet: Keras' own
backend is first used in the child.
"""

import hashlib
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

KILLS, RUNS, CLI_KILLS = 200, 20, 25

CHILD = """
import os, sys, time
import numpy as np
import tensorflow as tf
import keras
sys.path.insert(0, os.getcwd())
from pathlib import Path
import tests.training.test_loop as loop

def run(folder):
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    model = loop.make_model()
    print("begins", flush=True)
    state = loop.train(model, folder, Slow(), evaluate_every=4)
    np.savez(folder / "last.tmp.npz", *loop.weights(model))
    (folder / "last.tmp.npz").rename(folder / "last.npz")

class Slow(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        time.sleep(0.02)

# A fork server: each line is a folder to train in; the child's number comes back.
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        try:
            run(Path(line.strip()))
        except BaseException as error:
            print("failed", repr(error), file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    print("child", child, flush=True)
    _, status = os.waitpid(child, 0)
    print("ended", status, flush=True)
"""


class Server:
    """Forks trainings from a process that has TensorFlow loaded."""

    def __init__(self):
        self.process = subprocess.Popen(
            [sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def train(self, folder, seconds):
        """Trains until the end or the kill, so many seconds after training began; `True` for the end."""
        self.process.stdin.write(f"{folder}\n")
        self.process.stdin.flush()
        child, began = 0, False
        while not (child and began):
            words = self.process.stdout.readline().split()
            assert words, "the fork server died"
            assert words[0] in ("child", "begins"), words
            child, began = (int(words[1]), began) if words[0] == "child" else (child, True)
        if seconds is not None:
            time.sleep(seconds)
            os.kill(child, signal.SIGKILL)  # at worst a process that has ended and waits for nobody
        status = int(self.process.stdout.readline().split()[1])
        assert status in (0, signal.SIGKILL), status
        return status == 0


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_200_kills_change_no_bit(tmp_path):
    server, random = Server(), np.random.default_rng(0)
    began = time.monotonic()
    assert server.train(tmp_path / "whole", None)
    seconds = time.monotonic() - began
    kills = completed = 0
    while kills < KILLS or completed < RUNS:
        folder = tmp_path / f"run-{completed}"
        for _ in range(12):
            try:
                over = server.train(folder, random.uniform(0, 0.6 * seconds))
            except ProcessLookupError:
                over = bool(server.process.stdout.readline())
            kills += not over
            if over:
                break
        else:
            over = server.train(folder, None)
        _assert_same(tmp_path / "whole", folder)
        completed += 1
    server.process.stdin.close()
    server.process.wait(timeout=30)
    print(f"{kills} kills, {completed} runs, 0 differ, {time.monotonic() - began:.0f} s")


def _assert_same(whole, folder):
    with np.load(whole / "last.npz") as one, np.load(folder / "last.npz") as other:
        assert one.files == other.files
        for name in one.files:
            np.testing.assert_array_equal(one[name], other[name])
    assert (whole / "history.csv").read_text() == (folder / "history.csv").read_text()
    assert list(folder.rglob(".del-*")) == []


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_25_kills_of_the_real_command_change_no_bit(tmp_path):
    from kerasllm.testing import tiny_bert, tiny_reviews

    rows = tiny_reviews(120)
    lines = "".join(f"{row['text']}\t{row['label']}\n" for row in rows)
    (tmp_path / "reviews.tsv").write_text("text\tlabel\n" + lines)
    preset = tiny_bert(tmp_path / "bert", texts=[row["text"] for row in rows])

    def start(name, *extra):
        settings = {
            "task": "text_classification",
            "preset": preset,
            "output_dir": tmp_path / name,
            "data.train": tmp_path / "reviews.tsv",
            "training.epochs": 12,
            "training.batch_size": 4,
            "training.checkpoint_every": 7,
            "evaluation.report": "false",
        }
        config = tmp_path / "config.yaml"
        config.write_text("task: text_classification\npreset: x\n")
        options = [word for key, value in settings.items() for word in ("-s", f"{key}={value}")]
        return subprocess.Popen(
            [sys.executable, "-m", "kerasllm", "finetune", config, *options, *extra],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    process = start("whole")
    assert process.wait(300) == 0, process.stderr.read()
    random, kills, completed = np.random.default_rng(1), 0, 0
    while kills < CLI_KILLS:
        name = f"run-{completed}"
        checkpoints = tmp_path / name / "checkpoints"
        for attempt in range(6):
            process = start(name, *(["--resume"] if attempt else []))
            known = set(os.listdir(checkpoints)) if checkpoints.is_dir() else set()
            while process.poll() is None and not (
                checkpoints.is_dir() and set(os.listdir(checkpoints)) - known
            ):
                time.sleep(0.02)
            time.sleep(random.uniform(0, 2))
            process.kill()
            if process.wait(60) == 0:
                break
            kills += process.returncode == -signal.SIGKILL
            assert process.returncode == -signal.SIGKILL, process.stderr.read()
        else:
            process = start(name, "--resume")
            assert process.wait(300) == 0, process.stderr.read()
        files = [tmp_path / run / "model" / "model.safetensors" for run in ("whole", name)]
        assert len({hashlib.sha256(path.read_bytes()).hexdigest() for path in files}) == 1
        histories = [(tmp_path / run / "history.csv").read_text() for run in ("whole", name)]
        assert histories[0] == histories[1]
        completed += 1
    print(f"{kills} kills of the command, {completed} runs, 0 differ")
