"""The section `model` of a run config: what is put on top of the pretrained backbone, and beside it."""

from typing import Annotated, Literal

from pydantic import Field

from kerasllm.config.section import Count, Positive, Section, Share

__all__ = ["LoRAConfig", "ModelConfig"]

AdapterRole = Literal["query", "key", "value", "output", "feed_forward", "all"]


class LoRAConfig(Section):
    """Small matrices that are trained beside the frozen backbone, instead of all its weights."""

    rank: Count = Field(default=8, description="Width of the small matrices.")
    alpha: Positive = Field(
        default=16.0, description="Their product is scaled by alpha / rank, or alpha / sqrt(rank)."
    )
    dropout: Share = Field(default=0.0, description="Dropout rate of what goes into them.")
    roles: Annotated[list[AdapterRole], Field(min_length=1)] = Field(
        default=["query", "value"],
        description="Which dense layers get them; `all` for every one.",
    )
    rank_stabilized: bool = Field(
        default=False, description="Whether the scale is alpha / sqrt(rank) (rsLoRA), which suits high ranks."
    )
    dora: bool = Field(
        default=False,
        description="Whether the length of each column of the matrices is learned by itself (DoRA).",
    )
    quantize_base: Literal["none", "int8"] = Field(
        default="none", description="Whether the frozen matrices are kept in 8 bits (QLoRA)."
    )


class ModelConfig(Section):
    """What is put on top of the pretrained backbone, and what of it is trained."""

    pooling: Literal["auto", "cls", "mean"] = Field(
        default="auto",
        description="How token vectors become one: the first, the mean, or what fits the checkpoint.",
    )
    dropout: Share | None = Field(
        default=None, description="Dropout rate in backbone and head; the checkpoint's own when left out."
    )
    lora: LoRAConfig | None = Field(
        default=None, description="Adapters to train instead of all weights; none to train all weights."
    )
