"""How KerasHub's backbones keep their settings and weights, class by class.

Sources: `keras_hub/src/models/*/*_backbone.py`, whose numbers are what such a preset means: where KerasHub's
activation is another than that of the checkpoint which a preset was made of, the preset computes KerasHub's.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["LAYOUTS", "Layout", "Piece"]

Settings = Mapping[str, Any]
_Paths = dict[str, Any]


@dataclass(frozen=True)
class Piece:
    """A variable of KerasHub's that holds more than one of ours.

    Attributes:
        path: Its path, with `{}` for numbers.
        take: Gives our values from its values and our numbers.
    """

    path: str
    take: Callable[[np.ndarray, list[int]], np.ndarray]


@dataclass(frozen=True)
class Layout:
    """How one class is read.

    Attributes:
        model_types: What its checkpoints are called in Hugging Face format.
        config: From its settings to the Hugging Face config that computes the same.
        paths: From the paths of our layers, or of single variables, to those of KerasHub's; `None` for what
            it does not have, and which is 0; of several, the first that there is. A path that KerasHub uses
            several times has `@` and which one.
        heads_first: Whether kernels of attention begin with the axis of the heads.
    """

    model_types: tuple[str, ...]
    config: Callable[[Settings], dict[str, Any]]
    paths: Mapping[str, Piece | tuple[str, ...] | str | None]
    heads_first: bool = False


def _parts(ours: str, theirs: str, **names: str) -> _Paths:
    return {f"{ours}/{part}": f"{theirs}/{name}" for part, name in names.items()}


def _attention(ours: str, theirs: str) -> _Paths:
    return _parts(ours, theirs, query="query", key="key", value="value", output="attention_output")


def _layer(
    ours: str,
    theirs: str,
    *,
    attention: str = "self_attention",
    norm: str = "layer_norm",
    gated: bool = False,
) -> _Paths:
    """A layer whose parts have the names that most classes give them."""
    inner = {"up": "feedforward_intermediate_dense", "down": "feedforward_output_dense"}
    return {
        **_attention(f"{ours}/attention", f"{theirs}/{attention}"),
        f"{ours}/attention_norm": f"{theirs}/self_attention_{norm}",
        **_parts(f"{ours}/feed_forward", theirs, **inner),
        **(_parts(f"{ours}/feed_forward", theirs, gate="feedforward_gate_dense") if gated else {}),
        f"{ours}/feed_forward_norm": f"{theirs}/feedforward_{norm}",
    }


# === Encoders ===

_ENCODER = {
    "token_embedding": "token_embedding",
    "encoder_embeddings/norm": "embeddings_layer_norm",
    **_layer("encoder_layer_{}", "transformer_layer_{}", attention="self_attention_layer"),
}
_BERT = {
    **_ENCODER,
    "encoder_embeddings/positions": "position_embedding",
    "encoder_embeddings/segments": "segment_embedding",
    "pooler": "pooled_dense",
}
_ROBERTA = {
    **_ENCODER,
    "token_embedding": "embeddings/token_embedding",
    "encoder_embeddings/positions": "embeddings/position_embedding",
    "encoder_embeddings/segments": None,
}
_GROUP = "group_{}_inner_layer_{}"


def _encoder_config(settings: Settings, model_type: str, architecture: str, **more: Any) -> dict[str, Any]:
    return {
        "architectures": [architecture],
        "model_type": model_type,
        "vocab_size": settings["vocab_size" if model_type == "electra" else "vocabulary_size"],
        "hidden_size": settings["hidden_dim"],
        "num_hidden_layers": settings["num_layers"],
        "num_attention_heads": settings["num_heads"],
        "intermediate_size": settings["intermediate_dim"],
        "max_position_embeddings": settings["max_sequence_length"],
        "hidden_dropout_prob": settings["dropout"],
        "attention_probs_dropout_prob": settings["dropout"],
        "hidden_act": "gelu_new",
        "layer_norm_eps": 1e-12,
        **more,
    }


def _bert(settings: Settings) -> dict[str, Any]:
    return _encoder_config(settings, "bert", "BertModel", type_vocab_size=settings["num_segments"])


def _electra(settings: Settings) -> dict[str, Any]:
    more = {"type_vocab_size": settings["num_segments"], "embedding_size": settings["embedding_dim"]}
    return _encoder_config(settings, "electra", "ElectraModel", **more)


def _albert(settings: Settings) -> dict[str, Any]:
    more = {
        "type_vocab_size": settings["num_segments"],
        "embedding_size": settings["embedding_dim"],
        "num_hidden_groups": settings["num_groups"],
        "inner_group_num": settings["num_inner_repetitions"],
    }
    return _encoder_config(settings, "albert", "AlbertModel", **more)


def _roberta(model_type: str, architecture: str) -> Callable[[Settings], dict[str, Any]]:
    def config(settings: Settings) -> dict[str, Any]:
        more = {
            "type_vocab_size": 1,
            "hidden_act": "gelu",
            "layer_norm_eps": 1e-5,
            "max_position_embeddings": settings["max_sequence_length"] + 2,
            "pad_token_id": 1,
            "bos_token_id": 0,
            "eos_token_id": 2,
        }
        return _encoder_config(settings, model_type, architecture, **more)

    return config


def _deberta(settings: Settings) -> dict[str, Any]:
    more = {
        "type_vocab_size": 0,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-7,
        "relative_attention": True,
        "max_relative_positions": -1,
        "position_buckets": settings["bucket_size"],
        "norm_rel_ebd": "layer_norm",
        "share_att_key": True,
        "pos_att_type": ["p2c", "c2p"],
        "position_biased_input": False,
    }
    return _encoder_config(settings, "deberta-v2", "DebertaV2Model", **more)


def _distilbert(settings: Settings) -> dict[str, Any]:
    return {
        "architectures": ["DistilBertModel"],
        "model_type": "distilbert",
        "vocab_size": settings["vocabulary_size"],
        "dim": settings["hidden_dim"],
        "n_layers": settings["num_layers"],
        "n_heads": settings["num_heads"],
        "hidden_dim": settings["intermediate_dim"],
        "max_position_embeddings": settings["max_sequence_length"],
        "dropout": settings["dropout"],
        "attention_dropout": settings["dropout"],
        "activation": "gelu",
    }


# === Decoders ===

_DECODER = {"token_embedding": "token_embedding", "head/output/kernel": "token_embedding/reverse_embeddings"}
_FIRST_DECODER = {
    **_DECODER,
    **_layer("decoder_layer_{}", "transformer_layer_{}"),
    "decoder_embeddings/positions": "position_embedding",
    "decoder_norm": "layer_norm",
}
_LLAMA = {
    **_DECODER,
    **_layer("decoder_layer_{}", "transformer_layer_{}", norm="layernorm", gated=True),
    "decoder_norm": "sequence_output_layernorm",
}
_GEMMA = {
    **_DECODER,
    **_attention("decoder_layer_{}/attention", "decoder_block_{}/attention"),
    **_parts(
        "decoder_layer_{}",
        "decoder_block_{}",
        attention_norm="pre_attention_norm",
        attention_end_norm="post_attention_norm",
        feed_forward_norm="pre_ffw_norm",
        feed_forward_end_norm="post_ffw_norm",
    ),
    **_parts(
        "decoder_layer_{}/feed_forward",
        "decoder_block_{}",
        gate="ffw_gating",
        up="ffw_gating_2",
        down="ffw_linear",
    ),
    "decoder_norm": "final_normalization",
}


def _third(number: int) -> Piece:
    """Of queries, keys and values that lie behind one another in each head."""
    return Piece(
        "transformer_layer_{}/self_attention/query_key_value",
        lambda values, _: np.split(values, 3, axis=-1)[number],
    )


def _expert(name: str) -> Piece:
    path = f"transformer_layer_{{}}/mixtral_sparse_moe_block/experts/expert_feedforward_{name}_dense"
    return Piece(path, lambda values, numbers: values[numbers[1]])


def _gpt2(settings: Settings) -> dict[str, Any]:
    return {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "vocab_size": settings["vocabulary_size"],
        "n_positions": settings["max_sequence_length"],
        "n_embd": settings["hidden_dim"],
        "n_layer": settings["num_layers"],
        "n_head": settings["num_heads"],
        "n_inner": settings["intermediate_dim"],
        "activation_function": "gelu_new",
        "resid_pdrop": settings["dropout"],
        "embd_pdrop": settings["dropout"],
        "attn_pdrop": settings["dropout"],
        "layer_norm_epsilon": 1e-5,
        "tie_word_embeddings": True,
    }


def _opt(settings: Settings) -> dict[str, Any]:
    return {
        "architectures": ["OPTForCausalLM"],
        "model_type": "opt",
        "vocab_size": settings["vocabulary_size"],
        "hidden_size": settings["hidden_dim"],
        "word_embed_proj_dim": settings["hidden_dim"],
        "num_hidden_layers": settings["num_layers"],
        "num_attention_heads": settings["num_heads"],
        "ffn_dim": settings["intermediate_dim"],
        "max_position_embeddings": settings["max_sequence_length"],
        "dropout": settings["dropout"],
        "attention_dropout": settings["dropout"],
        "activation_function": "relu",
        "do_layer_norm_before": True,
        "tie_word_embeddings": True,
        "pad_token_id": 1,
        "bos_token_id": 2,
        "eos_token_id": 2,
    }


def _gpt_neox(settings: Settings) -> dict[str, Any]:
    """Without a head: KerasHub ties it to the embeddings, where the checkpoints have one of their own."""
    return {
        "architectures": ["GPTNeoXModel"],
        "model_type": "gpt_neox",
        "vocab_size": settings["vocabulary_size"],
        "hidden_size": settings["hidden_dim"],
        "num_hidden_layers": settings["num_layers"],
        "num_attention_heads": settings["num_heads"],
        "intermediate_size": settings["intermediate_dim"],
        "hidden_act": "gelu_new",
        "rotary_pct": settings["rotary_percentage"],
        "rotary_emb_base": settings["rotary_max_wavelength"],
        "partial_rotary_factor": settings["rotary_percentage"],
        "rope_theta": settings["rotary_max_wavelength"],
        "max_position_embeddings": settings["max_sequence_length"],
        "layer_norm_eps": settings["layer_norm_epsilon"],
        "hidden_dropout": settings["dropout"],
        "attention_dropout": settings["dropout"],
        "use_parallel_residual": True,
        "tie_word_embeddings": False,
    }


def _decoder_config(settings: Settings, model_type: str, architecture: str, **more: Any) -> dict[str, Any]:
    """Llama's settings; a kind of rotation is only stated where it is not the plain one."""
    factor = settings.get("rope_scaling_factor", 1.0)
    return {
        "architectures": [architecture],
        "model_type": model_type,
        "vocab_size": settings["vocabulary_size"],
        "hidden_size": settings["hidden_dim"],
        "num_hidden_layers": settings["num_layers"],
        "num_attention_heads": settings["num_query_heads"],
        "num_key_value_heads": settings["num_key_value_heads"],
        "intermediate_size": settings["intermediate_dim"],
        "rms_norm_eps": settings["layer_norm_epsilon"],
        "attention_dropout": settings["dropout"],
        "tie_word_embeddings": bool(settings.get("tie_word_embeddings", False)),
        **({"rope_theta": settings["rope_max_wavelength"]} if "rope_max_wavelength" in settings else {}),
        **({} if factor == 1 else {"rope_scaling": {"rope_type": "linear", "factor": factor}}),
        **more,
    }


