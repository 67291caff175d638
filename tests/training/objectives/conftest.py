"""Tiny language models, with what transformers makes of the same files."""

import pytest

from kerasllm.models.builders import build_with_head
from kerasllm.models.presets import Preset
from kerasllm.testing.architectures import CASES, write_model

# Without dropout a training step can be compared.
_NO_DROPOUT = {
    "GPT2": dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0),
    **dict.fromkeys(
        ("Bert", "Roberta", "DebertaV2"),
        dict.fromkeys(("hidden_dropout_prob", "attention_probs_dropout_prob"), 0.0),
    ),
}


@pytest.fixture(scope="session")
def language_model(tmp_path_factory):
    """Builds a model of `kerasllm.testing.architectures`, and loads it with transformers."""
    pytest.importorskip("torch")
    made = {}

    def get(case, **options):
        if case not in made:
            folder = tmp_path_factory.mktemp(case)
            architecture, settings = CASES[case]
            without = next((each for name, each in _NO_DROPOUT.items() if case.startswith(name)), {})
            made[case] = folder, write_model(architecture, {**settings, **without}, folder)
        folder, reference = made[case]
        return build_with_head(Preset.load(folder), **options), reference

    return get
