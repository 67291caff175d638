"""Augmentation in a run of `finetune`: applied, reproducible, and gone on with exactly."""

import json

import keras
import numpy as np
import pytest

import kerasllm
from kerasllm.api import finetune_from_config
from kerasllm.config.loading import load_config
from kerasllm.data.augmentation import RandomDeletion
from kerasllm.errors import ConfigError
from kerasllm.testing import tiny_bert, tiny_reviews

ENTRIES = [
    {"name": "random_deletion", "rate": 0.2},
    {"name": "random_replacement", "source": "neighbours"},
    {"name": "random_insertion", "source": "unigram"},
    {"name": "cutoff", "kind": "span"},
    {"name": "mixup"},
]


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    return tiny_bert(tmp_path_factory.mktemp("preset"), num_layers=1)


def train(preset, path, augmentation=None, **options):
    return kerasllm.finetune(
        preset,
        tiny_reviews(48),
        augmentation=augmentation,
        epochs=2,
        batch_size=16,
        output_dir=path,
        dtype_policy="float32",
        **options,
    )


def weights(classifier):
    return [np.asarray(variable) for variable in classifier.keras_model.weights]


def equal(first, second):
    return all(np.array_equal(a, b) for a, b in zip(weights(first), weights(second), strict=True))


def test_a_run_is_augmented_and_the_seed_decides(preset, tmp_path):
    plain = train(preset, tmp_path / "plain")
    first = train(preset, tmp_path / "first", ENTRIES)
    assert not equal(plain, first)
    assert equal(first, train(preset, tmp_path / "second", ENTRIES))
    written = load_config(tmp_path / "first" / "config.yaml").augmentation
    assert [entry.name for entry in written] == [entry["name"] for entry in ENTRIES]


class StopAfter(keras.callbacks.Callback):
    """Presses Ctrl-C in the second epoch."""

    steps = 0

    def on_train_batch_end(self, batch, logs=None):
        self.steps += 1
        if self.steps == 4:
            raise KeyboardInterrupt


@pytest.mark.slow
def test_a_resumed_run_draws_what_the_whole_one_drew(preset, tmp_path):
    path = tmp_path / "reviews.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in tiny_reviews(48)))

    def config(name):
        training = {"epochs": 2, "batch_size": 16, "checkpoint_every": 1, "dtype_policy": "float32"}
        return load_config(
            {
                "task": "text_classification",
                "preset": str(preset),
                "output_dir": str(tmp_path / name),
                "data": {"train": str(path)},
                "augmentation": ENTRIES,
                "training": training,
            }
        )

    whole = finetune_from_config(config("whole"))
    with pytest.raises(KeyboardInterrupt):
        finetune_from_config(config("half"), callbacks=[StopAfter()])
    assert equal(whole, finetune_from_config(config("half"), resume=True))


def test_layers_and_entries_may_stand_together(preset, tmp_path):
    layer = RandomDeletion(kerasllm.Tokenizer.load(preset), 0.3, seed=1)
    train(preset, tmp_path / "run", [layer, {"name": "random_swap"}])
    assert int(layer.seed_generator.state[1]) == 6  # three steps in each of two epochs
    written = load_config(tmp_path / "run" / "config.yaml").augmentation
    assert [entry.name for entry in written] == ["random_swap"]


def test_wrong_entries_are_refused_before_anything_is_read(preset, tmp_path):
    with pytest.raises(ConfigError, match=r"Write `\{name: random_swap\}`"):
        train(preset, tmp_path / "run", ["random_swap"])
    assert not (tmp_path / "run").exists()
