"""Tiny language models of every family, with what transformers makes of the same files."""

import numpy as np
import pytest

from kerasllm.models.builders import build_with_head
from kerasllm.models.presets import Preset
from kerasllm.testing.architectures import CASES, write_model

LENGTHS = (7, 3, 10, 1)


@pytest.fixture(scope="session")
def causal_model(tmp_path_factory):
    """Gives the Keras model of a case of `kerasllm.testing.architectures`, and that of transformers."""
    pytest.importorskip("torch")
    made = {}

    def get(case):
        if case not in made:
            folder = tmp_path_factory.mktemp(case)
            reference = write_model(*CASES[case], folder)
            made[case] = build_with_head(Preset.load(folder)), reference.eval()
        return made[case]

    return get


@pytest.fixture(scope="session")
def prompts():
    """Token ids at the right of their rows, and the columns where they begin."""
    random, columns = np.random.default_rng(0), max(LENGTHS)
    starts = columns - np.array(LENGTHS, np.int32)
    ids = np.where(np.arange(columns) >= starts[:, None], random.integers(3, 83, (len(LENGTHS), columns)), 0)
    return ids.astype(np.int32), starts
