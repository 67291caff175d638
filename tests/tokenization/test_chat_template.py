"""Chat templates: the texts of transformers, and what a hostile one may not do."""

import time

import pytest

from kerasllm.errors import TokenizerError
from kerasllm.testing.chat_templates import SPECIAL, TEMPLATES
from kerasllm.tokenization.chat_template import ChatTemplate, TemplateRefusedError

CONVERSATIONS = [
    [{"role": "user", "content": "Hello"}],
    [
        {"role": "user", "content": " <b>é 日本語 🙂</b>\n"},
        {"role": "assistant", "content": "  {{ 1 + 1 }} "},
    ],
    [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "'Why' \"not\"?\\n"}],
    [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}],
]
HELLO = [{"role": "user", "content": "Hello"}]


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("prompt", [False, True])
def test_texts_are_those_of_transformers(name, prompt):
    pytest.importorskip("transformers")
    from transformers.utils.chat_template_utils import render_jinja_template

    template = ChatTemplate(TEMPLATES[name], SPECIAL)
    found = template.render_all(CONVERSATIONS, add_generation_prompt=prompt)
    for messages, text in zip(CONVERSATIONS, found, strict=True):
        options = {"chat_template": TEMPLATES[name], "add_generation_prompt": prompt, **SPECIAL}
        try:
            (expected,), _ = render_jinja_template([messages], **options)
        except Exception:  # of several kinds
            assert isinstance(text, TemplateRefusedError)
        else:
            assert text == expected


def test_a_refusal_says_what_the_template_says():
    template = ChatTemplate(TEMPLATES["alternating"], SPECIAL)
    with pytest.raises(TemplateRefusedError, match=r"refuses the conversation \(.*Roles must alternate"):
        template.render(CONVERSATIONS[3])
    assert template.render(HELLO) == "<s><turn>user\nHello<end>\n\n"  # it goes on


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "SecurityError"),
        ("{{ cycler.__init__.__globals__.os.getcwd() }}", "SecurityError"),
        ("{{ messages.append(1) }}", "SecurityError"),
        ("{% for i in range(10 ** 9) %}x{% endfor %}", "Range too big"),
        ("{{ 'a' * 10 ** 10 }}", "memory"),
        ("{% for i in range(99999) %}{{ 'a' * 99 }}{% endfor %}", "more than 1,048,576 characters"),
        ("{{ raise_exception('No') }}", "No"),
        ("{{ 1 / 0 }}", "ZeroDivisionError"),
        ("{% if %}", "TemplateSyntaxError"),
        ("{{ messages[0].content.nothing.here }}", "UndefinedError"),
    ],
)
def test_what_a_hostile_or_broken_template_gets(source, reason):
    with pytest.raises(TemplateRefusedError, match=reason):
        ChatTemplate(source).render(HELLO)


def test_a_template_that_never_ends_is_ended():
    source = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
    began = time.monotonic()
    with pytest.raises(TokenizerError, match="took more than 1 s for one conversation"):
        ChatTemplate(source).render(HELLO)
    assert time.monotonic() - began < 30


def test_a_template_of_any_length_is_not_read():
    with pytest.raises(TokenizerError, match="has 65,537 characters, more than 65,536"):
        ChatTemplate("x" * (2**16 + 1))