def _llama(settings: Settings) -> dict[str, Any]:
    more: dict[str, Any] = {}
    linear, llama3 = settings["rope_position_scaling_factor"], settings["rope_frequency_adjustment_factor"]
    if llama3 is not None:
        more["rope_scaling"] = {
            "rope_type": "llama3",
            "factor": llama3,
            "low_freq_factor": settings["rope_low_freq_factor"],
            "high_freq_factor": settings["rope_high_freq_factor"],
            "original_max_position_embeddings": settings["rope_pretraining_sequence_length"],
        }
        more["max_position_embeddings"] = int(llama3 * settings["rope_pretraining_sequence_length"])
    elif linear != 1:
        more["rope_scaling"] = {"rope_type": "linear", "factor": linear}
    return _decoder_config(settings, "llama", "LlamaForCausalLM", **more)


def _llama3(settings: Settings) -> dict[str, Any]:
    return {"max_position_embeddings": 8192, **_llama(settings)}


def _mistral(settings: Settings) -> dict[str, Any]:
    more = {"sliding_window": settings["sliding_window"], "head_dim": settings["head_dim"]}
    return _decoder_config(settings, "mistral", "MistralForCausalLM", **more)


def _mixtral(settings: Settings) -> dict[str, Any]:
    more = {
        "sliding_window": settings["sliding_window"],
        "num_local_experts": settings["num_experts"],
        "num_experts_per_tok": settings["top_k"],
        "router_aux_loss_coef": settings["router_aux_loss_coef"],
    }
    return _decoder_config(settings, "mixtral", "MixtralForCausalLM", **more)


