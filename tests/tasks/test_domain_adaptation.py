"""Fits an encoder to texts without labels; what comes out is fine-tuned like any checkpoint."""

import json

import pytest

import kerasllm
from kerasllm import Preset
from kerasllm.api import finetune_from_config
from kerasllm.config.loading import load_config
from kerasllm.errors import ConfigError
from kerasllm.testing import tiny_bert, tiny_reviews

SETTINGS = {"training": {"epochs": 3, "batch_size": 8, "learning_rate": 3e-3, "dtype_policy": "float32"}}


@pytest.fixture(scope="module")
def adapted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("adapted")
    rows = tiny_reviews(96)
    preset = tiny_bert(folder / "bert", texts=[row["text"] for row in rows])
    texts = [{"text": row["text"]} for row in rows]
    task = "masked_language_modeling"
    return kerasllm.finetune(preset, texts, task=task, output_dir=folder / "run", config=SETTINGS)


def test_it_lowers_the_perplexity_of_held_out_texts(adapted):
    run = adapted.path.parent
    metrics = json.loads((run / "metrics.json").read_text())
    history = (run / "history.csv").read_text().splitlines()
    first = dict(zip(history[0].split(","), history[1].split(","), strict=True))
    assert metrics["perplexity"] < float(first["val_perplexity"])
    assert metrics["monitor"] == "val_loss"
    assert json.loads((run / "manifest.json").read_text())["state"] == "finished"


def test_the_result_is_a_preset_to_fine_tune_from(adapted, tmp_path):
    assert isinstance(adapted, Preset)
    assert adapted.head == "masked_language"
    classifier = kerasllm.finetune(
        adapted.path, tiny_reviews(40), epochs=1, output_dir=tmp_path / "run", config=SETTINGS
    )
    assert len(classifier.predict(["A joy from start to end."])) == 1


def test_a_figure_of_another_task_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="has the figures val_loss, val_perplexity, val_token_accuracy"):
        kerasllm.finetune(
            "bert",
            [{"text": "a"}],
            task="masked_language_modeling",
            config={"training": {"monitor": "val_macro_f1"}},
        )


def test_a_dry_run_plans_it(adapted, tmp_path):
    (tmp_path / "texts.csv").write_text("text\n" + "".join(row["text"] + "\n" for row in tiny_reviews(40)))
    settings = {
        "task": "masked_language_modeling",
        "preset": str(adapted.path),
        "data": {"train": str(tmp_path / "texts.csv")},
        "training": {"learning_rate": "auto", "batch_size": 8},
    }
    plan = finetune_from_config(load_config(settings), dry_run=True)
    assert plan.num_train + plan.num_validation == 40
    assert 0 < plan.first_loss < 20
    assert "labels" not in str(plan)
