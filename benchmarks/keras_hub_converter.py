"""How far KerasHub's own converters of Hugging Face checkpoints are from transformers.

Compared are the hidden states of `keras_hub.models.Backbone.from_preset(directory)` with transformers'
`last_hidden_state`, in float32, padding on the right. The choices are in KerasHub's favour:

- Most of its converters want the tensor names of a model with a head, so the checkpoint of a family is
  written with each of transformers' classes for it in turn, until one is read.
- The figure of a family is that of `PLAIN`, its usual settings, those that KerasHub has no parameter for as
  in the published checkpoints.
- It reads keys of older configs. Where they are needed, the config is tried with and without, and the better
  result counts.
"""

import json
import tempfile
from pathlib import Path

import numpy as np

from kerasllm.models.presets import Preset
from kerasllm.testing.architectures import CASES, make_inputs, run_reference, write_model

# Differences up to this share of the largest value are the same model, computed less exactly.
SAME_MODEL = 0.01
PLAIN = {
    "roberta": {"layer_norm_eps": 1e-5, "type_vocab_size": 1},
    "xlm-roberta": {"layer_norm_eps": 1e-5, "type_vocab_size": 1},
    "mistral": {"sliding_window": None},
    "gemma2": {"query_pre_attn_scalar": 8},
    "gemma3_text": {"query_pre_attn_scalar": 8},
    "bart": {"decoder_layers": 2, "decoder_attention_heads": 4, "decoder_ffn_dim": 40},
}


def keras_hub_converter(kind):
    """What KerasHub makes of a family.

    Args:
        kind: Its `model_type`.

    Returns:
        The difference with the plain settings, or why there is none; and of how many of the settings in
        `CASES` it computes the model, as text.
    """
    import transformers

    cases = [
        (name, settings)
        for name, settings in CASES.values()
        if getattr(transformers, name).config_class.model_type == kind
    ]
    classes = sorted(dict.fromkeys(name for name, _ in cases), key=lambda name: name.endswith("Model"))
    plain = cases[0][1]
    try:
        found = f"{_difference(classes, {**plain, **PLAIN.get(kind, {})})[0]:.1e}"
    except ValueError as error:
        if "has no converter" in str(error):
            return "none", ""
        found = f"fails: {str(error).splitlines()[0][:60]}"
    settings = {json.dumps(settings, sort_keys=True): settings for _, settings in cases}
    right = 0
    for values in settings.values():
        try:
            difference, largest = _difference(classes, values)
        except ValueError:
            continue
        right += difference <= SAME_MODEL * largest
    return found, f"{right} of {len(settings)}"


def _difference(classes, settings):
    """The smallest difference over the forms of a checkpoint, and the largest value."""
    results, problem = [], None
    for legacy in (False, True):
        for name in classes:
            with tempfile.TemporaryDirectory() as folder:
                try:
                    results.append(_compare(name, settings, Path(folder), legacy=legacy))
                    break
                except Exception as error:  # whatever a converter stumbles over
                    problem = problem or ValueError(f"{error}")
    if not results:
        raise problem
    return min(results)


def _compare(name, settings, folder, *, legacy):
    import keras_hub
    import torch

    model = write_model(name, settings, folder)
    config = json.loads((folder / "config.json").read_text())
    preset = Preset.load(folder)
    if config["model_type"] == "roberta":  # which has no segments; published checkpoints hold zeros
        with torch.no_grad():
            model.base_model.embeddings.token_type_embeddings.weight.zero_()
        model.save_pretrained(folder)
    if legacy:
        if not (keys := _legacy_keys(config)):
            raise ValueError("older configs have the same keys")
        (folder / "config.json").write_text(json.dumps({**config, **keys}))
    backbone = keras_hub.models.Backbone.from_preset(str(folder), dtype="float32")
    inputs, theirs, answered = make_inputs(preset, "right")
    fed = _keras_hub_inputs(inputs, {tensor.name for tensor in backbone.inputs})
    if "segment_ids" not in fed:
        theirs.pop("token_type_ids", None)
    expected = run_reference(model.base_model, theirs)[answered == 1]
    outputs = backbone(fed)
    if isinstance(outputs, dict):
        outputs = outputs["decoder_sequence_output" if "decoder_token_ids" in fed else "sequence_output"]
    found = np.asarray(outputs)[answered == 1]
    return float(np.abs(found - expected).max()), float(np.abs(expected).max())


def _keras_hub_inputs(inputs, names):
    ids, mask, options = inputs
    prefix = "encoder_" if "encoder_token_ids" in names else ""
    known = {f"{prefix}token_ids": ids, f"{prefix}padding_mask": mask, **options}
    return {name: known[name] for name in names}


def _legacy_keys(config):
    rope = config.get("rope_parameters") or {}
    keys = {"rope_scaling": rope} if rope.get("rope_type", "default") != "default" else {}
    if "encoder_layers" in config:
        keys["num_hidden_layers"] = config["encoder_layers"]
    return keys
