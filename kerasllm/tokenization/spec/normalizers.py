"""Normalizers: what is done to the characters before the text is cut into words."""

import json
from dataclasses import dataclass
from typing import Any, Literal

from kerasllm.tokenization.patterns import parse_pattern
from kerasllm.tokenization.spec.component import Component, refuse

__all__ = ["NormalizerStep", "parse_normalizer"]

SUPPORTED = (
    "BertNormalizer",
    "Lowercase",
    "NFC",
    "NFD",
    "NFKC",
    "NFKD",
    "Nmt",
    "Precompiled",
    "Prepend",
    "Replace",
    "Sequence",
    "Strip",
    "StripAccents",
    "none",
)
Kind = Literal["each", "decompose", "compose", "strip", "replace", "prepend", "precompiled"]
_KINDS: dict[str, Kind] = {
    "Lowercase": "each",
    "NFC": "compose",
    "NFD": "decompose",
    "NFKC": "compose",
    "NFKD": "decompose",
    "Nmt": "each",
    "StripAccents": "each",
}


@dataclass(frozen=True)
class NormalizerStep:
    """One normalizer, as the JSON that the `tokenizers` library makes it from.

    Attributes:
        specification: JSON of the normalizer.
        kind: How it works. `"each"` treats each character by itself; `"decompose"` does too, and then sorts
            combining marks (canonical ordering); `"compose"` joins what it decomposed; the others are one
            normalizer each.
    """

    specification: str
    kind: Kind

    @property
    def settings(self) -> dict[str, Any]:
        """The normalizer's type and parameters."""
        settings: dict[str, Any] = json.loads(self.specification)
        return settings

    @property
    def decomposition(self) -> str:
        """The decomposition that a `"decompose"` or `"compose"` step starts with: `NFD` or `NFKD`."""
        return "NFKD" if self.settings["type"] in ("NFKC", "NFKD") else "NFD"


def parse_normalizer(value: Any) -> tuple[NormalizerStep, ...]:
    """Reads the `normalizer` of a `tokenizer.json` into steps, which run one after the other."""
    return tuple(_steps(value))


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
        case "Prepend":
            return _prepend_steps(component)
        case "Replace":
            return _replace_steps(component)
        case "Strip":
            return _strip_steps(component)
        case "Precompiled":
            charsmap = component.take("precompiled_charsmap", str)
            component.finish()
            return [_step("precompiled", {"type": "Precompiled", "precompiled_charsmap": charsmap})]
        case simple if simple in _KINDS:
            component.finish()
            return [_step(_KINDS[simple], {"type": simple})]
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
        steps.append(_bert_step("decompose", strip_accents=True))
    if lowercase:
        steps.append(_bert_step(lowercase=True))
    return steps


def _bert_step(kind: Kind = "each", **flags: bool) -> NormalizerStep:
    names = ("clean_text", "handle_chinese_chars", "strip_accents", "lowercase")
    return _step(kind, {"type": "BertNormalizer", **{name: flags.get(name, False) for name in names}})


def _prepend_steps(component: Component) -> list[NormalizerStep]:
    prepend = component.take("prepend", str)
    component.finish()
    if not prepend:  # the library then gives the first character no width
        raise refuse("normalizer `Prepend` with `prepend` =", "", ["one or more characters"])
    return [_step("prepend", {"type": "Prepend", "prepend": prepend})]


def _replace_steps(component: Component) -> list[NormalizerStep]:
    content = component.take("content", str)
    pattern = component.take("pattern", dict)
    component.finish()
    [(form, text)] = pattern.items() if len(pattern) == 1 else [("", "")]
    if form not in ("String", "Regex") or not isinstance(text, str) or not text:
        raise refuse("normalizer `Replace` with `pattern` =", pattern, ["String", "Regex, not empty"])
    if form == "Regex":
        parse_pattern(text)  # refuses what cannot be matched exactly
    # One character for another (or for several, or for none) is done to each character by itself.
    kind: Kind = "each" if form == "String" and len(text) == 1 else "replace"
    return [_step(kind, {"type": "Replace", "pattern": {form: text}, "content": content})]


def _strip_steps(component: Component) -> list[NormalizerStep]:
    left = component.take("strip_left", bool)
    right = component.take("strip_right", bool)
    component.finish()
    if not (left or right):
        return []
    return [_step("strip", {"type": "Strip", "strip_left": left, "strip_right": right})]


def _step(kind: Kind, specification: dict[str, Any]) -> NormalizerStep:
    return NormalizerStep(json.dumps(specification), kind)
