"""Augmentation: Keras layers that change texts in training, each epoch otherwise, from a seed.

Layers on token ids and on token vectors are for training steps (`augmented`), `RandomTypo` is for strings,
`augment_texts` shows or writes what the layers do, and `back_translate` makes new records beforehand.
Everything is imported when it is first used.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kerasllm.data.augmentation.back_translation import back_translate
    from kerasllm.data.augmentation.building import build
    from kerasllm.data.augmentation.cutoff import Cutoff
    from kerasllm.data.augmentation.embedding_layer import EmbeddingAugmentation, augmented
    from kerasllm.data.augmentation.mixup import Mixing, Mixup
    from kerasllm.data.augmentation.random_deletion import RandomDeletion
    from kerasllm.data.augmentation.random_insertion import RandomInsertion
    from kerasllm.data.augmentation.random_masking import RandomMasking
    from kerasllm.data.augmentation.random_replacement import RandomReplacement
    from kerasllm.data.augmentation.random_span_crop import RandomSpanCrop
    from kerasllm.data.augmentation.random_swap import RandomSwap
    from kerasllm.data.augmentation.random_typo import RandomTypo, RandomTypoOfTokens
    from kerasllm.data.augmentation.texts import augment_texts
    from kerasllm.data.augmentation.token_layer import TokenAugmentation
    from kerasllm.data.augmentation.vocabulary import Vocabulary

_HOME = {
    "Cutoff": "cutoff",
    "EmbeddingAugmentation": "embedding_layer",
    "Mixing": "mixup",
    "Mixup": "mixup",
    "RandomDeletion": "random_deletion",
    "RandomInsertion": "random_insertion",
    "RandomMasking": "random_masking",
    "RandomReplacement": "random_replacement",
    "RandomSpanCrop": "random_span_crop",
    "RandomSwap": "random_swap",
    "RandomTypo": "random_typo",
    "RandomTypoOfTokens": "random_typo",
    "TokenAugmentation": "token_layer",
    "Vocabulary": "vocabulary",
    "augment_texts": "texts",
    "augmented": "embedding_layer",
    "back_translate": "back_translation",
    "build": "building",
}

__all__ = [
    "Cutoff",
    "EmbeddingAugmentation",
    "Mixing",
    "Mixup",
    "RandomDeletion",
    "RandomInsertion",
    "RandomMasking",
    "RandomReplacement",
    "RandomSpanCrop",
    "RandomSwap",
    "RandomTypo",
    "RandomTypoOfTokens",
    "TokenAugmentation",
    "Vocabulary",
    "augment_texts",
    "augmented",
    "back_translate",
    "build",
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'kerasllm.data.augmentation' has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return list(__all__)
