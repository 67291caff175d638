"""A checkpoint's `tokenizer.json` as the same token ids in Python, in `tf.data` and in a SavedModel."""

from kerasllm.tokenization.tokenizer import Tokenizer

__all__ = ["Tokenizer"]