def _qwen2(settings: Settings) -> dict[str, Any]:
    more = {
        "use_sliding_window": settings["use_sliding_window_attention"],
        "sliding_window": settings["sliding_window_size"],
        "max_window_layers": 0,
    }
    return _decoder_config(settings, "qwen2", "Qwen2ForCausalLM", **more)


def _qwen3(settings: Settings) -> dict[str, Any]:
    window = settings["sliding_window_size"]
    more = {
        "head_dim": settings["head_dim"],
        "use_sliding_window": window is not None,
        "sliding_window": window,
        "max_window_layers": 0,
    }
    return _decoder_config(settings, "qwen3", "Qwen3ForCausalLM", **more)


def _phi3(settings: Settings) -> dict[str, Any]:
    more: dict[str, Any] = {
        "max_position_embeddings": settings["max_sequence_length"],
        "original_max_position_embeddings": settings["pretraining_sequence_length"],
        "resid_pdrop": settings["dropout"],
        "sliding_window": None,
    }
    if settings["rope_scaling_type"] is not None:
        more["rope_scaling"] = {
            "type": settings["rope_scaling_type"],
            "short_factor": settings["rope_scaling_short_factor"],
            "long_factor": settings["rope_scaling_long_factor"],
        }
    return _decoder_config(settings, "phi3", "Phi3ForCausalLM", **more)


