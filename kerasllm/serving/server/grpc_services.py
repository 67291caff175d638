"""The gRPC API: what is answered to which message; knows nothing of sockets."""

from collections.abc import Callable
from typing import Any, TypeVar

from google.protobuf.message import DecodeError, Message
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    predict_pb2,
)

from kerasllm.serving.server.core import ServerCore
from kerasllm.serving.server.predict import predict_inputs
from kerasllm.serving.status import CODES, StatusError
from kerasllm.serving.tensor_proto import fill_proto

__all__ = ["GrpcServices"]

_PREDICTION = "/tensorflow.serving.PredictionService"
_MODEL = "/tensorflow.serving.ModelService"
_NUMBERS = {name: number for number, name in CODES.items()}
_SERVING = b"\x08\x01"  # HealthCheckResponse { status: SERVING }

_Request = TypeVar("_Request", bound=Message)


class GrpcServices:
    """Answers gRPC requests, given and returned as bytes.

    Args:
        core: The models.

    Attributes:
        methods: Functions by full method name; each takes the request and the seconds left, or `None`.
    """

    def __init__(self, core: ServerCore):
        self._core = core
        self.methods: dict[str, Callable[[bytes, float | None], bytes]] = {
            f"{_PREDICTION}/Predict": self._predict,
            f"{_PREDICTION}/GetModelMetadata": self._metadata,
            f"{_MODEL}/GetModelStatus": self._status,
        }
        for name in ("Classify", "Regress", "MultiInference"):
            self.methods[f"{_PREDICTION}/{name}"] = _not_yet(name)
        self.methods[f"{_MODEL}/HandleReloadConfigRequest"] = _no_reload
        if core.options.enable_grpc_healthcheck_service:
            self.methods["/grpc.health.v1.Health/Check"] = lambda request, left: _SERVING

    def _predict(self, message: bytes, left: float | None) -> bytes:
        request = _parse(predict_pb2.PredictRequest, message)
        name, version, label = _model_spec(request)
        with self._core.use(name, version, label) as (number, servable):
            signature, inputs, outputs = predict_inputs(
                servable, request, max_filled_elements=self._core.options.max_filled_elements
            )
            arrays = servable.run(signature, inputs, outputs, timeout=left)
        response = predict_pb2.PredictResponse()
        response.model_spec.name = name
        response.model_spec.version.value = number
        response.model_spec.signature_name = request.model_spec.signature_name or "serving_default"
        for alias, array in arrays.items():
            fill_proto(response.outputs[alias], array)
        return response.SerializeToString()

    def _metadata(self, message: bytes, left: float | None) -> bytes:
        request = _parse(get_model_metadata_pb2.GetModelMetadataRequest, message)
        if not request.HasField("model_spec"):
            raise StatusError("INVALID_ARGUMENT", "Missing ModelSpec")
        if not request.metadata_field:
            raise StatusError(
                "INVALID_ARGUMENT", "GetModelMetadataRequest must specify at least one metadata_field"
            )
        for field in request.metadata_field:
            if field != "signature_def":
                raise StatusError("INVALID_ARGUMENT", f"Metadata field {field} is not supported")
        name, version, label = _model_spec(request)
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        with self._core.use(name, version, label) as (number, servable):
            signatures = get_model_metadata_pb2.SignatureDefMap()
            for key, definition in servable.meta_graph.signature_def.items():
                signatures.signature_def[key].CopyFrom(definition)
        response.model_spec.name = name
        response.model_spec.version.value = number
        response.metadata["signature_def"].Pack(signatures)
        return response.SerializeToString()

    def _status(self, message: bytes, left: float | None) -> bytes:
        request = _parse(get_model_status_pb2.GetModelStatusRequest, message)
        if not request.HasField("model_spec"):
            raise StatusError("INVALID_ARGUMENT", "Missing ModelSpec")
        spec = request.model_spec
        version = spec.version.value if spec.HasField("version") else None  # a label is ignored
        response = get_model_status_pb2.GetModelStatusResponse()
        for status in self._core.statuses(spec.name, version):
            entry = response.model_version_status.add()
            entry.version = status.version
            entry.state = entry.State.Value(status.state)
            entry.status.SetInParent()
            entry.status.error_code = _NUMBERS[status.code]
            entry.status.error_message = status.message
        return response.SerializeToString()


def _parse(kind: type[_Request], message: bytes) -> _Request:
    try:
        return kind.FromString(message)
    except DecodeError as error:
        raise StatusError("INVALID_ARGUMENT", f"The message is not a {kind.DESCRIPTOR.name}") from error


def _model_spec(request: Any) -> tuple[str, int | None, str | None]:
    if not request.HasField("model_spec"):
        raise StatusError("INVALID_ARGUMENT", "Missing ModelSpec")
    spec = request.model_spec
    if not spec.name:
        raise StatusError("INVALID_ARGUMENT", "ModelSpec has no name specified.")
    choice = spec.WhichOneof("version_choice")
    return (
        spec.name,
        spec.version.value if choice == "version" else None,
        spec.version_label if choice == "version_label" else None,
    )


def _not_yet(name: str) -> Callable[[bytes, float | None], bytes]:
    def refuse(message: bytes, left: float | None) -> bytes:
        raise StatusError(
            "UNIMPLEMENTED",
            f"The embedded server does not answer {name} yet. Ask with Predict, or serve with "
            "--engine binary",
        )

    return refuse


def _no_reload(message: bytes, left: float | None) -> bytes:
    raise StatusError(
        "PERMISSION_DENIED",
        "The embedded server's models cannot be changed from outside. Change the config file instead",
    )
