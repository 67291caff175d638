"""Tiny checkpoints and data sets, for tests of code that uses kerasllm and for our own.

Everything is made on the spot from a seed: nothing is downloaded, and neither TensorFlow nor
transformers is imported. A tiny checkpoint knows nothing, but it has the files, the names and
the shapes of a real one, so whatever runs on it runs on a pretrained model.
"""

import itertools
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from kerasllm.errors import DataError

__all__ = ["tiny_bert", "tiny_pairs", "tiny_reviews", "tiny_topics"]

_SUBJECTS = ("film", "story", "plot", "cast", "music", "ending", "dialogue", "camera", "script", "pace")
_ADVERBS = ("truly", "quite", "rather", "simply", "always", "often", "really", "almost")
_POSITIVE = ("wonderful", "moving", "brilliant", "charming", "funny", "superb", "clever", "delightful")
_NEGATIVE = ("awful", "boring", "clumsy", "dreadful", "stale", "tedious", "shallow", "annoying")
_CLOSINGS = (
    "and my friends agree",
    "from start to end",
    "for the whole family",
    "on a rainy evening",
    "as in the book",
    "in every single scene",
    "even on a small screen",
    "when seen in a cinema",
)
_TOPICS = {
    "food": ("the soup was warm", "we had bread and cheese", "the fish was fresh"),
    "price": ("it cost ten euros", "the bill was long", "we paid in cash"),
    "service": ("the waiter was quick", "nobody took our order", "the staff smiled"),
}
_OPENINGS = (
    "on monday",
    "last night",
    "with my sister",
    "after work",
    "in the rain",
    "before the show",
    "by the river",
    "at noon",
)
_SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def tiny_reviews(num_rows: int = 64, seed: int = 0) -> list[dict]:
    """Makes a two-class data set of short reviews that a tiny model can learn.

    The adjective decides the label; no text occurs twice; the labels alternate.

    Args:
        num_rows: Number of records, at most 10,240. Defaults to `64`.
        seed: Same seed, same records. Defaults to `0`.

    Returns:
        Records with a `text` and a `label`, `"negative"` or `"positive"`.

    Raises:
        DataError: If so many different texts cannot be made.

    Example:
    >>> tiny_reviews(2)[0].keys()
    dict_keys(['text', 'label'])
    """
    texts = {label: _reviews(label, -(-num_rows // 2), seed) for label in ("negative", "positive")}
    labels = ["negative", "positive"] * (num_rows // 2) + ["negative"] * (num_rows % 2)
    return [{"text": texts[label][i // 2], "label": label} for i, label in enumerate(labels)]


def tiny_pairs(num_rows: int = 64, seed: int = 0) -> list[dict]:
    """Makes a two-class data set of sentence pairs: do both reviewers recommend?

    Args:
        num_rows: Number of records, at most 2,560. Defaults to `64`.
        seed: Same seed, same records. Defaults to `0`.

    Returns:
        Records with `text`, `text_pair` and `label`, which is `"yes"` where both
        texts are positive and `"no"` otherwise.

    Raises:
        DataError: If so many different texts cannot be made.

    Example:
    >>> sorted(tiny_pairs(1)[0])
    ['label', 'text', 'text_pair']
    """
    positive, negative = (iter(_reviews(label, num_rows * 2, seed)) for label in ("positive", "negative"))
    cycle = [("yes", positive, positive), ("no", positive, negative), ("yes", positive, positive)]
    cycle.append(("no", negative, positive))
    records = []
    for label, first, second in itertools.islice(itertools.cycle(cycle), num_rows):
        records.append({"text": next(first), "text_pair": next(second), "label": label})
    return records


def tiny_topics(num_rows: int = 64, seed: int = 0) -> list[dict]:
    """Makes a multi-label data set: which of `food`, `price` and `service` does a text speak of?

    Args:
        num_rows: Number of records, at most 512. Defaults to `64`.
        seed: Same seed, same records. Defaults to `0`.

    Returns:
        Records with a `text` and a `label`, a sorted list of zero to three names.

    Raises:
        DataError: If so many different texts cannot be made.

    Example:
    >>> {name for record in tiny_topics(64) for name in record["label"]} == {"food", "price", "service"}
    True
    """
    names = sorted(_TOPICS)
    choices = [(None, *_TOPICS[name]) for name in names]
    shape = [len(_OPENINGS), *(len(choice) for choice in choices)]
    records = []
    for opening, *picked in _distinct(num_rows, shape, seed):
        parts = [choice[i] for choice, i in zip(choices, picked, strict=True)]
        text = " , ".join([_OPENINGS[opening], *(part for part in parts if part)])
        label = [name for name, part in zip(names, parts, strict=True) if part]
        records.append({"text": text, "label": label})
    return records


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
    vocabulary = _vocabulary(_all_texts() if texts is None else texts)
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
    _write_weights(
        directory / "model.safetensors", _bert_shapes(config, pooler=pooler), initializer_range, seed
    )
    return directory


def _reviews(label: str, num_rows: int, seed: int) -> list[str]:
    adjectives = _POSITIVE if label == "positive" else _NEGATIVE
    shape = [len(_SUBJECTS), len(_ADVERBS), len(adjectives), len(_CLOSINGS)]
    return [
        f"the {_SUBJECTS[i]} is {_ADVERBS[j]} {adjectives[k]} {_CLOSINGS[m]}"
        for i, j, k, m in _distinct(num_rows, shape, [seed, label == "positive"])
    ]


def _distinct(num_rows: int, shape: Sequence[int], seed: int | Sequence[int]) -> list[tuple[int, ...]]:
    """Draws `num_rows` different index tuples from a grid of the given shape."""
    total = int(np.prod(shape))
    if num_rows > total:
        raise DataError(f"Only {total:,} different texts can be made here, but {num_rows:,} were asked for.")
    drawn = np.random.default_rng(seed).choice(total, size=num_rows, replace=False)
    return [tuple(int(i) for i in np.unravel_index(index, shape)) for index in drawn]


def _all_texts() -> list[str]:
    words = [*_SUBJECTS, *_ADVERBS, *_POSITIVE, *_NEGATIVE, *_CLOSINGS, *_OPENINGS]
    return ["the is", *words, *(phrase for phrases in _TOPICS.values() for phrase in phrases)]


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


def _write_weights(path: Path, shapes: dict[str, tuple[int, ...]], scale: float, seed: int) -> None:
    from safetensors.numpy import save_file

    random = np.random.default_rng(seed)
    tensors = {}
    for name, shape in shapes.items():
        values = (random.standard_normal(shape) * scale).astype(np.float32)
        tensors[name] = values + 1 if name.endswith("LayerNorm.weight") else values
    save_file(tensors, path, metadata={"format": "pt"})
