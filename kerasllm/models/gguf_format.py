"""Reads GGUF files, llama.cpp's format: config, weights and tokenizer in one file.

Everything is turned into what the Hugging Face checkpoint of the same model has, so that the rest knows one
format. Weights that are stored in fewer bits become the float32 numbers that they stand for. The format and
the formulas of its types are those of the `gguf` package, which llama.cpp's authors publish; names and
metadata keys are listed in https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
"""

import functools
import math
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from kerasllm.errors import PresetError
from kerasllm.models.checkpoints import StoredTensor

if TYPE_CHECKING:
    from kerasllm.tokenization import Tokenizer

__all__ = ["TYPES", "GGUFCheckpoint", "is_gguf"]

# The types whose numbers are read.
TYPES = ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q4_K", "Q5_K", "Q6_K")
_ARCHITECTURES = {
    "llama": {"model_type": "llama", "architectures": ["LlamaForCausalLM"]},
    "qwen2": {"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"]},
}
_NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
# Divisors of the rotary frequencies, which llama.cpp computes from Llama 3's scaling when it writes the file.
_FREQUENCIES = "rope_freqs.weight"


def is_gguf(path: Path) -> bool:
    """Whether a file is a GGUF file, by its name or by how it begins."""
    if not path.is_file():
        return False
    if path.suffix.lower() == ".gguf":
        return True
    with path.open("rb") as file:
        return file.read(4) == b"GGUF"


class GGUFCheckpoint:
    """A GGUF file of the Llama or Qwen 2 architecture.

    Args:
        path: The file.

    Attributes:
        config: The `config.json` of the same model in Hugging Face format.
        tensors: Read-only mapping from a tensor's name in that format to its `StoredTensor`.

    Raises:
        PresetError: If the `gguf` package is missing, the file is damaged, or its architecture or the type
            of a tensor is not supported.
    """

    def __init__(self, path: Path):
        self._path = path
        reader = _open(path)
        self._values: dict[str, Any] = {name: field.contents() for name, field in reader.fields.items()}
        stored = {tensor.name: tensor for tensor in reader.tensors}
        self._check_types(stored)
        self.config = self._config(stored)
        self._stored = {self._name(name): tensor for name, tensor in stored.items() if name != _FREQUENCIES}
        self.tensors: Mapping[str, StoredTensor] = MappingProxyType(
            {
                name: StoredTensor(
                    path, tuple(int(size) for size in reversed(tensor.shape)), tensor.tensor_type.name
                )
                for name, tensor in self._stored.items()
            }
        )

    def prepare(self) -> None:
        """Nothing: tensors are read one by one."""

    def read(self, name: str) -> np.ndarray:
        """Reads one tensor as float32, and undoes llama.cpp's order of the rows of queries and keys."""
        tensor = self._stored[name]
        values = _dequantize(tensor, self._path).reshape(self.tensors[name].shape)
        if not np.isfinite(values).all():
            raise PresetError(
                f"`{name}` in `{self._path}` has values that are NaN or infinite. Fetch the file again."
            )
        if self.config["model_type"] == "llama":
            if ".q_proj." in name:
                return _unpermuted(values, self.config["num_attention_heads"])
            if ".k_proj." in name:
                return _unpermuted(values, self.config["num_key_value_heads"])
        return values

    @property
    def licence(self) -> str | None:
        """The licence that the file states, or `None`."""
        stated = self._values.get("general.license")
        return None if stated is None else str(stated)

    @functools.cached_property
    def tokenizer(self) -> "Tokenizer":
        """The tokenizer that is in the file, with its chat template."""
        from kerasllm.tokenization import Tokenizer
        from kerasllm.tokenization.gguf import tokenizer_files

        specification, settings = tokenizer_files(self._values, source=str(self._path))
        return Tokenizer(specification, settings)

    def _name(self, name: str) -> str:
        block = re.fullmatch(r"blk\.(\d+)\.(\w+)\.(weight|bias)", name)
        if block and block[2] in _NAMES:
            return f"model.layers.{block[1]}.{_NAMES[block[2]]}.{block[3]}"
        stem, _, kind = name.rpartition(".")
        return f"{_NAMES[stem]}.{kind}" if stem in _NAMES else name

    def _check_types(self, stored: Mapping[str, Any]) -> None:
        strange: dict[str, str] = {
            tensor.tensor_type.name: name
            for name, tensor in stored.items()
            if tensor.tensor_type.name not in TYPES
        }
        if strange:
            found = ", ".join(f"{kind} (e.g. `{name}`)" for kind, name in sorted(strange.items()))
            raise PresetError(
                f"`{self._path}` stores tensors as {found}, but only {', '.join(TYPES)} can be read. Take a "
                "file of one of these types; most models have one in Q8_0 or F16."
            )

    def _config(self, stored: Mapping[str, Any]) -> dict[str, Any]:
        name = self._values.get("general.architecture")
        if name not in _ARCHITECTURES:
            raise PresetError(
                f"`{self._path}` is of the architecture {name!r}, but GGUF files are read for "
                f"{' and '.join(sorted(_ARCHITECTURES))} only. Take the model's safetensors instead."
            )
        value = functools.partial(self._setting, name)
        heads, dim = value("attention.head_count"), value("embedding_length")
        config = {
            **_ARCHITECTURES[name],
            "hidden_size": dim,
            "intermediate_size": value("feed_forward_length"),
            "num_hidden_layers": value("block_count"),
            "num_attention_heads": heads,
            "num_key_value_heads": value("attention.head_count_kv", heads),
            "max_position_embeddings": value("context_length"),
            "rms_norm_eps": _short(value("attention.layer_norm_rms_epsilon")),
            "rope_theta": value("rope.freq_base", 10000.0),
            "vocab_size": int(stored["token_embd.weight"].shape[-1]) if "token_embd.weight" in stored else 0,
            "tie_word_embeddings": "output.weight" not in stored,
            "hidden_act": "silu",
            "bos_token_id": self._values.get("tokenizer.ggml.bos_token_id"),
            "eos_token_id": self._values.get("tokenizer.ggml.eos_token_id"),
            "pad_token_id": self._values.get("tokenizer.ggml.padding_token_id"),
        }
        width = value("attention.key_length", None)
        if width is not None and heads and width != dim // heads:
            config["head_dim"] = width
        if name == "llama" and "blk.0.attn_q.bias" in stored:
            config["attention_bias"] = True
        return {**config, **self._rope_scaling(value, stored, config)}

    def _setting(self, architecture: str, key: str, *default: Any) -> Any:
        name = f"{architecture}.{key}"
        if name not in self._values:
            if default:
                return default[0]
            raise PresetError(f"`{self._path}` has no `{name}`. The file is incomplete: fetch it again.")
        return self._values[name]

    def _rope_scaling(
        self, value: Any, stored: Mapping[str, Any], config: Mapping[str, Any]
    ) -> dict[str, Any]:
        if _FREQUENCIES in stored:
            factors = [float(x) for x in _dequantize(stored[_FREQUENCIES], self._path).reshape(-1)]
            original = config["max_position_embeddings"]
            options = {"short_factor": factors, "long_factor": factors, "attention_factor": 1.0}
            return {
                "rope_scaling": {
                    "rope_type": "longrope",
                    "original_max_position_embeddings": original,
                    **options,
                }
            }
        kind, factor = value("rope.scaling.type", "none"), value("rope.scaling.factor", 1.0)
        if kind == "none" or factor in (0.0, 1.0):
            return {}
        if kind not in ("linear", "yarn"):
            raise PresetError(
                f"`{self._path}` has the rope scaling {kind!r}, but only linear and yarn can be computed."
            )
        scaling = {"rope_type": kind, "factor": factor}
        if kind == "yarn":
            scaling["original_max_position_embeddings"] = value("rope.scaling.original_context_length")
        return {"rope_scaling": scaling}


