"""The gRPC listener: TensorFlow Serving's services on raw bytes, so that no message can upset the library."""

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

from kerasllm.errors import ServingError
from kerasllm.serving.server.gate import Gate
from kerasllm.serving.server.grpc_services import GrpcServices
from kerasllm.serving.server.options import ServerOptions
from kerasllm.serving.server.ports import port_error
from kerasllm.serving.status import StatusError

__all__ = ["GrpcServer"]

_LOG = logging.getLogger(__name__)
_ACCESS = logging.getLogger("kerasllm.serving.access")
_MAX_MESSAGE = 1024  # of an error, as the server cuts it
_MORE_THREADS = 8  # to refuse with while all others work or wait


class GrpcServer:
    """Listens for gRPC requests.

    Args:
        services: Answers them.
        gate: Limits the computations.
        options: Of the server.

    Attributes:
        port: The port that it listens on, once started.
    """

    def __init__(self, services: GrpcServices, gate: Gate, options: ServerOptions):
        self._options = options
        threads = options.num_workers + options.max_queued + _MORE_THREADS
        self._server = grpc.server(
            ThreadPoolExecutor(threads, thread_name_prefix="grpc"),
            handlers=[_Handlers(services, gate)],
            options=[
                ("grpc.so_reuseport", 0),  # or a second server takes half of the connections
                ("grpc.max_receive_message_length", options.max_body_bytes),
                ("grpc.max_send_message_length", -1),
            ],
        )
        self.port = 0

    def start(self) -> None:
        """Begins to listen.

        Raises:
            ServingError: If the port is taken or the address is not this machine's.
        """
        host, port = self._options.host, self._options.port or 0
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            self.port = self._server.add_insecure_port(address)
        except RuntimeError as error:
            raise port_error(port, "port", host) from error
        if self.port == 0:
            raise ServingError(
                f"Cannot listen on {address}. Choose an address of this machine and a free port."
            )
        self._server.start()

    def stop(self, grace_period: float) -> threading.Event:
        """Stops listening and lets calls in progress finish; returns what is set when they have."""
        return self._server.stop(grace_period)


class _Handlers(grpc.GenericRpcHandler):
    """Finds the function that answers a method."""

    def __init__(self, services: GrpcServices, gate: Gate):
        self._services = services
        self._gate = gate

    def service(self, handler_call_details: Any) -> Any:
        method = handler_call_details.method
        found = self._services.methods.get(method)
        if found is None:
            return grpc.unary_unary_rpc_method_handler(_unknown_method)
        return grpc.unary_unary_rpc_method_handler(
            lambda request, context: self._answer(method, found, request, context)
        )

    def _answer(self, method: str, function: Callable, request: bytes, context: Any) -> bytes:
        began = time.monotonic()
        left = context.time_remaining()
        deadline = None if left is None else began + left
        code = "OK"
        try:
            self._gate.enter()
            try:
                with self._gate.work(deadline) as left:
                    return function(request, left)
            finally:
                self._gate.leave()
        except StatusError as error:
            code, message = error.code, error.message
        except Exception:
            _LOG.exception("A bug in the server: %s", method)
            code, message = "INTERNAL", "An internal error; the server's log has the details"
        finally:
            _ACCESS.info("%s %s %d %.1fms", method, code, len(request), 1000 * (time.monotonic() - began))
        context.abort(grpc.StatusCode[code], _cut(message))
        return b""


def _unknown_method(request: bytes, context: Any) -> bytes:
    context.abort(grpc.StatusCode.UNIMPLEMENTED, "")
    return b""


def _cut(message: str) -> str:
    text = message.encode("utf-8", "replace")
    if len(text) > _MAX_MESSAGE:
        text = text[: _MAX_MESSAGE - len("...TRUNCATED")] + b"...TRUNCATED"
    return text.decode("utf-8", "replace")
