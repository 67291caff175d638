"""The BERT family: `BertModel` and the heads that transformers puts on it.

Sources: Devlin et al., 2018 (https://arxiv.org/abs/1810.04805); names, defaults and numerics
as in `transformers/models/bert`. Encoders of other names that keep BERT's architecture, such as
MiniLM, have `model_type` `bert` too.
"""

import difflib
import re
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from kerasllm.models.tensors import TensorSpec

if TYPE_CHECKING:
    import keras

# transformers' names -> ours. Several of theirs are one formula, written in different ways.
ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_accurate": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_new": "gelu_tanh",
    "gelu_python_tanh": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "sigmoid": "sigmoid",
    "silu": "silu",
    "swish": "silu",
    "tanh": "tanh",
}
# `BertConfig`'s defaults: a config.json may leave out what equals them.
_DEFAULTS = {
    "vocab_size": 30522,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
    "initializer_range": 0.02,
    "layer_norm_eps": 1e-12,
}
# Far beyond any encoder; a damaged config must not make us list tensors until memory is full.
_MOST_LAYERS = 1000
_COUNTS = tuple(name for name, value in _DEFAULTS.items() if isinstance(value, int))
_RATES = ("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout")
# What transformers would call a model with this head.
ARCHITECTURES = {"pooled_classifier": "BertForSequenceClassification", "mean_pooled_classifier": "BertModel"}
KERAS_HUB_CLASS = "BertBackbone"
# Heads of other tasks and a buffer: no reason to worry when they stay unused.
_EXPECTED_UNUSED = re.compile(r"(cls|classifier|qa_outputs)\.|embeddings\.(position|token_type)_ids$")


def setting(config: Mapping, name: str) -> Any:
    """Reads a value of the config, or the default that transformers would take."""
    value = config.get(name)
    return _DEFAULTS[name] if value is None else value


def with_defaults(config: Mapping) -> dict:
    """Gives the config with what it leaves out, as transformers would fill it in."""
    return {**_DEFAULTS, **{key: value for key, value in config.items() if value is not None}}


def from_keras_hub(settings: Mapping) -> dict:
    """Gives the config that computes what `keras_hub.models.BertBackbone` with these settings does."""
    return {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "vocab_size": settings["vocabulary_size"],
        "hidden_size": settings["hidden_dim"],
        "num_hidden_layers": settings["num_layers"],
        "num_attention_heads": settings["num_heads"],
        "intermediate_size": settings["intermediate_dim"],
        "max_position_embeddings": settings["max_sequence_length"],
        "type_vocab_size": settings["num_segments"],
        "hidden_dropout_prob": settings["dropout"],
        "attention_probs_dropout_prob": settings["dropout"],
        "hidden_act": "gelu_new",  # whatever the original was trained with: the preset computes tanh GELU
        "layer_norm_eps": 1e-12,
    }


def head_dropout(config: Mapping) -> float:
    """Gives the dropout rate of a classification head."""
    rate = config.get("classifier_dropout")
    return setting(config, "hidden_dropout_prob") if rate is None else rate


def dropout_settings(rate: float) -> dict[str, float]:
    """Gives the settings that stand for one dropout rate everywhere."""
    return dict.fromkeys(_RATES, rate)


def check_config(config: Mapping) -> list[str]:
    """Lists what about a config cannot be computed exactly; empty when all is well."""
    problems = []
    for name in _COUNTS:
        value = setting(config, name)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            problems.append(f"`{name}` is {value!r}, but must be a positive integer")
    for name in _RATES:
        value = config.get(name)
        if value is not None and not (_is_number(value) and 0 <= value < 1):
            problems.append(f"`{name}` is {value!r}, but must be a number from 0 to below 1")
    for name in ("initializer_range", "layer_norm_eps"):
        value = setting(config, name)
        if not (_is_number(value) and value > 0):
            problems.append(f"`{name}` is {value!r}, but must be a number above 0")
    if not problems and setting(config, "num_hidden_layers") > _MOST_LAYERS:
        problems.append(f"`num_hidden_layers` is {config['num_hidden_layers']}, more than {_MOST_LAYERS}")
    if not problems and setting(config, "hidden_size") % setting(config, "num_attention_heads"):
        problems.append(
            f"`hidden_size` {setting(config, 'hidden_size')} is not a multiple of "
            f"`num_attention_heads` {setting(config, 'num_attention_heads')}"
        )
    return problems + _unsupported(config)


