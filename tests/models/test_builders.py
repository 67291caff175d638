"""From a preset to a classifier, to files, and back."""

import json
import logging
import warnings

import keras
import numpy as np
import pytest
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from kerasllm.errors import ConfigError, PresetError
from kerasllm.models.builders import (
    build_classifier,
    build_trained_classifier,
    build_with_head,
    load_classifier,
    save_weights,
    with_dtype_policy,
)
from kerasllm.models.presets import Preset
from kerasllm.testing import tiny_bert, tiny_reviews

# Each trained once; the mean is a sum over tokens first, which is where float16 would overflow.
TRAINED = [
    ("float32", "cls"),
    ("mixed_bfloat16", "cls"),
    ("mixed_float16", "cls"),
    ("mixed_float16", "mean"),
]


@pytest.fixture(scope="session")
def preset(tmp_path_factory):
    return Preset.load(tiny_bert(tmp_path_factory.mktemp("one_layer"), num_layers=1))


@pytest.fixture(scope="session")
def reviews(tiny_path):
    tokenizer = Tokenizer.from_file(str(tiny_path / "tokenizer.json"))
    tokenizer.enable_padding()
    records = tiny_reviews(128)
    encoded = tokenizer.encode_batch([record["text"] for record in records])
    inputs = {
        "token_ids": np.array([e.ids for e in encoded], np.int32),
        "padding_mask": np.array([e.attention_mask for e in encoded], np.int32),
        "segment_ids": np.array([e.type_ids for e in encoded], np.int32),
    }
    return inputs, np.array([record["label"] == "positive" for record in records], np.int32)


@pytest.fixture(scope="session")
def trained(preset, reviews):
    """Trains once for each precision and pooling; the models are not to be changed."""
    models = {}

    def train(policy, pooling):
        if (policy, pooling) not in models:
            keras.utils.set_random_seed(0)
            model = build_classifier(
                preset, num_classes=2, pooling=pooling, dtype_policy=policy, labels=["bad", "good"]
            )
            loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
            model.compile(keras.optimizers.AdamW(5e-3), loss)
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # e.g. a variable without a gradient
                model.fit(*reviews, batch_size=16, epochs=6, verbose=0)
            models[policy, pooling] = model
        return models[policy, pooling]

    return train


def test_inputs_and_outputs_have_the_names_and_types_of_the_contract(preset):
    model = build_classifier(preset, num_classes=5, dtype_policy="mixed_float16")
    assert {name: tensor.dtype for name, tensor in model.input.items()} == dict.fromkeys(
        ["token_ids", "padding_mask", "segment_ids"], "int32"
    )
    assert (model.output.shape, model.output.dtype) == ((None, 5), "float32")


@pytest.mark.parametrize(("policy", "pooling"), TRAINED)
def test_it_learns_in_every_precision(trained, reviews, policy, pooling):
    model = trained(policy, pooling)
    losses = model.history.history["loss"]
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0] * 0.9
    assert all(np.isfinite(weight).all() for weight in model.get_weights())
    assert model(reviews[0]).dtype == "float32"


@pytest.mark.parametrize(("policy", "pooling"), TRAINED)
def test_saved_and_loaded_it_answers_the_same_bit_for_bit(trained, reviews, tmp_path, policy, pooling):
    model = trained(policy, pooling)
    save_weights(model, tmp_path)
    again = load_classifier(tmp_path, dtype_policy=policy)
    np.testing.assert_array_equal(again(reviews[0]), model(reviews[0]))
    assert (again.labels, again.pooling) == (("bad", "good"), pooling)
    assert again.problem_type == "single_label_classification"


