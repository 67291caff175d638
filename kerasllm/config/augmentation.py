"""What the entries of `augmentation` may say: one model a layer, told apart by `name`."""

from typing import Annotated, Literal

from pydantic import Field

from kerasllm.config.section import Count, File, Positive, Section, Share, Text

__all__ = ["AUGMENTATIONS", "AugmentationConfig"]

_PROTECTED = "Words and phrases that are never changed, as they are written in the texts."


class _Entry(Section):
    name: str = Field(description="Which layer.")  # first, so that it is written first


class _Words(_Entry):
    rate: Share = Field(default=0.1, description="Share of the words that are changed.")
    protected: list[Text] = Field(default=[], description=_PROTECTED)


class _NewWords(_Words):
    source: Literal["uniform", "unigram", "neighbours", "synonyms"] = Field(
        default="uniform",
        description="New words: any, frequent ones of the training texts, neighbours in the embedding "
        "matrix, or synonyms.",
    )
    num_neighbours: Count = Field(default=10, description="Neighbours of each word that are drawn from.")
    synonyms: dict[Text, Annotated[list[Text], Field(min_length=1)]] | File | None = Field(
        default=None, description="Synonyms by word, or a JSON file of them; for the source `synonyms`."
    )


class RandomReplacementConfig(_NewWords):
    """Words replaced by others."""

    name: Literal["random_replacement"] = Field(description="Replaces words by others.")


class RandomInsertionConfig(_NewWords):
    """Words put in between others."""

    name: Literal["random_insertion"] = Field(description="Puts in words, while the batch is wide enough.")


class RandomDeletionConfig(_Words):
    """Words left out."""

    name: Literal["random_deletion"] = Field(description="Leaves out words.")


class RandomSwapConfig(_Words):
    """Words that change places."""

    name: Literal["random_swap"] = Field(description="Lets pairs of words change places.")


class RandomMaskingConfig(_Words):
    """Words hidden behind the mask token."""

    name: Literal["random_masking"] = Field(description="Hides words behind the mask token.")
    mask_token: Text | None = Field(
        default=None, description="Token that hides a word; the tokenizer's own when left out."
    )


class RandomSpanCropConfig(_Words):
    """A span of each text kept."""

    name: Literal["random_span_crop"] = Field(description="Cuts off what is outside of a span.")


class RandomTypoConfig(_Entry):
    """Typing errors."""

    name: Literal["random_typo"] = Field(description="Makes typing errors.")
    rate: Share = Field(default=0.05, description="Share of the letters that are changed.")
    operations: Annotated[list[Literal["swap", "delete", "duplicate", "neighbour"]], Field(min_length=1)] = (
        Field(
            default=["swap", "delete", "duplicate", "neighbour"], description="What may happen to a letter."
        )
    )
    protected: list[Text] = Field(default=[], description=_PROTECTED)


class CutoffConfig(_Entry):
    """Token vectors set to zero."""

    name: Literal["cutoff"] = Field(description="Sets token vectors to zero.")
    rate: Share = Field(default=0.1, description="Share of the words, or of the features, that are erased.")
    kind: Literal["token", "feature", "span"] = Field(
        default="token", description="What is erased: single words, some features, or one span of words."
    )
    protected: list[Text] = Field(default=[], description=_PROTECTED)


class MixupConfig(_Entry):
    """Pairs of texts mixed."""

    name: Literal["mixup"] = Field(description="Mixes pairs of texts, and their labels.")
    alpha: Positive = Field(default=0.2, description="Parameter of the Beta distribution of the shares.")


AugmentationConfig = Annotated[
    CutoffConfig
    | MixupConfig
    | RandomDeletionConfig
    | RandomInsertionConfig
    | RandomMaskingConfig
    | RandomReplacementConfig
    | RandomSpanCropConfig
    | RandomSwapConfig
    | RandomTypoConfig,
    Field(discriminator="name"),
]
AUGMENTATIONS: dict[str, type[Section]] = {
    model.__annotations__["name"].__args__[0]: model
    for model in (
        CutoffConfig,
        MixupConfig,
        RandomDeletionConfig,
        RandomInsertionConfig,
        RandomMaskingConfig,
        RandomReplacementConfig,
        RandomSpanCropConfig,
        RandomSwapConfig,
        RandomTypoConfig,
    )
}