def _unsupported(config: Mapping) -> list[str]:
    problems = []
    activation = setting(config, "hidden_act")
    if activation not in ACTIVATIONS:
        close = difflib.get_close_matches(str(activation), ACTIVATIONS, n=1)
        hint = f" (did you mean `{close[0]}`?)" if close else ""
        known = ", ".join(sorted(ACTIVATIONS))
        problems.append(f"`hidden_act` {activation!r} is unknown{hint}, known are: {known}")
    if config.get("position_embedding_type", "absolute") not in (None, "absolute"):
        problems.append(
            f"`position_embedding_type` is {config['position_embedding_type']!r}, only 'absolute' works"
        )
    if config.get("is_decoder") or config.get("add_cross_attention"):
        problems.append("`is_decoder` or `add_cross_attention` is true, but only encoders are supported")
    if config.get("quantization_config"):
        problems.append("its weights are quantized (`quantization_config`), only float weights can be loaded")
    if config.get("pruned_heads"):
        problems.append("`pruned_heads` is set, but all layers must have the same heads")
    return problems


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def canonical_name(name: str) -> str:
    """Gives a tensor's name in today's spelling.

    >>> canonical_name("bert.embeddings.LayerNorm.gamma")
    'embeddings.LayerNorm.weight'
    """
    name = name.removeprefix("bert.")
    return re.sub(r"(?<=LayerNorm\.)(gamma|beta)$", lambda m: {"gamma": "weight", "beta": "bias"}[m[0]], name)


def stored_name(name: str, head: str) -> str:
    """Gives the name under which transformers looks for a tensor in a model with this head.

    >>> stored_name("pooler.dense.bias", "pooled_classifier")
    'bert.pooler.dense.bias'
    """
    inside = head == "pooled_classifier" and not name.startswith("classifier.")
    return f"bert.{name}" if inside else name


def is_expected_unused(name: str) -> bool:
    """Whether a tensor of this (canonical) name is known and rightly left out of a backbone."""
    return bool(_EXPECTED_UNUSED.match(name))


def backbone_tensors(config: Mapping) -> list[TensorSpec]:
    """Lists the tensors of the encoder, without the pooler."""
    dim = setting(config, "hidden_size")
    specs = [
        TensorSpec(f"embeddings.{name}_embeddings.weight", (setting(config, size), dim), f"{path}/embeddings")
        for name, size, path in (
            ("word", "vocab_size", "token_embedding"),
            ("position", "max_position_embeddings", "position_embedding"),
            ("token_type", "type_vocab_size", "segment_embedding"),
        )
    ]
    specs += _norm("embeddings.LayerNorm", dim, "embeddings_layer_norm")
    for layer in range(setting(config, "num_hidden_layers")):
        specs += _layer_tensors(
            f"encoder.layer.{layer}", f"transformer_layer_{layer}", dim, setting(config, "intermediate_size")
        )
    return specs


def _layer_tensors(name: str, path: str, dim: int, wide: int) -> list[TensorSpec]:
    attention = f"{path}/self_attention_layer"
    specs = []
    for part in ("query", "key", "value"):
        specs += _dense(f"{name}.attention.self.{part}", dim, dim, f"{attention}/{part}")
    specs += _dense(f"{name}.attention.output.dense", dim, dim, f"{attention}/attention_output")
    specs += _norm(f"{name}.attention.output.LayerNorm", dim, f"{path}/self_attention_layer_norm")
    specs += _dense(f"{name}.intermediate.dense", dim, wide, f"{path}/feedforward_intermediate_dense")
    specs += _dense(f"{name}.output.dense", wide, dim, f"{path}/feedforward_output_dense")
    specs += _norm(f"{name}.output.LayerNorm", dim, f"{path}/feedforward_layer_norm")
    return specs


def pooler_tensors(config: Mapping) -> list[TensorSpec]:
    """Lists the tensors of the pooler, the dense layer on the first token."""
    dim = setting(config, "hidden_size")
    return _dense("pooler.dense", dim, dim, "pooled_dense")


def head_kind(config: Mapping, names: Collection[str]) -> str | None:
    """Says which trained head a checkpoint has.

    Args:
        config: The checkpoint's `config.json`.
        names: Canonical names of its tensors.

    Returns:
        `"pooled_classifier"`, `"mean_pooled_classifier"`, `"masked_language"`, or `None`.
        `classifier.weight` alone proves nothing: token classifiers and multiple-choice
        models call theirs the same.
    """
    architecture = (config.get("architectures") or [None])[0]
    if "mean_pooled_classifier.weight" in names:
        return "mean_pooled_classifier"
    if architecture == "BertForSequenceClassification":
        return "pooled_classifier"
    if all(spec.name in names for spec in head_tensors(config, "masked_language")):
        return "masked_language"
    return None