@pytest.mark.parametrize(("policy", "pooling"), [TRAINED[0], TRAINED[-1]])
def test_the_same_weights_give_the_same_bytes(trained, tmp_path, policy, pooling):
    model = trained(policy, pooling)
    for name in ("first", "second", "third"):
        (tmp_path / name).mkdir()
    save_weights(model, tmp_path / "first")
    save_weights(model, tmp_path / "second")
    save_weights(load_classifier(tmp_path / "first"), tmp_path / "third")
    for file in ("config.json", "model.safetensors"):
        first, second, third = (
            (tmp_path / name / file).read_bytes() for name in ("first", "second", "third")
        )
        assert first == second == third


def test_saved_files_have_hugging_face_names(preset, tmp_path):
    model = build_classifier(
        preset, num_classes=2, labels=["ja", "nein"], problem_type="multi_label_classification", dropout=0.25
    )
    save_weights(model, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["architectures"] == ["BertForSequenceClassification"]
    assert config["id2label"] == {"0": "ja", "1": "nein"}
    assert config["label2id"] == {"ja": 0, "nein": 1}
    assert config["problem_type"] == "multi_label_classification"
    assert (config["hidden_dropout_prob"], config["classifier_dropout"]) == (0.25, 0.25)
    names = set(load_file(tmp_path / "model.safetensors"))
    assert {"classifier.weight", "classifier.bias"} == {
        name for name in names if not name.startswith("bert.")
    }
    assert "bert.pooler.dense.weight" in names


def test_a_mean_pooled_head_has_a_name_of_its_own(preset, tmp_path, caplog):
    save_weights(build_classifier(preset, num_classes=2, pooling="mean"), tmp_path)
    names = set(load_file(tmp_path / "model.safetensors"))
    assert {"mean_pooled_classifier.weight", "embeddings.LayerNorm.bias"} < names
    assert not any("pooler" in name for name in names)
    assert json.loads((tmp_path / "config.json").read_text())["architectures"] == ["BertModel"]
    with caplog.at_level(logging.INFO, logger="kerasllm"):
        assert load_classifier(tmp_path).labels == ("LABEL_0", "LABEL_1")
    assert caplog.text == ""


def test_a_trained_head_is_loaded_with_its_labels(tiny_classifier_path, batch):
    preset = Preset.load(tiny_classifier_path)
    model = build_trained_classifier(preset)
    assert model.labels == ("bad", "fair", "good")
    np.testing.assert_array_equal(model(batch), preset.logits(**batch))
    np.testing.assert_array_equal(load_classifier(tiny_classifier_path)(batch), preset.logits(**batch))


def test_a_bare_encoder_is_not_a_classifier(preset, tiny_path):
    with pytest.raises(
        PresetError, match=r"has no trained classification head \(its `architectures`: \['BertModel'\]"
    ):
        build_trained_classifier(preset)
    with pytest.raises(PresetError, match=r"has no trained head. Its `architectures`"):
        build_with_head(preset)


def test_auto_pooling_is_the_checkpoints(preset, tmp_path, caplog):
    assert build_classifier(preset, num_classes=2).pooling == "cls"
    bare = Preset.load(tiny_bert(tmp_path, pooler=False))
    assert build_classifier(bare, num_classes=2).pooling == "mean"
    assert build_classifier(bare, num_classes=2, pooling="cls").pooling == "cls"
    assert "has no trained pooler, so `pooling='cls'` starts from a new one" in caplog.text


def test_a_new_head_and_pooler_have_the_checkpoints_deviation(tmp_path):
    bare = Preset.load(tiny_bert(tmp_path, pooler=False, hidden_dim=64, initializer_range=0.5))
    model = build_classifier(bare, num_classes=200, pooling="cls")
    deviation = 0.5 * 0.88  # of a normal distribution cut at two deviations
    assert np.std(model.head.output_dense.kernel) == pytest.approx(deviation, rel=0.05)
    assert np.std(model.backbone.get_layer("pooler").kernel) == pytest.approx(deviation, rel=0.05)
    assert not np.any(model.head.output_dense.bias)


def test_the_same_seed_builds_the_same_model(preset):
    kernels = []
    for seed in (1, 1, 2):
        keras.utils.set_random_seed(seed)
        kernels.append(np.asarray(build_classifier(preset, num_classes=2).head.output_dense.kernel))
    np.testing.assert_array_equal(kernels[0], kernels[1])
    assert np.abs(kernels[0] - kernels[2]).max() > 0


def test_training_leaves_the_preset_alone(preset, trained, batch):
    model = trained("float32", "cls")
    assert (
        np.abs(np.asarray(model.backbone(batch)["sequence_output"]) - preset.hidden_states(**batch)).max()
        > 1e-3
    )
    fresh = Preset.load(preset.path)
    np.testing.assert_array_equal(preset.hidden_states(**batch), fresh.hidden_states(**batch))


@pytest.mark.parametrize("rate", [0.0, 0.4])
def test_dropout_is_set_everywhere(preset, rate, batch):
    model = build_classifier(preset, num_classes=2, dropout=rate)
    found = {layer.rate for layer in model._flatten_layers() if isinstance(layer, keras.layers.Dropout)}
    assert found == {rate}
    again, other = (np.asarray(model(batch, training=True)) for _ in range(2))
    assert (np.abs(again - other).max() > 1e-5) == (rate > 0)


def test_dropout_is_the_checkpoints_unless_given(changed):
    path = changed(
        config={"hidden_dropout_prob": 0.2, "attention_probs_dropout_prob": 0.05, "classifier_dropout": 0.3}
    )
    model = build_classifier(Preset.load(path), num_classes=2)
    layers = [layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.Dropout)]
    assert sorted({layer.rate for layer in layers}) == [0.05, 0.2, 0.3]
    assert model.head.dropout.rate == 0.3


