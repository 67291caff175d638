"""Tiny checkpoints, data sets and tokenizers, for tests of code that uses kerasllm and for our own.

Everything is made on the spot from a seed: nothing is downloaded, and TensorFlow is not imported. A tiny
checkpoint knows nothing, but it has the files, the names and the shapes of a real one, so whatever runs on
it runs on a pretrained model. The tokenizers are in `kerasllm.testing.families`, texts on which tokenizers
go wrong in `kerasllm.testing.strings`.
"""

from kerasllm.testing import chat_templates
from kerasllm.testing.checkpoints import tiny_bert
from kerasllm.testing.language_models import tiny_llama
from kerasllm.testing.records import tiny_pairs, tiny_reviews, tiny_topics

__all__ = ["chat_templates", "tiny_bert", "tiny_llama", "tiny_pairs", "tiny_reviews", "tiny_topics"]
