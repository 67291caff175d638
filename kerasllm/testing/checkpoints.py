"""Checkpoints with random weights, laid out as on the Hugging Face hub."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from kerasllm.testing.records import all_texts

__all__ = ["tiny_bert", "write_weights"]

_SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def tiny_bert(
    directory: str | Path,
    *,
    texts: Iterable[str] | None = None,
    num_layers: int = 2,
    hidden_dim: int = 16,
    num_heads: int = 2,
    intermediate_dim: int | None = None,
    max_sequence_length: int = 64,
    hidden_act: str = "gelu",
    dropout: float = 0.1,
    pooler: bool = True,
    labels: Sequence[str] | None = None,
    multi_label: bool = False,
    initializer_range: float = 0.1,
    seed: int = 0,
) -> Path:
    """Writes a BERT checkpoint with random weights, laid out as on the Hugging Face hub.

    Args:
        directory: Where `config.json`, `model.safetensors` and `tokenizer.json` go;
            made if it does not exist.
        texts: The vocabulary is the words of these, their letters and the printable
            ASCII characters. Defaults to `None`, the texts of this module's data sets.
        num_layers: Number of transformer layers. Defaults to `2`.
        hidden_dim: Width of the token vectors. Defaults to `16`.
        num_heads: Number of attention heads. Defaults to `2`.
        intermediate_dim: Width of the feed-forward layers. Defaults to `None`, twice
            `hidden_dim`.
        max_sequence_length: Number of position embeddings. Defaults to `64`.
        hidden_act: Activation, by its Hugging Face name. Defaults to `"gelu"`.
        dropout: Dropout rate that the config states. Defaults to `0.1`.
        pooler: Whether the checkpoint has the dense layer on the first token.
            Defaults to `True`.
        labels: Class names; makes it a trained sequence classifier. Defaults to
            `None`, a bare encoder.
        multi_label: Whether the classes of `labels` are independent. Defaults to `False`.
        initializer_range: Standard deviation of the weights. Defaults to `0.1`.
        seed: Same seed, same bytes. Defaults to `0`.

    Returns:
        The directory.

    Raises:
        ValueError: If `hidden_dim` is not a multiple of `num_heads`, or `labels`
            are given without a pooler.

    Example:
    >>> path = tiny_bert("tiny")
    >>> sorted(file.name for file in path.iterdir())
    ['config.json', 'model.safetensors', 'tokenizer.json']
    """
    if hidden_dim % num_heads:
        raise ValueError(f"`hidden_dim={hidden_dim}` must be a multiple of `num_heads={num_heads}`.")
    if labels is not None and not pooler:
        raise ValueError(
            "`labels` makes a BertForSequenceClassification, which has a pooler: drop `pooler=False`."
        )
    vocabulary = _vocabulary(all_texts() if texts is None else texts)
    config = {
        "architectures": ["BertModel" if labels is None else "BertForSequenceClassification"],
        "model_type": "bert",
        "vocab_size": len(vocabulary),
        "hidden_size": hidden_dim,
        "num_hidden_layers": num_layers,
        "num_attention_heads": num_heads,
        "intermediate_size": intermediate_dim or 2 * hidden_dim,
        "hidden_act": hidden_act,
        "hidden_dropout_prob": dropout,
        "attention_probs_dropout_prob": dropout,
        "max_position_embeddings": max_sequence_length,
        "type_vocab_size": 2,
        "initializer_range": initializer_range,
        "layer_norm_eps": 1e-12,
        "pad_token_id": 0,
        "position_embedding_type": "absolute",
    }
    if labels is not None:
        config["id2label"] = {str(i): name for i, name in enumerate(labels)}
        config["label2id"] = {name: i for i, name in enumerate(labels)}
        config["problem_type"] = (
            "multi_label_classification" if multi_label else "single_label_classification"
        )
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    _write_tokenizer(directory / "tokenizer.json", vocabulary)
    write_weights(
        directory / "model.safetensors", _bert_shapes(config, pooler=pooler), initializer_range, seed
    )
    return directory


def _vocabulary(texts: Iterable[str]) -> dict[str, int]:
    """Special tokens, single characters (so that no ASCII word is unknown), then words by frequency."""
    from tokenizers import normalizers, pre_tokenizers

    normalizer, splitter = normalizers.BertNormalizer(lowercase=True), pre_tokenizers.BertPreTokenizer()
    split = (splitter.pre_tokenize_str(normalizer.normalize_str(text)) for text in texts)
    counts = Counter(word for words in split for word, _ in words)
    letters = {chr(code) for code in range(33, 127) if not chr(code).isupper()} | set("".join(counts))
    words = sorted((word for word in counts if len(word) > 1), key=lambda word: (-counts[word], word))
    tokens = [*_SPECIAL_TOKENS, *sorted(letters), *(f"##{letter}" for letter in sorted(letters)), *words]
    return {token: index for index, token in enumerate(tokens)}


def _write_tokenizer(path: Path, vocabulary: dict[str, int]) -> None:
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))  # noqa: S106, not a password
    tokenizer.add_special_tokens(list(_SPECIAL_TOKENS))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, vocabulary[token]) for token in ("[CLS]", "[SEP]")],
    )
    path.write_text(tokenizer.to_str(pretty=True) + "\n", encoding="utf-8")


def _bert_shapes(config: dict, *, pooler: bool) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors, as `transformers` writes them."""
    dim, wide = config["hidden_size"], config["intermediate_size"]
    prefix = "" if "id2label" not in config else "bert."
    shapes = {
        "embeddings.word_embeddings.weight": (config["vocab_size"], dim),
        "embeddings.position_embeddings.weight": (config["max_position_embeddings"], dim),
        "embeddings.token_type_embeddings.weight": (config["type_vocab_size"], dim),
        "embeddings.LayerNorm.weight": (dim,),
        "embeddings.LayerNorm.bias": (dim,),
    }
    dense = {
        "attention.self.query": (dim, dim),
        "attention.self.key": (dim, dim),
        "attention.self.value": (dim, dim),
        "attention.output.dense": (dim, dim),
        "attention.output.LayerNorm": (dim,),
        "intermediate.dense": (wide, dim),
        "output.dense": (dim, wide),
        "output.LayerNorm": (dim,),
    }
    for layer in range(config["num_hidden_layers"]):
        for name, shape in dense.items():
            shapes[f"encoder.layer.{layer}.{name}.weight"] = shape
            shapes[f"encoder.layer.{layer}.{name}.bias"] = shape[:1]
    if pooler:
        shapes |= {"pooler.dense.weight": (dim, dim), "pooler.dense.bias": (dim,)}
    shapes = {prefix + name: shape for name, shape in shapes.items()}
    if "id2label" in config:
        classes = len(config["id2label"])
        shapes |= {"classifier.weight": (classes, dim), "classifier.bias": (classes,)}
    return shapes


def write_weights(path: Path, shapes: dict[str, tuple[int, ...]], scale: float, seed: int) -> None:
    """Writes random tensors; the scales of norms are around 1."""
    from safetensors.numpy import save_file

    random = np.random.default_rng(seed)
    tensors = {}
    for name, shape in shapes.items():
        values = (random.standard_normal(shape) * scale).astype(np.float32)
        tensors[name] = values + 1 if name.endswith(("Norm.weight", "norm.weight")) else values
    save_file(tensors, path, metadata={"format": "pt"})
