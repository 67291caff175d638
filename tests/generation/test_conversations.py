"""Templates as tables: the same texts in a graph, or a refusal that says why."""

import itertools
import random

import pytest
import tensorflow as tf

from kerasllm.errors import ExportError
from kerasllm.generation.conversations import ROLES, CompiledTemplate, compile_template
from kerasllm.testing.chat_templates import CHATML, SPECIAL, TEMPLATES
from kerasllm.tokenization.chat_template import ChatTemplate

SPACES = [chr(c) for c in range(0x3001) if chr(c).isspace()]


def in_graph(compiled, conversations):
    """Texts, `None` where the graph refuses."""
    turns = max(map(len, conversations))
    parts = [
        [[m[name] for m in messages] + [""] * (turns - len(messages)) for messages in conversations]
        for name in ("role", "content")
    ]
    texts, taken = tf.function(compiled.graph_render)(*map(tf.constant, parts))
    return [text.decode() if ok else None for text, ok in zip(texts.numpy(), taken.numpy(), strict=True)]


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_graph_writes_what_jinja_writes_and_refuses_what_jinja_refuses(name):
    template = ChatTemplate(TEMPLATES[name], SPECIAL)
    compiled = compile_template(template)
    draw = random.Random(1)
    orders = [o for size in (1, 2, 3, 4) for o in itertools.product(ROLES, repeat=size)]
    pieces = ["text", "{{ x }}", "<|im_end|>", "e\u0301 🙂", "\\A", *SPACES]
    conversations = [
        [
            {"role": role, "content": "".join([*draw.choices(pieces, k=3), "?", *draw.choices(pieces, k=3)])}
            for role in order
        ]
        for order in orders
    ]
    expected = [
        text if isinstance(text, str) else None
        for text in template.render_all(conversations, add_generation_prompt=True)
    ]
    if name == "instructions":
        # It leaves out the text of a system turn that no user's first follows, which is a refusal here.
        for number, order in enumerate(orders):
            lost = "system" in order[1:] or order == ("system",)
            expected[number] = None if lost else expected[number]
    assert in_graph(compiled, conversations) == expected
    assert [compiled.render(messages) for messages in conversations] == expected
    assert any(expected)


@pytest.mark.parametrize(
    "turns",
    [
        [("robot", "x")],
        [("", "x")],
        [("user", "a"), ("", ""), ("user", "b")],
        [("User", "a")],
    ],
)
def test_unknown_roles_and_gaps_are_refused(turns):
    compiled = compile_template(ChatTemplate(CHATML))
    good = [{"role": "user", "content": "Hello"}]
    found = in_graph(compiled, [[{"role": r, "content": c} for r, c in turns], good])
    assert found[0] is None
    assert found[1] is not None


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("{{ strftime_now('%Y') }}{{ messages[0].content }}", "writes the current date"),
        (
            "{% for m in messages %}{{ loop.index }}:{{ m.content }}{% endfor %}",
            "it writes .2:. or .3:.",
        ),
        ("{% for m in messages %}{{ m.content | upper }}{% endfor %}", "takes no conversation"),
        (
            "{% for m in messages %}{{ m.role }} {{ m.content | replace('<', '&lt;') }}{% endfor %}",
            "its tables",
        ),
        ("{% for m in messages | reverse %}{{ m.role }} {{ m.content }}{% endfor %}", "order of the texts"),
    ],
)
def test_what_tables_cannot_write_is_refused(source, reason):
    with pytest.raises(ExportError, match=reason):
        compile_template(ChatTemplate(source))


@pytest.mark.parametrize("content", ["", " \n ", "\u3000"])
def test_a_turn_without_a_word_is_refused(content):
    compiled = CompiledTemplate({("", "user"): "> ", ("user", "end"): "!"}, frozenset(), frozenset())
    messages = [{"role": "user", "content": content}]
    assert compiled.render(messages) is None
    assert in_graph(compiled, [messages]) == [None]
