"""GGUF files compute what transformers makes of them, and what cannot be read is named."""

import json

import numpy as np
import pytest

from kerasllm.errors import PresetError
from kerasllm.models.presets import Preset
from kerasllm.testing.families import family

gguf = pytest.importorskip("gguf", reason="the extra `gguf` reads these files")

DIM, HEADS, SHARED, LAYERS, WIDE = 256, 4, 2, 2, 512
K_BLOCK_BYTES = {"Q4_K": 144, "Q5_K": 176, "Q6_K": 210}


def tokenizer_fields(writer):
    document = json.loads(family("gpt2"))
    tokens = sorted(document["model"]["vocab"], key=document["model"]["vocab"].get)
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in document["model"]["merges"]]
    special = {token["content"] for token in document["added_tokens"]}
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token in special else 1 for token in tokens])
    writer.add_token_merges(merges)
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    writer.add_chat_template("{{ messages }}")
    return len(tokens)


def write(path, *, architecture="llama", kind="F32", factors=None, skip=()):
    """A tiny model whose matrices are of the given type."""
    random = np.random.default_rng(0)
    writer = gguf.GGUFWriter(path, architecture)
    size = tokenizer_fields(writer)
    writer.add_block_count(LAYERS)
    writer.add_context_length(64)
    writer.add_embedding_length(DIM)
    writer.add_feed_forward_length(WIDE)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(SHARED)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(1000.0)
    writer.add_rope_dimension_count(DIM // HEADS)
    writer.add_vocab_size(size)
    writer.add_file_type(0)

    def tensor(tensor_name, *shape, stored=kind):
        if tensor_name in skip:
            return
        values = (random.standard_normal(shape) * 0.1).astype(np.float32)
        _add(writer, tensor_name, values, stored if len(shape) > 1 else "F32", random)

    narrow = DIM // HEADS * SHARED
    tensor("token_embd.weight", size, DIM)
    tensor("output_norm.weight", DIM)
    if factors is not None:
        writer.add_tensor("rope_freqs.weight", np.asarray(factors, np.float32))
    for layer in range(LAYERS):
        block = f"blk.{layer}"
        tensor(f"{block}.attn_norm.weight", DIM)
        for part, outputs in (("q", DIM), ("k", narrow), ("v", narrow)):
            tensor(f"{block}.attn_{part}.weight", outputs, DIM)
            if architecture == "qwen2":
                tensor(f"{block}.attn_{part}.bias", outputs)
        tensor(f"{block}.attn_output.weight", DIM, DIM)
        tensor(f"{block}.ffn_norm.weight", DIM)
        tensor(f"{block}.ffn_gate.weight", WIDE, DIM)
        tensor(f"{block}.ffn_up.weight", WIDE, DIM)
        tensor(f"{block}.ffn_down.weight", DIM, WIDE)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add(writer, name, values, kind, random):
    number = gguf.GGMLQuantizationType[kind]
    if kind in K_BLOCK_BYTES:
        writer.add_tensor(name, _k_blocks(random, kind, values.shape), raw_dtype=number)
    elif kind in ("F32", "F16"):
        writer.add_tensor(name, values.astype({"F32": np.float32, "F16": np.float16}[kind]))
    else:
        writer.add_tensor(name, gguf.quants.quantize(values, number), raw_dtype=number)


def _k_blocks(random, kind, shape):
    """Any bytes are numbers; small scales keep them in range."""
    size = K_BLOCK_BYTES[kind]
    blocks = random.integers(0, 256, (int(np.prod(shape)) // 256, size), dtype=np.uint8)
    scale = np.frombuffer(np.float16(1e-4).tobytes(), np.uint8)
    places = (size - 2,) if kind == "Q6_K" else (0, 2)
    for place in places:
        blocks[:, place : place + 2] = scale
    return blocks.reshape(shape[0], -1)


@pytest.fixture(scope="session")
def reference():
    """What transformers computes from a GGUF file."""
    transformers = pytest.importorskip("transformers", reason="transformers is the reference")
    import torch

    def compute(path, ids):
        model = transformers.AutoModelForCausalLM.from_pretrained(
            path.parent, gguf_file=path.name, dtype=torch.float32
        )
        with torch.no_grad():
            return model.eval()(torch.tensor(ids)).logits.numpy()

    return compute


IDS = np.random.default_rng(3).integers(5, 200, (2, 30))


@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q4_K", "Q5_K", "Q6_K"])
def test_same_numbers_as_transformers(architecture, kind, reference, tmp_path):
    path = write(tmp_path / "model.gguf", architecture=architecture, kind=kind)
    preset = Preset.load(path)
    assert (preset.head, preset.tied, preset.unused_tensors) == ("causal_language", True, ())
    expected = reference(path, IDS)
    difference = np.abs(preset.logits(IDS, np.ones_like(IDS)) - expected)
    assert difference.max() <= 1e-4 * max(1.0, np.abs(expected).max())


def test_factors_of_llama_3_are_those_of_its_config(tmp_path):
    """llama.cpp writes what Llama 3's scaling comes to, and not the scaling."""
    from kerasllm.models.transformer.rotary import frequencies
    from kerasllm.models.transformer.settings import RotarySettings

    options = {
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 16,
    }
    scaled = frequencies(RotarySettings(DIM // HEADS, 1000.0, "llama3", options))
    plain = frequencies(RotarySettings(DIM // HEADS, 1000.0))
    preset = Preset.load(write(tmp_path / "model.gguf", factors=plain / scaled))
    rotary = preset.settings.decoder.rotary
    found = plain / np.asarray(rotary.options["short_factor"])
    np.testing.assert_allclose(found, scaled, rtol=1e-6)
    assert preset.hidden_states(IDS, np.ones_like(IDS)).shape == (2, 30, DIM)


def test_the_tokenizer_and_the_template_are_in_the_file(tmp_path):
    from kerasllm.tokenization import Tokenizer

    tokenizer = Preset.load(write(tmp_path / "model.gguf")).tokenizer
    texts = ["A joy from start to end.", "  two  spaces\n\tand café 12 345", "<|endoftext|> is special"]
    assert tokenizer.encode(texts) == Tokenizer.from_json(family("gpt2")).encode(texts)
    assert tokenizer.chat_template == "{{ messages }}"
    tokenizer.check_graph()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "Q5_0"}, r"stores tensors as Q5_0 \(e.g. `.*`\), but only F32, F16, BF16, .* Take a file"),
        ({"architecture": "gemma"}, r"is of the architecture 'gemma', but GGUF files are read for llama and"),
        ({"skip": ("blk.1.ffn_up.weight",)}, r"lacks 1 tensor .*`layers.1.mlp.up_proj.weight`"),
    ],
)
def test_what_cannot_be_read_is_named(options, message, tmp_path):
    with pytest.raises(PresetError, match=message):
        Preset.load(write(tmp_path / "model.gguf", **options))


@pytest.mark.parametrize("length", [0, 3, 10, 200, 5000, -100])
def test_a_file_cut_short_is_named(length, tmp_path):
    path = write(tmp_path / "model.gguf")
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(PresetError, match=r"model.gguf` is (damaged or cut short|of the architecture)"):
        Preset.load(path)


def test_without_the_package_the_remedy_is_said(tmp_path, monkeypatch):
    import sys

    path = write(tmp_path / "model.gguf")
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(PresetError, match=r"`pip install kerasllm\[gguf\]`"):
        Preset.load(path)
