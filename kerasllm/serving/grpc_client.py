"""Asks a server over gRPC: ours or any TensorFlow Serving; needs the extra `client` or `server`."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kerasllm.errors import DependencyError, ServingError
from kerasllm.serving.dtypes import TYPES
from kerasllm.serving.generation_requests import GenerationRequests
from kerasllm.serving.results import Classification, classifications, is_classification
from kerasllm.serving.retries import UnansweredError, retry
from kerasllm.serving.rows import text_columns
from kerasllm.serving.status import code_name
from kerasllm.serving.tensor_proto import array_from_proto, fill_proto

__all__ = ["GrpcClient"]


_MAX_MESSAGE = 2**24


class GrpcClient(GenerationRequests):
    """A client for one model on one server; a call costs less than over REST, and numbers stay exact.

    The connection is kept open and may be used by several threads. Close the client, or use it in a `with`
    block.

    Args:
        target: Host and port of the server's gRPC port, such as `"127.0.0.1:8500"`.
        model: Name of the model.
        version: Number of the version to ask. Defaults to `None`, the newest.
        label: Label of the version to ask, such as `"stable"`. Defaults to `None`.
        timeout: Seconds for an answer, retries included. Defaults to 30.
        max_retries: Further attempts when the server is unavailable. Defaults to 3.
        credentials: `grpc.ssl_channel_credentials(…)` for a server with TLS. Defaults to `None`, no TLS.

    Raises:
        DependencyError: If grpcio or tensorflow-serving-api is not installed.

    Example:
    >>> client = GrpcClient("127.0.0.1:8500", "reviews")
    >>> client.predict(["A joy from start to end."])
    [Classification(label='positive', score=0.97)]
    """

    def __init__(
        self,
        target: str,
        model: str,
        *,
        version: int | None = None,
        label: str | None = None,
        timeout: float = 30.0,
        max_retries: int = 3,
        credentials: Any = None,
    ):
        if version is not None and label is not None:
            raise ServingError(f"Both version {version} and label `{label}` were given. Give one.")
        self._messages = _Messages()
        self.target = target
        self.model = model
        self._version = version
        self._label = label
        self._timeout = timeout
        self._max_retries = max_retries
        grpc = self._messages.grpc
        options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", _MAX_MESSAGE)]
        self._channel = (
            grpc.insecure_channel(target, options)
            if credentials is None
            else grpc.secure_channel(target, credentials, options)
        )

    def __enter__(self) -> "GrpcClient":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection."""
        self._channel.close()

    def predict(self, texts: str | Sequence[Any], *, signature_name: str = "") -> list[Classification]:
        """Classifies texts.

        Args:
            texts: One text or many; for a model of pairs, `(text, text_pair)` tuples.
            signature_name: Which signature to ask. Defaults to the server's default.

        Returns:
            One result a text, equal to what `TextClassifier.predict` returns.

        Raises:
            DataError: If an input is not a text.
            ServingError: If the server refuses, does not answer, or its model is not a text classifier.
        """
        columns = text_columns(texts)
        if not columns["text"]:
            return []
        outputs = self.predict_tensors(columns, signature_name=signature_name)
        if not is_classification(outputs):
            raise ServingError(
                f"Model `{self.model}` at {self.target} is not a text classifier: it answers "
                f"{sorted(outputs)} instead of `label`, `score`, `labels` and `scores`. Ask it with "
                "`predict_tensors`."
            )
        return classifications({name: _decoded(array) for name, array in outputs.items()})

    def _ask_columns(self, signature_name: str, columns: Mapping[str, np.ndarray]) -> Mapping[str, Any]:
        plain = {name: v.tolist() if v.dtype == object else v for name, v in columns.items()}
        outputs = self.predict_tensors(plain, signature_name=signature_name)
        return {name: _decoded(array) for name, array in outputs.items()}

    def predict_tensors(
        self, inputs: Mapping[str, Any], *, signature_name: str = ""
    ) -> dict[str, np.ndarray]:
        """Asks any signature.

        Args:
            inputs: Arrays, or nested lists of texts, by input name. Arrays must have the type of the input.
            signature_name: Which signature to ask. Defaults to the server's default.

        Returns:
            Arrays by output name; strings are bytes.

        Raises:
            ServingError: If the server refuses or does not answer.
        """
        request = self._messages.predict.PredictRequest()
        self._fill_spec(request.model_spec)
        request.model_spec.signature_name = signature_name
        for name, value in inputs.items():
            fill_proto(request.inputs[name], _encoded(value))
        response = self._call("PredictionService/Predict", request, self._messages.predict.PredictResponse)
        return {
            name: array_from_proto(tensor, max_filled_elements=2**31)
            for name, tensor in sorted(response.outputs.items())
        }

    def status(self) -> list[dict[str, Any]]:
        """Returns the state of each version, newest first, as `Client.status` does."""
        messages = self._messages.status
        request = messages.GetModelStatusRequest()
        self._fill_spec(request.model_spec)
        response = self._call("ModelService/GetModelStatus", request, messages.GetModelStatusResponse)

        return [
            {
                "version": entry.version,
                "state": entry.State.Name(entry.state),
                "error_code": code_name(entry.status.error_code),
                "error_message": entry.status.error_message,
            }
            for entry in response.model_version_status
        ]

    def metadata(self) -> dict[str, Any]:
        """Returns the signatures of the model by name, as `Client.metadata` does."""
        from google.protobuf import json_format

        messages = self._messages.metadata
        request = messages.GetModelMetadataRequest(metadata_field=["signature_def"])
        self._fill_spec(request.model_spec)
        response = self._call(
            "PredictionService/GetModelMetadata", request, messages.GetModelMetadataResponse
        )
        signatures = messages.SignatureDefMap()
        response.metadata["signature_def"].Unpack(signatures)
        return json_format.MessageToDict(
            signatures, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        )["signature_def"]

    def _fill_spec(self, spec: Any) -> None:
        spec.name = self.model
        if self._version is not None:
            spec.version.value = self._version
        if self._label is not None:
            spec.version_label = self._label

    def _call(self, method: str, request: Any, response_type: Any) -> Any:
        grpc = self._messages.grpc
        function = self._channel.unary_unary(
            f"/tensorflow.serving.{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=response_type.FromString,
        )

        def attempt(left: float) -> Any:
            try:
                return function(request, timeout=left)
            except grpc.RpcError as error:
                code, details = error.code().name, error.details()
                if code == "UNAVAILABLE":
                    raise UnansweredError(details) from error
                raise ServingError(f"{self.target} answered {code}: {details}", status=code) from error

        try:
            return retry(attempt, timeout=self._timeout, max_retries=self._max_retries)
        except UnansweredError as error:
            raise ServingError(
                f"No server answers at {self.target}, or it is busy ({error}). Start one with "
                "`kerasllm serve PATH`, or check host and port.",
                status="UNAVAILABLE",
            ) from error


class _Messages:
    """The modules that only this client needs."""

    def __init__(self) -> None:
        try:
            import grpc
            from tensorflow_serving.apis import (
                get_model_metadata_pb2,
                get_model_status_pb2,
                predict_pb2,
            )
        except ImportError as error:
            raise DependencyError(
                f"The gRPC client needs the package `{error.name}`. Install it: "
                "pip install 'kerasllm[server]', or 'kerasllm[client]' for the client alone."
            ) from error
        self.grpc = grpc
        self.predict = predict_pb2
        self.status = get_model_status_pb2
        self.metadata = get_model_metadata_pb2


def _encoded(value: Any) -> np.ndarray:
    array = np.asarray(value)
    if array.dtype.kind not in "USO":
        return array
    flat = np.empty(array.size, object)
    flat[:] = [text.encode() if isinstance(text, str) else text for text in array.ravel().tolist()]
    return flat.reshape(array.shape)


def _decoded(array: np.ndarray) -> Any:
    if array.dtype != TYPES[7].numpy:
        return array.tolist()
    flat = np.empty(array.size, object)
    flat[:] = [text.decode("utf-8", "replace") for text in array.ravel()]
    return flat.reshape(array.shape).tolist()
