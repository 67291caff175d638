"""One loaded version of a model: a SavedModel in a TensorFlow session, as TensorFlow Serving runs it."""

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_text  # noqa: F401 (registers the ops of TF Text, which the stock server has too)

# A session, not `tf.saved_model.load`: it is what the stock server runs. It checks shapes where the server
# does, words errors as the server does, takes a deadline that stops the computation, frees its memory when
# it is closed, and calls a signature in a sixth of the time. Its public `run` would check the declared
# shapes and rewrite the errors, so the call beneath it is used; this is the only file that does.
from tensorflow.python.client import pywrap_tf_session
from tensorflow.python.framework.ops import dismantle_graph
from tensorflow.python.saved_model.loader_impl import SavedModelLoader

from kerasllm.serving.dtypes import TYPES, TensorType
from kerasllm.serving.status import StatusError, code_name

__all__ = ["Servable", "Signature"]


class Signature:
    """An endpoint of a SavedModel.

    Attributes:
        definition: Its `SignatureDef`.
        inputs: Tensor types by name, in alphabetical order; unknown types are absent from JSON.
        outputs: Names of the outputs in alphabetical order.
    """

    def __init__(self, definition: Any, graph: tf.Graph):
        self.definition = definition
        self.inputs = {
            name: TYPES.get(info.dtype, TensorType(info.dtype, tf.as_dtype(info.dtype).name, None, ""))
            for name, info in sorted(definition.inputs.items())
        }
        self.outputs = sorted(definition.outputs)
        self.feeds = {name: _output(graph, info.name) for name, info in definition.inputs.items()}
        self.fetches = {name: _output(graph, info.name) for name, info in definition.outputs.items()}

    def fetch(self, name: str) -> Any:
        """Returns the session's handle of an output."""
        if self.fetches[name] is None:
            raise StatusError(
                "INVALID_ARGUMENT",
                f"Tensor {self.definition.outputs[name].name}:0, specified in either feed_devices or "
                "fetch_devices was not found in the Graph",
            )
        return self.fetches[name]


class Servable:
    """A SavedModel, loaded and ready to run.

    Args:
        path: Directory of the version.
        tags: Tags of the graph in it. Defaults to `("serve",)`.

    Raises:
        tf.errors.OpError, OSError, RuntimeError, ValueError: If it cannot be loaded.
    """

    def __init__(self, path: Path, *, tags: Sequence[str] = ("serve",)):
        self.path = path
        self._graph = tf.Graph()
        config = tf.compat.v1.ConfigProto()
        config.gpu_options.allow_growth = True
        self._session = tf.compat.v1.Session(graph=self._graph, config=config)
        try:
            with self._graph.as_default():
                self.meta_graph = SavedModelLoader(str(path)).load(self._session, list(tags))
            self._graph.finalize()
        except BaseException:
            self._session.close()
            raise
        self._names = frozenset(self.meta_graph.signature_def)
        self._signatures: dict[str, Signature] = {}
        self._lock = threading.Lock()
        self._metadata: bytes | None = None

    def signature(self, name: str) -> Signature | None:
        """Returns the signature called `name`, or `None`."""
        if name not in self._signatures and name in self._names:
            self._signatures[name] = Signature(self.meta_graph.signature_def[name], self._graph)
        return self._signatures.get(name)

    def run(
        self,
        signature: Signature,
        inputs: Mapping[str, np.ndarray],
        outputs: Sequence[str],
        *,
        timeout: float | None = None,
    ) -> dict[str, np.ndarray]:
        """Runs a signature.

        Args:
            signature: One of this servable's.
            inputs: Arrays for all of its inputs.
            outputs: Names of the outputs to compute.
            timeout: Seconds after which the computation is stopped. Defaults to `None`, no limit.

        Returns:
            Arrays by name.

        Raises:
            StatusError: With TensorFlow's own code and message.
        """
        feeds = {signature.feeds[name]: value for name, value in inputs.items()}
        fetches = [signature.fetch(name) for name in outputs]
        options = _run_options(timeout)
        try:
            values = pywrap_tf_session.TF_SessionRun_wrapper(
                self._session._session, options, feeds, fetches, [], None
            )
        except tf.errors.OpError as error:
            raise StatusError(code_name(error.error_code), str(error.message)) from error
        finally:
            if options is not None:
                pywrap_tf_session.TF_DeleteBuffer(options)
        return {name: _array(value) for name, value in zip(outputs, values, strict=True)}

    def metadata(self) -> bytes:
        """Returns the signatures as the JSON that the REST API prints."""
        with self._lock:
            if self._metadata is None:
                self._metadata = _metadata_text(self.meta_graph.signature_def)
        return self._metadata

    def close(self) -> None:
        """Frees the memory; no request may be running."""
        self._session.close()
        self._signatures.clear()
        dismantle_graph(self._graph)  # its reference cycles; a garbage collection would stop all requests


def _output(graph: tf.Graph, name: str) -> Any:
    """Returns the handle of a tensor; `None` for an operation, such as the one that initialises a model."""
    return graph.get_tensor_by_name(name)._as_tf_output() if ":" in name else None


def _run_options(timeout: float | None) -> Any:
    if timeout is None:
        return None
    options = tf.compat.v1.RunOptions(timeout_in_ms=max(1, int(timeout * 1000)))
    return pywrap_tf_session.TF_NewBufferFromString(options.SerializeToString())


def _array(value: Any) -> np.ndarray:
    if isinstance(value, np.ndarray):
        return value
    return np.array(value, dtype=object) if isinstance(value, bytes) else np.asarray(value)


def _metadata_text(signatures: Mapping[str, Any]) -> bytes:
    import json

    from google.protobuf import json_format

    definitions = {
        name: json_format.MessageToDict(
            signatures[name], preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        )
        for name in sorted(signatures)
    }
    return json.dumps({"signature_def": definitions}, indent=1).encode()
