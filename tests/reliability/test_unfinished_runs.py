"""The same call again: an unfinished run goes on, beside a finished or another one a new one is made."""

import logging
import re
import subprocess
import sys

import keras
import numpy as np
import pytest

import kerasllm
from kerasllm.testing import tiny_bert, tiny_reviews

ROWS = tiny_reviews(30)
TEXTS = [row["text"] for row in ROWS[:20]]


# Tracing would take longer than all these runs.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Even though the `tf.config.experimental_run_functions_eagerly`"
)


@pytest.fixture(autouse=True)
def eagerly():
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


class Dies(keras.callbacks.Callback):
    """Ends the run with an error before a step."""

    def __init__(self, step=5):
        super().__init__()
        self.step = step

    def on_train_batch_begin(self, batch, logs=None):
        if self.model.optimizer.iterations == self.step:
            raise RuntimeError("killed")


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    return tiny_bert(tmp_path_factory.mktemp("preset") / "bert", texts=[row["text"] for row in ROWS])


@pytest.fixture
def run(preset, tmp_path, caplog):
    """Fine-tunes in `tmp_path / name`; says where, and what was logged."""

    def run(name, *callbacks, rows=ROWS, **settings):
        caplog.clear()
        config = {"training": {"checkpoint_every": 4}, "evaluation": {"report": False}}
        settings = {"epochs": 2, "batch_size": 8, "config": config, **settings}
        with caplog.at_level(logging.INFO, logger="kerasllm"):
            return kerasllm.finetune(
                preset, rows, output_dir=tmp_path / name, callbacks=callbacks, **settings
            )

    return run


def test_an_unfinished_run_goes_on_and_a_finished_one_is_left_alone(run, tmp_path, caplog):
    whole = run("whole")
    with pytest.raises(RuntimeError, match="killed"):
        run("run", Dies())
    resumed = run("run")
    assert f"Going on with the unfinished run `{tmp_path / 'run'}`." in caplog.text
    assert "Going on after epoch 1 of 2, step 4." in caplog.text
    assert resumed.run_directory == tmp_path / "run"
    assert resumed.history == whole.history
    np.testing.assert_array_equal(resumed.scores(TEXTS), whole.scores(TEXTS))
    again = run("run")
    assert again.run_directory.name.startswith("run-2")
    assert "Going on" not in caplog.text


@pytest.mark.parametrize("what", ["settings", "the order", pytest.param("a byte", marks=pytest.mark.slow)])
def test_beside_a_run_of_something_else_a_new_one_is_made(run, preset, tmp_path, caplog, what):
    with pytest.raises(RuntimeError, match="killed"):
        run("run", Dies(3))
    rows, settings = [dict(row) for row in ROWS], {}
    if what == "settings":
        settings, said = {"learning_rate": 0.001}, "training.learning_rate: 5e-05 then, 0.001 now"
    elif what == "a byte":
        rows[7]["text"] += "!"
        said = f"The data of `{tmp_path / 'run'}` has changed since the run began: train"
    else:
        rows.reverse()
        said = f"The data of `{tmp_path / 'run'}` has changed since the run began: train"
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*.json")}
    with pytest.raises(RuntimeError, match="killed"):
        run("run", Dies(3), rows=rows, **settings)
    assert said in caplog.text
    assert "This is a new run" in caplog.text
    assert {path: path.read_bytes() for path in (tmp_path / "run").rglob("*.json")} == before
    others = [path for path in tmp_path.iterdir() if path.name.startswith("run-")]
    assert len(others) == 1


EARLY = """
import sys
from pathlib import Path
from kerasllm.api import finetune_from_config
from kerasllm.config.dumping import dump_config
from kerasllm.config.loading import load_config
from kerasllm.errors import RunDirectoryError, ConfigError
from kerasllm.training.run_directory import RunDirectory

folder = Path(sys.argv[1])
def config(name, **training):
    return load_config({"task": "text_classification", "preset": "none", "output_dir": str(folder / name),
                        "data": {"train": "none.csv"}, "training": training})

held = RunDirectory.create(folder / "held", dump_config(config("held")))
other = RunDirectory.create(folder / "other", dump_config(config("other")))
other.close()
for name, resume, training in [
    ("/proc/kerasllm/run", False, {}), ("file/run", False, {}), ("none", True, {}), ("held", True, {}),
    ("other", True, {"epochs": 9, "warmup": 0.5}),
]:
    try:
        finetune_from_config(config(name, **training), resume=resume)
    except (RunDirectoryError, ConfigError) as error:
        print(error)
    RunDirectory.reopen(folder / "other").close()
print("tensorflow" in sys.modules, sorted(path.name for path in folder.iterdir()))
"""


def test_a_directory_that_cannot_be_used_is_said_before_anything_is_loaded(tmp_path):
    (tmp_path / "file").write_text("")
    answer = subprocess.run(
        [sys.executable, "-c", EARLY, tmp_path], capture_output=True, text=True, check=True, timeout=100
    )
    *said, last = answer.stdout.splitlines()
    expected = [
        r"The run directory cannot be made: `/proc/kerasllm/run` cannot be written: .*Set another with",
        r"The run directory cannot be made: `.*/file/run` cannot be written: a parent is not a directory",
        r"`.*/none` is not a run directory: it has no manifest.json",
        r"The run directory `.*/held` is locked by pid \d+ on .* since",
        r"`.*/other` was begun with other settings: training.warmup: 0.1 then, 0.5 now. Resume with the same",
    ]
    assert len(said) == len(expected), answer.stdout
    for sentence, words in zip(said, expected, strict=True):
        assert re.match(words, sentence)
    assert last == "False ['file', 'held', 'other']"
