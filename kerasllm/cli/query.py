"""`kerasllm query`: one question to a server; over REST it imports no TensorFlow."""

from typing import TYPE_CHECKING

import click

from kerasllm.cli.commands import Command
from kerasllm.cli.terminal import write_json_lines

if TYPE_CHECKING:
    from kerasllm.serving.grpc_client import GrpcClient
    from kerasllm.serving.rest_client import Client

__all__ = ["command"]

_GRPC = "grpc://"


@click.command(cls=Command)
@click.argument("url")
@click.argument("model")
@click.argument("text")
@click.argument("text_pair", required=False)
@click.option("--signature", help="Which signature to ask; the server's default if left out.")
def command(url: str, model: str, text: str, text_pair: str | None, signature: str | None) -> None:
    """Ask the MODEL behind URL about a TEXT, or about a TEXT and its TEXT_PAIR; prints JSON.

    URL is that of REST (http://…) or of gRPC (grpc://…).

    \b
      kerasllm query http://127.0.0.1:8501 sentiment "A joy from start to end."
    """
    texts = [text if text_pair is None else (text, text_pair)]
    chosen = {} if signature is None else {"signature_name": signature}
    with _client(url, model) as client:
        write_json_lines(answer.to_dict() for answer in client.predict(texts, **chosen))


def _client(url: str, model: str) -> "Client | GrpcClient":
    if url.startswith(_GRPC):
        from kerasllm.serving.grpc_client import GrpcClient

        return GrpcClient(url.removeprefix(_GRPC), model)

    from kerasllm.serving.rest_client import Client

    return Client(url, model)
