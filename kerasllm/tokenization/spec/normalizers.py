"""Normalizers: what is done to the characters before the text is cut into words."""

import json
from dataclasses import dataclass
from typing import Any

from kerasllm.tokenization.spec.component import Component, refuse

__all__ = ["NormalizerStep", "parse_normalizer"]

SUPPORTED = ("BertNormalizer", "Lowercase", "NFD", "Sequence", "StripAccents", "none")


@dataclass(frozen=True)
class NormalizerStep:
    """One normalizer, as the JSON that the `tokenizers` library makes it from.

    Attributes:
        specification: JSON of the normalizer.
        reorders: Whether it sorts combining marks (canonical ordering). All else that the supported
            normalizers do, they do to each character by itself.
    """

    specification: str
    reorders: bool


def parse_normalizer(value: Any) -> tuple[NormalizerStep, ...]:
    """Reads the `normalizer` of a `tokenizer.json` into steps, of which at most one reorders."""
    steps = _steps(value)
    if sum(step.reorders for step in steps) > 1:
        raise refuse(
            "normalizer", "Sequence of several that decompose accents", ["Sequence of one that does"]
        )
    return tuple(steps)


def _steps(value: Any) -> list[NormalizerStep]:
    if value is None:
        return []
    component = Component("normalizer", value)
    match component.type:
        case "Sequence":
            members = component.take("normalizers", list)
            component.finish()
            return [step for member in members for step in _steps(member)]
        case "BertNormalizer":
            return _bert_steps(component)
        case "NFD" | "Lowercase" | "StripAccents":
            component.finish()
            return [_step({"type": component.type}, reorders=component.type == "NFD")]
        case unknown:
            raise refuse("normalizer", unknown, SUPPORTED)


def _bert_steps(component: Component) -> list[NormalizerStep]:
    # The steps run one after the other, so each can be run alone.
    clean = component.take("clean_text", bool)
    chinese = component.take("handle_chinese_chars", bool)
    strip = component.take("strip_accents", (bool, type(None)))
    lowercase = component.take("lowercase", bool)
    component.finish()
    strip = lowercase if strip is None else strip
    steps = []
    if clean:
        steps.append(_bert_step(clean_text=True))
    if chinese:
        steps.append(_bert_step(handle_chinese_chars=True))
    if strip:
        steps.append(_bert_step(strip_accents=True, reorders=True))
    if lowercase:
        steps.append(_bert_step(lowercase=True))
    return steps


def _bert_step(*, reorders: bool = False, **flags: bool) -> NormalizerStep:
    names = ("clean_text", "handle_chinese_chars", "strip_accents", "lowercase")
    return _step(
        {"type": "BertNormalizer", **{name: flags.get(name, False) for name in names}}, reorders=reorders
    )


def _step(specification: dict[str, Any], *, reorders: bool) -> NormalizerStep:
    return NormalizerStep(json.dumps(specification), reorders)
