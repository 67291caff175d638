"""When a run may go on, and what is said where it may not."""

import json
import logging

import pytest

from kerasllm.config.defaults import resolve
from kerasllm.config.dumping import dump_config
from kerasllm.config.loading import load_config
from kerasllm.errors import ConfigError, DataError, RunDirectoryError
from kerasllm.training.resuming import (
    changed_settings,
    check_resumed,
    open_unfinished,
    warn_of_other_versions,
)
from kerasllm.training.run_directory import RunDirectory

BEGUN = {"task": "text_classification", "preset": "bert", "data": {"train": "a.csv", "sequence_length": 64},
         "training": {"packing": True}}  # fmt: skip


def begun(folder, *changes, state="interrupted", data=None):
    """A run directory that an earlier process left, and its config."""
    config = load_config({**BEGUN, "output_dir": str(folder)}, changes)
    run = RunDirectory.create(folder, dump_config(config))
    run.begin({} if data is None else {"data_sha256": data})
    run.write_manifest({"state": state})
    run.close()
    return config


ALLOWED = {
    "data.cache",
    "output_dir",
    "training.epochs",
    "training.gradient_checkpointing",
    "training.checkpoint_every",
    "training.patience",
    "training.patience_steps",
    "training.tensorboard",
}
RESOLVED = ("data.columns={text: text}", "data.labels=[x, y]", "model.pooling=cls", "model.dropout=0.1",
            "training.dtype_policy=float32", "training.monitor=val_loss", "training.num_widths=4",
            "training.packing_length=128")  # fmt: skip
BEFORE = load_config(BEGUN, RESOLVED)
KEYS = [
    f"{name}.{key}" if isinstance(section, dict) else name
    for name, section in BEFORE.model_dump().items()
    for key in (section if isinstance(section, dict) else [""])
]


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
@pytest.mark.parametrize("key", KEYS)
def test_another_value_of_any_setting_that_decides_the_weights_is_named(key):
    """Also of one that is new: what is not on the list of what may change is refused."""
    name, _, field = key.partition(".")
    section = getattr(BEFORE, name).model_copy(update={field: "other"}) if field else "other"
    changed = changed_settings(BEFORE, BEFORE.model_copy(update={name: section}))
    if key in ALLOWED or name in ("evaluation", "export"):
        assert changed == []
    else:
        assert [text.partition(": ")[0] for text in changed] == [key]
        assert changed[0].endswith(" then, 'other' now")


def test_the_command_says_what_differs(tmp_path):
    begun(tmp_path / "run", *RESOLVED)
    changes = ["training.batch_size=64", "training.dtype_policy=mixed_bfloat16", "training.epochs=9"]
    said = (
        r"`.*/run` was begun with other settings: training.batch_size: 32 then, 64 now; "
        r"training.dtype_policy: 'float32' then, 'mixed_bfloat16' now. Resume with the same, or start a new"
    )
    with pytest.raises(ConfigError, match=said):
        check_resumed(tmp_path / "run", load_config(BEGUN, [*RESOLVED, *changes]))


def test_a_setting_that_was_none_is_not_open(tmp_path):
    """`gradient_clip: none` was taken for not yet known, and went on with another."""
    begun(tmp_path / "run", "training.gradient_clip=none", "training.class_weights=none")
    other = load_config(BEGUN, ["training.class_weights=balanced"])
    changed = changed_settings(load_config(tmp_path / "run" / "config.yaml"), other)
    assert changed == [
        "training.gradient_clip: None then, 1.0 now",
        "training.class_weights: None then, 'balanced' now",
    ]


def test_what_is_derived_later_is_open_until_then(tmp_path):
    written = {**BEGUN, "data": {"train": "a.csv"}, "training": {"packing": True}}
    begun(tmp_path / "run", *RESOLVED)
    check_resumed(tmp_path / "run", load_config(written))
    facts = {"columns": {"text": "t"}, "labels": ["a", "b"], "dropout": 0.1, "pooling": "cls"}
    config = load_config(written)
    resolved = resolve(config, token_lengths=[9], dtype_policy="float32", **facts)
    assert changed_settings(resolved, config) == changed_settings(config, resolved) == []


def test_other_rows_are_named_by_split(tmp_path):
    config = begun(tmp_path / "run", data={"train": "1", "validation": "2"})
    check_resumed(tmp_path / "run", config, {"train": "1", "validation": "2"})
    said = "The data of `.*run` has changed since the run began: test, train. Resume with the same files"
    with pytest.raises(DataError, match=said):
        check_resumed(tmp_path / "run", config, {"train": "0", "validation": "2", "test": "3"})


def test_a_finished_run_goes_on_only_with_more_epochs(tmp_path):
    begun(tmp_path / "run", state="finished")
    check_resumed(tmp_path / "run", load_config(BEGUN, ["training.epochs=4"]))
    with pytest.raises(RunDirectoryError, match="has finished, so there is nothing to go on with"):
        check_resumed(tmp_path / "run", load_config(BEGUN, ["training.epochs=2"]))


@pytest.mark.parametrize("state", ["running", "interrupted", "failed"])
def test_an_unfinished_run_of_the_same_config_is_opened_and_said(tmp_path, caplog, state):
    begun(tmp_path / "run", state=state)
    with caplog.at_level(logging.INFO, logger="kerasllm"):
        run = open_unfinished(tmp_path / "run", load_config(BEGUN))
    assert (run.path, run.goes_on) == (tmp_path / "run", True)
    run.close()
    assert "Going on with the unfinished run `" in caplog.text


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("nothing", ""),
        ("a directory", ""),
        ("finished", ""),
        ("other settings", "seed: 7 then, 0 now"),
        ("damaged", "manifest.json` cannot be read"),
        ("in use", "is locked by pid"),
    ],
)
def test_beside_any_other_a_new_run_is_made_and_the_reason_said(tmp_path, caplog, what, said):
    path = tmp_path / "run"
    if what == "a directory":
        path.mkdir()
    elif what != "nothing":
        state = "finished" if what == "finished" else "running"
        begun(path, *(["seed=7"] if what == "other settings" else []), state=state)
    if what == "damaged":
        (path / "manifest.json").write_text("{")
    holder = RunDirectory.reopen(path) if what == "in use" else None
    assert open_unfinished(path, load_config(BEGUN)) is None
    if holder is not None:
        holder.close()
    assert said in caplog.text
    assert ("This is a new run beside it." in caplog.text) == bool(said)


def test_the_config_of_a_run_means_that_run_also_where_it_was_moved(tmp_path):
    begun(tmp_path / "run")
    (tmp_path / "run").rename(tmp_path / "moved")
    for source in (tmp_path / "moved", tmp_path / "moved" / "config.yaml"):
        assert load_config(source).output_dir == str(tmp_path / "moved")
    assert load_config(tmp_path / "moved", ["output_dir=new"]).output_dir == "new"


def test_other_packages_are_warned_of(tmp_path, caplog):
    begun(tmp_path / "run")
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    warn_of_other_versions(manifest)
    assert caplog.text == ""
    warn_of_other_versions({"versions": {**manifest["versions"], "keras": "3.1"}})
    assert "goes on with other packages (keras 3.1 then, 3." in caplog.text
