"""Serve an exported model over REST and gRPC, and ask it from Python; TensorFlow is imported where needed."""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kerasllm.serving.exported_model import ExportedModel
    from kerasllm.serving.grpc_client import GrpcClient
    from kerasllm.serving.rest_client import Client
    from kerasllm.serving.results import Classification
    from kerasllm.serving.server.serve import serve

_HOME = {
    "Classification": "kerasllm.serving.results",
    "Client": "kerasllm.serving.rest_client",
    "ExportedModel": "kerasllm.serving.exported_model",
    "GrpcClient": "kerasllm.serving.grpc_client",
    "serve": "kerasllm.serving.server.serve",
}

__all__ = ["Classification", "Client", "ExportedModel", "GrpcClient", "serve"]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'kerasllm.serving' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
