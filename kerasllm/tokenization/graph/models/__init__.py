"""Words to token ids: each model of `tokenizer.json` as TensorFlow operations."""

from typing import Any

from kerasllm.tokenization.graph.models.bpe import BPEModel
from kerasllm.tokenization.graph.models.unigram import UnigramModel
from kerasllm.tokenization.graph.models.wordlevel import WordLevelModel
from kerasllm.tokenization.graph.models.wordpiece import WordPieceModel
from kerasllm.tokenization.spec.models import BPE, Model, Unigram, WordLevel, WordPiece

__all__ = ["BPEModel", "UnigramModel", "WordLevelModel", "WordPieceModel", "build_model"]


def build_model(model: Model, *, byte_level: bool = False) -> Any:
    """Compiles a model into a module that is called as `module(words, spans=...)` and returns `Tokens`.

    Args:
        model: The model of the `tokenizer.json`.
        byte_level: Whether the library hands the words to the model in the byte alphabet of `ByteLevel`. The
            words of the graph are plain characters all the same. Defaults to `False`.

    Returns:
        A `tf.Module`.

    Raises:
        TokenizerError: If the vocabulary has no exact implementation.
    """
    match model:
        case WordPiece():
            return WordPieceModel(model, byte_level=byte_level)
        case WordLevel():
            return WordLevelModel(model, byte_level=byte_level)
        case Unigram():
            return UnigramModel(model, byte_level=byte_level)
        case BPE():
            return BPEModel(model, byte_level=byte_level)
