"""Where a pattern that begins at each place ends: backtracking, at all places at once.

Each part of a pattern is evaluated together with what follows it. What follows is known for all places
already: whether it matches from there, and where that match ends. So a part that could match in several ways
takes, at each place, the first way after which the rest matches; nothing is ever taken back.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from kerasllm.tokenization.graph.pattern_plan import NEWLINE, Plan
from kerasllm.tokenization.graph.spreading import marked, spread
from kerasllm.tokenization.patterns.nodes import (
    Anchor,
    Atomic,
    Choice,
    Look,
    Node,
    OneOf,
    Repeat,
    Sequence,
    Source,
    Text,
)
from kerasllm.tokenization.patterns.table import CODE_MASK

__all__ = ["Ends", "PatternEnds"]


class Ends(NamedTuple):
    """What is matched from each place.

    Attributes:
        ok: bool[n], where there is a match; `None` for everywhere.
        end: int32[n], where it ends, or by how many characters, as an `int`.
        may: bool[kinds], characters of which kinds can stand where there is a match.
        must: bool[kinds], of which kinds a character is enough for a match.
    """

    ok: Any
    end: Any
    may: np.ndarray
    must: np.ndarray


class PatternEnds:
    """One evaluation of patterns over the characters of some texts.

    Args:
        plan: Of the pattern.
        pages: The plan's table, as tensors.
        entries: The same.
        codes: int32[n], characters and barriers, of which the last one is a barrier.
    """

    def __init__(self, plan: Plan, pages: Any, entries: Any, codes: Any):
        self._plan = plan
        self._codes = codes
        self.places = tf.range(tf.size(codes))
        self._last = tf.size(codes) - 1
        self._size = tf.shape(codes, tf.int64)
        self._zero = tf.zeros([1], tf.int64)
        masked = tf.bitwise.bitwise_and(codes, CODE_MASK)
        page = tf.gather(pages, tf.bitwise.right_shift(masked, 8))
        self._bits = tf.gather(entries, page + tf.bitwise.bitwise_and(masked, 255))
        self._inside: dict[OneOf, Any] = {}
        self._run_ends: dict[int, Any] = {}

    def __call__(self, node: Node) -> Ends:
        """Where matches of a whole pattern end."""
        everywhere = self._plan.all_kinds(True)
        return self._then(node, Ends(None, 0, everywhere, everywhere))

    def inside(self, one_of: OneOf) -> Any:
        """bool[n]: which characters are in a set."""
        if one_of not in self._inside:
            single = self._plan.single.get(one_of)
            if single is not None:
                found = tf.equal(self._codes, single)
            else:
                found = tf.not_equal(tf.bitwise.bitwise_and(self._bits, 1 << self._plan.sets[one_of]), 0)
            self._inside[one_of] = found
        return self._inside[one_of]

    def absolute(self, ends: Ends) -> Any:
        """int32[n]: where matches end."""
        return self.places + ends.end if isinstance(ends.end, int) else ends.end

    def _then(self, node: Node, rest: Ends) -> Ends:
        """What is matched by a node and then the rest."""
        evaluate: dict[type, Callable[[Any, Ends], Ends]] = {
            Anchor: self._anchor,
            Atomic: self._atomic,
            Choice: self._choice,
            Look: self._look,
            OneOf: self._one,
            Repeat: self._repeat,
            Sequence: self._sequence,
            Text: self._text,
        }
        return evaluate[type(node)](node, rest)

    def _sequence(self, node: Sequence, rest: Ends) -> Ends:
        for part in reversed(node.parts):
            rest = self._then(part, rest)
        return rest

    def _choice(self, node: Choice, rest: Ends) -> Ends:
        found = self._then(node.options[-1], rest)
        for option in reversed(node.options[:-1]):
            found = self._first_of(self._then(option, rest), found)
        return found

    def _one(self, one_of: OneOf, rest: Ends) -> Ends:
        kinds = self._plan.kinds(one_of)
        ok = _both(self.inside(one_of), None if rest.ok is None else tf.roll(rest.ok, -1, 0))
        end = rest.end + 1 if isinstance(rest.end, int) else tf.roll(rest.end, -1, 0)
        return Ends(ok, end, kinds & rest.may.any(), kinds & rest.must.all())

    def _text(self, node: Text, rest: Ends) -> Ends:
        wanted = tf.constant([ord(character) for character in node.text])
        candidates = marked(tf.equal(self._codes, ord(node.text[0])))
        places = tf.cast(candidates, tf.int32)[:, None] + tf.range(len(node.text))
        alike = tf.equal(tf.gather(self._codes, tf.minimum(places, self._last)), wanted)
        found = tf.gather(candidates, marked(tf.reduce_all(alike, axis=1)))
        ok = tf.tensor_scatter_nd_update(
            tf.zeros_like(self._codes, tf.bool), found[:, None], tf.ones_like(found, tf.bool)
        )
        length = len(node.text)
        ok = _both(ok, None if rest.ok is None else tf.roll(rest.ok, -length, 0))
        end = rest.end + length if isinstance(rest.end, int) else tf.roll(rest.end, -length, 0)
        kinds = self._plan.kinds(OneOf((Source("character", node.text[0]),)))
        return Ends(ok, end, kinds, self._plan.all_kinds(False))

    def _first_of(self, left: Ends, right: Ends) -> Ends:
        if left.ok is None:
            return left
        ok = None if right.ok is None else tf.logical_or(left.ok, right.ok)
        alike = isinstance(left.end, int) and isinstance(right.end, int) and left.end == right.end
        if alike or left.end is right.end:
            end = left.end
        else:
            end = tf.where(left.ok, self.absolute(left), self.absolute(right))
        return Ends(ok, end, left.may | right.may, left.must | right.must)

    def _at(self, rest: Ends, places: Any) -> tuple[Any, Any]:
        """Whether and where the rest ends, from other places; `None` where it matches everywhere."""
        end = places + rest.end if isinstance(rest.end, int) and rest.end else places
        end = end if isinstance(rest.end, int) else tf.gather(rest.end, places)
        return None if rest.ok is None else tf.gather(rest.ok, places), end

    def _atomic(self, node: Atomic, rest: Ends) -> Ends:
        part = self(node.part)
        places = tf.clip_by_value(self.absolute(part), 0, self._last)
        ok, end = self._at(rest, places)
        must = part.must if rest.must.all() else self._plan.all_kinds(False)
        return Ends(_both(part.ok, ok), end, part.may, must)

    def _repeat(self, node: Repeat, rest: Ends) -> Ends:
        lazy = node.mode == "lazy"
        if isinstance(node.part, OneOf) and (node.most is None or (node.most > 1 and not lazy)):
            return self._run(node, node.part, rest)
        if node.mode == "possessive":
            return self._then(Atomic(Repeat(node.part, node.least, node.most)), rest)
        return self._copies(node, rest)

    def _copies(self, node: Repeat, rest: Ends) -> Ends:
        """A repetition of a few times, written out."""
        most = node.least if node.most is None else node.most
        found = rest
        if node.most is None and not (node.mode == "lazy" and rest.ok is None):  # else none are wanted
            found = self._then(Repeat(node.part, 0, None, node.mode), rest)
        for _ in range(most - node.least):
            once = self._then(node.part, found)
            found = self._first_of(rest, once) if node.mode == "lazy" else self._first_of(once, rest)
        for _ in range(node.least):
            found = self._then(node.part, found)
        return found

    def _run(self, node: Repeat, one_of: OneOf, rest: Ends) -> Ends:
        """A repetition of one character."""
        least, most = node.least, node.most
        kinds, inside = self._plan.kinds(one_of), self.inside(one_of)
        meets = kinds & rest.may  # what the rest might begin with in the midst of the run
        if most is not None and node.mode == "greedy" and rest.ok is not None and meets.any():
            return self._copies(node, rest)
        if most is None and (least > 1 or (node.mode == "lazy" and rest.ok is None)):
            return self._copies(node, rest)
        run_end = self._run_end(one_of)
        if least == 0:
            run_end = tf.where(inside, run_end, self.places)
        if most is not None:
            run_end = tf.minimum(run_end, self.places + most)
        enough = inside if least else None
        if least > 1:
            enough = _both(inside, run_end >= self.places + least)
        if node.mode == "lazy":
            ok, end = self._shortest(node, rest, run_end)
        elif rest.ok is None or node.mode == "possessive" or not meets.any():
            # A shorter part of the run is not wanted, or the rest cannot begin where the run goes on.
            ok, end = self._at(rest, run_end)
        else:
            ok, end = self._shorter(node, rest, run_end, always=not (kinds & ~rest.must).any())
        return Ends(_both(enough, ok), end, *self._kinds_of_run(node, kinds, rest))

    def _shorter(self, node: Repeat, rest: Ends, run_end: Any, *, always: bool) -> tuple[Any, Any]:
        """The longest part of the run after which the rest matches."""
        if always:  # one character before the end of the run, if not at its end
            place = tf.where(tf.gather(rest.ok, run_end), run_end, run_end - 1)
        else:
            found = marked(rest.ok)
            starts = tf.concat([self._zero, found], axis=0)
            limits = tf.concat([found, self._size], axis=0)
            last_ok = spread(tf.concat([self._zero - 1, found], axis=0), starts, limits)
            place = tf.gather(last_ok, run_end)
        enough = place > self.places if node.least else place >= self.places
        _, end = self._at(rest._replace(ok=None), tf.maximum(place, 0))
        return enough, end

    def _shortest(self, node: Repeat, rest: Ends, run_end: Any) -> tuple[Any, Any]:
        """The shortest part of the run after which the rest matches."""
        found = marked(rest.ok)
        limits = tf.concat([found + 1, self._size], axis=0)
        starts = tf.concat([self._zero, found + 1], axis=0)
        place = spread(tf.concat([found, self._size], axis=0), starts, limits)
        if node.least:
            place = tf.roll(place, -1, 0)
        _, end = self._at(rest._replace(ok=None), tf.minimum(place, self._last))
        return place <= run_end, end

    def _kinds_of_run(self, node: Repeat, kinds: np.ndarray, rest: Ends) -> tuple[np.ndarray, np.ndarray]:
        nothing = self._plan.all_kinds(False)
        sure = bool(rest.must.all())
        if node.least:
            return kinds & (rest.may.any()), kinds if sure and node.least == 1 else nothing
        must = rest.must if node.mode != "possessive" or sure else nothing
        return kinds | rest.may, must

    def _run_end(self, one_of: OneOf) -> Any:
        """int32[n]: where the run of a set's characters ends that each of its characters is in."""
        mask = self._plan.group[one_of]
        if mask not in self._run_ends:
            kinds = tf.bitwise.bitwise_and(self._bits, mask)
            changes = marked(tf.not_equal(kinds, tf.roll(kinds, 1, 0)))
            limits = tf.concat([changes, self._size], axis=0)
            starts = tf.concat([self._zero, changes], axis=0)
            self._run_ends[mask] = spread(tf.minimum(limits, self._size - 1), starts, limits)
        return self._run_ends[mask]

    def _look(self, node: Look, rest: Ends) -> Ends:
        found = self(node.part)
        may, must = found.may, found.must
        if node.behind:
            before = tf.roll(found.ok, 1, 0)
            found = found._replace(ok=before)
            may, must = self._plan.all_kinds(True), self._plan.all_kinds(False)
        if node.negative:
            may, must = ~must, ~may
            ok = tf.logical_not(found.ok) if found.ok is not None else tf.zeros_like(self._codes, tf.bool)
        else:
            ok = found.ok
        return Ends(_both(ok, rest.ok), rest.end, rest.may & may, rest.must & must)

    def _anchor(self, node: Anchor, rest: Ends) -> Ends:
        newline = self.inside(NEWLINE)
        barrier = self._codes < 0
        at_start = tf.roll(barrier, 1, 0)
        match node.kind:
            case "^":  # not after the last line end of a text
                ok = tf.logical_or(at_start, tf.logical_and(tf.roll(newline, 1, 0), tf.logical_not(barrier)))
            case "$":
                ok = tf.logical_or(barrier, newline)
            case r"\A":
                ok = at_start
            case r"\z":
                ok = barrier
            case _:
                ok = tf.logical_or(barrier, tf.logical_and(newline, tf.roll(barrier, -1, 0)))
        return Ends(_both(ok, rest.ok), rest.end, rest.may, self._plan.all_kinds(False))


def _both(left: Any, right: Any) -> Any:
    if left is None or right is None:
        return right if left is None else left
    return tf.logical_and(left, right)
