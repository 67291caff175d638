"""The two verbs: what they take, and what they answer to mistakes."""

import json

import numpy as np
import pytest

import kerasllm
from kerasllm.api import finetune_from_config
from kerasllm.config.loading import load_config
from kerasllm.errors import ConfigError, DataError, PresetError, ResourceError, RunDirectoryError
from kerasllm.testing import tiny_bert, tiny_reviews


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    """Directory of a tiny BERT."""
    texts = [row["text"] for row in tiny_reviews(64)]
    return tiny_bert(tmp_path_factory.mktemp("preset") / "bert", texts=texts)


def test_explicit_arguments_win_over_the_config(preset, tmp_path):
    rows = tiny_reviews(40)
    config = {"training": {"epochs": 7, "batch_size": 8}, "seed": 3}
    held_out = tiny_reviews(10, seed=4)
    classifier = kerasllm.finetune(
        preset,
        ([row["text"] for row in rows], [row["label"] for row in rows]),
        validation_data=held_out,
        test_data=0.2,
        epochs=1,
        output_dir=tmp_path / "run",
        config=config,
    )
    assert len(classifier.history) == 1
    assert config == {"training": {"epochs": 7, "batch_size": 8}, "seed": 3}
    written = load_config(tmp_path / "run")
    assert (written.training.epochs, written.training.batch_size, written.seed) == (1, 8, 3)
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["split"] == "test"
    assert classifier.evaluation.num_rows == 8


def test_a_loaded_preset_is_taken_as_it_is(preset, tmp_path):
    loaded = kerasllm.Preset.load(preset)
    classifier = kerasllm.finetune(
        loaded, tiny_reviews(20), validation_data=None, epochs=1, output_dir=tmp_path / "run"
    )
    assert classifier.evaluation is None
    assert classifier.preset == str(loaded.handle)


def test_a_keras_model_is_no_preset(tmp_path):
    with pytest.raises(PresetError, match=r"`preset` is of type int, but must be a directory"):
        kerasllm.finetune(3, tiny_reviews(20), output_dir=tmp_path / "run")


def test_an_unknown_setting_is_named_with_the_nearest(preset, tmp_path):
    config = {"training": {"epoch": 3, "learning_rate": "fast"}, "modle": {}}
    with pytest.raises(ConfigError) as caught:
        kerasllm.finetune(preset, tiny_reviews(20), output_dir=tmp_path / "run", config=config)
    for word in ("training.epoch", "epochs", "training.learning_rate", "modle", "model"):
        assert word in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_an_unknown_preset_is_said(tmp_path):
    with pytest.raises((PresetError, ResourceError), match="no/such/bert"):
        kerasllm.finetune(tmp_path / "no/such/bert", tiny_reviews(20), output_dir=tmp_path / "run")


def test_one_class_is_nothing_to_learn(preset, tmp_path):
    rows = [row for row in tiny_reviews(20) if row["label"] == "positive"]
    with pytest.raises(DataError, match=r"positive.*at least 2|one class|nothing to tell apart"):
        kerasllm.finetune(preset, rows, output_dir=tmp_path / "run")


def test_a_config_without_data_says_how_to_name_some(preset):
    config = load_config({"task": "text_classification", "preset": str(preset)})
    with pytest.raises(ConfigError, match=r"`data.train` is missing: .*-s data.train=reviews.csv"):
        finetune_from_config(config)


def test_a_checkpoint_without_a_head_is_no_classifier(preset):
    with pytest.raises(PresetError, match=r"has no classification head. Fine-tune it"):
        kerasllm.load(preset)


def test_a_checkpoint_with_a_head_is_a_classifier(tmp_path):
    directory = tiny_bert(tmp_path / "bert", labels=["no", "yes"])
    classifier = kerasllm.load(directory)
    assert classifier.labels == ("no", "yes")
    assert classifier.predict(["the film"])[0].label in ("no", "yes")


def test_an_unfinished_run_says_how_to_go_on(tmp_path):
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    with pytest.raises(RunDirectoryError, match=r"has not finished: .*config.yaml --resume"):
        kerasllm.load(tmp_path / "run")


@pytest.mark.parametrize("name", ["reviews", "reviews/1"])
def test_an_export_is_no_run(tmp_path, name):
    (tmp_path / "reviews" / "1").mkdir(parents=True)
    (tmp_path / "reviews" / "1" / "saved_model.pb").touch()
    message = rf"`.*{name}` is an exported model, .* `kerasllm serve .*{name}`, .* Give the run directory"
    with pytest.raises(RunDirectoryError, match=message):
        kerasllm.load(tmp_path / name)


def test_a_run_of_a_newer_kerasllm_is_refused(tmp_path):
    (tmp_path / "manifest.json").write_text('{"format_version": 99}')
    with pytest.raises(RunDirectoryError, match="format version 99"):
        kerasllm.load(tmp_path)


def test_several_seeds_are_runs_of_one_split_and_the_best_is_kept(tmp_path):
    """Finished seeds are not trained again when the command is given once more."""
    rows = tiny_reviews(60)
    preset = tiny_bert(tmp_path / "bert", texts=[row["text"] for row in rows])
    settings = {
        "seeds": [0, 3],
        "evaluation": {"report": False, "num_bootstrap": 100},
        "export": {"path": str(tmp_path / "export")},
    }
    options = {"epochs": 1, "output_dir": tmp_path / "runs", "test_data": 0.2, "config": settings}
    best = kerasllm.finetune(preset, rows, **options)
    figures = json.loads((tmp_path / "runs" / "seeds.json").read_text())
    runs = [json.loads((tmp_path / "runs" / f"seed-{seed}" / "metrics.json").read_text()) for seed in (0, 3)]
    accuracies = [run["accuracy"] for run in runs]
    assert figures["mean"]["accuracy"] == pytest.approx(np.mean(accuracies))
    assert figures["standard_deviation"]["accuracy"] == pytest.approx(np.std(accuracies, ddof=1))
    assert best.seeds.best_seed == (0, 3)[int(np.argmax([run["best_value"] for run in runs]))]
    assert best.run_directory == tmp_path / "runs" / f"seed-{best.seeds.best_seed}"
    assert best.exported.path.is_dir()
    hashes = [
        json.loads((tmp_path / "runs" / f"seed-{seed}" / "manifest.json").read_text())["data_sha256"]
        for seed in (0, 3)
    ]
    assert hashes[0] == hashes[1]
    times = [(tmp_path / "runs" / f"seed-{seed}" / "metrics.json").stat().st_mtime_ns for seed in (0, 3)]
    kerasllm.finetune(preset, rows, **options)
    assert times == [
        (tmp_path / "runs" / f"seed-{seed}" / "metrics.json").stat().st_mtime_ns for seed in (0, 3)
    ]
