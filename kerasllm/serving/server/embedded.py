"""The embedded server as one object: models, REST and gRPC."""

import logging
from collections.abc import Sequence

from kerasllm.serving.server.core import ServerCore
from kerasllm.serving.server.gate import Gate
from kerasllm.serving.server.grpc_server import GrpcServer
from kerasllm.serving.server.grpc_services import GrpcServices
from kerasllm.serving.server.http_server import HttpServer
from kerasllm.serving.server.model_config import ModelConfig
from kerasllm.serving.server.options import ServerOptions
from kerasllm.serving.server.rest_app import RestApp

__all__ = ["EmbeddedServer"]

_LOG = logging.getLogger(__name__)


class EmbeddedServer:
    """TensorFlow Serving's protocol, served from this process.

    Starts and stops with a `with` block, or by `start` and `stop`.

    Args:
        configs: The models.
        options: Addresses, limits and time-outs.

    Attributes:
        core: The models under service.
        rest_port: Port of REST once started, or `None`.
        grpc_port: Port of gRPC once started, or `None`.
    """

    def __init__(self, configs: Sequence[ModelConfig], options: ServerOptions | None = None):
        self.options = options or ServerOptions()
        self.core = ServerCore(configs, self.options)
        self._gate = Gate(self.options.num_workers, self.options.max_queued)
        self._rest: HttpServer | None = None
        self._grpc: GrpcServer | None = None

    @property
    def rest_port(self) -> int | None:
        """Port of REST, or `None`."""
        return self._rest.port if self._rest is not None else None

    @property
    def grpc_port(self) -> int | None:
        """Port of gRPC, or `None`."""
        return self._grpc.port if self._grpc is not None else None

    def start(self) -> "EmbeddedServer":
        """Takes the ports, loads the models, then answers.

        Raises:
            ServingError: If no model can be served or a port is taken.
        """
        self.core.start()
        try:
            if self.options.rest_api_port is not None:
                self._rest = HttpServer(RestApp(self.core, self._gate), self._gate, self.options)
                self._rest.start()
            if self.options.port is not None:
                self._grpc = GrpcServer(GrpcServices(self.core), self._gate, self.options)
                self._grpc.start()
        except BaseException:
            self.stop(grace_period=0)
            raise
        return self

    def stop(self, grace_period: float | None = None) -> None:
        """Refuses new requests, lets those in progress finish, and unloads the models.

        Args:
            grace_period: Seconds for them to finish. Defaults to that of the options.
        """
        grace = self.options.grace_period if grace_period is None else grace_period
        grpc_ended = self._grpc.stop(grace) if self._grpc is not None else None
        if self._rest is not None:
            self._rest.stop(grace)
        if grpc_ended is not None:
            grpc_ended.wait()
        self._gate.close()
        if not self._gate.drain(grace):
            _LOG.warning("Requests were still in progress after %.0f s and are lost", grace)
        self.core.stop()

    def __enter__(self) -> "EmbeddedServer":
        return self.start()

    def __exit__(self, *error: object) -> None:
        self.stop()
