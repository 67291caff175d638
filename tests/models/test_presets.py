"""A preset says what it has, and refuses what cannot be computed exactly."""

import json
import logging
import shutil
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import save_file

from kerasllm.errors import PresetError
from kerasllm.models.presets import Preset
from kerasllm.testing import tiny_bert


def test_a_bare_encoder(tiny_path):
    preset = Preset.load(tiny_path)
    assert repr(preset) == f"Preset('{tiny_path}', model_type='bert', head=None)"
    assert (preset.head, preset.labels, preset.problem_type, preset.num_classes) == (None, None, None, None)
    assert (preset.unused_tensors, preset.missing_tensors) == ((), ())
    assert preset.max_sequence_length == 64
    assert preset.has_pooler
    assert preset.default_pooling == "cls"


def test_a_trained_classifier(tiny_classifier_path, batch):
    preset = Preset.load(str(tiny_classifier_path))
    assert preset.head == "pooled_classifier"
    assert preset.labels == ("bad", "fair", "good")
    assert preset.problem_type == "single_label_classification"
    assert preset.logits(**batch).shape == (3, 3)
    assert preset.logits(**batch).dtype == np.float32


def test_segments_are_zero_unless_given(tiny_path, batch):
    preset = Preset.load(tiny_path)
    ids, mask = batch["token_ids"], batch["padding_mask"]
    np.testing.assert_array_equal(preset.hidden_states(ids, mask), preset.hidden_states(ids, mask, ids * 0))
    assert np.abs(preset.hidden_states(**batch) - preset.hidden_states(ids, mask)).max() > 1e-3
    assert preset.hidden_states(ids.tolist(), mask.tolist()).shape == (3, 9, 16)


def test_a_config_may_leave_out_what_transformers_fills_in(changed, tiny_path, batch):
    path = changed(
        config={"layer_norm_eps": ..., "hidden_act": ..., "type_vocab_size": ..., "id2label": None}
    )
    preset = Preset.load(path)
    assert preset.config["hidden_act"] == "gelu"
    expected = Preset.load(tiny_path).hidden_states(**batch)
    np.testing.assert_array_equal(preset.hidden_states(**batch), expected)


def test_checking_a_checkpoint_does_not_import_tensorflow(tiny_path):
    code = (
        "import sys; from kerasllm.models.presets import Preset; print(Preset.load(sys.argv[1])); "
        "print([m for m in ('tensorflow', 'keras', 'torch', 'transformers') if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, tiny_path], capture_output=True, text=True, check=True
    )
    assert result.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    "stated", [{"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}, {"pooling_mode": "mean"}]
)
def test_sentence_transformers_say_how_to_pool(changed, stated):
    path = changed()
    (path / "1_Pooling").mkdir()
    (path / "1_Pooling" / "config.json").write_text(json.dumps(stated))
    assert Preset.load(path).default_pooling == "mean"
    (path / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    assert Preset.load(path).default_pooling == "cls"


def test_without_a_pooler_the_mean_is_taken_and_it_is_said(tmp_path, caplog):
    with caplog.at_level(logging.INFO, logger="kerasllm"):
        preset = Preset.load(tiny_bert(tmp_path, pooler=False))
    assert preset.missing_tensors == ("pooler.dense.weight", "pooler.dense.bias")
    assert preset.default_pooling == "mean"
    assert (
        "2 tensors are missing, and would be newly initialised if used: pooler.dense.weight, " in caplog.text
    )


def test_tensors_of_another_head_are_named_once(changed, tiny_classifier_path, caplog):
    """A head for questions has the shape of a sequence classifier's, and must not be taken for one."""
    path = changed(source=tiny_classifier_path, config={"architectures": ["BertForMultipleChoice"]})
    with caplog.at_level(logging.INFO, logger="kerasllm"):
        preset = Preset.load(path)
    assert preset.head is None
    assert preset.unused_tensors == ("classifier.bias", "classifier.weight")
    assert caplog.text.count("2 tensors are not used: classifier.bias, classifier.weight.") == 1
    assert caplog.records[0].levelname == "INFO"


def test_layers_beyond_the_config_are_a_warning(changed, caplog):
    Preset.load(changed(config={"num_hidden_layers": 1}))
    assert caplog.records[0].levelname == "WARNING"
    assert "16 tensors are not used: encoder.layer.1.attention.output.LayerNorm.bias" in caplog.text


def test_an_incomplete_masked_language_head_is_named_not_used(changed):
    def add(tensors):
        tensors["cls.predictions.bias"] = np.zeros(242, np.float32)

    preset = Preset.load(changed(tensors=add))
    assert preset.head is None
    assert preset.unused_tensors == ("cls.predictions.bias",)


def rename(old, new):
    return lambda tensors: {name.replace(old, new): values for name, values in tensors.items()}


def without(*parts):
    return lambda tensors: {n: v for n, v in tensors.items() if not any(part in n for part in parts)}


def duplicate(tensors):
    tensors["bert.pooler.dense.bias"] = tensors["pooler.dense.bias"]


def reshape(tensors):
    tensors["embeddings.word_embeddings.weight"] = np.zeros((100, 16), np.float32)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"tensors": without("layer.1.")},
            r"lacks 16 tensors that its `config.json` asks for: "
            r"`encoder.layer.1.attention.output.LayerNorm.weight`"
            r".* and 11 more. The weights are incomplete",
        ),
        (
            {"tensors": without("pooler.dense.bias")},
            r"lacks 1 tensor that .* asks for: `pooler.dense.bias`\.",
        ),
        ({"tensors": rename("embeddings.", "embedding.")}, r"lacks 5 tensors"),
        (
            {"tensors": duplicate},
            r"stores the same weights twice, as `.*pooler.dense.bias` and as `.*pooler.dense",
        ),
        (
            {"tensors": reshape},
            r"`embeddings.word_embeddings.weight` is \(100, 16\) instead of \(242, 16\)",
        ),
        (
            {"config": {"hidden_size": 32}},
            r"do not have the shapes.*is \(242, 16\) instead of \(242, 32\).*and \d+ more",
        ),
        (
            {"config": {"architectures": ["BertForSequenceClassification"]}},
            r"lacks 2 tensors .*`classifier.weight`, `classifier.bias`.*must not be named in `architectures`",
        ),
    ],
)
def test_tensors_that_do_not_fit_are_refused(changed, change, message):
    with pytest.raises(PresetError, match=message):
        Preset.load(changed(**change))


