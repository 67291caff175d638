"""`pytorch_model.bin` is read without running what is in it, or the remedy is said."""

import json
import pickle
import shutil
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file

from kerasllm.errors import PresetError
from kerasllm.models.presets import Preset


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="PyTorch reads these files")


@pytest.fixture
def pickled(torch, tiny_path, tmp_path):
    """The tiny checkpoint with its weights pickled, in one file or two."""

    def write(*, shards=1, change=lambda state: state):
        path = tmp_path / "pickled"
        shutil.copytree(tiny_path, path)
        tensors = load_file(path / "model.safetensors")
        (path / "model.safetensors").unlink()
        state = change({name: torch.tensor(values) for name, values in tensors.items()})
        if shards == 1:
            torch.save(state, path / "pytorch_model.bin")
            return path
        weight_map = {}
        for number in range(shards):
            part = dict(list(state.items())[number::shards])
            torch.save(part, path / f"pytorch_model-{number}.bin")
            weight_map |= dict.fromkeys(part, f"pytorch_model-{number}.bin")
        (path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": weight_map}))
        return path

    return write


@pytest.mark.parametrize("shards", [1, 2])
def test_same_numbers_as_from_safetensors(pickled, shards, tiny_path, batch):
    found = Preset.load(pickled(shards=shards)).hidden_states(**batch)
    np.testing.assert_array_equal(found, Preset.load(tiny_path).hidden_states(**batch))


def test_half_precision_is_read(pickled, torch, tiny_path, batch):
    path = pickled(change=lambda state: {name: value.to(torch.bfloat16) for name, value in state.items()})
    np.testing.assert_allclose(
        Preset.load(path).hidden_states(**batch), Preset.load(tiny_path).hidden_states(**batch), atol=0.1
    )


def test_code_in_it_is_not_run(pickled, tmp_path):
    """Row X3."""

    class Bomb:
        def __reduce__(self):
            return (tmp_path.joinpath("exploded").touch, ())

    path = pickled()
    (path / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(PresetError, match=r"holds more than tensors, or is damaged.*save_pretrained"):
        Preset.load(path)
    assert not (tmp_path / "exploded").exists()


def test_cut_short_it_is_refused(pickled):
    path = pickled()
    weights = path / "pytorch_model.bin"
    weights.write_bytes(weights.read_bytes()[:-300])
    with pytest.raises(PresetError, match=r"pytorch_model.bin` holds more than tensors, or is damaged"):
        Preset.load(path)


def test_a_missing_shard_is_named(pickled):
    path = pickled(shards=2)
    (path / "pytorch_model-1.bin").unlink()
    with pytest.raises(PresetError, match=r"names the shard 'pytorch_model-1.bin', which is not beside it"):
        Preset.load(path)


def test_without_pytorch_the_remedy_is_said(pickled, monkeypatch):
    path = pickled()
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(PresetError, match=r"PyTorch is not installed. Convert it to safetensors where"):
        Preset.load(path)


def test_values_that_are_not_finite_are_named(pickled):
    def poison(state):
        state["pooler.dense.bias"][3] = float("nan")
        return state

    with pytest.raises(PresetError, match=r"`pooler.dense.bias` in .* NaN or infinite"):
        _ = Preset.load(pickled(change=poison)).backbone
