"""Post-processors: which special tokens stand around the texts."""

from dataclasses import dataclass
from typing import Any

from kerasllm.errors import TokenizerError
from kerasllm.tokenization.spec.component import Component, refuse

__all__ = ["Piece", "Templates", "parse_post_processor"]

SUPPORTED = ("BertProcessing", "TemplateProcessing", "none")


@dataclass(frozen=True)
class Piece:
    """A stretch of the result: a text, or special tokens.

    Attributes:
        sequence: 0 for the first text, 1 for the second, `None` for special tokens.
        ids: Ids of the special tokens.
        segment: Segment id of all tokens of the piece.
    """

    sequence: int | None
    ids: tuple[int, ...]
    segment: int


@dataclass(frozen=True)
class Templates:
    """How one text, and a pair of texts, are put together."""

    single: tuple[Piece, ...]
    pair: tuple[Piece, ...]


def parse_post_processor(value: Any) -> Templates:
    """Reads the `post_processor` of a `tokenizer.json`."""
    if value is None:
        # Without one, `tokenizers` puts the second text after the first, as segment 1.
        return Templates((Piece(0, (), 0),), (Piece(0, (), 0), Piece(1, (), 1)))
    component = Component("post-processor", value)
    if component.type == "BertProcessing":
        return _bert(component)
    if component.type == "TemplateProcessing":
        return _template(component)
    raise refuse("post-processor", component.type, SUPPORTED)


def _bert(component: Component) -> Templates:
    cls = (_pair_id(component, "cls"),)
    sep = (_pair_id(component, "sep"),)
    component.finish()
    single = (Piece(None, cls, 0), Piece(0, (), 0), Piece(None, sep, 0))
    return Templates(single, (*single, Piece(1, (), 1), Piece(None, sep, 1)))


def _pair_id(component: Component, name: str) -> int:
    value = component.take(name, list)
    if len(value) != 2 or not isinstance(value[1], int):
        raise TokenizerError(
            f"`{name}` of the post-processor `BertProcessing` is {value!r}, expected a token and its id."
        )
    return value[1]


def _template(component: Component) -> Templates:
    special = {
        name: tuple(int(token) for token in Component("special token", entry, name=name).take("ids", list))
        for name, entry in component.take("special_tokens", dict).items()
    }
    single = _pieces(component.take("single", list), special)
    pair = _pieces(component.take("pair", list), special)
    component.finish()
    for name, pieces, expected in (("single", single, [0]), ("pair", pair, [0, 1])):
        found = sorted(piece.sequence for piece in pieces if piece.sequence is not None)
        if found != expected:
            raise refuse(
                f"post-processor `TemplateProcessing` with `{name}` =",
                "a template that leaves out or repeats a text",
                ["each text once"],
            )
    return Templates(single, pair)


def _pieces(template: list[Any], special: dict[str, tuple[int, ...]]) -> tuple[Piece, ...]:
    pieces = []
    for entry in template:
        if not isinstance(entry, dict) or len(entry) != 1:
            raise TokenizerError(
                f"the template of the post-processor holds {entry!r:.40}, expected one `Sequence` or "
                "`SpecialToken`. The `tokenizer.json` is damaged: download it again."
            )
        [(kind, value)] = entry.items()
        piece = Component("template", value, name=kind)
        name, segment = piece.take("id", str), piece.take("type_id", int)
        if kind == "Sequence" and name in ("A", "B"):
            pieces.append(Piece("AB".index(name), (), segment))
        elif kind == "SpecialToken" and name in special:
            pieces.append(Piece(None, special[name], segment))
        else:
            raise TokenizerError(
                f"the template of the post-processor names {name!r}, which is not among its special tokens "
                f"{sorted(special)}. The `tokenizer.json` is damaged: download it again."
            )
    return tuple(pieces)
