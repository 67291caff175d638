"""The base of all sections, and the kinds of values that several of them have."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Count", "File", "Files", "Fraction", "NotNegative", "Positive", "Section", "Share", "Text"]

Fraction = Annotated[float, Field(gt=0, lt=1)]
Share = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Text = Annotated[str, Field(min_length=1)]
File = Annotated[str, Field(min_length=1, title="a file")]
Files = File | Annotated[list[File], Field(min_length=1)]


class Section(BaseModel):
    """Base of every section: unknown keys, wrong types, infinities and later changes are errors."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False, validate_default=True
    )
