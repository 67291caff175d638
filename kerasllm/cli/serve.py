"""`kerasllm serve`: exported models over REST and gRPC, with TF Serving's flag names."""

from pathlib import Path

import click

from kerasllm.cli.commands import Command

__all__ = ["command"]
