"""Words left out."""

from typing import Any

import keras

from kerasllm.data.augmentation.rebuilding import keep_tokens
from kerasllm.data.augmentation.token_layer import Draw, TokenAugmentation, choose
from kerasllm.data.augmentation.words import Words

__all__ = ["RandomDeletion"]


@keras.saving.register_keras_serializable(package="kerasllm")
class RandomDeletion(TokenAugmentation):
    """Leaves out each word with probability `rate` (EDA; Wei and Zou, 2019).

    Arguments, inputs and what is never changed: see `TokenAugmentation`.

    Example:
    >>> deletion = RandomDeletion(tokenizer, rate=0.1, protected=["not", "never"], seed=0)
    >>> batch = deletion(tokenizer.graph_batch(["A joy from start to end."]), training=True)
    """

    def change(self, inputs: dict[str, Any], words: Words, draw: Draw) -> dict[str, Any]:
        """See `TokenAugmentation`."""
        keep = words.real & ~words.of_tokens(choose(words, self.rate, draw))
        return keep_tokens(inputs, keep, words, self.vocabulary, self.fillers)
