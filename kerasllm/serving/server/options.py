"""How the embedded server behaves: addresses, limits and time-outs."""

import os
from dataclasses import dataclass, field

__all__ = ["ServerOptions"]


@dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """Settings of the embedded server; the names are TensorFlow Serving's where it has them.

    Attributes:
        host: Address to listen on. The default, 127.0.0.1, is reachable from this machine only; the server
            has no log-in, so whoever can reach it can use it.
        port: Port of gRPC; 0 picks a free one, `None` serves no gRPC.
        rest_api_port: Port of REST; 0 picks a free one, `None` serves no REST.
        num_workers: Requests computed at the same time. TensorFlow spreads each over all cores.
        max_queued: Requests that may wait for a worker; more are answered UNAVAILABLE (503) at once.
        request_timeout: Seconds for a REST request's computation, as `--rest_api_timeout_in_ms`.
        header_timeout: Seconds for a client to send the head of a request.
        body_timeout: Seconds for a client to send the rest of it.
        idle_timeout: Seconds after which a connection without requests is closed.
        grace_period: Seconds that requests in progress have to finish when the server stops.
        max_connections: Open REST connections; above it the one that has waited longest is closed.
        max_header_bytes: Size of a request's head.
        max_body_bytes: Size of a REST body (unpacked) and of a gRPC message.
        max_filled_elements: Elements of a tensor whose message does not carry a value for each, so that a
            few bytes cannot claim gigabytes.
        poll_interval: Seconds between looks at the model directories, as
            `--file_system_poll_wait_seconds`; 0 looks once.
        max_num_load_retries: Further attempts to load a version that failed.
        load_retry_interval: Seconds between them.
        keep_last_version: Whether the last version goes on serving when its directory was deleted.
        enable_model_warmup: Whether to run a version's warm-up requests before it serves.
        enable_grpc_healthcheck_service: Whether to answer `grpc.health.v1.Health`.
        enable_rest_api_cors: Whether web pages of other origins may read answers, as
            `--rest_api_enable_cors_support`.
    """

    host: str = "127.0.0.1"
    port: int | None = 8500
    rest_api_port: int | None = 8501
    num_workers: int = field(default_factory=lambda: max(4, os.cpu_count() or 1))
    max_queued: int = field(default_factory=lambda: 4 * max(4, os.cpu_count() or 1))
    request_timeout: float = 30.0
    header_timeout: float = 10.0
    body_timeout: float = 30.0
    idle_timeout: float = 60.0
    grace_period: float = 30.0
    max_connections: int = 256
    max_header_bytes: int = 2**17
    max_body_bytes: int = 2**24
    max_filled_elements: int = 2**20
    poll_interval: float = 1.0
    max_num_load_retries: int = 5
    load_retry_interval: float = 1.0
    keep_last_version: bool = True
    enable_model_warmup: bool = True
    enable_grpc_healthcheck_service: bool = False
    enable_rest_api_cors: bool = False