def test_a_classifier_without_a_pooler_is_refused(changed, tiny_classifier_path):
    path = changed(source=tiny_classifier_path, tensors=without("pooler"))
    with pytest.raises(PresetError, match=r"lacks 2 tensors.*`pooler.dense.weight`, `pooler.dense.bias`"):
        Preset.load(path)


def test_labels_must_fit_the_head(changed, tiny_classifier_path):
    path = changed(source=tiny_classifier_path, config={"id2label": {"0": "bad", "1": "good"}})
    with pytest.raises(PresetError, match=r"must give each of its 3 classes one name"):
        Preset.load(path)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"model_type": "brt"},
            r"of the `model_type` 'brt', which is unknown. Did you mean `bert` or `bart` or `albert`\? "
            r"Supported: albert, bart, bert",
        ),
        (
            {"model_type": "whisper"},
            r"of the `model_type` 'whisper', which is unknown. Supported: albert, bart",
        ),
        ({"model_type": ...}, r"has no `model_type`.*Supported: albert"),
        ({"auto_map": {"AutoModel": "modeling.Model"}}, r"needs code of its own \(`auto_map`.*never runs"),
        (
            {"hidden_act": "gelu_nwe"},
            r"`hidden_act` 'gelu_nwe' is unknown \(did you mean `gelu_new`\?\), known are: gelu",
        ),
        ({"hidden_size": "16"}, r"`hidden_size` is '16', but must be a positive integer"),
        ({"num_attention_heads": 3}, r"`hidden_size` 16 is not a multiple of `num_attention_heads` 3"),
        ({"position_embedding_type": "relative_key"}, r"'relative_key', only 'absolute' works"),
        ({"is_decoder": True}, r"computed as an encoder only"),
        (
            {"hidden_dropout_prob": 1.5},
            r"`hidden_dropout_prob` is 1.5, but must be a number from 0 to below 1",
        ),
        ({"layer_norm_eps": "tiny"}, r"`layer_norm_eps` is 'tiny', but must be a number above 0"),
        ({"num_hidden_layers": 10**12}, r"`num_hidden_layers` is 1000000000000, more than 1000"),
        ({"quantization_config": {"bits": 4}}, r"its weights are quantized"),
        ({"pruned_heads": {"0": [1]}}, r"`pruned_heads` is set"),
        ({"num_hidden_layers": 0, "vocab_size": True}, r"`vocab_size` is True.*; `num_hidden_layers` is 0"),
    ],
)
def test_configs_that_cannot_be_computed_are_refused(changed, config, message):
    with pytest.raises(PresetError, match=message):
        Preset.load(changed(config=config))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot be read as JSON"),
        ("[]", "must hold a JSON object, but holds a list"),
        ("[" * 10**5, "as JSON"),
    ],
)
def test_a_damaged_config_is_named(changed, content, message):
    path = changed()
    (path / "config.json").write_text(content)
    with pytest.raises(PresetError, match=rf"config.json`.*{message}"):
        Preset.load(path)


