"""Files that were made to do harm when they are loaded (rows X1 and X2): none is obeyed."""

import json
import shutil
import sys
import zipfile

import h5py
import keras_hub
import numpy as np
import pytest

import kerasllm
from kerasllm.errors import PresetError
from kerasllm.models.presets import Preset

# Layers that have run code, read files or reached the network in some version of Keras.
LAYERS = {
    "lambda": {
        "module": "keras.layers",
        "class_name": "Lambda",
        "config": {"function": {"class_name": "__lambda__", "config": {"code": "4wAAAAA="}}},
    },
    "os.system": {"module": "os", "class_name": "function", "config": "system", "registered_name": "system"},
    "get_file": {
        "module": "keras.utils",
        "class_name": "function",
        "config": "get_file",
        "registered_name": "get_file",
    },
    "unsafe": {
        "module": "keras.config",
        "class_name": "function",
        "config": "enable_unsafe_deserialization",
    },
    "vocabulary": {
        "module": "keras.layers",
        "class_name": "StringLookup",
        "config": {"vocabulary": "/etc/passwd"},
    },
    "saved model": {
        "module": "keras.layers",
        "class_name": "TFSMLayer",
        "config": {"filepath": "/tmp/model"},
    },
}


def write_keras_model(path, layer):
    """Writes what `model.save` would, with one layer."""
    config = {
        "module": "keras",
        "class_name": "Sequential",
        "config": {"layers": [layer]},
        "registered_name": None,
    }
    if path.suffix == ".keras":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("config.json", json.dumps(config))
            archive.writestr("metadata.json", '{"keras_version": "3.15.1"}')
    else:
        with h5py.File(path, "w") as file:
            file.attrs["model_config"] = json.dumps(config)
            file.create_group("model_weights")


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_keras_model_in_one_file_is_never_opened(tmp_path, suffix, layer):
    """Row X1."""
    path = tmp_path / f"model{suffix}"
    write_keras_model(path, LAYERS[layer])
    message = (
        rf"model{suffix}` is a Keras model in one file. Such files can run code when they are loaded, so "
        r"they are never opened; a preset is a directory with .* Give the checkpoint that it"
    )
    for use in (Preset.load, kerasllm.load):
        with pytest.raises(PresetError, match=message):
            use(path)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(PresetError, match=rf"only `model{suffix}`. Save the checkpoint as safetensors"):
        Preset.load(tmp_path)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A sound preset in KerasHub's format."""
    path = tmp_path_factory.mktemp("keras_hub")
    backbone = keras_hub.models.BertBackbone(
        vocabulary_size=16,
        num_layers=1,
        num_heads=2,
        hidden_dim=4,
        intermediate_dim=8,
        max_sequence_length=12,
    )
    backbone.save_to_preset(str(path))
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{number}" for number in range(11))]
    keras_hub.models.BertTokenizer(words, lowercase=True).save_to_preset(str(path))
    return path


@pytest.fixture
def copied(written, tmp_path):
    return shutil.copytree(written, tmp_path / "preset")


def answer(path):
    inputs = np.ones((1, 3), np.int32)
    return Preset.load(path).hidden_states(inputs, inputs)


KERNEL = "layers/dense/vars/0"


def external_storage(file, folder):
    (folder / "secret").write_bytes(bytes(64))
    file.create_dataset(KERNEL, (4, 4), "f4", external=[(str(folder / "secret"), 0, 64)])


def external_link(file, folder):
    with h5py.File(folder / "other.h5", "w") as other:
        other["kernel"] = np.zeros((4, 4), "f4")
    file[KERNEL] = h5py.ExternalLink(str(folder / "other.h5"), "kernel")


def virtual_dataset(file, folder):
    with h5py.File(folder / "other.h5", "w") as other:
        other["kernel"] = np.zeros((4, 4), "f4")
    layout = h5py.VirtualLayout((4, 4), "f4")
    layout[...] = h5py.VirtualSource(str(folder / "other.h5"), "kernel", (4, 4))
    file.create_virtual_dataset(KERNEL, layout)


def four_tebibytes(file, folder):
    file.create_dataset(KERNEL, (2**20, 2**20), "f4", chunks=(1024, 1024))


def a_bomb(file, folder):
    file.create_dataset(KERNEL, (2**16, 2**16), "f4", chunks=(1024, 1024), compression="gzip")


SIZES = r"model.weights.h5` holds [\d,]{13,} bytes of tensors, but its `config.json` asks for \d+,\d+"
DAMAGED = r"model.weights.h5` is damaged, cut short or of another model"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (external_storage, DAMAGED),
        (external_link, DAMAGED),
        (virtual_dataset, DAMAGED),
        (four_tebibytes, SIZES),
        (a_bomb, SIZES),
    ],
)
def test_weights_that_lie_elsewhere_or_are_endless_are_refused(copied, tmp_path, change, message):
    """Row X1."""
    with h5py.File(copied / "model.weights.h5", "a") as file:
        del file[KERNEL]
        change(file, tmp_path)
    with pytest.raises(PresetError, match=message):
        answer(copied)


def edit(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"module": "os", "class_name": "function", "config": "system", "registered_name": "system"},
            r"has no `model_type`",
        ),
        (
            {"module": "evil", "class_name": "Backbone", "registered_name": "evil>Backbone"},
            r"has no `model_type`",
        ),
        ({"registered_name": "keras_hub>Evil"}, r"is KerasHub's `Evil`, which is not supported"),
        ({"config": ["os", "system"]}, r"lacks the setting .* of `BertBackbone`: fetch the preset again"),
    ],
)
def test_a_preset_of_a_foreign_class_is_refused(copied, changes, message):
    """Row X2."""
    edit(copied / "config.json", **changes)
    with pytest.raises(PresetError, match=message):
        Preset.load(copied)


def test_foreign_modules_activations_and_vocabularies_are_not_looked_up(
    copied, written, tmp_path, monkeypatch
):
    """Row X2: of a preset's JSON only sizes and `lowercase` are read."""
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'exploded')!r}, 'w')\n")
    monkeypatch.syspath_prepend(tmp_path)
    foreign = {"module": "evil", "class_name": "Evil"}
    settings = json.loads((copied / "config.json").read_text())["config"]
    edit(copied / "config.json", **foreign, config={**settings, "activation": "os.system", "module": "evil"})
    for name in ("task.json", "preprocessor.json"):
        (copied / name).write_text(json.dumps({**foreign, "registered_name": "evil>Evil", "config": {}}))
    edit(copied / "tokenizer.json", **foreign, config={"vocabulary": "/etc/passwd", "lowercase": True})
    np.testing.assert_array_equal(answer(copied), answer(written))
    assert Preset.load(copied).tokenizer.encode(["w1 W2"]) == [[2, 6, 7, 3]]
    edit(copied / "tokenizer.json", config=["os", "system"])
    assert Preset.load(copied).tokenizer.encode(["w1"]) == [[2, 6, 3]]
    assert "evil" not in sys.modules
    assert not (tmp_path / "exploded").exists()
