"""The stock `tensorflow_model_server`, where it is installed, with the same options."""

import logging
import os
import shutil
from collections.abc import Sequence

from kerasllm.errors import ServingError
from kerasllm.serving.server.model_config import ModelConfig
from kerasllm.serving.server.options import ServerOptions

__all__ = ["exec_model_server", "model_server_command"]

_LOG = logging.getLogger(__name__)
_PROGRAM = "tensorflow_model_server"


def model_server_command(
    configs: Sequence[ModelConfig],
    options: ServerOptions,
    model_config_file: str | os.PathLike[str] | None = None,
) -> list[str]:
    """Returns the command line that serves the same models on the same ports.

    Args:
        configs: The models; only the first counts unless there is a config file.
        options: Ports and time-outs.
        model_config_file: Passed on, if given.

    Raises:
        ServingError: If one version only is to be served, which takes a config file there.
    """
    command = [_PROGRAM, f"--port={options.port or 0}", f"--rest_api_port={options.rest_api_port or 0}"]
    if model_config_file is not None:
        command.append(f"--model_config_file={os.path.abspath(model_config_file)}")
        command.append("--allow_version_labels_for_unavailable_models=true")
    else:
        if configs[0].policy.kind != "latest":
            raise ServingError(
                f"{_PROGRAM} serves the newest version of a directory. Pass `{configs[0].base_path}`, or "
                "choose the version in a `--model_config_file`."
            )
        command += [f"--model_name={configs[0].name}", f"--model_base_path={configs[0].base_path}"]
    return [
        *command,
        f"--rest_api_timeout_in_ms={int(options.request_timeout * 1000)}",
        f"--file_system_poll_wait_seconds={max(1, round(options.poll_interval))}",
        f"--enable_grpc_healthcheck_service={str(options.enable_grpc_healthcheck_service).lower()}",
        "--enable_profiler=false",
    ]


def exec_model_server(
    configs: Sequence[ModelConfig],
    options: ServerOptions,
    model_config_file: str | os.PathLike[str] | None = None,
) -> None:
    """Replaces this process by the stock server.

    Raises:
        ServingError: If it is not on the PATH.
    """
    program = shutil.which(_PROGRAM)
    if program is None:
        raise ServingError(
            f"`{_PROGRAM}` is not on the PATH. Install TensorFlow Serving's package, use the container in "
            "serving/, or leave out `--engine binary`: the embedded server speaks the same protocol."
        )
    _LOG.warning("%s listens on all addresses of this machine, not only on %s", _PROGRAM, options.host)
    os.execv(program, model_server_command(configs, options, model_config_file))  # noqa: S606
