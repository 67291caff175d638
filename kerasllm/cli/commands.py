"""How our click groups and commands behave: lazy, with `--debug`, exit codes, and errors in one sentence."""

import importlib
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import click

from kerasllm.cli.quiet import hide_startup_notes
from kerasllm.cli.terminal import printable
from kerasllm.errors import KerasLLMError

__all__ = ["Command", "LazyGroup"]

_INTERRUPTED = 130
_PIPE_CLOSED = 141
_DEBUG = "kerasllm.debug"


class Command(click.Command):
    """A command that takes `--debug`."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.params.append(_debug_option())


class LazyGroup(click.Group):
    """A group that imports a command's module only when that command runs.

    Args:
        commands: One line of help a command, by name.
        package: Where the modules of the commands are; each has a `command`.
    """

    command_class = Command

    def __init__(self, *args: Any, lazy: Mapping[str, str], package: str, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.lazy = lazy
        self.package = package
        self.params.append(_debug_option())

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names the commands in the order of a project, not of the alphabet."""
        return list(self.lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Imports the module of the command."""
        if cmd_name not in self.lazy:
            return None
        return importlib.import_module(f"{self.package}.{cmd_name}").command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Finds the command, or says which one may have been meant."""
        if args[0] not in self.lazy and not args[0].startswith("-"):
            raise click.exceptions.NoSuchCommand(args[0], possibilities=list(self.lazy), ctx=ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Lists the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(self.lazy.items()))

    def main(  # type: ignore[override]
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Runs the command line and turns what it raises into an exit code and a sentence on stderr."""
        if not standalone_mode:
            return super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
        try:
            result = super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
        except click.Abort as error:
            _stop(
                str(error.__cause__ or "") or "Interrupted.",
                getattr(error.__cause__, "status", _INTERRUPTED),
            )
        except click.UsageError as error:
            error.show()
            sys.exit(error.exit_code)
        except click.ClickException as error:
            _stop(f"Error: {error.format_message()}", error.exit_code)
        sys.exit(result if isinstance(result, int) else 0)

    def invoke(self, ctx: click.Context) -> Any:
        """Runs a command; an error of ours is one sentence, with `--debug` the traceback."""
        if ctx.parent is not None:
            return super().invoke(ctx)
        _prepare(ctx)
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
            return result
        except KerasLLMError as error:
            if ctx.meta.get(_DEBUG):
                raise
            raise click.ClickException(str(error)) from error
        except KeyboardInterrupt as error:
            # click keeps the cause, whose text may say how to go on.
            raise click.Abort from error
        except BrokenPipeError:
            # The reader (`| head`) has seen enough; nothing more may be written at exit either.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(_PIPE_CLOSED)


def _debug_option() -> click.Option:
    def remember(ctx: click.Context, _: click.Parameter, value: bool) -> None:
        ctx.meta[_DEBUG] = value or ctx.meta.get(_DEBUG, False)

    return click.Option(
        ["--debug"],
        is_flag=True,
        expose_value=False,
        callback=remember,
        help="Show the traceback of an error.",
    )


def _stop(sentence: str, code: int) -> NoReturn:
    click.echo(printable(sentence), err=True)
    sys.exit(code)


def _prepare(ctx: click.Context) -> None:
    """Sends the library's messages to stderr, and keeps TensorFlow's notes out of them."""
    if not ctx.meta.get(_DEBUG):
        hide_startup_notes()
    log = logging.getLogger("kerasllm")
    handler, level = _Echo(), log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False  # TensorFlow's logging puts a handler on the root, which would say all twice

    def restore() -> None:
        log.removeHandler(handler)
        log.setLevel(level)
        log.propagate = True

    ctx.call_on_close(restore)


class _Echo(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        prefix = "" if record.levelno < logging.WARNING else f"{record.levelname.capitalize()}: "
        click.echo(printable(prefix + record.getMessage()), err=True)
