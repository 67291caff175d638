"""The REST listener: an event loop in a thread of its own."""

import asyncio
import errno
import threading
from concurrent.futures import ThreadPoolExecutor

from kerasllm.errors import ServingError
from kerasllm.serving.server.gate import Gate
from kerasllm.serving.server.http_connection import HttpConnections
from kerasllm.serving.server.options import ServerOptions
from kerasllm.serving.server.ports import port_error
from kerasllm.serving.server.rest_app import RestApp

__all__ = ["HttpServer"]


class HttpServer:
    """Listens for REST requests.

    Args:
        app: Answers them.
        gate: Limits the computations.
        options: Of the server.

    Attributes:
        port: The port that it listens on, once started.
    """

    def __init__(self, app: RestApp, gate: Gate, options: ServerOptions):
        self._options = options
        self._executor = ThreadPoolExecutor(options.num_workers, thread_name_prefix="rest")
        self._connections = HttpConnections(app, gate, self._executor, options)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="rest-loop", daemon=True)
        self._server: asyncio.Server | None = None
        self.port = 0

    def start(self) -> None:
        """Begins to listen.

        Raises:
            ServingError: If the port is taken or the address is not this machine's.
        """
        self._thread.start()
        try:
            asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result()
        except OSError as error:
            self._end()
            wanted = self._options.rest_api_port or 0
            if error.errno == errno.EADDRINUSE:
                raise port_error(wanted, "rest_api_port", self._options.host) from error
            raise ServingError(
                f"Cannot listen on {self._options.host} port {wanted}: {error.strerror or error}. Choose an "
                "address of this machine, such as 127.0.0.1, and a port above 1023."
            ) from error

    def stop(self, grace_period: float) -> None:
        """Stops listening, lets requests in progress finish, then closes all connections."""
        if self._thread.is_alive():
            asyncio.run_coroutine_threadsafe(self._close(grace_period), self._loop).result()
        self._end()

    async def _listen(self) -> None:
        self._server = await self._loop.create_server(
            self._connections.connect,
            self._options.host,
            self._options.rest_api_port,
            backlog=1024,
            reuse_address=True,
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self, grace_period: float) -> None:
        if self._server is not None:
            self._server.close()
        self._connections.drain()
        end = self._loop.time() + grace_period
        while self._connections.num_busy and self._loop.time() < end:
            await asyncio.sleep(0.01)
        self._connections.abort()
        await asyncio.sleep(0)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            self._loop.close()

    def _end(self) -> None:
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
        self._executor.shutdown(wait=False, cancel_futures=True)
