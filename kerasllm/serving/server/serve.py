"""`serve`: a model directory, served until the process is told to stop."""

import importlib.util
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kerasllm.errors import DependencyError, ServingError
from kerasllm.serving.server.binary import exec_model_server
from kerasllm.serving.server.model_config import (
    INSTALL_SERVER,
    ModelConfig,
    config_for_path,
    read_model_configs,
)
from kerasllm.serving.server.options import ServerOptions
from kerasllm.serving.server.ports import check_port_free

if TYPE_CHECKING:
    from kerasllm.serving.server.embedded import EmbeddedServer

__all__ = ["make_server", "serve"]

_LOG = logging.getLogger(__name__)
_ENGINES = ("embedded", "binary")
_PACKAGES = ("grpc", "httptools", "tensorflow_serving")


def serve(
    path: str | os.PathLike[str] | None = None,
    *,
    host: str = "127.0.0.1",
    port: int | None = 8500,
    rest_api_port: int | None = 8501,
    model_name: str | None = None,
    model_config_file: str | os.PathLike[str] | None = None,
    engine: str = "embedded",
    on_ready: Callable[["EmbeddedServer"], object] | None = None,
    **options: Any,
) -> None:
    """Serves models over REST and gRPC until SIGTERM or SIGINT, then lets requests in progress finish.

    A new version that appears in a model's directory is picked up within a second or two without a failed
    request; one that is damaged is reported, and the old one goes on serving.

    Args:
        path: Directory of a model, as `export` writes it, or of one of its versions.
        host: Address to listen on. Defaults to 127.0.0.1, this machine only. There is no log-in: on any
            other address, whoever can reach it can use the models.
        port: Port of gRPC; 0 picks a free one, `None` serves none. Defaults to 8500.
        rest_api_port: Port of REST; 0 picks a free one, `None` serves none. Defaults to 8501.
        model_name: What requests call the model. Defaults to the name of its directory.
        model_config_file: TensorFlow Serving's config for several models, instead of `path`.
        engine: `"embedded"`, this process, or `"binary"`, `tensorflow_model_server` from the PATH, which
            takes the place of this process. Defaults to `"embedded"`.
        on_ready: Called with the running server, for example to print its ports.
        **options: Further fields of `ServerOptions`, such as `request_timeout=10.0`.

    Raises:
        ServingError: If no model can be served or a port is taken.
        DependencyError: If the extra `server` is not installed.
    """
    if engine not in _ENGINES:
        raise ServingError(f"There is no engine `{engine}`. Choose one of {list(_ENGINES)}.")
    settings = _options(host=host, port=port, rest_api_port=rest_api_port, **options)
    configs = _configs(path, model_name, model_config_file)
    for number, option in ((port, "port"), (rest_api_port, "rest_api_port")):
        if number:
            check_port_free(host, number, option)
    if engine == "binary":
        exec_model_server(configs, settings, model_config_file)
    stop = threading.Event()
    previous = _on_signals(stop)
    try:
        with make_server(configs, settings) as server:
            _announce(server)
            if on_ready is not None:
                on_ready(server)
            stop.wait()
            _LOG.info("Stopping: requests in progress have %.0f s to finish", settings.grace_period)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def make_server(configs: list[ModelConfig], options: ServerOptions) -> "EmbeddedServer":
    """Makes an embedded server, not started yet.

    Raises:
        DependencyError: If the extra `server` is not installed.
    """
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise DependencyError(
            f"The embedded server needs the packages {missing}. Install them: {INSTALL_SERVER}"
        )
    from kerasllm.serving.server.embedded import EmbeddedServer

    return EmbeddedServer(configs, options)


def _options(**values: Any) -> ServerOptions:
    known = ServerOptions.__dataclass_fields__
    for name in values:
        if name not in known:
            raise ServingError(f"The server has no option `{name}`. It has {sorted(known)}.")
    if values["port"] is None and values["rest_api_port"] is None:
        raise ServingError("Neither gRPC nor REST is served. Pass `port` or `rest_api_port`.")
    if values["port"] and values["port"] == values["rest_api_port"]:
        raise ServingError(
            f"gRPC and REST cannot share port {values['port']}. Pass another `--rest_api_port`."
        )
    return ServerOptions(**values)


def _configs(
    path: str | os.PathLike[str] | None,
    model_name: str | None,
    model_config_file: str | os.PathLike[str] | None,
) -> list[ModelConfig]:
    if (path is None) == (model_config_file is None):
        raise ServingError(
            "Pass either a model directory or a model config file: `kerasllm serve models/reviews` or "
            "`kerasllm serve --model_config_file serving/models.config`."
        )
    if model_config_file is not None:
        return read_model_configs(Path(model_config_file))
    return [config_for_path(Path(path or ""), model_name)]


def _on_signals(stop: threading.Event) -> dict[int, Any]:
    if threading.current_thread() is not threading.main_thread():
        return {}
    return {
        number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGTERM, signal.SIGINT)
    }


def _announce(server: "EmbeddedServer") -> None:
    host = server.options.host
    names = ", ".join(server.core.model_names)
    _LOG.info("Serving %s on %s: REST port %s, gRPC port %s", names, host, server.rest_port, server.grpc_port)
    if not _is_loopback(host):
        _LOG.warning(
            "The server listens on %s and has no log-in and no encryption: whoever can reach it can use the "
            "models. Put a proxy in front of it, or listen on 127.0.0.1",
            host,
        )


def _is_loopback(host: str) -> bool:
    try:
        return all(info[4][0] in ("127.0.0.1", "::1") for info in socket.getaddrinfo(host, None))
    except OSError:
        return False