def _open(path: Path) -> Any:
    try:
        import gguf
    except ImportError as error:
        raise PresetError(
            f"`{path}` is a GGUF file, and the `gguf` package that reads it is missing: "
            "`pip install kerasllm[gguf]`."
        ) from error
    try:
        return gguf.GGUFReader(path)
    except (ValueError, IndexError, KeyError, OSError, OverflowError, MemoryError) as error:
        raise PresetError(
            f"`{path}` is damaged or cut short ({error}). Delete it and fetch it again."
        ) from error


def _dequantize(tensor: Any, path: Path) -> np.ndarray:
    from gguf import quants

    try:
        values: np.ndarray = quants.dequantize(tensor.data, tensor.tensor_type)
    except (ValueError, NotImplementedError) as error:
        raise PresetError(
            f"`{tensor.name}` in `{path}` cannot be read ({error}). Fetch the file again."
        ) from error
    return np.asarray(values, np.float32)


def _unpermuted(values: np.ndarray, heads: int) -> np.ndarray:
    """llama.cpp turns pairs of neighbours and not halves, and orders the rows of each head accordingly.

    Source: `LlamaModel.permute` of llama.cpp's `convert_hf_to_gguf.py`, backwards.
    """
    rest = values.shape[1:]
    split = values.reshape(heads, values.shape[0] // heads // 2, 2, *rest)
    return np.ascontiguousarray(split.swapaxes(1, 2).reshape(values.shape))


def _short(value: float) -> float:
    """The number that its author wrote: 1e-05 where float32 kept 9.999999747378752e-06."""
    return float(np.format_float_scientific(np.float32(value))) if math.isfinite(value) else value
