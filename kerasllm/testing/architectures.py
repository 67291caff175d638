"""Small random checkpoints of every family and setting, written by transformers itself, and inputs for both.

Every tensor gets random values: transformers' own initialisation leaves biases at 0 and norms at 1, where a
tensor in the wrong place would not show. Needs transformers and PyTorch.
"""

import copy
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from kerasllm.models.presets import Preset

__all__ = [
    "CASES",
    "DECODERS",
    "ENCODERS",
    "ENCODER_DECODERS",
    "LENGTH",
    "make_inputs",
    "run_reference",
    "write_checkpoint",
    "write_model",
]

LENGTH = 40

_SMALL = {
    "vocab_size": 83,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 40,
    "max_position_embeddings": LENGTH,
}
_GROUPED = {**_SMALL, "num_key_value_heads": 2}
_SPECIAL = {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2}
_ENCODER_HEADS = ("Model", "ForMaskedLM", "ForSequenceClassification", "ForTokenClassification")
_DECODER_HEADS = ("Model", "ForCausalLM", "ForSequenceClassification", "ForTokenClassification")


def _rope(kind: str, **options: Any) -> dict[str, Any]:
    return {"rope_parameters": {"rope_type": kind, "rope_theta": 1000.0, **options}}


def _each(
    prefix: str, heads: tuple[str, ...], settings: dict[str, Any]
) -> dict[str, tuple[str, dict[str, Any]]]:
    return {f"{prefix}{head}": (f"{prefix}{head}", settings) for head in heads}


_DISTILBERT = {
    "vocab_size": 83,
    "dim": 24,
    "n_layers": 2,
    "n_heads": 4,
    "hidden_dim": 40,
    "max_position_embeddings": LENGTH,
}
_ROBERTA = {**_SMALL, "max_position_embeddings": LENGTH + 2}
_NARROW = {**_SMALL, "embedding_size": 16}
_DEBERTA = {
    **_SMALL,
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
    **_each("Bert", (*_ENCODER_HEADS, "ForPreTraining"), _SMALL),
    **_each("DistilBert", _ENCODER_HEADS, _DISTILBERT),
    **_each("Roberta", _ENCODER_HEADS, _ROBERTA),
    "Roberta-untied": ("RobertaForMaskedLM", {**_ROBERTA, "tie_word_embeddings": False}),
    **_each("XLMRoberta", _ENCODER_HEADS, _ROBERTA),
    **_each("Albert", (*_ENCODER_HEADS, "ForPreTraining"), _NARROW),
    "Albert-groups": (
        "AlbertModel",
        {**_NARROW, "num_hidden_layers": 4, "num_hidden_groups": 2, "inner_group_num": 2},
    ),
    **_each("Electra", _ENCODER_HEADS, _NARROW),
    "Electra-wide": ("ElectraModel", {**_SMALL, "embedding_size": 24}),
    **_each("DebertaV2", _ENCODER_HEADS, _DEBERTA),
    "DebertaV2-own-projections": (
        "DebertaV2Model",
        {
            **_DEBERTA,
            "share_att_key": False,
            "position_biased_input": True,
            "type_vocab_size": 2,
            "position_buckets": -1,
            "norm_rel_ebd": "none",
        },
    ),
    "DebertaV2-c2p": ("DebertaV2Model", {**_DEBERTA, "pos_att_type": "c2p"}),
    "DebertaV2-absolute": ("DebertaV2Model", _SMALL),
    "DebertaV2-new-head": ("DebertaV2ForMaskedLM", {**_DEBERTA, "legacy": False}),
}