def _gemma(settings: Settings) -> dict[str, Any]:
    """Gemma, or Gemma 2 where there are norms at the end: KerasHub has one class for both."""
    more: dict[str, Any] = {
        "intermediate_size": settings["intermediate_dim"] // 2,
        "head_dim": settings["head_dim"],
        "tie_word_embeddings": True,
    }
    if settings["use_post_attention_norm"] != settings["use_post_ffw_norm"]:
        raise ValueError("`use_post_attention_norm` and `use_post_ffw_norm` differ, which no Gemma has")
    if not settings["use_post_attention_norm"]:
        of_gemma2 = ("attention_logit_soft_cap", "final_logit_soft_cap", "use_sliding_window_attention")
        if any(settings[name] for name in of_gemma2) or not settings["query_head_dim_normalize"]:
            raise ValueError("it has settings of Gemma 2 without the norms of Gemma 2")
        more["hidden_act"] = "gelu_pytorch_tanh"
        return _decoder_config(settings, "gemma", "GemmaForCausalLM", **more)
    sliding = settings["use_sliding_window_attention"]
    more |= {
        "hidden_activation": "gelu_pytorch_tanh",
        "query_pre_attn_scalar": _scalar(settings),
        "attn_logit_softcapping": settings["attention_logit_soft_cap"],
        "final_logit_softcapping": settings["final_logit_soft_cap"],
        "sliding_window": settings["sliding_window_size"] if sliding else None,
    }
    return _decoder_config(settings, "gemma2", "Gemma2ForCausalLM", **more)


