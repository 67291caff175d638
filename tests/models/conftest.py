"""Tiny checkpoints for the tests of `kerasllm.models`, written once a session."""

import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from kerasllm.testing import tiny_bert


@pytest.fixture(scope="session")
def tiny_path(tmp_path_factory):
    return tiny_bert(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def tiny_classifier_path(tmp_path_factory):
    return tiny_bert(tmp_path_factory.mktemp("tiny_classifier"), labels=["bad", "fair", "good"])


@pytest.fixture(scope="session")
def batch():
    """Three sequences of 9, 5 and 2 tokens, two of them pairs."""
    lengths = np.array([9, 5, 2])[:, None]
    padding_mask = (np.arange(9) < lengths).astype(np.int32)
    token_ids = np.random.default_rng(0).integers(5, 60, (3, 9)).astype(np.int32) * padding_mask
    segment_ids = (np.arange(9) >= lengths // 2).astype(np.int32) * padding_mask
    segment_ids[2] = 0
    return {"token_ids": token_ids, "padding_mask": padding_mask, "segment_ids": segment_ids}


@pytest.fixture
def changed(tmp_path, tiny_path):
    """Copies a checkpoint and changes its config or its tensors: `changed(config={...}, tensors=f)`."""

    def change(*, source=tiny_path, config=None, tensors=None):
        path = tmp_path / "changed"
        shutil.copytree(source, path, dirs_exist_ok=True)
        if config is not None:
            values = json.loads((path / "config.json").read_text()) | config
            values = {key: value for key, value in values.items() if value is not ...}
            (path / "config.json").write_text(json.dumps(values))
        if tensors is not None:
            values = load_file(path / "model.safetensors")
            save_file(tensors(values) or values, path / "model.safetensors")
        return path

    return change
