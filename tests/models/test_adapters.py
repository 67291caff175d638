"""LoRA: new adapters change nothing, only they train, merging is proved, and PEFT reads and writes them."""

import json

import keras
import numpy as np
import pytest

from kerasllm.errors import AdapterError
from kerasllm.models.adapters import LoRASettings, adapted_layers, add_lora, merge_lora, trainable_share
from kerasllm.models.builders import build_classifier, build_with_head, load_classifier, save_weights
from kerasllm.models.peft_format import load_adapter, save_adapter
from kerasllm.models.presets import Preset
from kerasllm.testing import tiny_bert

SMALL = {
    "vocab_size": 83,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 40,
    "max_position_embeddings": 40,
}
GROUPED = {**SMALL, "num_key_value_heads": 2, "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2}
T5 = {"vocab_size": 83, "d_model": 24, "d_kv": 7, "d_ff": 40, "num_layers": 2, "num_heads": 4}
# transformers' class, its config, and the modules that `peft` adapts in the test of reading.
CASES = {
    "bert": ("BertForSequenceClassification", SMALL, ["query", "value", "intermediate.dense"]),
    "distilbert": (
        "DistilBertForSequenceClassification",
        {"vocab_size": 83, "dim": 24, "n_layers": 2, "n_heads": 4, "hidden_dim": 40},
        ["q_lin", "v_lin"],
    ),
    "llama": ("LlamaForCausalLM", GROUPED, ["q_proj", "v_proj", "down_proj"]),
    "llama-classifier": ("LlamaForSequenceClassification", GROUPED, ["q_proj", "v_proj"]),
    "gpt2": ("GPT2LMHeadModel", {"vocab_size": 83, "n_embd": 24, "n_layer": 2, "n_head": 4}, ["c_attn"]),
    "gpt-neox": ("GPTNeoXForCausalLM", SMALL, ["query_key_value", "dense_h_to_4h"]),
    "phi3": ("Phi3ForCausalLM", GROUPED, ["qkv_proj", "gate_up_proj"]),
    "t5": ("T5ForConditionalGeneration", {**T5, "decoder_start_token_id": 0}, ["q", "v", "wo"]),
}
IDS = np.random.default_rng(3).integers(5, 83, (2, 12))


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    transformers = pytest.importorskip("transformers", reason="transformers is the reference")
    import torch

    def write(case):
        architecture, settings, _ = CASES[case]
        kind = getattr(transformers, architecture)
        torch.manual_seed(0)
        labels = {"num_labels": 3} if "Classification" in architecture else {}
        model = kind(kind.config_class(**{"pad_token_id": 0, **settings, **labels}))
        path = tmp_path_factory.mktemp(case)
        model.save_pretrained(path)
        return path, kind

    return write


def theirs(model):
    import torch

    inputs = {"input_ids": torch.tensor(IDS), "attention_mask": torch.ones_like(torch.tensor(IDS))}
    if model.config.is_encoder_decoder:
        inputs["decoder_input_ids"] = torch.tensor(IDS)
    with torch.no_grad():
        return model.eval()(**inputs).logits.numpy()


def ours(model):
    fed = {name: np.ones_like(IDS) if "mask" in name else IDS for name in model.input}
    if "segment_ids" in fed:
        fed["segment_ids"] = np.zeros_like(IDS)
    return np.asarray(model(fed, training=False))


def fill(model):
    """As if they had been trained."""
    random = np.random.default_rng(5)
    for layer in adapted_layers(model).values():
        layer.adapter.b.assign(random.normal(0, 0.2, layer.adapter.b.shape))
        if layer.adapter.magnitude is not None:
            layer.adapter.magnitude.assign(
                layer.adapter.magnitude * random.uniform(0.5, 2, layer.units).astype(np.float32)
            )


def assert_close(found, expected):
    assert np.abs(found - expected).max() <= 1e-4 * max(1.0, np.abs(expected).max())


@pytest.mark.parametrize("kind", [{}, {"rank_stabilized": True}, {"dora": True}], ids=lambda kind: str(*kind))
@pytest.mark.parametrize("case", CASES)
def test_peft_loads_what_we_save(case, kind, reference, tmp_path):
    peft = pytest.importorskip("peft", reason="peft is the reference")
    path, architecture = reference(case)
    model = build_with_head(Preset.load(path))
    add_lora(model, LoRASettings(4, 16.0, **kind), roles=["query", "value", "feed_forward"])
    fill(model)
    save_adapter(model, tmp_path / "adapter", base_model=str(path))
    again = peft.PeftModel.from_pretrained(architecture.from_pretrained(path), tmp_path / "adapter")
    assert np.abs(ours(model) - ours(build_with_head(Preset.load(path)))).max() > 5e-5
    assert_close(ours(model), theirs(again))


@pytest.mark.parametrize("dora", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_we_load_what_peft_saves(case, dora, reference, tmp_path):
    import torch

    peft = pytest.importorskip("peft", reason="peft is the reference")
    path, kind = reference(case)
    config = peft.LoraConfig(
        r=3,
        lora_alpha=7,
        target_modules=CASES[case][2],
        task_type="SEQ_CLS" if "Classification" in kind.__name__ else None,
        fan_in_fan_out=case == "gpt2",
        use_dora=dora,
    )
    model = peft.get_peft_model(kind.from_pretrained(path), config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name or "modules_to_save" in name:
                parameter.copy_(torch.randn_like(parameter) * 0.2)
            if "magnitude" in name:
                parameter.mul_(torch.rand_like(parameter) + 0.5)
    model.save_pretrained(tmp_path / "adapter")
    loaded = build_with_head(Preset.load(path))
    assert load_adapter(loaded, tmp_path / "adapter")
    assert_close(ours(loaded), theirs(model))
    assert_close(ours(merge_lora(loaded)), theirs(model))


@pytest.mark.parametrize("dora", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_new_adapters_change_nothing_and_merging_is_exact(case, dora, reference, tmp_path):
    path, _ = reference(case)
    model = build_with_head(Preset.load(path))
    before = ours(model)
    add_lora(model, LoRASettings(4, dora=dora), roles=["all"])
    # A length that is multiplied again after a division by it need not be the same to the last bit.
    np.testing.assert_allclose(ours(model), before, atol=1e-6 if dora else 0, rtol=0)
    fill(model)
    merged = merge_lora(model)
    assert not adapted_layers(merged)
    assert not any("/lora/" in weight.path for weight in merged.weights)
    assert_close(ours(merged), ours(model))
    save_weights(model, tmp_path)
    assert_close(Preset.load(tmp_path).logits(IDS, np.ones_like(IDS), **_decoder(model)), ours(model))


def _decoder(model):
    return {"decoder_token_ids": IDS} if "decoder_token_ids" in model.input else {}


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_only_the_adapters_and_the_head_train(tiny_path, batch, policy, tmp_path):
    model = build_classifier(Preset.load(tiny_path), num_classes=2, dtype_policy=policy)
    add_lora(model, LoRASettings(4, dropout=0.1), roles=["query", "value"])
    assert {weight.path.partition("/lora/")[0].rpartition("/")[2] for weight in model.trainable_weights} == {
        "query",
        "value",
        "kernel",
        "bias",
    }
    assert 0 < trainable_share(model) < 0.2
    frozen = [np.array(weight) for weight in model.non_trainable_weights if "seed" not in weight.path]
    model.compile(keras.optimizers.Adam(0.01), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    losses = model.fit(batch, np.array([0, 1, 0]), epochs=40, verbose=0).history["loss"]
    assert losses[-1] < losses[0] / 2
    after = [np.array(weight) for weight in model.non_trainable_weights if "seed" not in weight.path]
    for old, new in zip(frozen, after, strict=True):
        np.testing.assert_array_equal(old, new)
    save_weights(model, tmp_path)
    plain = np.asarray(load_classifier(tmp_path)(batch))
    np.testing.assert_allclose(plain, np.asarray(model(batch)), atol=1e-4 if policy == "float32" else 0.3)


def test_what_was_never_finite_is_not_merged(tiny_path):
    model = build_classifier(Preset.load(tiny_path), num_classes=2)
    add_lora(model)
    next(iter(adapted_layers(model).values())).adapter.b.assign_add(np.full((8, 16), np.nan))
    with pytest.raises(
        AdapterError, match=r"changes the logits by nan, more than 1e-04; the merged model was"
    ):
        merge_lora(model)


@pytest.mark.parametrize(
    ("settings", "roles", "message"),
    [
        (LoRASettings(0), ["query"], "The rank is 0, but must be a positive integer"),
        (LoRASettings(alpha=0.0), ["query"], "`alpha` is 0.0, but must be above 0"),
        (LoRASettings(alpha=float("nan")), ["query"], "`alpha` is nan, but must be above 0"),
        (LoRASettings(dropout=1.0), ["query"], "The dropout is 1.0"),
        (
            LoRASettings(17),
            ["query"],
            r"The rank is 17, but the matrix of .* is 16 x 16, so its own",
        ),
        (LoRASettings(), ["qury"], r"The roles \['qury'\] are unknown. Choose among query, key"),
        (LoRASettings(), [], "No layer of the model has one of the roles"),
    ],
)
def test_wrong_settings_are_named(tiny_path, settings, roles, message):
    model = build_classifier(Preset.load(tiny_path), num_classes=2)
    with pytest.raises(AdapterError, match=message):
        add_lora(model, settings, roles=roles)


def test_a_model_gets_adapters_once(tiny_path):
    model = build_classifier(Preset.load(tiny_path), num_classes=2)
    add_lora(model)
    with pytest.raises(AdapterError, match=r"The model has adapters already\. Merge them first"):
        add_lora(model)


def test_a_language_models_head_is_frozen(reference):
    model = build_with_head(Preset.load(reference("llama")[0]))
    add_lora(model, LoRASettings(4))
    assert all("/lora/" in weight.path for weight in model.trainable_weights)
    assert len(model.trainable_weights) == 2 * 2 * 2
    assert all(weight.trainable for weight in merge_lora(model).weights)


def test_adapters_under_a_mean_pooled_classifier_are_those_of_the_backbone_to_peft(reference, tmp_path):
    peft = pytest.importorskip("peft", reason="peft is the reference")
    import torch
    import transformers

    path, _ = reference("bert")
    model = build_classifier(Preset.load(path), num_classes=2, pooling="mean")
    add_lora(model, LoRASettings(4, dora=True))
    fill(model)
    save_adapter(model, tmp_path / "adapter", base_model=str(path))
    theirs = peft.PeftModel.from_pretrained(
        transformers.BertModel.from_pretrained(path), tmp_path / "adapter"
    )
    with torch.no_grad():
        expected = theirs.eval()(input_ids=torch.tensor(IDS)).last_hidden_state.numpy()
    inputs = {name: np.full_like(IDS, "mask" in name) for name in model.input} | {"token_ids": IDS}
    assert_close(np.asarray(model.backbone(inputs)["sequence_output"]), expected)
    again = build_classifier(Preset.load(path), num_classes=2, pooling="mean")
    load_adapter(again, tmp_path / "adapter")
    np.testing.assert_array_equal(ours(again), ours(model))


@pytest.fixture
def adapter(tiny_path, tmp_path):
    model = build_classifier(Preset.load(tiny_path), num_classes=2, pooling="cls")
    add_lora(model)
    fill(model)
    return save_adapter(model, tmp_path / "adapter", base_model="tiny")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"peft_type": "IA3"}, "holds a IA3 adapter, but only LoRA"),
        ({"use_dora": True}, "`use_dora` and its magnitudes disagree"),
        ({"bias": "all"}, "`bias` is 'all'"),
    ],
)
def test_other_kinds_of_adapters_are_refused(adapter, tiny_path, change, message):
    path = adapter / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(AdapterError, match=message):
        load_adapter(build_classifier(Preset.load(tiny_path), num_classes=2), adapter)


def test_a_damaged_adapter_is_refused(adapter, tiny_path):
    weights = adapter / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-50])
    model = build_classifier(Preset.load(tiny_path), num_classes=2)
    with pytest.raises(AdapterError, match="is damaged or cut short"):
        load_adapter(model, adapter)
    assert not adapted_layers(model)
    weights.unlink()
    with pytest.raises(AdapterError, match=r"has no `adapter_model.safetensors`"):
        load_adapter(model, adapter)


def test_an_adapter_of_another_checkpoint_is_refused(adapter, tmp_path):
    other = build_classifier(Preset.load(tiny_bert(tmp_path / "other", seed=5)), num_classes=2, pooling="cls")
    with pytest.raises(AdapterError, match=r"was trained on another checkpoint: the weights under it had"):
        load_adapter(other, adapter)
    assert not adapted_layers(other)
    (adapter / "base.json").write_text("{")
    with pytest.raises(AdapterError, match=r"base\.json` is damaged"):
        load_adapter(other, adapter)
    (adapter / "base.json").unlink()
    assert load_adapter(other, adapter)


def test_an_adapter_of_another_model_is_refused(adapter, tmp_path, reference):
    model = build_with_head(Preset.load(reference("bert")[0]))
    with pytest.raises(AdapterError, match="It belongs to another model"):
        load_adapter(model, adapter)
    assert not adapted_layers(model)
