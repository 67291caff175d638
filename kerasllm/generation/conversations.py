"""A chat template as tables, so that a graph without Jinja writes the same text.

What stands between two texts of a conversation depends, in the templates that models come with, on the roles
before and after it alone. Where that holds, the template is a few tables and nothing else; where it does not,
it is refused with the conversation that shows it.
"""

import itertools
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from kerasllm.errors import ExportError
from kerasllm.tokenization.chat_template import ChatTemplate, Message

__all__ = ["ROLES", "CompiledTemplate", "compile_template"]

ROLES = ("system", "user", "assistant")
_START, _END = "", "end"
Pair = tuple[str, str]
_LONGEST_PROOF = 5
_NUM_RANDOM = 200
_TEXTS = (
    "Hello",
    "  spaces around\n",
    "\tline\none\n\n",
    "{{ messages }} {% if x %}",
    "<|im_end|> </s> [INST] <<SYS>>",
    "naïve 日本語 🙂 e\u0301",
    "'quotes' \"and\" \\n <b>&amp;</b>",
    "\u00a0no-break\u2003space\u200b",
    "\x1cseparator\x85",
)


@dataclass(frozen=True)
class CompiledTemplate:
    """A template as tables, each by the roles before and after: `""` is the beginning, `"end"` the end.

    Attributes:
        pieces: What is written between two texts; at the end, the beginning of the model's turn. Pairs that
            the template refuses are not there.
        stripped_before: Where the text before loses the white space at its end.
        stripped_after: Where the text after loses the white space at its beginning.
    """

    pieces: Mapping[Pair, str]
    stripped_before: frozenset[Pair]
    stripped_after: frozenset[Pair]

    def render(self, messages: Sequence[Message]) -> str | None:
        """The text of a conversation with the beginning of the model's turn, `None` where it is refused.

        Texts of white space alone are refused, too.
        """
        text = content = before = _START
        for message in [*messages, {"role": _END, "content": ""}]:
            pair = (before, message["role"])
            if pair not in self.pieces or not (message["content"].strip() or message["role"] == _END):
                return None
            text += content.rstrip() if pair in self.stripped_before else content
            text += self.pieces[pair]
            before, content = message["role"], message["content"]
            content = content.lstrip() if pair in self.stripped_after else content
        return text

    def graph_render(self, roles: Any, contents: Any) -> tuple[Any, Any]:
        """`render` as TensorFlow operations.

        Args:
            roles: string[batch, turns], padded with empty ones at the end.
            contents: string[batch, turns].

        Returns:
            Texts string[batch], and whether each conversation is one that the template takes, bool[batch].
        """
        names = tf.constant([_START, *ROLES])
        columns = (*ROLES, _END)

        def table(value: Any) -> Any:
            return tf.constant([[value((before, after)) for after in columns] for before in (_START, *ROLES)])

        roles, contents = (tf.pad(part, [[0, 0], [0, 1]], constant_values="") for part in (roles, contents))
        is_known = tf.reduce_any(roles[..., None] == names, axis=2)
        number = tf.argmax(tf.cast(roles[..., None] == names, tf.int32), axis=2, output_type=tf.int32)
        used = roles != ""
        is_end = ~used & tf.pad(used[:, :-1], [[0, 0], [1, 0]], constant_values=False)
        pairs = tf.stack(
            [tf.pad(number[:, :-1], [[0, 0], [1, 0]]), tf.where(used, tf.maximum(number - 1, 0), len(ROLES))],
            axis=2,
        )

        def of_pairs(value: Any) -> Any:
            return tf.gather_nd(table(value), pairs)

        # The white space at the end of a text is a matter of the pair after it.
        at_end = tf.pad(of_pairs(lambda pair: pair in self.stripped_before)[:, 1:], [[0, 0], [0, 1]])
        is_said = (_lstripped(contents) != "") | ~used
        contents = tf.where(
            of_pairs(lambda pair: pair in self.stripped_after), _lstripped(contents), contents
        )
        contents = tf.where(at_end, _rstripped(contents), contents)
        pieces = of_pairs(lambda pair: self.pieces.get(pair, ""))
        text = tf.strings.reduce_join(tf.where(used | is_end, pieces + contents, ""), axis=1)
        is_taken = of_pairs(lambda pair: pair in self.pieces) | ~(used | is_end)
        in_order = tf.reduce_sum(tf.cast(is_end, tf.int32), axis=1) == 1  # no gap, and at least one turn
        return text, tf.reduce_all(is_known & is_taken & is_said, axis=1) & in_order & used[:, 0]


