"""What a run survives: Ctrl-C, a kill, a full disk, a loss that is no number."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import keras
import numpy as np
import pytest
import yaml

import kerasllm
from kerasllm.errors import TrainingError
from kerasllm.testing import tiny_bert, tiny_reviews

TEXTS = [row["text"] for row in tiny_reviews(20, seed=3)]


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """A config file for a tiny run, and its folder."""
    folder = tmp_path_factory.mktemp("config")
    rows = tiny_reviews(160)
    (folder / "reviews.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    preset = tiny_bert(folder / "bert", texts=[row["text"] for row in rows])
    settings = {
        "task": "text_classification",
        "preset": str(preset),
        "data": {"train": str(folder / "reviews.jsonl")},
        "training": {"epochs": 60, "batch_size": 8, "checkpoint_every": 5},
    }
    (folder / "run.yaml").write_text(yaml.safe_dump(settings))
    return folder / "run.yaml"


def start(*arguments, **options):
    command = [sys.executable, "-m", "kerasllm", *map(str, arguments)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True, **options
    )


def finish(process):
    """Exit status and what was printed, on one line."""
    output, error = process.communicate(timeout=300)
    return process.returncode, " ".join((output + error).split())


def wait_for(path: Path, process, seconds=120):
    end = time.monotonic() + seconds
    while not path.exists():
        if process.poll() is not None or time.monotonic() > end:
            raise AssertionError(f"{path} never came: {process.communicate(timeout=5)}")
        time.sleep(0.05)


def hidden(folder: Path):
    return list(folder.rglob(".tmp-*"))


@pytest.mark.parametrize(("number", "expected"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_keeps_the_best_model_and_says_how_to_go_on(config, tmp_path, number, expected):
    run = tmp_path / "run"
    process = start("finetune", config, "-s", f"output_dir={run}")
    wait_for(run / "history.csv", process)
    process.send_signal(number)
    status, said = finish(process)
    assert status == expected
    assert "Traceback" not in said
    assert f"Go on with `kerasllm finetune {run}/config.yaml --resume`" in said
    assert json.loads((run / "manifest.json").read_text())["state"] == "interrupted"
    assert hidden(run) == []
    assert len(kerasllm.load(run).predict(TEXTS)) == len(TEXTS)


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_weights_of_the_whole_one(config, tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    short = ["-s", "training.epochs=6"]
    assert finish(start("finetune", config, "-s", f"output_dir={whole}", *short))[0] == 0
    process = start("finetune", config, "-s", f"output_dir={broken}", *short)
    wait_for(broken / "history.csv", process)
    process.kill()
    process.communicate(timeout=30)
    status, said = finish(start("finetune", broken / "config.yaml", "--resume"))
    assert status == 0, said
    assert (broken / "history.csv").read_text() == (whole / "history.csv").read_text()
    for name in ("model.safetensors", "tokenizer.json", "config.json"):
        assert (broken / "model" / name).read_bytes() == (whole / "model" / name).read_bytes()


def test_resuming_with_other_settings_is_refused(config, tmp_path):
    run = tmp_path / "run"
    options = ["-s", f"output_dir={run}", "-s", "training.epochs=1"]
    assert finish(start("finetune", config, *options))[0] == 0
    other = start("finetune", run / "config.yaml", "--resume", "-s", "training.learning_rate=0.1")
    status, said = finish(other)
    assert status == 1
    assert "training.learning_rate: 5e-05 then, 0.1 now" in said
    data = config.parent / "reviews.jsonl"
    before = data.read_text()
    try:
        data.write_text(before + json.dumps({"text": "a new one", "label": "positive"}) + "\n")
        more = ["--resume", "-s", "training.epochs=2"]
        status, said = finish(start("finetune", run / "config.yaml", *more))
    finally:
        data.write_text(before)
    assert status == 1
    assert "has changed since the run began: train" in said
    status, said = finish(start("finetune", run / "config.yaml", "--resume"))
    assert status == 1
    assert "has finished, so there is nothing to go on with." in said
    assert json.loads((run / "manifest.json").read_text())["state"] == "finished"


FULL_DISK = """
import resource, signal, sys
import kerasllm
from kerasllm.errors import KerasLLMError
from kerasllm.testing import tiny_reviews

preset, run, limit = sys.argv[1], sys.argv[2], int(sys.argv[3])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
try:
    kerasllm.finetune(preset, tiny_reviews(40), output_dir=run, epochs=1,
                      config={"export": {"path": run + "-export"}})
except KerasLLMError as error:
    print(error)
    sys.exit(1)
"""


@pytest.mark.slow
def test_a_full_disk_at_any_artefact_leaves_nothing_half_written(config, tmp_path):
    """A limit on the size of files does what a full disk does, at whichever artefact is the first too big."""
    preset = config.parent / "bert"

    def run(name, limit):
        script = [sys.executable, "-c", textwrap.dedent(FULL_DISK), preset, tmp_path / name, str(limit)]
        return subprocess.run(script, capture_output=True, text=True, check=False, timeout=300)

    whole = run("whole", 0)
    assert whole.returncode == 0, whole.stderr
    sizes = {
        path.stat().st_size
        for folder in (tmp_path / "whole", tmp_path / "whole-export")
        for path in folder.rglob("*")
        if path.is_file() and path.stat().st_size > 4096
    }
    limits = [size - 1 for size in sorted(sizes)[:: max(1, len(sizes) // 5)]]
    for limit in limits:
        name = f"full-{limit}"
        answer = run(name, limit)
        assert answer.returncode in (0, 1), answer.stderr
        for folder in (tmp_path / name, tmp_path / f"{name}-export"):
            assert hidden(folder) == []
            exported = [path for path in folder.glob("*") if path.name.isdigit()]
            assert all((path / "MANIFEST.json").is_file() for path in exported)
        if answer.returncode:
            assert "The disk is full" in answer.stdout


def test_a_loss_that_is_no_number_stops_before_anything_is_saved(config, tmp_path):
    class Poison(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if batch == 3 and self.model.optimizer.iterations > 15:
                variable = self.model.trainable_variables[0]
                variable.assign(np.full(variable.shape, np.nan, np.float32))

    run = tmp_path / "run"
    said = r"The loss became nan in epoch 2, step 4, at learning rate .* after"
    with pytest.raises(TrainingError, match=said):
        kerasllm.finetune(
            config.parent / "bert",
            tiny_reviews(120),
            batch_size=8,
            epochs=4,
            callbacks=[Poison()],
            output_dir=run,
        )
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == [
        "step-00000014",
        "step-00000014-end",
    ]
    assert json.loads((run / "manifest.json").read_text())["state"] == "failed"


def test_a_run_directory_that_cannot_be_made_is_said_before_the_model_is_loaded(config, tmp_path):
    (tmp_path / "file").write_text("")
    began = time.monotonic()
    process = start("finetune", config, "-s", f"output_dir={tmp_path / 'file' / 'run'}")
    status, said = finish(process)
    assert status == 1
    assert "cannot be made" in said
    assert time.monotonic() - began < 20
    assert os.listdir(tmp_path) == ["file"]
