"""Words hidden behind the mask token."""

from typing import Any

import keras
import tensorflow as tf

from kerasllm.data.augmentation.token_layer import Draw, TokenAugmentation, choose
from kerasllm.data.augmentation.words import Words
from kerasllm.errors import ConfigError

__all__ = ["RandomMasking"]


@keras.saving.register_keras_serializable(package="kerasllm")
class RandomMasking(TokenAugmentation):
    """Puts the mask token in place of each piece of a word, for each word with probability `rate`.

    A masked language model has seen such gaps (Devlin et al., 2019); labels stay those of the words that
    stood there. Arguments, inputs and what is never changed: see `TokenAugmentation`.

    Args:
        vocabulary: See `TokenAugmentation`.
        rate: Share of the words that are hidden. Defaults to 0.1.
        mask_id: Id of the token that hides a word. Defaults to `None`, the vocabulary's own.
        **kwargs: See `TokenAugmentation`.

    Raises:
        ConfigError: If the vocabulary has no mask token and none is named.
    """

    def __init__(self, vocabulary: Any, rate: float = 0.1, *, mask_id: int | None = None, **kwargs: Any):
        super().__init__(vocabulary, rate, **kwargs)
        self.mask_id = self.vocabulary.mask_id if mask_id is None else int(mask_id)
        if self.mask_id is None:
            raise ConfigError(
                "`RandomMasking` needs a mask token, and this tokenizer has none: expected `mask_token` in "
                "`tokenizer_config.json`, or a token `[MASK]` or `<mask>`. Name the id of another token as "
                "`mask_id`, or use `random_deletion`."
            )

    def change(self, inputs: dict[str, Any], words: Words, draw: Draw) -> dict[str, Any]:
        """See `TokenAugmentation`."""
        hidden = words.real & words.of_tokens(choose(words, self.rate, draw))
        ids = inputs["token_ids"]
        return {**inputs, "token_ids": tf.where(hidden, tf.cast(self.mask_id, ids.dtype), ids)}

    def get_config(self):
        """Everything that `from_config` needs."""
        return {**super().get_config(), "mask_id": self.mask_id}