def _gemma3(settings: Settings) -> dict[str, Any]:
    if not settings["use_sliding_window_attention"]:
        raise ValueError("`use_sliding_window_attention` is false")
    if settings["vision_encoder"] is not None:
        raise ValueError("`vision_encoder` is set: it reads images, and only text is supported")
    for name in ("use_bidirectional_attention", "is_embedding_model"):
        if settings.get(name):
            raise ValueError(f"`{name}` is true")
    factors = {"full_attention": settings["global_rope_scaling_factor"]}
    factors["sliding_attention"] = settings["local_rope_scaling_factor"]
    thetas = {"full_attention": 1e6, "sliding_attention": 1e4}
    rope = {
        kind: {"rope_type": "default", "rope_theta": thetas[kind]}
        if factor == 1
        else {"rope_type": "linear", "factor": factor, "rope_theta": thetas[kind]}
        for kind, factor in factors.items()
    }
    more = {
        "head_dim": settings["head_dim"],
        "hidden_activation": "gelu_pytorch_tanh",
        "query_pre_attn_scalar": _scalar(settings),
        "final_logit_softcapping": settings["final_logit_soft_cap"],
        "sliding_window": settings["sliding_window_size"],
        "rope_parameters": rope,
        "tie_word_embeddings": True,
    }
    return _decoder_config(settings, "gemma3_text", "Gemma3ForCausalLM", **more)


def _scalar(settings: Settings) -> Any:
    """As in Gemma 2 27B; KerasHub 0.32 keeps the setting but computes with `head_dim` nevertheless."""
    if settings["query_head_dim_normalize"]:
        return settings["head_dim"]
    return settings["hidden_dim"] // settings["num_query_heads"]


def _smollm3(settings: Settings) -> dict[str, Any]:
    if settings["partial_rotary_factor"] != 1:
        raise ValueError(f"`partial_rotary_factor` is {settings['partial_rotary_factor']}, only 1 works")
    return {
        "architectures": ["SmolLM3ForCausalLM"],
        "model_type": "smollm3",
        "vocab_size": settings["vocabulary_size"],
        "hidden_size": settings["hidden_dim"],
        "num_hidden_layers": settings["num_layers"],
        "num_attention_heads": settings["num_attention_heads"],
        "num_key_value_heads": settings["num_key_value_heads"],
        "intermediate_size": settings["intermediate_dim"],
        "rms_norm_eps": settings["layer_norm_epsilon"],
        "attention_bias": settings["attention_bias"],
        "attention_dropout": settings["attention_dropout"],
        "mlp_bias": settings["mlp_bias"],
        "max_position_embeddings": settings["max_position_embeddings"],
        "rope_theta": settings["rope_theta"],
        "no_rope_layers": [int(bool(turned)) for turned in settings["rope_layer_enabled_list"]],
        "tie_word_embeddings": True,
    }


# === Encoder-decoders ===


def _t5_stack(name: str, which: int) -> _Paths:
    ours, theirs = f"{name}_layer_{{}}", f"transformer_{name}_layer_{{}}"
    attention = {
        "query": "query_projector",
        "key": "key_projector",
        "value": "value_projector",
        "output": "output_projector",
    }
    paths = {
        f"{name}_relative_bias": f"self_attention@{which}",
        **_parts(f"{ours}/attention", f"{theirs}/self_attention", **attention),
        f"{ours}/attention_norm": f"{theirs}/t5_layer_norm",
        f"{ours}/feed_forward_norm": f"{theirs}/t5_layer_norm@{1 + which}",
        f"{name}_norm": f"{name}_output_layer_norm",
    }
    if which:
        paths |= _parts(f"{ours}/cross_attention", f"{theirs}/cross_attention", **attention)
        paths[f"{ours}/cross_attention_norm"] = f"{theirs}/t5_layer_norm@1"
    # KerasHub has the activation behind the one that it does not call the gate.
    paths |= _parts(f"{ours}/feed_forward", theirs, gate="input_projector", down="output_projector")
    # Without a gate there is only that one.
    paths[f"{ours}/feed_forward/up"] = (f"{theirs}/gate_projector", f"{theirs}/input_projector")
    return paths


