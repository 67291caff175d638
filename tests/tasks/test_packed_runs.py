"""Whole runs on packed texts and on a token budget, with token ids from the cache."""

import numpy as np
import pytest

import kerasllm
from kerasllm.api import finetune_from_config
from kerasllm.config.loading import load_config
from kerasllm.data.prepare import prepare
from kerasllm.errors import ConfigError
from kerasllm.models.packing import is_packed
from kerasllm.models.presets import Preset
from kerasllm.tasks.classification_run import encode_run
from kerasllm.testing import tiny_reviews
from kerasllm.tokenization.tokenizer import Tokenizer

LEARNING = {"epochs": 5, "learning_rate": 5e-3}


@pytest.fixture
def reviews(tmp_path, monkeypatch):
    monkeypatch.setenv("KERASLLM_CACHE", str(tmp_path / "cache"))
    return tiny_reviews(128)


def tune(preset, reviews, path, **training):
    return kerasllm.finetune(
        preset,
        reviews,
        validation_data=0.25,
        output_dir=path,
        config={"training": {**LEARNING, **training}, "evaluation": {"report": False}},
    )


@pytest.mark.parametrize(
    "training",
    [
        pytest.param({"packing": True, "batch_size": 2}, id="packed"),
        pytest.param({"batch_tokens": 128}, id="budget", marks=pytest.mark.slow),
    ],
)
def test_a_run_learns_and_the_finished_model_is_an_ordinary_one(training, preset, reviews, tmp_path, caplog):
    with caplog.at_level("INFO", logger="kerasllm"):
        classifier = tune(preset, reviews, tmp_path / "run", **training)
    assert classifier.evaluation.accuracy > 0.75
    assert not is_packed(classifier.keras_model)
    assert "of the places in them are padding" in caplog.text
    resolved = load_config(tmp_path / "run" / "config.yaml", [])
    assert resolved.training.packing_length == (
        resolved.data.sequence_length if "packing" in training else None
    )
    texts = [row["text"] for row in reviews[:8]]
    again = kerasllm.load(tmp_path / "run")
    np.testing.assert_array_equal(
        [found.score for found in again.predict(texts)], [found.score for found in classifier.predict(texts)]
    )


def test_a_second_run_tokenizes_nothing(preset, reviews, tmp_path, monkeypatch):
    encode, seen = Tokenizer.encode_for_model, []

    def counted(self, texts, *arguments, **options):
        seen.extend(texts)
        return encode(self, texts, *arguments, **options)

    monkeypatch.setattr(Tokenizer, "encode_for_model", counted)
    rows, loaded = [(row["text"], row["label"]) for row in reviews], Preset.load(preset)
    found = []
    for cache in ("auto", "auto", None):
        data = {"validation": 0.25, "cache": cache}
        config = load_config({"task": "text_classification", "preset": str(preset), "data": data})
        found.append((len(seen), encode_run(config, prepare(config.data, train=rows), loaded).data))
    assert [count for count, _ in found] == [0, 128, 128]
    assert len(seen) == 256
    assert len(list((tmp_path / "cache" / "tokens").glob("?" * 64))) == 2
    for _, data in found[1:]:
        np.testing.assert_array_equal(data.train.token_ids, found[0][1].train.token_ids)
        np.testing.assert_array_equal(data.validation.offsets, found[0][1].validation.offsets)


def test_a_dry_run_says_how_much_is_padding(preset, reviews, tmp_path):
    path = tmp_path / "reviews.csv"
    path.write_text("text,label\n" + "".join(f"{row['text']!r},{row['label']}\n" for row in reviews))
    overrides = [f"data.train={path}", f"preset={preset}", "training.packing=true", "data.sequence_length=64"]
    config = load_config(
        "text_classification/sentiment_minilm", [*overrides, "data.columns=null", "data.labels=null"]
    )
    plan = finetune_from_config(config, dry_run=True)
    assert 0 < plan.padding_share < 0.3
    assert f"padding      {plan.padding_share:.1%} of the places in the batches" in str(plan)


def test_a_budget_below_a_text_is_said_before_training(preset, reviews, tmp_path):
    with pytest.raises(ConfigError, match=r"`training.batch_tokens` is 8, but one row has up to \d+ tokens"):
        tune(preset, reviews, tmp_path / "run", batch_tokens=8)
