"""From a conversation to the text that a model was trained on, by the checkpoint's Jinja template."""

import contextlib
import json
import selectors
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, cast

from kerasllm.errors import TokenizerError

__all__ = ["ChatTemplate", "Message", "TemplateRefusedError"]

Message = Mapping[str, str]

_LARGEST = 64 * 1024  # characters of a template
_SECONDS = 1.0  # for one conversation
_STARTUP_SECONDS = 30.0
_WORKER = Path(__file__).with_name("template_worker.py")


class TemplateRefusedError(TokenizerError):
    """A conversation that the template does not take, with what the template says about it."""


class ChatTemplate:
    """A checkpoint's template for conversations.

    It is rendered by a sandboxed Jinja2 in a process of its own, with limits on time, memory and length: a
    template is a program that came with the checkpoint. Texts are those of transformers'
    `apply_chat_template`.

    Args:
        source: The Jinja template.
        special_tokens: What it may refer to: `bos_token`, `eos_token` and the like. Defaults to none.

    Raises:
        TokenizerError: If the template is too long, or no template.

    Example:
    >>> template = ChatTemplate("{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}")
    >>> template.render([{"role": "user", "content": "Hello"}])
    '<user>Hello'
    """

    def __init__(self, source: str, special_tokens: Mapping[str, str] | None = None):
        if len(source) > _LARGEST:
            raise TokenizerError(
                f"The chat template has {len(source):,} characters, more than {_LARGEST:,}. Take another."
            )
        self.source = source
        self.special_tokens = dict(special_tokens or {})
        self._worker: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"ChatTemplate({self.source[:40]!r}…)"

    def __reduce__(self) -> tuple[Any, ...]:
        return ChatTemplate, (self.source, self.special_tokens)

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool = False) -> str:
        """The text of a conversation.

        Args:
            messages: Each with `role` and `content`.
            add_generation_prompt: Whether the beginning of the model's next turn comes last. Defaults to
                `False`.

        Raises:
            TemplateRefusedError: If the template refuses the conversation.
            TokenizerError: If it takes too long, or too much memory.
        """
        (text,) = self.render_all([messages], add_generation_prompt=add_generation_prompt)
        if isinstance(text, TemplateRefusedError):
            raise text
        return text

    def render_all(
        self, conversations: Iterable[Sequence[Message]], *, add_generation_prompt: bool = False
    ) -> list[str | TemplateRefusedError]:
        """As `render`, of many conversations; where one is refused, the error stands in its place."""
        found: list[str | TemplateRefusedError] = []
        with self._lock:
            for messages in conversations:
                values = {**self.special_tokens, "add_generation_prompt": add_generation_prompt}
                plain = [{"role": m["role"], "content": m["content"]} for m in messages]
                answer = self._ask({**values, "messages": plain})
                found.append(answer["text"] if "text" in answer else _refusal(answer["error"]))
        return found

    def _ask(self, request: dict[str, Any]) -> dict[str, str]:
        if self._worker is None:
            self._worker = _start(self.source)
            weakref.finalize(self, _end, self._worker)
        answer = _answer(self._worker, request, _SECONDS)
        if answer is None:
            _end(self._worker)
            self._worker = None
            raise TokenizerError(
                f"The chat template took more than {_SECONDS:g} s for one conversation, or more memory than "
                "it may have. Do not use this checkpoint's template; choose another one."
            )
        return answer


def _start(source: str) -> "subprocess.Popen[str]":
    worker = subprocess.Popen(
        [sys.executable, "-I", str(_WORKER)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        encoding="utf-8",
    )
    answer = _answer(worker, {"template": source}, _STARTUP_SECONDS)
    if answer is None or "error" in answer:
        _end(worker)
        raise _refusal((answer or {"error": "no answer"})["error"])
    return worker


def _answer(
    worker: "subprocess.Popen[str]", request: dict[str, Any], seconds: float
) -> dict[str, str] | None:
    """The worker's answer, `None` if it has none in time."""
    sent, received = cast("IO[str]", worker.stdin), cast("IO[str]", worker.stdout)
    try:
        sent.write(json.dumps(request) + "\n")
        sent.flush()
    except OSError:  # it has ended
        return None
    with selectors.DefaultSelector() as selector:
        selector.register(received, selectors.EVENT_READ)
        if not selector.select(seconds):
            return None
    line = received.readline()
    return json.loads(line) if line else None


def _end(worker: "subprocess.Popen[str]") -> None:
    if worker.poll() is None:
        worker.kill()
    worker.wait()
    for pipe in (worker.stdin, worker.stdout):
        with contextlib.suppress(OSError):  # what was not sent any more
            cast("IO[str]", pipe).close()


def _refusal(reason: str) -> TemplateRefusedError:
    return TemplateRefusedError(f"The chat template refuses the conversation ({reason}).")
