"""Rewrites a tree into an equal one that takes fewer operations."""

import functools

import numpy as np

from kerasllm.tokenization.characters.scan import NUM_CODE_POINTS
from kerasllm.tokenization.patterns.measure import members
from kerasllm.tokenization.patterns.nodes import (
    Atomic,
    Choice,
    Look,
    Node,
    OneOf,
    Repeat,
    Sequence,
    Text,
    shortest,
)

__all__ = ["characters", "only_member", "simplify"]

_LONG = 4  # characters of a text that is looked for by its first one


def simplify(node: Node) -> Node:
    """The node, flattened, with options that begin or end alike put together."""
    match node:
        case Sequence(parts):
            return _sequence([simplify(part) for part in parts])
        case Choice(options):
            return _choice([simplify(option) for option in options])
        case Repeat(part, least, most, mode):
            return Repeat(simplify(part), least, most, mode)
        case Look(part, behind, negative):
            return Look(simplify(part), behind, negative)
        case Atomic(part):
            return Atomic(simplify(part))
        case _:
            return node


def only_member(node: Node) -> str | None:
    """The character, where a node matches just one."""
    if not isinstance(node, OneOf):
        return None
    found = characters(node).nonzero()[0]
    return chr(found[0]) if len(found) == 1 else None


def characters(node: OneOf) -> np.ndarray:
    """bool[code points]: which characters it matches."""
    return functools.reduce(np.logical_or, map(members, node.sources))


def _sequence(parts: list[Node]) -> Node:
    flat: list[Node] = []
    for part in parts:
        flat += part.parts if isinstance(part, Sequence) else [part]
    joined: list[Node] = []
    while flat:
        run = _leading_text(flat)
        joined.append(Text(run) if len(run) >= _LONG else flat[0])
        flat = flat[max(len(run), 1) :] if len(run) >= _LONG else flat[1:]
    return joined[0] if len(joined) == 1 else Sequence(tuple(joined))


def _leading_text(parts: list[Node]) -> str:
    text = ""
    for part in parts:
        character = only_member(part)
        if character is None:
            break
        text += character
    return text


def _choice(options: list[Node]) -> Node:
    flat: list[Node] = []
    for option in options:
        flat += option.options if isinstance(option, Choice) else [option]
    flat = _with_common_heads(flat)
    merged: list[Node] = []
    for option in flat:
        _add_option(merged, option)
    return merged[0] if len(merged) == 1 else Choice(tuple(merged))


def _with_common_heads(options: list[Node]) -> list[Node]:
    """Options that stand together and begin alike, as one: `ab|ac` becomes `a(?:b|c)`."""
    result: list[Node] = []
    group: list[Node] = []

    def close() -> None:
        if len(group) > 1:
            tails: list[Node] = [_sequence(list(_parts(option)[1:])) for option in group]
            result.append(_sequence([_parts(group[0])[0], _choice(tails)]))
        else:
            result.extend(group)

    for option in options:
        alike = group and _parts(group[0])[0] == _parts(option)[0]
        if not (alike and _splits_off(group[0]) and _splits_off(option)):
            close()
            group = []
        group.append(option)
    close()
    return result


def _splits_off(option: Node) -> bool:
    """Whether the first part of an option matches in just one way, given the character it stands at."""
    head, *tail = _parts(option)
    match head:
        case OneOf():
            return True
        case Repeat(OneOf() as part, 0, 1, "greedy"):
            # ` ?a| ?b`: where the space is there, what follows could not match without it.
            rest = _sequence(tail)
            return shortest(rest) > 0 and not bool((_first(rest) & characters(part)).any())
        case _:
            return False


def _add_option(options: list[Node], option: Node) -> None:
    """Adds an option; one that differs from an earlier one only in its first character joins it."""
    head, *tail = _parts(option)
    if not isinstance(head, OneOf):
        options.append(option)
        return
    begins = characters(head)
    for index in range(len(options) - 1, -1, -1):
        other_head, *other_tail = _parts(options[index])
        if isinstance(other_head, OneOf) and tail == other_tail:
            options[index] = _sequence([_union(other_head, head), *tail])
            return
        if shortest(options[index]) == 0 or (_first(options[index]) & begins).any():
            break  # the order of these two counts
    options.append(option)


def _union(left: OneOf, right: OneOf) -> OneOf:
    return OneOf(tuple(dict.fromkeys(left.sources + right.sources)))


def _parts(node: Node) -> tuple[Node, ...]:
    return node.parts if isinstance(node, Sequence) and node.parts else (node,)


def _first(node: Node) -> np.ndarray:
    """bool[code points]: a set that holds each character which a match of the node can begin with."""
    match node:
        case OneOf():
            return characters(node)
        case Text(text):
            found = np.zeros(NUM_CODE_POINTS, bool)
            found[ord(text[0])] = True
            return found
        case Sequence(parts) if parts:
            found = _first(parts[0])
            return found if shortest(parts[0]) else found | _first(Sequence(parts[1:]))
        case Choice(options):
            return functools.reduce(np.logical_or, map(_first, options))
        case Repeat(part, most=most) if most != 0:
            return _first(part)
        case Atomic(part):
            return _first(part)
        case _:
            return np.ones(NUM_CODE_POINTS, bool)