_T5 = {**_DECODER, **_t5_stack("encoder", 0), **_t5_stack("decoder", 1)}
_BART = {
    **_DECODER,
    "head/output/bias": None,
    "encoder_embeddings/positions": "encoder_position_embedding",
    "encoder_embeddings/norm": "encoder_embeddings_layer_norm",
    "decoder_embeddings/positions": "decoder_position_embedding",
    "decoder_embeddings/norm": "decoder_embeddings_layer_norm",
    **_layer("encoder_layer_{}", "transformer_encoder_layer_{}", attention="self_attention_layer"),
    **_layer("decoder_layer_{}", "transformer_decoder_layer_{}"),
    **_attention("decoder_layer_{}/cross_attention", "transformer_decoder_layer_{}/cross_attention"),
    "decoder_layer_{}/cross_attention_norm": "transformer_decoder_layer_{}/cross_attention_layer_norm",
}


def _t5(settings: Settings) -> dict[str, Any]:
    activation = settings["activation"]
    if activation not in ("relu", "gelu", "silu"):
        raise ValueError(f"`activation` is {activation!r}, but must be 'relu', 'gelu' or 'silu'")
    gated = settings["use_gated_activation"]
    if gated and activation == "gelu":
        activation = "gelu_python"  # `gated-gelu` is the tanh approximation, but KerasHub's is the exact one
    return {
        "architectures": ["T5ForConditionalGeneration"],
        "model_type": "t5",
        "vocab_size": settings["vocabulary_size"],
        "d_model": settings["hidden_dim"],
        "d_kv": settings["key_value_dim"] or settings["hidden_dim"] // settings["num_heads"],
        "d_ff": settings["intermediate_dim"],
        "num_layers": settings["num_layers"],
        "num_decoder_layers": settings["num_layers"],
        "num_heads": settings["num_heads"],
        "dropout_rate": settings["dropout"],
        "layer_norm_epsilon": settings["layer_norm_epsilon"],
        "feed_forward_proj": f"gated-{activation}" if gated else activation,
        "tie_word_embeddings": settings["tie_embedding_weights"],
        "decoder_start_token_id": 0,
        "pad_token_id": 0,
        "eos_token_id": 1,
    }


def _bart(settings: Settings) -> dict[str, Any]:
    sizes = {
        f"{stack}_{name}": settings[theirs]
        for stack in ("encoder", "decoder")
        for name, theirs in (
            ("layers", "num_layers"),
            ("attention_heads", "num_heads"),
            ("ffn_dim", "intermediate_dim"),
        )
    }
    return {
        "architectures": ["BartForConditionalGeneration"],
        "model_type": "bart",
        "vocab_size": settings["vocabulary_size"],
        "d_model": settings["hidden_dim"],
        **sizes,
        "max_position_embeddings": settings["max_sequence_length"],
        "activation_function": "gelu",
        "dropout": settings["dropout"],
        "attention_dropout": settings["dropout"],
        "scale_embedding": False,
        "tie_word_embeddings": True,
        "bos_token_id": 0,
        "pad_token_id": 1,
        "eos_token_id": 2,
        "decoder_start_token_id": 2,
    }


