"""Contract C2 for every family: a checkpoint computes what it computes in transformers, and goes back there
unchanged.

The checkpoints are written by `transformers` itself, small, with random values in every tensor (its own
initialisation leaves biases at 0 and norms at 1, where a tensor in the wrong place would not show).
"""

import copy
import json
import re

import numpy as np
import pytest
from safetensors.numpy import load_file

from kerasllm.models.builders import build_with_head, save_weights
from kerasllm.models.presets import Preset

TOLERANCE = 1e-4
LENGTH = 40

SMALL = {
    "vocab_size": 83,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 40,
    "max_position_embeddings": LENGTH,
}
GROUPED = {**SMALL, "num_key_value_heads": 2}
SPECIAL = {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2}
ENCODER_HEADS = ("Model", "ForMaskedLM", "ForSequenceClassification", "ForTokenClassification")
DECODER_HEADS = ("Model", "ForCausalLM", "ForSequenceClassification", "ForTokenClassification")


def rope(kind, **options):
    return {"rope_parameters": {"rope_type": kind, "rope_theta": 1000.0, **options}}


def each(prefix, heads, settings):
    return {f"{prefix}{head}": (f"{prefix}{head}", settings) for head in heads}


DISTILBERT = {
    "vocab_size": 83,
    "dim": 24,
    "n_layers": 2,
    "n_heads": 4,
    "hidden_dim": 40,
    "max_position_embeddings": LENGTH,
}
ROBERTA = {**SMALL, "max_position_embeddings": LENGTH + 2}
NARROW = {**SMALL, "embedding_size": 16}
DEBERTA = {
    **SMALL,
    "relative_attention": True,
    "position_buckets": 8,
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
    "pos_att_type": "p2c|c2p",
    "position_biased_input": False,
    "type_vocab_size": 0,
    "pooler_hidden_size": 24,
}
ENCODERS = {
    **each("Bert", (*ENCODER_HEADS, "ForPreTraining"), SMALL),
    **each("DistilBert", ENCODER_HEADS, DISTILBERT),
    **each("Roberta", ENCODER_HEADS, ROBERTA),
    "Roberta-untied": ("RobertaForMaskedLM", {**ROBERTA, "tie_word_embeddings": False}),
    **each("XLMRoberta", ENCODER_HEADS, ROBERTA),
    **each("Albert", (*ENCODER_HEADS, "ForPreTraining"), NARROW),
    "Albert-groups": (
        "AlbertModel",
        {**NARROW, "num_hidden_layers": 4, "num_hidden_groups": 2, "inner_group_num": 2},
    ),
    **each("Electra", ENCODER_HEADS, NARROW),
    "Electra-wide": ("ElectraModel", {**SMALL, "embedding_size": 24}),
    **each("DebertaV2", ENCODER_HEADS, DEBERTA),
    "DebertaV2-own-projections": (
        "DebertaV2Model",
        {
            **DEBERTA,
            "share_att_key": False,
            "position_biased_input": True,
            "type_vocab_size": 2,
            "position_buckets": -1,
            "norm_rel_ebd": "none",
        },
    ),
    "DebertaV2-c2p": ("DebertaV2Model", {**DEBERTA, "pos_att_type": "c2p"}),
    "DebertaV2-absolute": ("DebertaV2Model", SMALL),
    "DebertaV2-new-head": ("DebertaV2ForMaskedLM", {**DEBERTA, "legacy": False}),
}