def test_a_directory_without_config(tmp_path):
    with pytest.raises(
        PresetError, match=r"has no `config.json`. A preset is a directory in Hugging Face format"
    ):
        Preset.load(tmp_path)


def test_a_file_is_not_a_preset(tiny_path):
    with pytest.raises(
        PresetError, match=r"model.safetensors` is a file, but a preset is a directory.*Try `"
    ):
        Preset.load(tiny_path / "model.safetensors")


def test_a_model_in_memory_is_not_yet_a_preset(tiny_path):
    backbone = Preset.load(tiny_path).backbone
    with pytest.raises(
        PresetError,
        match=r"but a TransformerBackbone was given. A Keras model in memory cannot be a preset yet",
    ):
        Preset.load(backbone)


def test_values_damaged_inside_are_noticed(changed):
    def poison(tensors):
        tensors["pooler.dense.bias"][3] = np.nan

    preset = Preset.load(changed(tensors=poison))
    with pytest.raises(PresetError, match=r"`pooler.dense.bias` in .* NaN or infinite"):
        _ = preset.backbone


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (
            {"token_ids": [[1, 2]], "padding_mask": [[1]]},
            r"must have one shape.*\(1, 2\), \(1, 1\), \(1, 2\)",
        ),
        ({"token_ids": [1, 2], "padding_mask": [1, 1]}, r"must have one shape, \(batch, sequence\)"),
        (
            {"token_ids": [[1] * 65], "padding_mask": [[1] * 65]},
            r"are 65 tokens long, but .* has positions for 64",
        ),
        (
            {"token_ids": [[1, 242]], "padding_mask": [[1, 1]]},
            r"`token_ids` go from 1 to 242, but .* for 0 to 241",
        ),
        ({"token_ids": [[-1, 2]], "padding_mask": [[1, 1]]}, r"`token_ids` go from -1 to 2"),
        (
            {"token_ids": [[1, 2]], "padding_mask": [[1, 1]], "segment_ids": [[0, 2]]},
            r"`segment_ids` go from 0 to 2, but .* for 0 to 1",
        ),
    ],
)
def test_inputs_beyond_the_checkpoint_are_refused(tiny_path, inputs, message):
    with pytest.raises(PresetError, match=message):
        Preset.load(tiny_path).hidden_states(**inputs)


def test_a_bare_encoder_has_no_logits(tiny_path, batch):
    with pytest.raises(PresetError, match=r"has no trained head, so it has no logits"):
        Preset.load(tiny_path).logits(**batch)


def test_the_tokenizer_belongs_to_the_checkpoint(tiny_path):
    preset = Preset.load(tiny_path)
    assert preset.tokenizer.vocabulary_size == 242
    assert preset.tokenizer is preset.tokenizer


def test_a_tokenizer_with_more_tokens_than_embeddings_is_refused(tmp_path, tiny_path):
    path = tiny_bert(tmp_path / "small", texts=["one two"])
    shutil.copy(tiny_path / "tokenizer.json", path)
    with pytest.raises(
        PresetError, match=r"has 242 tokens, but the model has only \d+ embeddings. They come from diff"
    ):
        _ = Preset.load(path).tokenizer


def test_pickles_beside_the_weights_are_never_opened(changed):
    path = changed()
    (path / "pytorch_model.bin").write_bytes(b"not even a pickle")
    assert Preset.load(path).head is None
    (path / "model.safetensors").unlink()
    with pytest.raises(PresetError, match=r"holds more than tensors, or is damaged, so it was not loaded"):
        Preset.load(path)


def test_one_stray_tensor_is_counted_in_the_singular(changed, caplog):
    path = changed()
    save_file({"extra": np.zeros(1, np.float32)}, path / "model-extra.safetensors")
    Preset.load(changed(tensors=lambda tensors: tensors | {"extra": np.zeros(1, np.float32)}))
    assert "1 tensor is not used: extra." in caplog.text


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_whatever_bytes_are_damaged_the_answer_is_a_preset_error(changed, tiny_classifier_path, name):
    path = changed(source=tiny_classifier_path)
    content = (path / name).read_bytes()
    end = len(content) if name == "config.json" else 8 + int.from_bytes(content[:8], "little")
    random = np.random.default_rng(0)
    refused = 0
    for _ in range(300):
        damaged = bytearray(content)
        for position in random.integers(0, end, 2):
            damaged[position] = random.choice(list(b'0189"{}[],:x\xff'))
        (path / name).write_bytes(damaged)
        try:
            Preset(str(path), path)
        except PresetError:
            refused += 1
    assert refused > 150
