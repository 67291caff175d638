"""Presets of each of KerasHub's classes compute what KerasHub computes from them."""

import keras_hub
import numpy as np
import pytest

from kerasllm.errors import PresetError
from kerasllm.models.builders import build_with_head, save_weights
from kerasllm.models.families import FAMILIES
from kerasllm.models.keras_hub_layouts import LAYOUTS
from kerasllm.models.presets import Preset

# Of KerasHub's, about masks in its own layers.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

SMALL = {
    "vocabulary_size": 60,
    "num_layers": 2,
    "num_heads": 2,
    "hidden_dim": 8,
    "intermediate_dim": 24,
}
WITH_POSITIONS = {**SMALL, "max_sequence_length": 16}
NARROW = {**WITH_POSITIONS, "embedding_dim": 6}
GROUPED = {
    "vocabulary_size": 60,
    "num_layers": 2,
    "num_query_heads": 4,
    "num_key_value_heads": 2,
    "hidden_dim": 16,
    "intermediate_dim": 24,
}
GEMMA = {**GROUPED, "head_dim": 6}
GEMMA2 = {
    **GEMMA,
    "use_post_ffw_norm": True,
    "use_post_attention_norm": True,
    "use_sliding_window_attention": True,
    "sliding_window_size": 4,
    "attention_logit_soft_cap": 5.0,
}
CASES = {
    "BertBackbone": WITH_POSITIONS,
    "DistilBertBackbone": WITH_POSITIONS,
    "RobertaBackbone": WITH_POSITIONS,
    "XLMRobertaBackbone": WITH_POSITIONS,
    "AlbertBackbone": {**NARROW, "num_groups": 2, "num_inner_repetitions": 2},
    "ElectraBackbone": {
        **{name: value for name, value in NARROW.items() if name != "vocabulary_size"},
        "vocab_size": 60,
    },
    "DebertaV3Backbone": {**WITH_POSITIONS, "bucket_size": 4},
    "GPT2Backbone": WITH_POSITIONS,
    "GPTNeoXBackbone": {**WITH_POSITIONS, "hidden_dim": 32, "rotary_percentage": 0.5},
    "OPTBackbone": WITH_POSITIONS,
    "LlamaBackbone": GROUPED,
    "Llama3Backbone": {
        **GROUPED,
        "rope_max_wavelength": 500000,
        "rope_frequency_adjustment_factor": 8.0,
        "rope_low_freq_factor": 1.0,
        "rope_high_freq_factor": 4.0,
        "rope_pretraining_sequence_length": 16,
    },
    "MistralBackbone": {**GROUPED, "sliding_window": 4, "rope_scaling_factor": 2.0},
    "MixtralBackbone": {**GROUPED, "num_experts": 4, "sliding_window": 4},
    "QwenBackbone": {**GROUPED, "use_sliding_window_attention": True, "sliding_window_size": 4},
    "QwenBackbone untied": {**GROUPED, "tie_word_embeddings": False},
    "Qwen3Backbone": {**GROUPED, "head_dim": 6},
    "Phi3Backbone": {
        **GROUPED,
        "max_sequence_length": 64,
        "pretraining_sequence_length": 8,
        "rope_scaling_type": "su",
        "rope_scaling_short_factor": [1.0, 1.1],
        "rope_scaling_long_factor": [2.0, 3.0],
    },
    "GemmaBackbone": GEMMA,
    "GemmaBackbone 2": GEMMA2,
    "Gemma3Backbone": {
        **GEMMA2,
        "attention_logit_soft_cap": None,
        "num_layers": 7,
        "image_size": None,
        "global_rope_scaling_factor": 8.0,
    },
    "SmolLM3Backbone": {
        "vocabulary_size": 60,
        "num_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "hidden_dim": 16,
        "intermediate_dim": 24,
        "attention_bias": False,
        "attention_dropout": 0.0,
        "rope_layer_enabled_list": [True, False],
        "layer_types": ["full_attention"] * 2,
        "mlp_bias": False,
        "layer_norm_epsilon": 1e-6,
        "max_position_embeddings": 40,
        "rope_theta": 1e4,
        "partial_rotary_factor": 1.0,
    },
    "T5Backbone": {**SMALL, "use_gated_activation": False, "key_value_dim": 6},
    "T5Backbone gated": {**SMALL, "activation": "gelu", "tie_embedding_weights": False},
    "BartBackbone": WITH_POSITIONS,
}
INPUTS = {
    "token_ids": "token_ids",
    "padding_mask": "padding_mask",
    "segment_ids": "segment_ids",
    "encoder_token_ids": "token_ids",
    "encoder_padding_mask": "padding_mask",
    "decoder_token_ids": "decoder_token_ids",
    "decoder_padding_mask": "decoder_padding_mask",
}


