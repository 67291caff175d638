"""Decoders: how tokens become text again.

A decoder does something to each token (`steps`), puts the results of a text together (`join`), and does
something to the whole (`finish`). Sequences of the library that do not have this form are refused.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tokenizers import Tokenizer, models

from kerasllm.errors import TokenizerError
from kerasllm.tokenization.spec.component import Component, refuse
from kerasllm.tokenization.spec.decoder_steps import (
    CleanUp,
    EndWords,
    Metaspace,
    ReplaceRegex,
    ReplaceText,
    Step,
    Strip,
    WordPiece,
)

__all__ = ["Decoder", "parse_decoder"]

SUPPORTED = (
    *("BPEDecoder", "ByteFallback", "ByteLevel", "CTC", "Fuse", "Metaspace", "Replace", "Sequence", "Strip"),
    *("WordPiece", "none"),
)
_LARGEST_STRIP = 1000  # more repetitions are no regular expression of TensorFlow's


@dataclass(frozen=True)
class Decoder:
    """A decoder.

    Attributes:
        steps: What is done to each token.
        join: `"text"`: the tokens are written one after the other. `"bytes"`: each character of a token
            stands for a byte, as in byte-level models. `"byte_fallback"`: tokens such as `<0xE2>` stand for
            a byte; a run of them that is no UTF-8 becomes as many U+FFFD.
        finish: What is done to the whole text.
        separator: What stands between the tokens.
        deduplicate: Whether a token that follows itself is left out first.
    """

    steps: tuple[Step, ...] = ()
    join: str = "text"
    finish: tuple[Step, ...] = ()
    separator: str = ""
    deduplicate: bool = False


def parse_decoder(value: Any) -> Decoder:
    """Reads the `decoder` of a `tokenizer.json`."""
    if value is None:
        return Decoder(separator=" ")  # what the library does where there is none
    steps: list[Step] = []
    finish: list[Step] = []
    join, joined, deduplicate = "text", False, False
    for component in _flat(value):
        follows = joined or bool(steps) or join != "text"
        match component.type:
            case "Fuse":
                joined = True
            case "ByteLevel" if not joined and join == "text":
                _ignore(component, "add_prefix_space", "trim_offsets", "use_regex")
                join, joined = "bytes", True
            case "ByteFallback" if not joined and join == "text":
                join = "byte_fallback"
            case "CTC" if not follows:
                steps += _ctc(component)
                deduplicate = True
            case "Replace" | "Strip" if joined:
                finish.append(_whole_text_step(component))
            case _ if not joined and join == "text":
                steps.append(_token_step(component, deduplicate=deduplicate))
            case late:
                raise refuse(
                    "decoder `Sequence` with, after its tokens were joined or read as bytes, the decoder",
                    late,
                    ["Fuse", "Replace", "Strip"] if joined else ["Fuse"],
                )
        component.finish()
    return Decoder(tuple(steps), join, tuple(finish), "", deduplicate)


def _flat(value: Any) -> Iterator[Component]:
    component = Component("decoder", value)
    if component.type != "Sequence":
        yield component
        return
    members = component.take("decoders", list)
    component.finish()
    for member in members:
        yield from _flat(member)


def _token_step(component: Component, *, deduplicate: bool) -> Step:
    step: Step
    match component.type:
        case "Replace":
            return _replace(component)
        case "Strip":
            return _strip(component)
        case "WordPiece":
            step = WordPiece(component.take("prefix", str), component.take("cleanup", bool))
        case "Metaspace":
            step = _metaspace(component)
        case "BPEDecoder":
            step = EndWords(_not_empty(component, "suffix"))
        case unknown:
            raise refuse("decoder", unknown, SUPPORTED)
    if deduplicate:  # CTC drops tokens that become empty, so that others become the first or the last
        raise refuse(
            "decoder `Sequence` with, after `CTC`, the decoder", component.type, ["Replace", "Strip"]
        )
    return step


def _whole_text_step(component: Component) -> Step:
    if component.type == "Strip":
        return _strip(component)
    step = _replace(component)
    if isinstance(step, ReplaceRegex):
        raise refuse(
            "decoder `Replace`, after the tokens were joined, with `pattern` =",
            component.type,
            ["a `String`"],
        )
    return step


def _replace(component: Component) -> Step:
    pattern = component.take("pattern", dict)
    content = component.take("content", str)
    match pattern:
        case {"String": str() as text} if text and len(pattern) == 1:
            return ReplaceText(text, content)
        case {"Regex": str()} if len(pattern) == 1:
            return ReplaceRegex(json.dumps({"type": "Replace", "pattern": pattern, "content": content}))
    raise refuse("decoder `Replace` with `pattern` =", pattern, ["a `Regex`", "a `String` that is not empty"])


def _strip(component: Component) -> Step:
    content = component.take("content", str)
    start, stop = component.take("start", int), component.take("stop", int)
    # With `stop`, the library 0.23.3 panics on texts that hold nothing else.
    if len(content) != 1 or not 0 <= start <= _LARGEST_STRIP or stop:
        raise refuse(
            "decoder `Strip` with `content`, `start` and `stop` =",
            (content, start, stop),
            [f"one character, up to {_LARGEST_STRIP} times at the start, never at the end"],
        )
    return Strip(content, start)


def _metaspace(component: Component) -> Step:
    # Older files say `add_prefix_space`; the library knows what that means beside the newer names.
    names = ("replacement", "add_prefix_space", "prepend_scheme", "split", "str_rep")
    given = {name: component.take(name, object, None) for name in names}
    given = {name: value for name, value in given.items() if value is not None}
    document = json.loads(Tokenizer(models.WordLevel({}, unk_token="")).to_str())
    document["decoder"] = {"type": "Metaspace", **given}
    try:
        read = json.loads(Tokenizer.from_str(json.dumps(document)).to_str())["decoder"]
    except Exception as error:  # the library raises bare `Exception`
        raise TokenizerError(
            f"the decoder `Metaspace` has the parameters {given}, which the `tokenizers` library refuses: "
            f"{error}. The `tokenizer.json` is damaged: download it again."
        ) from error
    return Metaspace(read["replacement"], drops_first=read["prepend_scheme"] != "never")


def _ctc(component: Component) -> list[Step]:
    delimiter, pad = _not_empty(component, "word_delimiter_token"), _not_empty(component, "pad_token")
    steps: list[Step] = [ReplaceText(pad, "")]
    if component.take("cleanup", bool):
        steps += [CleanUp(), ReplaceText(delimiter, " ")]
    return steps


def _not_empty(component: Component, name: str) -> str:
    text = component.take(name, str)
    if not text:
        raise refuse(f"decoder `{component.type}` with `{name}` =", "", ["a text that is not empty"])
    return str(text)


def _ignore(component: Component, *names: str) -> None:
    for name in names:
        component.take(name, bool, None)
