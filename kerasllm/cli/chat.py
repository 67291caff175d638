"""`kerasllm chat`: a conversation in the terminal."""

import sys
from collections.abc import Sequence
from typing import Any

import click

from kerasllm.cli.commands import Command
from kerasllm.cli.terminal import printable
from kerasllm.errors import ConfigError, DataError, TokenizerError

__all__ = ["command"]

_HELP = (
    "/reset forgets the conversation, /system TEXT sets how it answers, /exit ends. Ctrl-C stops an answer."
)


@click.command(cls=Command)
@click.argument("model")
@click.option("--system", metavar="TEXT", help="What the model is told before the conversation.")
@click.option(
    "-s",
    "--set",
    "overrides",
    metavar="KEY=VALUE",
    multiple=True,
    help="How it answers, e.g. `-s temperature=0.7 -s max_new_tokens=200`. May be repeated.",
)
@click.option("--dtype", type=click.Choice(["float32", "bfloat16"]), default="float32", show_default=True)
def command(model: str, system: str | None, overrides: tuple[str, ...], dtype: str) -> None:
    """Talk with a MODEL that has a chat template; each line is a turn.

    \b
      kerasllm chat hf://HuggingFaceTB/SmolLM2-135M-Instruct
      kerasllm chat MODEL --system "Answer in one sentence." -s temperature=0.7
      echo "What is the capital of France?" | kerasllm chat MODEL
    """
    settings = _settings(overrides)
    from kerasllm.models.presets import Preset
    from kerasllm.tasks.chat import Chat

    chat = Chat.from_preset(Preset.load(model), dtype=dtype)
    if sys.stdin.isatty():
        click.echo(f"{model}. {_HELP}", err=True)
    _talk(chat, [{"role": "system", "content": system}] if system else [], settings)


def _talk(chat: Any, messages: list[dict[str, str]], settings: dict[str, Any]) -> None:
    while True:
        try:
            line = _read_line()
        except KeyboardInterrupt:  # what was typed is dropped
            click.echo(err=True)
            continue
        if line is None or line in ("/exit", "/quit"):
            return
        if line.startswith("/"):
            messages = _obeyed(line, messages)
        elif line.strip():
            messages = _answered(chat, [*messages, {"role": "user", "content": line}], settings)


def _read_line() -> str | None:
    if sys.stdin.isatty():
        click.echo("> ", nl=False, err=True)
    line = sys.stdin.readline()
    return line.rstrip("\r\n") if line else None


def _obeyed(line: str, messages: list[dict[str, str]]) -> list[dict[str, str]]:
    name, _, text = line.partition(" ")
    if name == "/reset":
        return [message for message in messages if message["role"] == "system"]
    if name == "/system":
        others = [message for message in messages if message["role"] != "system"]
        return [{"role": "system", "content": text.strip()}, *others] if text.strip() else others
    click.echo(_HELP if name == "/help" else f"There is no {printable(name)}. {_HELP}", err=True)
    return messages


def _answered(chat: Any, messages: list[dict[str, str]], settings: dict[str, Any]) -> list[dict[str, str]]:
    """Writes the answer as it comes; what was said stays in the conversation, also when it was stopped."""
    said = ""
    try:
        for piece in chat.stream_reply(messages, **settings):
            said += piece
            click.echo(printable(piece), nl=False)
    except KeyboardInterrupt:
        click.echo(" [stopped]", nl=False, err=True)
    except (
        DataError,
        TokenizerError,
    ) as error:  # the template takes no such conversation; the question is dropped
        click.echo(f"Error: {error}", err=True)
        return messages[:-1]
    click.echo()
    return [*messages, {"role": "assistant", "content": said}] if said.strip() else messages[:-1]


def _settings(overrides: Sequence[str]) -> dict[str, Any]:
    from kerasllm.config.yaml_text import parse_yaml
    from kerasllm.generation.settings import check_settings, check_stops

    found: dict[str, Any] = {}
    for item in overrides:
        name, equals, value = item.partition("=")
        if not equals:
            raise ConfigError(f"`-s {item}` has no value; write it as `-s temperature=0.7`.")
        found[name.strip().removeprefix("generation.")] = parse_yaml(value).value
    check_stops(found.get("stop"), 1)
    check_settings({name: value for name, value in found.items() if name != "stop"}, 1)
    return found
