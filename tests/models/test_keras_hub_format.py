"""Presets in KerasHub's own format compute what KerasHub computes from them."""

import json
import shutil

import keras_hub
import numpy as np
import pytest

from kerasllm.errors import PresetError
from kerasllm.models.builders import build_classifier, load_classifier, save_weights
from kerasllm.models.presets import Preset

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "film", "##s", "cafe", "."]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    path = tmp_path_factory.mktemp("keras_hub")
    backbone = keras_hub.models.BertBackbone(
        vocabulary_size=60,
        num_layers=2,
        num_heads=2,
        hidden_dim=8,
        intermediate_dim=24,
        max_sequence_length=12,
        dropout=0.2,
    )
    random = np.random.default_rng(0)
    backbone.set_weights([random.standard_normal(weight.shape) for weight in backbone.get_weights()])
    backbone.save_to_preset(str(path))
    vocabulary = WORDS + [f"w{i}" for i in range(len(WORDS), 60)]
    keras_hub.models.BertTokenizer(vocabulary, lowercase=True).save_to_preset(str(path))
    return path, backbone


@pytest.fixture
def copied(written, tmp_path):
    return shutil.copytree(written[0], tmp_path / "copy")


def test_same_numbers_as_keras_hub(written, batch):
    path, backbone = written
    preset = Preset.load(path)
    expected = backbone(batch)
    np.testing.assert_allclose(preset.hidden_states(**batch), expected["sequence_output"], atol=1e-5)
    np.testing.assert_allclose(preset.backbone(batch)["pooled_output"], expected["pooled_output"], atol=1e-5)
    assert (preset.unused_tensors, preset.missing_tensors) == ((), ())
    assert preset.config["hidden_dropout_prob"] == 0.2
    assert preset.max_sequence_length == 12


def test_it_is_tokenized_as_in_bert(written):
    tokenizer = Preset.load(written[0]).tokenizer
    assert tokenizer.encode(["The films. Café"]) == [[2, 5, 6, 7, 9, 8, 3]]


def test_a_classifier_on_it_is_saved_in_hugging_face_format(written, batch, tmp_path):
    model = build_classifier(Preset.load(written[0]), num_classes=2)
    save_weights(model, tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["hidden_act"] == "gelu_new"
    np.testing.assert_array_equal(load_classifier(tmp_path)(batch), model(batch))


def edit(path, change):
    content = json.loads((path / "config.json").read_text())
    change(content)
    (path / "config.json").write_text(json.dumps(content))


def test_another_class_is_refused(copied):
    edit(copied, lambda content: content.update(registered_name="keras_hub>WhisperBackbone"))
    with pytest.raises(
        PresetError, match=r"is KerasHub's `WhisperBackbone`, which is not supported. Supported: AlbertB"
    ):
        Preset.load(copied)


def test_a_missing_setting_is_named(copied):
    edit(copied, lambda content: content["config"].pop("num_heads"))
    with pytest.raises(PresetError, match=r"lacks the setting 'num_heads' of `BertBackbone`: fetch"):
        Preset.load(copied)


def test_an_activation_smuggled_in_is_ignored(copied, batch, written):
    """KerasHub's configs name Python functions; nothing of ours looks them up."""
    edit(copied, lambda content: content["config"].update(activation="os.system", module="os"))
    expected = Preset.load(written[0]).hidden_states(**batch)
    np.testing.assert_array_equal(Preset.load(copied).hidden_states(**batch), expected)


@pytest.mark.parametrize("keep", [0, 1000, -100])
def test_weights_cut_short_are_named(copied, keep, batch):
    weights = copied / "model.weights.h5"
    weights.write_bytes(weights.read_bytes()[:keep])
    with pytest.raises(PresetError, match=r"model.weights.h5` is damaged, cut short or of another model"):
        Preset.load(copied).hidden_states(**batch)


def test_weights_of_another_shape_are_named(copied, batch):
    edit(copied, lambda content: content["config"].update(intermediate_dim=16))
    with pytest.raises(PresetError, match=r"damaged, cut short or of another model"):
        Preset.load(copied).hidden_states(**batch)


def test_missing_files_are_named(copied):
    preset = Preset.load(copied)
    shutil.rmtree(copied / "assets")
    with pytest.raises(PresetError, match=r"has no `assets/tokenizer/vocabulary.txt`"):
        _ = preset.tokenizer
    (copied / "model.weights.h5").unlink()
    with pytest.raises(PresetError, match=r"has no `model.weights.h5`. Check that the download is complete"):
        Preset.load(copied)