GPT2 = {"vocab_size": 83, "n_embd": 24, "n_layer": 2, "n_head": 4, "n_positions": LENGTH}
OPT = {
    "vocab_size": 83,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "ffn_dim": 40,
    "max_position_embeddings": LENGTH,
    "word_embed_proj_dim": 24,
}
LLAMA3 = rope(
    "llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=16
)
YARN = rope("yarn", factor=4.0, original_max_position_embeddings=10)
LONGROPE = rope("longrope", short_factor=[1.0, 1.1, 1.3], long_factor=[2.0, 3.0, 5.0])
PHI3 = {**GROUPED, **SPECIAL}
GEMMA = {**GROUPED, "head_dim": 8}
GEMMA2 = {**GEMMA, "sliding_window": 5, "query_pre_attn_scalar": 9}
GEMMA3 = {**GEMMA2, "num_hidden_layers": 7}
SMOLLM3 = {**GROUPED, **SPECIAL, "num_hidden_layers": 5}
DECODERS = {
    **each("GPT2", ("Model", "LMHeadModel", *DECODER_HEADS[2:]), GPT2),
    "GPT2-scales": (
        "GPT2LMHeadModel",
        {**GPT2, "scale_attn_by_inverse_layer_idx": True, "n_inner": 36, "activation_function": "relu"},
    ),
    **each("GPTNeoX", DECODER_HEADS, SMALL),
    "GPTNeoX-serial": (
        "GPTNeoXForCausalLM",
        {
            **SMALL,
            **rope("default", partial_rotary_factor=1.0),
            "use_parallel_residual": False,
            "attention_bias": False,
        },
    ),
    **each("OPT", DECODER_HEADS[:3], OPT),
    "OPT-350m": ("OPTForCausalLM", {**OPT, "word_embed_proj_dim": 16, "do_layer_norm_before": False}),
    "OPT-plain": (
        "OPTForCausalLM",
        {
            **OPT,
            "enable_bias": False,
            "layer_norm_elementwise_affine": False,
            "_remove_final_layer_norm": True,
        },
    ),
    **each("Llama", DECODER_HEADS, GROUPED),
    "Llama-tied-biased": (
        "LlamaForCausalLM",
        {**GROUPED, "tie_word_embeddings": True, "attention_bias": True, "mlp_bias": True},
    ),
    "Llama-head-dim": ("LlamaForCausalLM", {**GROUPED, "head_dim": 10}),
    "Llama-3.1": ("LlamaForCausalLM", {**GROUPED, **LLAMA3}),
    "Llama-linear": ("LlamaForCausalLM", {**GROUPED, **rope("linear", factor=4.0)}),
    "Llama-dynamic": ("LlamaForCausalLM", {**GROUPED, **rope("dynamic", factor=4.0)}),
    "Llama-dynamic-long": (
        "LlamaForCausalLM",
        {**GROUPED, **rope("dynamic", factor=4.0), "max_position_embeddings": 10},
    ),
    "Llama-yarn": ("LlamaForCausalLM", {**GROUPED, **YARN}),
    "Llama-yarn-tuned": (
        "LlamaForCausalLM",
        {
            **GROUPED,
            **rope(
                "yarn",
                factor=4.0,
                original_max_position_embeddings=10,
                beta_fast=16.0,
                beta_slow=2.0,
                attention_factor=1.3,
            ),
        },
    ),
    **each("Mistral", DECODER_HEADS, {**GROUPED, "sliding_window": 5}),
    "Mistral-no-window": ("MistralForCausalLM", {**GROUPED, "sliding_window": None}),
    **each(
        "Mixtral",
        DECODER_HEADS,
        {**GROUPED, "num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 7},
    ),
    **each("Qwen2", DECODER_HEADS, GROUPED),
    "Qwen2-window": (
        "Qwen2ForCausalLM",
        {**GROUPED, "use_sliding_window": True, "sliding_window": 6, "max_window_layers": 1},
    ),
    **each("Qwen3", DECODER_HEADS, GEMMA),
    "Qwen3-yarn-biased": ("Qwen3ForCausalLM", {**GEMMA, **YARN, "attention_bias": True}),
    **each("Phi3", DECODER_HEADS, PHI3),
    "Phi3-long": (
        "Phi3ForCausalLM",
        {**PHI3, **LONGROPE, "original_max_position_embeddings": 10, "sliding_window": 9},
    ),
    "Phi3-short": ("Phi3ForCausalLM", {**PHI3, **LONGROPE, "original_max_position_embeddings": LENGTH}),
    "Phi3-partial": (
        "Phi3ForCausalLM",
        {**PHI3, "hidden_size": 32, **rope("default", partial_rotary_factor=0.5)},
    ),
    **each("Gemma", DECODER_HEADS, GEMMA),
    **each("Gemma2", DECODER_HEADS, GEMMA2),
    "Gemma2-caps": (
        "Gemma2ForCausalLM",
        {**GEMMA2, "num_hidden_layers": 3, "attn_logit_softcapping": None, "final_logit_softcapping": 3.0},
    ),
    "Gemma3TextModel": ("Gemma3TextModel", GEMMA3),
    "Gemma3ForCausalLM": ("Gemma3ForCausalLM", GEMMA3),
    "Gemma3TextForSequenceClassification": ("Gemma3TextForSequenceClassification", GEMMA3),
    "Gemma3-rope": (
        "Gemma3ForCausalLM",
        {
            **GEMMA3,
            "rope_parameters": {
                "sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
                "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1000.0},
            },
        },
    ),
    **each("SmolLM3", DECODER_HEADS, SMOLLM3),
    "SmolLM3-window": ("SmolLM3ForCausalLM", {**SMOLLM3, "use_sliding_window": True, "sliding_window": 5}),
}

T5 = {
    "vocab_size": 83,
    "d_model": 24,
    "d_kv": 7,
    "d_ff": 40,
    "num_layers": 2,
    "num_heads": 4,
    "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 20,
    "decoder_start_token_id": 0,
}
T5_HEADS = (
    "Model",
    "EncoderModel",
    "ForConditionalGeneration",
    "ForSequenceClassification",
    "ForTokenClassification",
)
BART = {
    "vocab_size": 83,
    "d_model": 24,
    "encoder_layers": 2,
    "decoder_layers": 3,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 40,
    "decoder_ffn_dim": 36,
    "max_position_embeddings": LENGTH,
}
ENCODER_DECODERS = {
    **each("T5", T5_HEADS, T5),
    "T5-v1.1": (
        "T5ForConditionalGeneration",
        {**T5, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False, "num_decoder_layers": 3},
    ),
    "T5-gated-silu": ("T5ForConditionalGeneration", {**T5, "feed_forward_proj": "gated-silu"}),
    **each("MT5", T5_HEADS, T5),
    **each("Bart", ("Model", "ForConditionalGeneration", "ForSequenceClassification"), BART),
    "Bart-scaled": (
        "BartForConditionalGeneration",
        {**BART, "scale_embedding": True, "activation_function": "gelu_new"},
    ),
}
CASES = {**ENCODERS, **DECODERS, **ENCODER_DECODERS}
WITH_HEAD = [name for name, (kind, _) in CASES.items() if not re.search("(?<!LMHead)Model$", kind)]
# Heads of other tasks, and biases that transformers itself does not use where the matrix is not tied.
UNUSED = {
    "BertForPreTraining": ("cls.seq_relationship.bias", "cls.seq_relationship.weight"),
    "AlbertForPreTraining": ("sop_classifier.classifier.bias", "sop_classifier.classifier.weight"),
    "Roberta-untied": ("lm_head.bias",),
}


@pytest.fixture(scope="session")
def transformers():
    return pytest.importorskip("transformers", reason="transformers is the reference of this contract")


@pytest.fixture(scope="session")
def reference(tmp_path_factory, transformers):
    """Writes a random checkpoint once for each case; gives its directory and the model that wrote it."""
    import torch

    written = {}

    def write(case, **save):
        key = (case, *sorted(save.items()))
        if key in written:
            return written[key]
        architecture, settings = CASES[case]
        kind = getattr(transformers, architecture)
        labels = {"num_labels": 3} if "Classification" in architecture else {}
        # Defaults of some configs lie outside of so small a vocabulary.
        outside = (
            {} if "pad_token_id" in settings else {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2}
        )
        if kind.config_class.model_type in ("roberta", "xlm-roberta", "opt", "bart"):
            outside["pad_token_id"] = 1
            outside["eos_token_id"] = 2
        config = kind.config_class(**copy.deepcopy({**outside, **settings, **labels}))
        torch.manual_seed(0)
        model = kind._from_config(config, attn_implementation="eager").eval()
        with torch.no_grad():
            for name, values in [*model.named_parameters(), *model.named_buffers()]:
                if values.is_floating_point() and "inv_freq" not in name and "embed_scale" not in name:
                    norm = re.search(r"norm\w*\.weight$", name.lower())
                    values.copy_(torch.randn_like(values) * 0.3 + float(norm is not None))
        dtype = save.pop("dtype", None)
        path = tmp_path_factory.mktemp("checkpoint")
        if dtype is None:
            model.save_pretrained(path, **save)
        else:
            model.to(getattr(torch, dtype)).save_pretrained(path, **save)
            # Read anew: in the model itself the rotary frequencies lost their digits too.
            model = kind.from_pretrained(path, dtype=torch.float32, attn_implementation="eager").eval()
        written[key] = (path, model)
        return written[key]

    return write


def make_inputs(preset, side, ends=False):
    """Texts of 40, 17 and 3 tokens in one batch, padded on the given side."""
    lengths, places = np.array([LENGTH, 17, 3])[:, None], np.arange(LENGTH)
    mask = (places < lengths if side == "right" else places >= LENGTH - lengths).astype(np.int64)
    random = np.random.default_rng(1)
    ids = np.where(mask == 1, random.integers(5, 83, mask.shape), preset.config["pad_token_id"])
    if ends:  # heads of encoder-decoders look where the last end of sequence is
        last = (places * mask).max(axis=1)
        ids[np.arange(3), last] = preset.config["eos_token_id"]
    ours, theirs = {}, {"input_ids": ids, "attention_mask": mask}
    if preset.settings.embedding.num_segments > 1:
        ours["segment_ids"] = theirs["token_type_ids"] = (places > 20) * mask
    answered = mask
    if preset.start_id is not None and preset.num_classes is None:
        answered = (np.arange(12) < np.array([12, 5, 9])[:, None]).astype(np.int64)
        ours["decoder_token_ids"] = theirs["decoder_input_ids"] = random.integers(5, 83, answered.shape)
        ours["decoder_padding_mask"] = theirs["decoder_attention_mask"] = answered
    return (ids, mask, ours), theirs, answered


def run_reference(model, inputs):
    import torch

    with torch.no_grad():
        outputs = model(**{name: torch.tensor(values) for name, values in inputs.items()})
    for name in ("logits", "prediction_logits", "last_hidden_state"):
        if name in outputs:
            return outputs[name].float().numpy()
    raise AssertionError(outputs.keys())


def assert_close(ours, theirs, mask):
    difference = np.abs(ours - theirs)
    if ours.ndim == 3:
        difference = difference[mask == 1]
    assert difference.max() <= TOLERANCE * max(1.0, np.abs(theirs).max())


def ours(preset, inputs):
    ids, mask, options = inputs
    return (preset.hidden_states if preset.head is None else preset.logits)(ids, mask, **options)


def assert_same_numbers(preset, model, side="right"):
    inputs, theirs, answered = make_inputs(preset, side, "Sequence" in type(model).__name__)
    assert_close(ours(preset, inputs), run_reference(model, theirs), answered)


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("case", CASES)
def test_same_numbers_as_transformers(case, side, reference):
    path, model = reference(case)
    preset = Preset.load(path)
    assert (preset.head is not None) == (case in WITH_HEAD)
    assert_same_numbers(preset, model, side)


@pytest.mark.parametrize("case", CASES)
def test_every_tensor_is_used_or_named(case, reference):
    preset = Preset.load(reference(case)[0])
    assert preset.unused_tensors == UNUSED.get(case, ())


@pytest.mark.parametrize("case", WITH_HEAD)
def test_transformers_gets_back_what_it_wrote(case, reference, transformers, tmp_path):
    path, model = reference(case)
    preset = Preset.load(path)
    save_weights(build_with_head(preset), tmp_path)
    kind = getattr(transformers, json.loads((tmp_path / "config.json").read_text())["architectures"][0])
    again, info = kind.from_pretrained(tmp_path, output_loading_info=True, attn_implementation="eager")
    assert (set(info["missing_keys"]), set(info["unexpected_keys"])) == (set(), set())
    _, theirs, answered = make_inputs(preset, "right", "Sequence" in type(model).__name__)
    assert_close(run_reference(again.eval(), theirs), run_reference(model, theirs), answered)
    if case != "DebertaV2-new-head":  # whose head is written under its older names
        stored, saved = (load_file(folder / "model.safetensors") for folder in (path, tmp_path))
        assert set(saved) <= set(stored)
        for name, values in saved.items():
            if (case, name) != ("Roberta-untied", "lm_head.bias"):
                np.testing.assert_array_equal(values, stored[name])


STORED = ["LlamaForCausalLM", "GPT2LMHeadModel", "T5ForConditionalGeneration", "MixtralForCausalLM"]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("case", STORED)
def test_half_precision_and_shards_are_read(case, dtype, reference):
    path, model = reference(case, dtype=dtype, max_shard_size="20KB")
    assert (path / "model.safetensors.index.json").is_file()
    assert_same_numbers(Preset.load(path), model)


@pytest.mark.parametrize("case", ["LlamaForCausalLM", "GPT2LMHeadModel", "T5ForConditionalGeneration"])
def test_padding_changes_nothing(case, reference):
    preset = Preset.load(reference(case)[0])
    (ids, mask, options), _, _ = make_inputs(preset, "right")
    together = preset.logits(ids, mask, **options)
    for row, length in enumerate(mask.sum(axis=1)):
        alone = {name: values[row : row + 1] for name, values in options.items()}
        logits = preset.logits(ids[row : row + 1, :length], mask[row : row + 1, :length], **alone)
        size = min(logits.shape[1], int(options.get("decoder_padding_mask", mask)[row].sum()))
        np.testing.assert_allclose(logits[0, :size], together[row, :size], atol=1e-4)