def write(case, path, **options):
    """Writes a preset whose weights are all random; gives KerasHub's model."""
    backbone = getattr(keras_hub.models, case.partition(" ")[0])(**CASES[case])
    random = np.random.default_rng(0)
    for weight in backbone.weights:
        if "inv_freq" not in weight.path:  # of the rotation, which is no weight to be learned
            weight.assign(random.standard_normal(weight.shape) * 0.3)
    backbone.save_to_preset(str(path), **options)
    return backbone


def make_inputs(backbone):
    """Texts of 12, 7 and 3 tokens, padded on the right: with others KerasHub's positions differ."""
    places = np.arange(12)
    mask = (places < np.array([12, 7, 3])[:, None]).astype(np.int32)
    padding = 1 if "Roberta" in type(backbone).__name__ else 0
    ids = np.where(mask == 1, np.random.default_rng(1).integers(5, 60, mask.shape), padding)
    values = {"token_ids": ids, "padding_mask": mask, "segment_ids": (places > 4) * mask}
    return {name: values[name.removeprefix("encoder_").removeprefix("decoder_")] for name in backbone.input}


def hidden(outputs):
    if isinstance(outputs, dict):
        outputs = outputs.get("sequence_output", outputs.get("decoder_sequence_output"))
    return np.asarray(outputs)


def run(preset, inputs, method):
    named = {INPUTS[name]: values for name, values in inputs.items()}
    return method(preset)(named.pop("token_ids"), named.pop("padding_mask"), **named)


def test_there_is_a_case_for_every_class():
    assert {case.partition(" ")[0] for case in CASES} == set(LAYOUTS)
    named = {model_type for layout in LAYOUTS.values() for model_type in layout.model_types}
    assert named == set(FAMILIES) - {"mt5"}


@pytest.mark.parametrize("case", CASES)
def test_same_numbers_as_keras_hub(case, tmp_path):
    backbone = write(case, tmp_path / "preset")
    preset = Preset.load(tmp_path / "preset")
    assert preset.config["model_type"] in LAYOUTS[case.partition(" ")[0]].model_types
    inputs = make_inputs(backbone)
    mask = inputs.get("padding_mask", inputs.get("decoder_padding_mask")) == 1
    expected = hidden(backbone(inputs))
    found = run(preset, inputs, lambda preset: preset.hidden_states)
    np.testing.assert_allclose(found[mask], expected[mask], atol=1e-4)
    assert preset.unused_tensors == ()
    assert all(name.startswith("pooler.") for name in preset.missing_tensors)

    if preset.head == "causal_language":
        logits = np.asarray(backbone.token_embedding(expected, reverse=True))
        found = run(preset, inputs, lambda preset: preset.logits)
        np.testing.assert_allclose(found[mask], logits[mask], atol=2e-4)


@pytest.mark.parametrize("case", ["Llama3Backbone", "MixtralBackbone", "GPT2Backbone", "T5Backbone gated"])
def test_it_goes_on_in_hugging_face_format(case, tmp_path):
    backbone = write(case, tmp_path / "preset")
    preset = Preset.load(tmp_path / "preset")
    (tmp_path / "saved").mkdir()
    save_weights(build_with_head(preset), tmp_path / "saved")
    inputs = make_inputs(backbone)
    first = run(preset, inputs, lambda preset: preset.logits)
    again = run(Preset.load(tmp_path / "saved"), inputs, lambda preset: preset.logits)
    np.testing.assert_array_equal(again, first)


def test_weights_in_shards_are_read(tmp_path):
    backbone = write("LlamaBackbone", tmp_path, max_shard_size=1e-5)
    assert not (tmp_path / "model.weights.h5").exists()
    inputs = make_inputs(backbone)
    found = run(Preset.load(tmp_path), inputs, lambda preset: preset.hidden_states)
    mask = inputs["padding_mask"] == 1
    np.testing.assert_allclose(found[mask], hidden(backbone(inputs))[mask], atol=1e-4)


def test_gemma_2_is_scaled_as_its_config_says(tmp_path):
    """KerasHub 0.32 keeps `query_head_dim_normalize`, but does not pass it on to its attention."""
    keras_hub.models.GemmaBackbone(**GEMMA2, query_head_dim_normalize=False).save_to_preset(str(tmp_path))
    assert Preset.load(tmp_path).config["query_pre_attn_scalar"] == 16 // 4


def test_llama_is_stretched_as_its_config_says(tmp_path):
    """KerasHub 0.32 keeps `rope_position_scaling_factor`, but its rotation does not look at it."""
    keras_hub.models.LlamaBackbone(**GROUPED, rope_position_scaling_factor=4.0).save_to_preset(str(tmp_path))
    assert Preset.load(tmp_path).config["rope_scaling"] == {"rope_type": "linear", "factor": 4.0}


def test_what_gemma_3_cannot_be_is_refused(tmp_path):
    settings = {**CASES["Gemma3Backbone"], "use_bidirectional_attention": True}
    keras_hub.models.Gemma3Backbone(**settings).save_to_preset(str(tmp_path))
    with pytest.raises(PresetError, match=r"`Gemma3Backbone` with settings that are not supported: `use_bi"):
        Preset.load(tmp_path)