def head_tensors(config: Mapping, kind: str, num_classes: int = 0) -> list[TensorSpec]:
    """Lists the tensors of a head of the given kind; `num_classes` for the classifiers."""
    dim, vocabulary = setting(config, "hidden_size"), setting(config, "vocab_size")
    if kind == "masked_language":
        tied = config.get("tie_word_embeddings", True)
        kernel = "embeddings.word_embeddings.weight" if tied else "cls.predictions.decoder.weight"
        bias = "cls.predictions.bias" if tied else "cls.predictions.decoder.bias"
        return [
            *_dense("cls.predictions.transform.dense", dim, dim, "transform_dense"),
            *_norm("cls.predictions.transform.LayerNorm", dim, "transform_layer_norm"),
            TensorSpec(kernel, (vocabulary, dim), "decoder/kernel", transposed=True),
            TensorSpec(bias, (vocabulary,), "decoder/bias"),
        ]
    name = {"pooled_classifier": "classifier", "mean_pooled_classifier": "mean_pooled_classifier"}[kind]
    return _dense(name, dim, num_classes, "classifier")


def is_tied_copy(config: Mapping, name: str) -> bool:
    """Whether a tensor repeats another that the masked-language head uses in its place."""
    copies = ("cls.predictions.decoder.weight", "cls.predictions.decoder.bias")
    return name in copies and config.get("tie_word_embeddings", True)


def _dense(name: str, inputs: int, outputs: int, path: str) -> list[TensorSpec]:
    return [
        TensorSpec(f"{name}.weight", (outputs, inputs), f"{path}/kernel", transposed=True),
        TensorSpec(f"{name}.bias", (outputs,), f"{path}/bias"),
    ]


def _norm(name: str, dim: int, path: str) -> list[TensorSpec]:
    return [
        TensorSpec(f"{name}.weight", (dim,), f"{path}/gamma"),
        TensorSpec(f"{name}.bias", (dim,), f"{path}/beta"),
    ]


def build_backbone(
    config: Mapping, *, dropout: float | None = None, dtype_policy: str = "float32"
) -> "keras.Model":
    """Builds the encoder with new weights.

    Args:
        config: The checkpoint's `config.json`.
        dropout: Rate for hidden states and attention alike. Defaults to `None`, the
            two rates that the config states.
        dtype_policy: Keras dtype policy. Defaults to `"float32"`.

    Returns:
        A `kerasllm.models.families.bert_backbone.BertBackbone`.
    """
    from kerasllm.models.families.bert_backbone import BertBackbone

    return BertBackbone(
        vocabulary_size=setting(config, "vocab_size"),
        num_layers=setting(config, "num_hidden_layers"),
        num_heads=setting(config, "num_attention_heads"),
        hidden_dim=setting(config, "hidden_size"),
        intermediate_dim=setting(config, "intermediate_size"),
        max_sequence_length=setting(config, "max_position_embeddings"),
        num_segments=setting(config, "type_vocab_size"),
        dropout=setting(config, "hidden_dropout_prob") if dropout is None else dropout,
        attention_dropout=setting(config, "attention_probs_dropout_prob") if dropout is None else dropout,
        activation=ACTIVATIONS[setting(config, "hidden_act")],
        layer_norm_epsilon=setting(config, "layer_norm_eps"),
        dtype=dtype_policy,
        name="backbone",
    )


def build_masked_language_model(config: Mapping, backbone: "keras.Model") -> "keras.Model":
    """Puts the head that guesses masked tokens on a backbone, with new weights."""
    import keras

    from kerasllm.models.families.bert_backbone import ACTIVATIONS as FUNCTIONS

    # === Layers ===
    transform = keras.layers.Dense(
        setting(config, "hidden_size"),
        activation=FUNCTIONS[ACTIVATIONS[setting(config, "hidden_act")]],
        name="transform_dense",
    )
    norm = keras.layers.LayerNormalization(
        epsilon=setting(config, "layer_norm_eps"), name="transform_layer_norm"
    )
    decoder = keras.layers.Dense(setting(config, "vocab_size"), name="decoder")

    # === Functional model ===
    logits = decoder(norm(transform(backbone.output["sequence_output"])))
    return keras.Model(backbone.input, logits, name="masked_language_model")
