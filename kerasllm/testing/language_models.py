"""Causal language models with random weights, laid out as on the Hugging Face hub."""

import json
from collections.abc import Iterable
from pathlib import Path

from kerasllm.testing.checkpoints import write_weights
from kerasllm.testing.records import all_texts

__all__ = ["tiny_llama"]

_SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")


def tiny_llama(
    directory: str | Path,
    *,
    texts: Iterable[str] | None = None,
    num_layers: int = 2,
    hidden_dim: int = 16,
    num_heads: int = 4,
    num_key_value_heads: int = 2,
    max_sequence_length: int = 128,
    vocabulary_size: int = 400,
    chat_template: str | None = None,
    initializer_range: float = 0.3,
    seed: int = 0,
) -> Path:
    """Writes a Llama checkpoint with random weights and a byte-level tokenizer.

    Args:
        directory: Where its files go; made if it does not exist.
        texts: What the tokenizer is trained on. Defaults to `None`, the texts of this module's data sets.
        num_layers: Number of transformer layers. Defaults to `2`.
        hidden_dim: Width of the token vectors. Defaults to `16`.
        num_heads: Number of attention heads. Defaults to `4`.
        num_key_value_heads: Number of heads of keys and values. Defaults to `2`.
        max_sequence_length: `max_position_embeddings` of the config. Defaults to `128`.
        vocabulary_size: Most tokens, the 256 bytes and three special tokens among them. Defaults to `400`.
        chat_template: Jinja template of conversations; `<|im_end|>` ends texts. Defaults to `None`.
        initializer_range: Standard deviation of the weights. Defaults to `0.3`.
        seed: Same seed, same bytes. Defaults to `0`.

    Returns:
        The directory.

    Example:
    >>> path = tiny_llama("tiny")
    >>> sorted(file.name for file in path.iterdir())
    ['config.json', 'model.safetensors', 'tokenizer.json', 'tokenizer_config.json']
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    size = _write_tokenizer(
        directory, all_texts() if texts is None else texts, vocabulary_size, chat_template
    )
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": size,
        "hidden_size": hidden_dim,
        "num_hidden_layers": num_layers,
        "num_attention_heads": num_heads,
        "num_key_value_heads": num_key_value_heads,
        "intermediate_size": 2 * hidden_dim,
        "max_position_embeddings": max_sequence_length,
        "tie_word_embeddings": True,
        "bos_token_id": 0,
        "eos_token_id": 2,
    }
    (directory / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    write_weights(directory / "model.safetensors", _shapes(config), initializer_range, seed)
    return directory


def _write_tokenizer(directory: Path, texts: Iterable[str], size: int, chat_template: str | None) -> int:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=list(_SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(sorted(texts), trainer)
    (directory / "tokenizer.json").write_text(tokenizer.to_str(pretty=True) + "\n", encoding="utf-8")
    settings = {
        "bos_token": _SPECIAL_TOKENS[0],
        "eos_token": _SPECIAL_TOKENS[2],
        "chat_template": chat_template,
    }
    text = json.dumps({name: value for name, value in settings.items() if value is not None}, indent=2)
    (directory / "tokenizer_config.json").write_text(text + "\n", encoding="utf-8")
    return int(tokenizer.get_vocab_size())


def _shapes(config: dict) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors, as `transformers` writes them."""
    dim, wide = config["hidden_size"], config["intermediate_size"]
    narrow = dim // config["num_attention_heads"] * config["num_key_value_heads"]
    layer = {
        "self_attn.q_proj": (dim, dim),
        "self_attn.k_proj": (narrow, dim),
        "self_attn.v_proj": (narrow, dim),
        "self_attn.o_proj": (dim, dim),
        "mlp.gate_proj": (wide, dim),
        "mlp.up_proj": (wide, dim),
        "mlp.down_proj": (dim, wide),
        "input_layernorm": (dim,),
        "post_attention_layernorm": (dim,),
    }
    shapes = {"model.embed_tokens.weight": (config["vocab_size"], dim), "model.norm.weight": (dim,)}
    for number in range(config["num_hidden_layers"]):
        shapes |= {f"model.layers.{number}.{name}.weight": shape for name, shape in layer.items()}
    return shapes
