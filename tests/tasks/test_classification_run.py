"""The steps of a run: what is said before training begins."""

import logging

from kerasllm.config.loading import load_config
from kerasllm.data.prepare import prepare
from kerasllm.models.presets import Preset
from kerasllm.tasks.classification_run import encode_run


def encoded(preset, rows, caplog, **data):
    config = load_config({"task": "text_classification", "preset": str(preset), "data": data})
    with caplog.at_level(logging.WARNING, logger="kerasllm"):
        encode_run(config, prepare(config.data, train=rows), Preset.load(preset))
    return [record.message for record in caplog.records]


def test_what_the_model_cannot_see_or_know_is_said_before_training(preset, caplog):
    """Rows D20 and D23."""
    long = [(f"the film is truly wonderful {row} " * 9, "ab"[row % 2]) for row in range(20)]
    foreign = [("Καλημέρα κόσμε " * 9, "ab"[row % 2]) for row in range(20)]
    messages = encoded(preset, [*long, *foreign], caplog, sequence_length=16, validation=None, cleaning=[])
    assert any("train: 100% of rows are truncated at 16 tokens (p95 = " in message for message in messages)
    assert any("% of tokens are unknown. Is the preset for another language?" in m for m in messages)


def test_nothing_is_said_of_good_texts(preset, caplog):
    rows = [(f"the film is truly wonderful {row}", "ab"[row % 2]) for row in range(20)]
    assert encoded(preset, rows, caplog, validation=None) == []
