"""DoRA: gradients as PEFT's, in each precision, and what its magnitudes are at first."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasllm.models.adapters import LoRASettings, adapted_layers, add_lora, merge_lora
from kerasllm.models.builders import build_classifier, build_with_head
from kerasllm.models.peft_format import load_adapter
from kerasllm.models.presets import Preset

IDS = np.random.default_rng(3).integers(5, 83, (2, 12))


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    transformers = pytest.importorskip("transformers", reason="transformers is the reference")
    import torch

    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=83,
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=40,
        pad_token_id=0,
        attention_bias=True,
    )
    path = tmp_path_factory.mktemp("llama")
    transformers.LlamaForCausalLM(config).save_pretrained(path)
    return path, transformers.LlamaForCausalLM.from_pretrained(path)


@pytest.mark.parametrize("kind", [{}, {"use_rslora": True}, {"use_dora": True}], ids=lambda kind: str(*kind))
def test_gradients_are_those_of_peft(llama, kind, tmp_path):
    peft = pytest.importorskip("peft", reason="peft is the reference")
    import torch

    path, base = llama
    config = peft.LoraConfig(r=3, lora_alpha=7, target_modules=["q_proj", "v_proj", "down_proj"], **kind)
    model = peft.get_peft_model(base, config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.copy_(torch.randn_like(parameter) * 0.2)
            if "magnitude" in name:
                parameter.mul_(torch.rand_like(parameter) + 0.5)
    model.save_pretrained(tmp_path / "adapter")
    factors = np.random.default_rng(0).normal(size=(2, 12, 83)).astype(np.float32)
    logits = model(input_ids=torch.tensor(IDS), attention_mask=torch.ones_like(torch.tensor(IDS))).logits
    (logits * torch.tensor(factors)).sum().backward()
    expected = {name: value.grad.numpy() for name, value in model.named_parameters() if value.requires_grad}
    model.unload()

    loaded = build_with_head(Preset.load(path))
    load_adapter(loaded, tmp_path / "adapter")
    with tf.GradientTape() as tape:
        outputs = loaded({"token_ids": IDS, "padding_mask": np.ones_like(IDS)})
        total = tf.reduce_sum(outputs * factors)
    np.testing.assert_allclose(outputs, logits.detach().numpy(), atol=1e-5)
    weights = loaded.trainable_weights
    gradients = tape.gradient(total, [weight.value for weight in weights])
    assert len(weights) == len(expected) == (18 if "use_dora" in kind else 12)
    for weight, gradient in zip(weights, gradients, strict=True):
        theirs = expected[_peft_name(weight.path)]
        np.testing.assert_allclose(np.transpose(gradient), theirs, atol=1e-5 * max(1, np.abs(theirs).max()))


def _peft_name(path):
    layer, module = path.split("/")[-5], path.split("/")[-3]
    own = {"query": "self_attn.q_proj", "value": "self_attn.v_proj", "down": "mlp.down_proj"}[module]
    part = {"a": "lora_A.default", "b": "lora_B.default", "magnitude": "lora_magnitude_vector.default"}
    number = layer.rpartition("_")[2]
    return f"base_model.model.model.layers.{number}.{own}.{part[path.rpartition('/')[2]]}.weight"


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_dora_learns_and_merges(tiny_path, batch, policy):
    keras.utils.set_random_seed(0)
    model = build_classifier(Preset.load(tiny_path), num_classes=2, dtype_policy=policy)
    add_lora(model, LoRASettings(4, dropout=0.1, dora=True))
    before = {path: np.array(layer.adapter.magnitude) for path, layer in adapted_layers(model).items()}
    for path, layer in adapted_layers(model).items():
        np.testing.assert_allclose(before[path], np.linalg.norm(layer.kernel, axis=0), rtol=1e-6)
    model.compile(keras.optimizers.Adam(0.01), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    losses = model.fit(batch, np.array([0, 1, 0]), epochs=30, verbose=0).history["loss"]
    assert min(losses) < losses[0] / 2
    for path, layer in adapted_layers(model).items():
        assert np.abs(layer.adapter.magnitude - before[path]).max() > 1e-3
    expected = np.asarray(model(batch, training=False))
    np.testing.assert_allclose(
        np.asarray(merge_lora(model)(batch)), expected, atol=1e-4 if policy == "float32" else 0.3
    )


def test_a_column_of_zeros_stays_one(tiny_path, batch):
    model = build_classifier(Preset.load(tiny_path), num_classes=2)
    layer = next(iter(_queries(model)))
    layer.kernel.assign(np.asarray(layer.kernel) * np.r_[np.zeros(1), np.ones(15)])
    expected = np.asarray(model(batch))
    add_lora(model, LoRASettings(4, dora=True))
    np.testing.assert_allclose(np.asarray(model(batch)), expected, atol=1e-6)


def _queries(model):
    from kerasllm.models.transformer.paths import dense_layers

    return [layer for path, layer in dense_layers(model).items() if path.endswith("query")]