_GPT2 = {"vocab_size": 83, "n_embd": 24, "n_layer": 2, "n_head": 4, "n_positions": LENGTH}
_OPT = {
    "vocab_size": 83,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "ffn_dim": 40,
    "max_position_embeddings": LENGTH,
    "word_embed_proj_dim": 24,
}
_LLAMA3 = _rope(
    "llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=16
)
_YARN = _rope("yarn", factor=4.0, original_max_position_embeddings=10)
_LONGROPE = _rope("longrope", short_factor=[1.0, 1.1, 1.3], long_factor=[2.0, 3.0, 5.0])
_PHI3 = {**_GROUPED, **_SPECIAL}
_GEMMA = {**_GROUPED, "head_dim": 8}
_GEMMA2 = {**_GEMMA, "sliding_window": 5, "query_pre_attn_scalar": 9}
_GEMMA3 = {**_GEMMA2, "num_hidden_layers": 7}
_SMOLLM3 = {**_GROUPED, **_SPECIAL, "num_hidden_layers": 5}
DECODERS = {
    **_each("GPT2", ("Model", "LMHeadModel", *_DECODER_HEADS[2:]), _GPT2),
    "GPT2-scales": (
        "GPT2LMHeadModel",
        {**_GPT2, "scale_attn_by_inverse_layer_idx": True, "n_inner": 36, "activation_function": "relu"},
    ),
    **_each("GPTNeoX", _DECODER_HEADS, _SMALL),
    "GPTNeoX-serial": (
        "GPTNeoXForCausalLM",
        {
            **_SMALL,
            **_rope("default", partial_rotary_factor=1.0),
            "use_parallel_residual": False,
            "attention_bias": False,
        },
    ),
    **_each("OPT", _DECODER_HEADS[:3], _OPT),
    "OPT-350m": ("OPTForCausalLM", {**_OPT, "word_embed_proj_dim": 16, "do_layer_norm_before": False}),
    "OPT-plain": (
        "OPTForCausalLM",
        {
            **_OPT,
            "enable_bias": False,
            "layer_norm_elementwise_affine": False,
            "_remove_final_layer_norm": True,
        },
    ),
    **_each("Llama", _DECODER_HEADS, _GROUPED),
    "Llama-tied-biased": (
        "LlamaForCausalLM",
        {**_GROUPED, "tie_word_embeddings": True, "attention_bias": True, "mlp_bias": True},
    ),
    "Llama-head-dim": ("LlamaForCausalLM", {**_GROUPED, "head_dim": 10}),
    "Llama-3.1": ("LlamaForCausalLM", {**_GROUPED, **_LLAMA3}),
    "Llama-linear": ("LlamaForCausalLM", {**_GROUPED, **_rope("linear", factor=4.0)}),
    "Llama-dynamic": ("LlamaForCausalLM", {**_GROUPED, **_rope("dynamic", factor=4.0)}),
    "Llama-dynamic-long": (
        "LlamaForCausalLM",
        {**_GROUPED, **_rope("dynamic", factor=4.0), "max_position_embeddings": 10},
    ),
    "Llama-yarn": ("LlamaForCausalLM", {**_GROUPED, **_YARN}),
    "Llama-yarn-tuned": (
        "LlamaForCausalLM",
        {
            **_GROUPED,
            **_rope(
                "yarn",
                factor=4.0,
                original_max_position_embeddings=10,
                beta_fast=16.0,
                beta_slow=2.0,
                attention_factor=1.3,
            ),
        },
    ),
    **_each("Mistral", _DECODER_HEADS, {**_GROUPED, "sliding_window": 5}),
    "Mistral-no-window": ("MistralForCausalLM", {**_GROUPED, "sliding_window": None}),
    **_each(
        "Mixtral",
        _DECODER_HEADS,
        {**_GROUPED, "num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 7},
    ),
    **_each("Qwen2", _DECODER_HEADS, _GROUPED),
    "Qwen2-window": (
        "Qwen2ForCausalLM",
        {**_GROUPED, "use_sliding_window": True, "sliding_window": 6, "max_window_layers": 1},
    ),
    **_each("Qwen3", _DECODER_HEADS, _GEMMA),
    "Qwen3-yarn-biased": ("Qwen3ForCausalLM", {**_GEMMA, **_YARN, "attention_bias": True}),
    **_each("Phi3", _DECODER_HEADS, _PHI3),
    "Phi3-long": (
        "Phi3ForCausalLM",
        {**_PHI3, **_LONGROPE, "original_max_position_embeddings": 10, "sliding_window": 9},
    ),
    "Phi3-short": ("Phi3ForCausalLM", {**_PHI3, **_LONGROPE, "original_max_position_embeddings": LENGTH}),
    "Phi3-partial": (
        "Phi3ForCausalLM",
        {**_PHI3, "hidden_size": 32, **_rope("default", partial_rotary_factor=0.5)},
    ),
    **_each("Gemma", _DECODER_HEADS, _GEMMA),
    **_each("Gemma2", _DECODER_HEADS, _GEMMA2),
    "Gemma2-caps": (
        "Gemma2ForCausalLM",
        {**_GEMMA2, "num_hidden_layers": 3, "attn_logit_softcapping": None, "final_logit_softcapping": 3.0},
    ),
    "Gemma3TextModel": ("Gemma3TextModel", _GEMMA3),
    "Gemma3ForCausalLM": ("Gemma3ForCausalLM", _GEMMA3),
    "Gemma3TextForSequenceClassification": ("Gemma3TextForSequenceClassification", _GEMMA3),
    "Gemma3-rope": (
        "Gemma3ForCausalLM",
        {
            **_GEMMA3,
            "rope_parameters": {
                "sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
                "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1000.0},
            },
        },
    ),
    **_each("SmolLM3", _DECODER_HEADS, _SMOLLM3),
    "SmolLM3-window": ("SmolLM3ForCausalLM", {**_SMOLLM3, "use_sliding_window": True, "sliding_window": 5}),
}

_T5 = {
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
_T5_HEADS = (
    "Model",
    "EncoderModel",
    "ForConditionalGeneration",
    "ForSequenceClassification",
    "ForTokenClassification",
)
_BART = {
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
    **_each("T5", _T5_HEADS, _T5),
    "T5-v1.1": (
        "T5ForConditionalGeneration",
        {**_T5, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False, "num_decoder_layers": 3},
    ),
    "T5-gated-silu": ("T5ForConditionalGeneration", {**_T5, "feed_forward_proj": "gated-silu"}),
    **_each("MT5", _T5_HEADS, _T5),
    **_each("Bart", ("Model", "ForConditionalGeneration", "ForSequenceClassification"), _BART),
    "Bart-scaled": (
        "BartForConditionalGeneration",
        {**_BART, "scale_embedding": True, "activation_function": "gelu_new"},
    ),
}
CASES = {**ENCODERS, **DECODERS, **ENCODER_DECODERS}


def write_checkpoint(case: str, path: Path, *, dtype: str = "float32", **options: Any) -> Any:
    """Writes the checkpoint of a case.

    Args:
        case: A key of `CASES`.
        path: An existing directory.
        dtype: Type that the values are stored in. Defaults to `"float32"`.
        **options: For transformers' `save_pretrained`.

    Returns:
        The model that transformers reads from it, in float32 and ready for inference.
    """
    return write_model(*CASES[case], path, dtype=dtype, **options)


def write_model(
    architecture: str, settings: dict[str, Any], path: Path, *, dtype: str = "float32", **options: Any
) -> Any:
    """Writes a checkpoint of any architecture and settings, otherwise as `write_checkpoint`.

    Args:
        architecture: Name of a class of transformers.
        settings: For its config.
        path: An existing directory.
        dtype: Type that the values are stored in. Defaults to `"float32"`.
        **options: For transformers' `save_pretrained`.

    Returns:
        The model that transformers reads from it, in float32 and ready for inference.
    """
    import torch
    import transformers

    kind = getattr(transformers, architecture)
    labels = {"num_labels": 3} if "Classification" in architecture else {}
    # Defaults of some configs lie outside of so small a vocabulary.
    outside = {} if "pad_token_id" in settings else {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2}
    if kind.config_class.model_type in ("roberta", "xlm-roberta", "opt", "bart"):
        outside |= {"pad_token_id": 1, "eos_token_id": 2}
    # Configs change what they are given.
    config = kind.config_class(**copy.deepcopy({**outside, **settings, **labels}))
    torch.manual_seed(0)
    model = kind._from_config(config, attn_implementation="eager")
    with torch.no_grad():
        for name, values in [*model.named_parameters(), *model.named_buffers()]:
            if values.is_floating_point() and "inv_freq" not in name and "embed_scale" not in name:
                norm = re.search(r"norm\w*\.weight$", name.lower())
                values.copy_(torch.randn_like(values) * 0.3 + float(norm is not None))
    if dtype == "float32":
        model.save_pretrained(path, **options)
        return model.eval()
    model.to(getattr(torch, dtype)).save_pretrained(path, **options)
    # Read anew: in the model itself the rotary frequencies lost their digits too.
    return kind.from_pretrained(path, dtype=torch.float32, attn_implementation="eager").eval()


def make_inputs(preset: "Preset", side: str, *, ends: bool = False) -> tuple[Any, dict[str, Any], Any]:
    """Makes a batch of texts of 40, 17 and 3 random tokens for both libraries.

    Args:
        preset: The checkpoint.
        side: `"right"` or `"left"`, where the padding is.
        ends: Whether each text ends with the token that says so, where the heads of encoder-decoders that
            classify texts look. Defaults to `False`.

    Returns:
        What `Preset.logits` is called with (ids, mask, options), what transformers is, and the mask of the
        positions that both answer.
    """
    lengths, places = np.array([LENGTH, 17, 3])[:, None], np.arange(LENGTH)
    mask = (places < lengths if side == "right" else places >= LENGTH - lengths).astype(np.int64)
    random = np.random.default_rng(1)
    ids = np.where(mask == 1, random.integers(5, 83, mask.shape), preset.config["pad_token_id"])
    if ends:
        last = (places * mask).max(axis=1)
        ids[np.arange(3), last] = preset.config["eos_token_id"]
    ours: dict[str, Any] = {}
    theirs = {"input_ids": ids, "attention_mask": mask}
    if preset.settings.embedding.num_segments > 1:
        ours["segment_ids"] = theirs["token_type_ids"] = (places > 20) * mask
    answered = mask
    if preset.start_id is not None and preset.num_classes is None:
        answered = (np.arange(12) < np.array([12, 5, 9])[:, None]).astype(np.int64)
        ours["decoder_token_ids"] = theirs["decoder_input_ids"] = random.integers(5, 83, answered.shape)
        ours["decoder_padding_mask"] = theirs["decoder_attention_mask"] = answered
    return (ids, mask, ours), theirs, answered


def run_reference(model: Any, inputs: dict[str, Any]) -> Any:
    """Computes a model of transformers.

    Args:
        model: The model.
        inputs: Arrays by name.

    Returns:
        Its logits, or where it has no head its last hidden state, in float32.
    """
    import torch

    with torch.no_grad():
        outputs = model(**{name: torch.tensor(values) for name, values in inputs.items()})
    for name in ("logits", "prediction_logits", "last_hidden_state"):
        if name in outputs:
            return outputs[name].float().numpy()
    raise AssertionError(outputs.keys())
