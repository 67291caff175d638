"""`kerasllm doctor`: what this machine can and cannot do."""

import click

from kerasllm.cli.commands import Command
from kerasllm.cli.environment import examine
from kerasllm.cli.terminal import write_json, write_table

__all__ = ["command"]

_MARKS = {True: "ok", False: "PROBLEM", None: ""}


@click.command(cls=Command)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--offline", is_flag=True, help="Do not ask the package index.")
@click.pass_context
def command(ctx: click.Context, as_json: bool, offline: bool) -> None:
    """Say what this machine can and cannot do; the exit code is 1 where something is a problem.

    Imports TensorFlow in a process of its own, which takes some seconds.
    """
    click.echo("Looking at the machine …", err=True)
    findings = list(examine(network=not offline))
    if as_json:
        write_json([finding.to_dict() for finding in findings])
    else:
        rows = [(item.name, _MARKS[item.ok], item.value, item.meaning) for item in findings]
        write_table(rows, header=("what", "", "found", "so"))
    ctx.exit(1 if any(finding.ok is False for finding in findings) else 0)
