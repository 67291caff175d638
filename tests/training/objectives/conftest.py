"""Tiny language models, with what transformers makes of the same files."""

import pytest

from kerasllm.models.builders import build_with_head
from kerasllm.models.presets import Preset
from kerasllm.testing.architectures import write_checkpoint


@pytest.fixture(scope="session")
def language_model(tmp_path_factory):
    """Builds a model of `kerasllm.testing.architectures`, and loads it with transformers."""
    pytest.importorskip("torch")
    made = {}

    def get(case, **options):
        if case not in made:
            folder = tmp_path_factory.mktemp(case)
            made[case] = folder, write_checkpoint(case, folder)
        folder, reference = made[case]
        return build_with_head(Preset.load(folder), **options), reference

    return get
