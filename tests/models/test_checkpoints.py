"""Weights are read from safetensors alone, and damage is named."""

import json
import pickle

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from kerasllm.errors import PresetError
from kerasllm.models.checkpoints import Checkpoint


@pytest.fixture
def sharded(tmp_path, tiny_path):
    tensors = load_file(tiny_path / "model.safetensors")
    names = sorted(tensors)
    files = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for file, part in files.items():
        save_file({name: tensors[name] for name in part}, tmp_path / file)
    weight_map = {name: file for file, part in files.items() for name in part}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return tmp_path


def edit_index(directory, change):
    index = directory / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    change(content["weight_map"])
    index.write_text(json.dumps(content))


def test_shards_are_one_checkpoint(sharded, tiny_path):
    whole, parts = Checkpoint(tiny_path), Checkpoint(sharded)
    assert set(whole.tensors) == set(parts.tensors)
    for name in whole.tensors:
        np.testing.assert_array_equal(whole.read(name), parts.read(name))


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64])
def test_every_float_type_becomes_float32(tmp_path, dtype):
    values = np.array([[1.5, -2.25], [0.0, 3.0]], dtype)
    save_file({"a": values}, tmp_path / "model.safetensors")
    read = Checkpoint(tmp_path).read("a")
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, values.astype(np.float32))


def test_quantized_values_are_refused(tmp_path):
    save_file({"a": np.ones(2, np.int8)}, tmp_path / "model.safetensors")
    with pytest.raises(
        PresetError, match=r"stores `a` as I8, but weights are read from BF16, F16, F32, F64 only"
    ):
        Checkpoint(tmp_path).read("a")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(tmp_path, value):
    save_file({"a": np.array([1.0, value], np.float32)}, tmp_path / "model.safetensors")
    with pytest.raises(
        PresetError, match=r"`a` in `.*` has values that are NaN or infinite.*earlier checkpoint"
    ):
        Checkpoint(tmp_path).read("a")


@pytest.mark.parametrize("keep", [0, 4, 60, 3000, -1])
def test_a_file_cut_short_is_named(tmp_path, tiny_path, keep):
    content = (tiny_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(content[:keep])
    with pytest.raises(PresetError, match=r"model.safetensors` is damaged or cut short .*fetch it again"):
        Checkpoint(tmp_path)


def test_a_header_of_nonsense_is_named(tmp_path, tiny_path):
    content = bytearray((tiny_path / "model.safetensors").read_bytes())
    content[8:40] = b"\xff" * 32
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(PresetError, match="is damaged or cut short"):
        Checkpoint(tmp_path)


def test_only_a_pickle_is_refused_unopened(tmp_path):
    """Row X3."""

    class Bomb:
        def __reduce__(self):
            return (tmp_path.joinpath("exploded").touch, ())

    (tmp_path / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(
        PresetError, match=r"only `pytorch_model.bin`. Pickled weights can run code.*save_pretrained"
    ):
        Checkpoint(tmp_path)
    assert not (tmp_path / "exploded").exists()


def test_a_pickle_beside_safetensors_is_ignored(tmp_path):
    save_file({"a": np.ones(2, np.float32)}, tmp_path / "model.safetensors")
    (tmp_path / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'touch exploded'\ntR.")
    assert list(Checkpoint(tmp_path).tensors) == ["a"]


def test_other_formats_are_listed(tmp_path):
    (tmp_path / "tf_model.h5").touch()
    with pytest.raises(PresetError, match=r"only `tf_model.h5`. Save the checkpoint as safetensors"):
        Checkpoint(tmp_path)


def test_no_weights_at_all(tmp_path):
    with pytest.raises(PresetError, match=r"has no `model.safetensors`.*nor any other weights. Check"):
        Checkpoint(tmp_path)


def test_a_missing_shard_is_named(sharded):
    (sharded / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(
        PresetError, match=r"names the shard `model-00002-of-00002.safetensors`, which is not in"
    ):
        Checkpoint(sharded)


@pytest.mark.parametrize("shard", ["../secret.safetensors", "/etc/passwd", "..", 7])
def test_a_shard_elsewhere_is_refused(sharded, shard):
    """Row X6."""
    edit_index(sharded, lambda weight_map: weight_map.update(dict.fromkeys(weight_map, shard)))
    with pytest.raises(PresetError, match=r"names the shard .*, but shards must be files beside the index"):
        Checkpoint(sharded)


def test_an_index_that_promises_more_than_its_shards_hold(sharded):
    edit_index(sharded, lambda weight_map: weight_map.update(extra="model-00001-of-00002.safetensors"))
    with pytest.raises(
        PresetError, match=r"names tensors that its shards do not hold: `extra`.*different versions"
    ):
        Checkpoint(sharded)


@pytest.mark.parametrize("content", ["{", "[]", '{"weight_map": 3}', "{}"])
def test_a_damaged_index_is_named(tmp_path, content):
    (tmp_path / "model.safetensors.index.json").write_text(content)
    with pytest.raises(
        PresetError, match=r"index.json` is damaged: expected a JSON object with a `weight_map`"
    ):
        Checkpoint(tmp_path)
