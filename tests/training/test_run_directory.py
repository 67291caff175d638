"""Run directories: names, locks, versions."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import pytest

from kerasllm.errors import DataError, RunDirectoryError
from kerasllm.training.run_directory import RunDirectory, read_run_manifest, recorded


def test_a_taken_name_gets_a_time_and_then_a_number(tmp_path):
    runs = [RunDirectory.create(tmp_path / "reviews", "seed: 0\n") for _ in range(3)]
    names = [run.path.name for run in runs]
    assert names[0] == "reviews"
    assert names[1].startswith("reviews-2")
    assert names[2] == f"{names[1]}-2" or names[2].startswith("reviews-2")
    assert len(set(names)) == 3
    assert (runs[2].path / "config.yaml").read_text() == "seed: 0\n"
    assert (runs[0].path.stat().st_mode & 0o777) == 0o700


def test_a_kill_while_the_directory_is_made_leaves_no_half_run(tmp_path, monkeypatch):
    """`--resume` said of a directory that a kill had left without a manifest that it was no run."""
    child = os.fork()
    if child == 0:
        monkeypatch.setattr(RunDirectory, "write_manifest", lambda *_: os._exit(7))
        RunDirectory.create(tmp_path / "run", "")
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert [path.name[:9] for path in tmp_path.iterdir()] == [".tmp-run-"]
    run = RunDirectory.create(tmp_path / "run", "")
    run.close()
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert read_run_manifest(run.path)["state"] == "running"


@pytest.mark.parametrize("number", [30, pytest.param(1000, marks=pytest.mark.slow)])
def test_many_at_once_get_a_name_each_also_when_the_clock_stands_still(tmp_path, monkeypatch, number):
    class Clock(datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2026, 1, 1, 12, 0, tzinfo=tz)

    def create(_):
        run = RunDirectory.create(tmp_path / "run", "")
        run.close()
        return run.path

    monkeypatch.setattr("kerasllm.training.run_directory.datetime", Clock)
    monkeypatch.setattr("kerasllm.training.run_directory._environment", lambda: {"format_version": 1})
    with ThreadPoolExecutor(16) as pool:
        paths = list(pool.map(create, range(number)))
    assert len(set(paths)) == number
    assert sorted(path.name for path in paths) == sorted(os.listdir(tmp_path))
    assert {"run", "run-20260101-1200", "run-20260101-1200-9"} < {path.name for path in paths}


def test_manifest_says_what_ran_and_how_it_ended(tmp_path):
    with recorded(RunDirectory.create(tmp_path / "run", "")) as run:
        run.begin({"seed": 3})
        assert read_run_manifest(run.path)["state"] == "running"
    manifest = read_run_manifest(tmp_path / "run")
    assert manifest["state"] == "finished"
    assert manifest["seed"] == 3
    assert manifest["versions"]["keras"]
    run = RunDirectory.reopen(run.path)
    run.begin({})
    with pytest.raises(KeyboardInterrupt), recorded(run):
        raise KeyboardInterrupt
    assert read_run_manifest(run.path)["state"] == "interrupted"


def test_what_fails_before_training_begins_leaves_no_trace(tmp_path):
    """A typo in a column name took `runs/reviews`, and the next run had to be called otherwise."""
    with pytest.raises(DataError), recorded(RunDirectory.create(tmp_path / "run", "")):
        raise DataError("no column 'text'")
    assert list(tmp_path.iterdir()) == []
    with recorded(RunDirectory.create(tmp_path / "run", "")) as run:
        run.begin({})
    with pytest.raises(DataError), recorded(RunDirectory.reopen(run.path)):
        raise DataError("the data has changed")
    assert read_run_manifest(run.path)["state"] == "finished"


def test_a_second_process_is_refused_until_the_first_lets_go(tmp_path):
    run = RunDirectory.create(tmp_path / "run", "")
    with pytest.raises(RunDirectoryError, match=rf"is locked by pid {os.getpid()} on .* since"):
        RunDirectory.reopen(run.path)
    run.close()
    RunDirectory.reopen(run.path).close()


def test_a_killed_process_leaves_no_lock(tmp_path):
    script = (
        "import os, sys; from kerasllm.training.run_directory import RunDirectory;"
        "RunDirectory.create(sys.argv[1], ''); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", script, tmp_path / "run"], check=False)
    RunDirectory.reopen(tmp_path / "run").close()


def test_a_newer_run_directory_is_refused(tmp_path):
    run = RunDirectory.create(tmp_path / "run", "")
    run.close()
    path = run.path / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format_version": 99}))
    with pytest.raises(RunDirectoryError, match=r"has the format version 99, this kerasllm reads up to 1"):
        RunDirectory.reopen(run.path)


@pytest.mark.parametrize("content", [None, "", "[1]", "{}", '{"format_version": "x"}'])
def test_a_directory_that_is_no_run_is_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(RunDirectoryError, match=r"is not a run directory|cannot be read|format version"):
        RunDirectory.reopen(tmp_path)


def test_a_parent_that_is_a_file_is_said_at_once(tmp_path):
    (tmp_path / "runs").write_text("")
    said = r"cannot be made: .*a parent is not a directory.*Set another with `output_dir`"
    with pytest.raises(RunDirectoryError, match=said):
        RunDirectory.create(tmp_path / "runs" / "reviews", "")


def test_history_is_a_table_an_epoch_a_row(tmp_path):
    run = RunDirectory.create(tmp_path / "run", "")
    run.write_history([{"loss": 0.5}, {"loss": 0.25, "val_loss": 0.5}])
    assert (run.path / "history.csv").read_text() == "epoch,loss,val_loss\n1,0.5,\n2,0.25,0.5\n"
