"""`kerasllm serve`: exported models over REST and gRPC, with TF Serving's flag names."""

import click

from kerasllm.cli.commands import Command

__all__ = ["command"]

_PORT = click.IntRange(0, 65535)


@click.command(cls=Command)
@click.argument("path", required=False)
@click.option("--port", type=_PORT, default=8500, show_default=True, help="Port of gRPC; 0 picks a free one.")
@click.option(
    "--rest_api_port", type=_PORT, default=8501, show_default=True, help="Port of REST; 0 picks a free one."
)
@click.option("--model_name", help="What requests call the model; the name of its directory if left out.")
@click.option("--model_base_path", help="The same as PATH.")
@click.option("--model_config_file", help="Several models, in TF Serving's own format, instead of PATH.")
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="Address to listen on; the server has no log-in."
)
@click.option(
    "--engine",
    type=click.Choice(["embedded", "binary"]),
    default="embedded",
    show_default=True,
    help="This process, or `tensorflow_model_server` from the PATH.",
)
def command(
    path: str | None,
    port: int,
    rest_api_port: int,
    model_name: str | None,
    model_base_path: str | None,
    model_config_file: str | None,
    host: str,
    engine: str,
) -> None:
    """Serve the model at PATH, the directory that `export` wrote, over REST and gRPC until Ctrl-C.

    A new version that appears in PATH is picked up without a failed request.

    \b
      kerasllm serve models/sentiment
      kerasllm serve --model_config_file models.config --rest_api_port 8080
    """
    if path is not None and model_base_path is not None:
        raise click.UsageError("PATH and `--model_base_path` are the same; give one.")

    from kerasllm.serving.server.serve import serve

    serve(
        path or model_base_path,
        host=host,
        port=port,
        rest_api_port=rest_api_port,
        model_name=model_name,
        model_config_file=model_config_file,
        engine=engine,
    )