LAYOUTS: Mapping[str, Layout] = {
    "BertBackbone": Layout(("bert",), _bert, _BERT),
    "DistilBertBackbone": Layout(
        ("distilbert",),
        _distilbert,
        {
            **_ENCODER,
            "token_embedding": "token_and_position_embedding/token_embedding",
            "encoder_embeddings/positions": "token_and_position_embedding/position_embedding",
        },
    ),
    "RobertaBackbone": Layout(("roberta",), _roberta("roberta", "RobertaModel"), _ROBERTA),
    "XLMRobertaBackbone": Layout(("xlm-roberta",), _roberta("xlm-roberta", "XLMRobertaModel"), _ROBERTA),
    "AlbertBackbone": Layout(
        ("albert",),
        _albert,
        {
            **_BERT,
            **_layer("encoder_layer_{}", _GROUP, attention="self_attention_layer"),
            "encoder_embeddings/projection": "embedding_projection",
        },
    ),
    "ElectraBackbone": Layout(
        ("electra",),
        _electra,
        {
            **{path: name for path, name in _BERT.items() if path != "pooler"},
            "encoder_embeddings/projection": "embeddings_projection",
        },
    ),
    "DebertaV3Backbone": Layout(
        ("deberta-v2",),
        _deberta,
        {
            **_ENCODER,
            **_layer(
                "encoder_layer_{}",
                "disentangled_attention_encoder_layer_{}",
                attention="self_attention_layer",
            ),
            "encoder_distances/embeddings": "rel_embedding/rel_embedding",
            "encoder_distances/norm": "rel_embedding/rel_embeddings_layer_norm",
        },
    ),
    "GPT2Backbone": Layout(("gpt2",), _gpt2, _FIRST_DECODER),
    "GPTNeoXBackbone": Layout(
        ("gpt_neox",),
        _gpt_neox,
        {
            **_FIRST_DECODER,
            "decoder_layer_{}/attention/query": _third(0),
            "decoder_layer_{}/attention/key": _third(1),
            "decoder_layer_{}/attention/value": _third(2),
        },
    ),
    "OPTBackbone": Layout(
        ("opt",),
        _opt,
        {
            **_FIRST_DECODER,
            "token_embedding": "embeddings/token_embedding",
            "decoder_embeddings/positions": "embeddings/position_embedding",
        },
    ),
    "LlamaBackbone": Layout(("llama",), _llama, _LLAMA),
    "Llama3Backbone": Layout(("llama",), _llama3, _LLAMA),
    "MistralBackbone": Layout(("mistral",), _mistral, _LLAMA),
    "MixtralBackbone": Layout(
        ("mixtral",),
        _mixtral,
        {
            **_LLAMA,
            "decoder_layer_{}/feed_forward/router": (
                "transformer_layer_{}/mixtral_sparse_moe_block/sparse_feedforward_gate_dense"
            ),
            "decoder_layer_{}/feed_forward/expert_{}/gate/kernel": _expert("gate"),
            "decoder_layer_{}/feed_forward/expert_{}/up/kernel": _expert("intermediate"),
            "decoder_layer_{}/feed_forward/expert_{}/down/kernel": _expert("output"),
        },
    ),
    "QwenBackbone": Layout(("qwen2",), _qwen2, _LLAMA),
    "Qwen3Backbone": Layout(
        ("qwen3",),
        _qwen3,
        {
            **_LLAMA,
            **_parts(
                "decoder_layer_{}/attention",
                "transformer_layer_{}/self_attention",
                query_norm="query_dense_layernorm",
                key_norm="key_dense_layernorm",
            ),
        },
    ),
    "Phi3Backbone": Layout(
        ("phi3",),
        _phi3,
        {
            **_LLAMA,
            **_attention("decoder_layer_{}/attention", "transformer_layer_{}/attention"),
            "decoder_layer_{}/attention_norm": "transformer_layer_{}/pre_attention_layernorm",
            "decoder_layer_{}/feed_forward_norm": "transformer_layer_{}/post_attention_layernorm",
        },
    ),
    "GemmaBackbone": Layout(("gemma", "gemma2"), _gemma, _GEMMA, heads_first=True),
    "Gemma3Backbone": Layout(
        ("gemma3_text",),
        _gemma3,
        {
            **_GEMMA,
            **_parts(
                "decoder_layer_{}/attention",
                "decoder_block_{}/attention",
                query_norm="query_norm",
                key_norm="key_norm",
            ),
        },
        heads_first=True,
    ),
    "SmolLM3Backbone": Layout(
        ("smollm3",),
        _smollm3,
        {
            **_DECODER,
            **_parts(
                "decoder_layer_{}/attention",
                "transformer_layer_{}/self_attn",
                query="q_proj",
                key="k_proj",
                value="v_proj",
            ),
            "decoder_layer_{}/attention/output": "o_proj@{}",
            "decoder_layer_{}/attention_norm": "transformer_layer_{}/input_layernorm",
            **_parts(
                "decoder_layer_{}/feed_forward",
                "transformer_layer_{}/mlp",
                gate="gate_proj",
                up="up_proj",
                down="down_proj",
            ),
            "decoder_layer_{}/feed_forward_norm": "transformer_layer_{}/post_attention_layernorm",
            "decoder_norm": "sequence_output_layernorm",
        },
    ),
    "T5Backbone": Layout(("t5",), _t5, _T5),
    "BartBackbone": Layout(("bart",), _bart, _BART),
}