@pytest.mark.parametrize(("policy", "pooling"), TRAINED[1:])
def test_a_copy_in_float32_has_the_trained_weights(trained, reviews, tmp_path, policy, pooling):
    mixed = trained(policy, pooling)
    plain = with_dtype_policy(mixed, "float32")
    for ours, theirs in zip(plain.get_weights(), mixed.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert plain.backbone.compute_dtype == "float32"
    assert mixed.backbone.compute_dtype == policy.removeprefix("mixed_")
    assert (plain.labels, plain.checkpoint_config) == (mixed.labels, mixed.checkpoint_config)
    np.testing.assert_allclose(plain(reviews[0]), mixed(reviews[0]), atol=0.05)
    save_weights(mixed, tmp_path)
    np.testing.assert_array_equal(load_classifier(tmp_path)(reviews[0]), plain(reviews[0]))


def test_saved_as_keras_it_answers_the_same(preset, batch, tmp_path):
    model = build_classifier(preset, num_classes=3, pooling="mean", labels=["a", "b", "c"])
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again(batch), model(batch))
    assert again.labels == ("a", "b", "c")


def test_padding_and_batching_change_no_answer(tiny_classifier_path, batch):
    model = build_trained_classifier(Preset.load(tiny_classifier_path))
    together = np.asarray(model(batch))
    for row, length in enumerate(batch["padding_mask"].sum(axis=1)):
        alone = model({name: values[row : row + 1, :length] for name, values in batch.items()})
        np.testing.assert_allclose(alone, together[row : row + 1], atol=1e-5)


def test_every_wrong_argument_is_named_at_once(preset):
    expected = (
        r"`num_classes` is 0, but must be a positive integer; `pooling` is 'men', but must be one of 'auto', "
        r"'cls', 'mean' \(did you mean 'mean'\?\); `problem_type` is 'multi_label'.*"
        r"'multi_label_classification'.*; `dropout` is 1.0, but must be from 0 to below 1; "
        r"`labels` has 1 different names for 0 classes"
    )
    with pytest.raises(ConfigError, match=expected):
        build_classifier(
            preset, num_classes=0, pooling="men", dropout=1.0, labels=["a", "a"], problem_type="multi_label"
        )
