"""Renders chat templates in a process of its own: a template is a program that came with a checkpoint.

Run by `kerasllm.tokenization.chat_template`, by path, so that it imports Jinja2 and nothing else. Reads a
line of JSON a request, and answers each with one. The process has little memory, and its parent ends it when
it takes long.
"""

import contextlib
import datetime
import json
import sys
from typing import Any

import jinja2
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

_MEMORY = 512 * 2**20
_LONGEST = 2**20  # characters that a template may add to the texts of a conversation


class _GenerationBlock(Extension):
    """`{% generation %}` marks what the model says; it changes no text."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Any) -> Any:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _refuse(message: str) -> None:
    raise jinja2.TemplateError(message)


def _to_json(value: Any, ensure_ascii: bool = False, **options: Any) -> str:
    known = {name: options[name] for name in ("indent", "separators", "sort_keys") if name in options}
    return json.dumps(value, ensure_ascii=ensure_ascii, **known)


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationBlock, loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = lambda form: datetime.datetime.now().strftime(form)
    return environment


def _render(template: Any, values: dict[str, Any]) -> str:
    room = _LONGEST + sum(len(str(message)) for message in values["messages"]) * 2
    pieces = []
    for piece in template.generate(**values):
        pieces.append(piece)
        room -= len(piece)
        if room < 0:
            raise jinja2.TemplateError(f"it renders more than {_LONGEST:,} characters beside the texts")
    return "".join(pieces)


def main() -> None:
    """Answers requests until its input ends."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    environment, template = _environment(), None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if "template" in request:
                template = environment.from_string(request["template"])
                answer = {"text": ""}
            else:
                answer = {"text": _render(template, request)}
        except MemoryError:
            answer = {"error": "it takes more memory than a template may have"}
        except Exception as error:  # a template may raise anything
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
