"""Post-processors: which special tokens stand around the texts, and how offsets are trimmed."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from kerasllm.errors import TokenizerError
from kerasllm.tokenization.spec.component import Component, refuse

__all__ = ["Piece", "Templates", "parse_post_processor"]

SUPPORTED = ("BertProcessing", "ByteLevel", "RobertaProcessing", "Sequence", "TemplateProcessing", "none")


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
    """How one text, and a pair of texts, are put together.

    Attributes:
        single: Pieces of the result for one text.
        pair: The same for two.
        trims: One entry for each time that white space is cut off the offsets of the texts' tokens, before
            anything else: whether a single space before the first token is left (`add_prefix_space`).
    """

    single: tuple[Piece, ...]
    pair: tuple[Piece, ...]
    trims: tuple[bool, ...] = ()


# Without a post-processor, `tokenizers` puts the second text after the first, as segment 1.
_PLAIN = Templates((Piece(0, (), 0),), (Piece(0, (), 0), Piece(1, (), 1)))


def parse_post_processor(value: Any) -> Templates:
    """Reads the `post_processor` of a `tokenizer.json`."""
    if value is None:
        return _PLAIN
    read = [_member(component) for component in _flat(value)]
    trims: tuple[bool, ...] = ()
    framed: Templates | None = None
    for templates in read:
        if framed and (templates.trims or _frames(templates)):
            raise refuse(
                "post-processor `Sequence` with, after the one that adds special tokens,",
                "one that adds more or that trims offsets",
                ["ByteLevel with `trim_offsets` = False"],
            )
        trims += templates.trims
        framed = templates if _frames(templates) else framed
    framed = framed or _PLAIN
    return Templates(framed.single, framed.pair, trims)


def _flat(value: Any) -> Iterator[Component]:
    component = Component("post-processor", value)
    if component.type != "Sequence":
        yield component
        return
    members = component.take("processors", list)
    component.finish()
    for member in members:
        yield from _flat(member)


def _member(component: Component) -> Templates:
    match component.type:
        case "BertProcessing":
            return _bert(component)
        case "ByteLevel":
            return _byte_level(component)
        case "RobertaProcessing":
            return _roberta(component)
        case "TemplateProcessing":
            return _template(component)
    raise refuse("post-processor", component.type, SUPPORTED)


def _frames(templates: Templates) -> bool:
    """Whether it is more than a `ByteLevel`, which leaves the tokens as they are."""
    return (templates.single, templates.pair) != (_PLAIN.single, _PLAIN.pair)


def _byte_level(component: Component) -> Templates:
    trims = _trims(component)
    component.take("use_regex", bool, True)
    component.finish()
    return Templates(_PLAIN.single, _PLAIN.pair, trims)


def _trims(component: Component) -> tuple[bool, ...]:
    keeps_space = component.take("add_prefix_space", bool)
    return (keeps_space,) if component.take("trim_offsets", bool) else ()


def _bert(component: Component) -> Templates:
    cls = (_pair_id(component, "cls"),)
    sep = (_pair_id(component, "sep"),)
    component.finish()
    single = (Piece(None, cls, 0), Piece(0, (), 0), Piece(None, sep, 0))
    return Templates(single, (*single, Piece(1, (), 1), Piece(None, sep, 1)))


def _roberta(component: Component) -> Templates:
    cls = (_pair_id(component, "cls"),)
    sep = (_pair_id(component, "sep"),)
    trims = _trims(component)
    component.finish()
    single = (Piece(None, cls, 0), Piece(0, (), 0), Piece(None, sep, 0))
    second = (Piece(None, sep, 0), Piece(1, (), 0), Piece(None, sep, 0))  # its segments are all 0
    return Templates(single, single + second, trims)


def _pair_id(component: Component, name: str) -> int:
    value = component.take(name, list)
    if len(value) != 2 or not isinstance(value[1], int):
        raise TokenizerError(
            f"`{name}` of the post-processor `{component.type}` is {value!r}, expected a token and its id."
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