def compile_template(template: ChatTemplate) -> CompiledTemplate:
    """Turns a template into tables, and proves them on every order of roles and on random conversations.

    Raises:
        ExportError: If it cannot be written as tables; shows where.
    """
    if "strftime_now" in template.source:
        raise _not_tables("it writes the current date, which would be frozen")
    pieces: dict[Pair, str] = {}
    for order, text in _rendered(template, _orders(3)).items():
        for pair, piece in [] if text is None else _between(order, text):
            if pieces.setdefault(pair, piece) != piece:
                before = pair[0] or "the beginning"
                raise _not_tables(f"between {before} and {pair[1]} it writes {pieces[pair]!r} or {piece!r}")
    if not pieces:
        raise _not_tables(f"it takes no conversation of the roles {', '.join(ROLES)}")
    compiled = CompiledTemplate(pieces, *_stripped(template, pieces))
    _prove(template, compiled)
    return compiled


def _rendered(template: ChatTemplate, orders: Sequence[tuple[str, ...]]) -> dict[tuple[str, ...], str | None]:
    """Texts of conversations with marks for texts; `None` where the template refuses one, or loses a text."""
    texts = template.render_all(map(_marked, orders), add_generation_prompt=True)
    found: dict[tuple[str, ...], str | None] = {}
    for order, text in zip(orders, texts, strict=True):
        whole = isinstance(text, str) and [text.count(_mark(n)) for n in range(len(order))] == [1] * len(
            order
        )
        found[order] = text if isinstance(text, str) and whole else None
    return found


def _orders(longest: int) -> list[tuple[str, ...]]:
    return [order for size in range(1, longest + 1) for order in itertools.product(ROLES, repeat=size)]


def _marked(order: Sequence[str]) -> list[dict[str, str]]:
    return [{"role": role, "content": _mark(number)} for number, role in enumerate(order)]


def _mark(number: int) -> str:
    return f"qzjx{number}kvwq"


def _between(order: Sequence[str], text: str) -> list[tuple[Pair, str]]:
    """What stands before, between and after the texts of a conversation."""
    found = []
    for number, pair in enumerate(itertools.pairwise((_START, *order))):
        piece, mark, text = text.partition(_mark(number))
        if not mark:
            raise _not_tables(f"it changes the order of the texts, for the roles {list(order)}")
        found.append((pair, piece))
    return [*found, ((order[-1], _END), text)]


def _stripped(template: ChatTemplate, pieces: Mapping[Pair, str]) -> tuple[frozenset[Pair], frozenset[Pair]]:
    """Where texts lose white space, at the end of the one before and at the beginning of the one after."""
    left, right = " \n", "\t "
    before, after = set(), set()
    orders = [order for order in _orders(3) if _is_taken(order, pieces)]
    spaced = [
        [{**message, "content": left + message["content"] + right} for message in _marked(order)]
        for order in orders
    ]
    texts = template.render_all(spaced, add_generation_prompt=True)
    for order, text in zip(orders, texts, strict=True):
        if not isinstance(text, str):
            raise _not_tables(f"it refuses white space, for the roles {list(order)}")
        for pair, piece in _between(order, text):
            rest = piece.removeprefix("" if pair[0] == _START else right)
            if rest == piece:
                before.add(pair)
            if pair[1] == _END or not rest.endswith(pieces[pair] + left):
                after.add(pair)
    return frozenset(before), frozenset(after)


def _is_taken(order: Sequence[str], pieces: Mapping[Pair, str]) -> bool:
    return all(pair in pieces for pair in itertools.pairwise((_START, *order, _END)))


def _prove(template: ChatTemplate, compiled: CompiledTemplate) -> None:
    orders = _orders(_LONGEST_PROOF)
    for order, text in _rendered(template, orders).items():
        _check(compiled, _marked(order), text)
    draw = random.Random(0)  # noqa: S311  (no secret)
    for order in [
        draw.choice([o for o in orders if _is_taken(o, compiled.pieces)]) for _ in range(_NUM_RANDOM)
    ]:
        texts = ["".join(draw.choices(_TEXTS, k=draw.randint(1, 3))) for _ in order]
        messages = [{"role": role, "content": text} for role, text in zip(order, texts, strict=True)]
        _check(compiled, messages, template.render(messages, add_generation_prompt=True))


def _check(compiled: CompiledTemplate, messages: Sequence[Message], expected: str | None) -> None:
    found = compiled.render(messages)
    if found != expected:
        raise _not_tables(f"for {list(messages)} it writes {expected!r}, and its tables {found!r}")


def _not_tables(reason: str) -> ExportError:
    return ExportError(
        f"The chat template cannot be written into a graph exactly: {reason}. Export without the signature "
        "`chat`, and render conversations before they are sent."
    )


# What Python's `str.strip` takes for white space.
_SPACE = r"[\t-\r\x1c-\x20\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}]+"


def _lstripped(texts: Any) -> Any:
    return tf.strings.regex_replace(texts, rf"\A{_SPACE}", "")


def _rstripped(texts: Any) -> Any:
    return tf.strings.regex_replace(texts, rf"{_SPACE}\z", "")
