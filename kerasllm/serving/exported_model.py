"""An exported model on disk: ask it in this process, verify it, serve it."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from kerasllm.errors import DataError, ServingError
from kerasllm.resources.manifest import MANIFEST, read_manifest, verify_manifest
from kerasllm.serving.golden import compare_outputs
from kerasllm.serving.results import Classification, classifications, is_classification
from kerasllm.serving.rows import columns_of_rows

__all__ = ["ExportedModel", "Verification"]

_METADATA = "kerasllm.json"
_DEFAULT = "serving_default"


@dataclass(frozen=True)
class Verification:
    """What `ExportedModel.verify` found in order.

    Attributes:
        path: The version.
        url: The server that was asked, or `None` for this process.
        num_files: Files whose hashes are those of the manifest.
        num_requests: Golden requests whose answers are those of the export.
        max_difference: Largest difference of a number in them.
    """

    path: Path
    url: str | None
    num_files: int
    num_requests: int
    max_difference: float

    def __str__(self) -> str:
        where = self.url or "this process"
        return (
            f"{self.path} is in order: {self.num_files} files as they were exported, {self.num_requests} "
            f"golden requests answered alike by {where} (largest difference {self.max_difference:.1g})."
        )


class ExportedModel:
    """A SavedModel that takes text and answers labels, as `export` wrote it.

    Any other SavedModel with signatures can be asked and served too, but has nothing to verify.

    Args:
        path: Directory of a version, or of a model; then it is the newest version.

    Attributes:
        path: Directory of the version.
        version: Its number.

    Raises:
        ServingError: If there is no SavedModel.

    Example:
    >>> exported = ExportedModel("models/reviews")
    >>> exported
    ExportedModel('models/reviews/1', signatures=['serving_default'])
    >>> exported.predict(["A joy from start to end."])
    [Classification(label='positive', score=0.97)]
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = _version_directory(Path(path))
        self.version = int(self.path.name) if self.path.name.isdecimal() else None

    def __repr__(self) -> str:
        return f"ExportedModel({str(self.path)!r}, signatures={sorted(self.signatures)})"

    @property
    def name(self) -> str:
        """What a server calls the model: the name of its directory."""
        return self.path.absolute().parent.name

    @cached_property
    def metadata(self) -> dict[str, Any]:
        """Content of `kerasllm.json`: task, labels, versions, golden requests; empty for other SavedModels.

        Raises:
            ServingError: If the file is damaged.
        """
        try:
            content = json.loads((self.path / _METADATA).read_bytes())
        except FileNotFoundError:
            return {}
        except (ValueError, OSError) as error:
            raise ServingError(
                f"`{self.path / _METADATA}` is damaged: {error}. Export the model again."
            ) from error
        return content if isinstance(content, dict) else {}

    @cached_property
    def signatures(self) -> dict[str, Any]:
        """Inputs and outputs of each signature, by its name."""
        if "signatures" in self.metadata:
            return dict(self.metadata["signatures"])
        from kerasllm.export.servable_ops import read_signatures

        return {
            name: {"inputs": sorted(signature.inputs), "outputs": sorted(signature.outputs)}
            for name, signature in sorted(read_signatures(self.path).items())
        }

    def predict(
        self, inputs: str | Sequence[Any] | Mapping[str, Any], *, signature_name: str = _DEFAULT
    ) -> list[Classification] | dict[str, np.ndarray]:
        """Computes answers in this process.

        Args:
            inputs: One text or many (for a model of pairs, `(text, text_pair)` tuples), or a dict with the
                signature's inputs by name.
            signature_name: Which signature to ask. Defaults to `"serving_default"`.

        Returns:
            One `Classification` a text; or, for a dict and for models that do not classify, the outputs as
            arrays by name.

        Raises:
            DataError: If an input is not a text, or does not fit the signature.
            ServingError: If there is no such signature.
        """
        function = self._function(signature_name)
        names = sorted(function.structured_input_signature[1])
        if isinstance(inputs, Mapping):
            return self._run(function, inputs)
        outputs = self._run(function, columns_of_rows(inputs, names))
        if not is_classification(outputs):
            return outputs
        return classifications({name: _texts(array) for name, array in outputs.items()})

    def verify(self, url: str | None = None, *, model_name: str | None = None) -> Verification:
        """Checks the files against their hashes, then the answers to the golden requests of the export.

        Args:
            url: Server to ask, such as `"http://127.0.0.1:8501"` (REST) or `"grpc://127.0.0.1:8500"`.
                Defaults to `None`, this process.
            model_name: What the server calls the model. Defaults to the name of the model's directory.

        Returns:
            What was checked.

        Raises:
            ServingError: If a file is damaged or missing, an answer differs, or there is nothing to check.
        """
        if not (self.path / MANIFEST).exists() and not self.metadata:
            raise ServingError(
                f"`{self.path}` was not exported by kerasllm: it has no {MANIFEST} and no golden requests to "
                "verify. Export a model with `kerasllm export MODEL PATH`."
            )
        verify_manifest(self.path, error=ServingError)
        golden = self.metadata.get("golden", {})
        worst = 0.0
        for request in golden.get("requests", []):
            found = self._answers(request, url, model_name or self.name)
            worst = max(
                worst,
                compare_outputs(
                    request["outputs"], found, tolerance=golden["tolerance"], source=url or "this process"
                ),
            )
        return Verification(
            self.path,
            url,
            len(read_manifest(self.path, error=ServingError)),
            len(golden.get("requests", [])),
            worst,
        )

    def serve(self, **options: Any) -> None:
        """Serves this version over REST and gRPC until the process is told to stop; see `serving.serve`.

        Args:
            **options: Those of `kerasllm.serving.serve`, such as `rest_api_port=8080`.
        """
        from kerasllm.serving.server.serve import serve

        serve(self.path, **options)

    def _answers(self, request: dict[str, Any], url: str | None, model_name: str) -> dict[str, Any]:
        if url is None:
            outputs = self._run(self._function(request["signature"]), request["inputs"])
            return {name: _texts(array) for name, array in outputs.items()}
        if url.startswith("grpc://"):
            from kerasllm.serving.grpc_client import GrpcClient

            with GrpcClient(url.removeprefix("grpc://"), model_name) as grpc_client:
                answer = grpc_client.predict_tensors(request["inputs"], signature_name=request["signature"])
            return {name: _texts(array) for name, array in answer.items()}
        from kerasllm.serving.rest_client import Client

        with Client(url, model_name) as client:
            return client.predict_tensors(request["inputs"], signature_name=request["signature"])

    @cached_property
    def _loaded(self) -> Any:
        import tensorflow as tf
        import tensorflow_text  # noqa: F401 (registers the ops of TF Text)

        return tf.saved_model.load(str(self.path))

    def _function(self, name: str) -> Any:
        if name not in self._loaded.signatures:
            raise ServingError(
                f"`{self.path}` has no signature `{name}`. It has {sorted(self._loaded.signatures)}."
            )
        return self._loaded.signatures[name]

    def _run(self, function: Any, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
        import tensorflow as tf

        specs = function.structured_input_signature[1]
        if set(inputs) != set(specs):
            raise DataError(f"The signature takes the inputs {sorted(specs)}, but got {sorted(inputs)}.")
        tensors = {name: tf.constant(value, specs[name].dtype) for name, value in inputs.items()}
        return {name: _array(tensor) for name, tensor in function(**tensors).items()}


def _version_directory(path: Path) -> Path:
    if (path / "saved_model.pb").is_file():
        return path
    versions = [
        child
        for child in (path.iterdir() if path.is_dir() else ())
        if child.name.isdecimal() and (child / "saved_model.pb").is_file()
    ]
    if not versions:
        raise ServingError(
            f"There is no exported model at `{path}`: neither a SavedModel nor numbered versions of one. "
            "Pass the directory that `export` wrote, e.g. `models/reviews`."
        )
    return max(versions, key=lambda child: int(child.name))


def _array(tensor: Any) -> np.ndarray:
    value = tensor.numpy()
    return value if isinstance(value, np.ndarray) else np.array(value)


def _texts(array: np.ndarray) -> Any:
    """Returns an array as nested lists, its strings decoded."""
    if array.dtype.kind != "O":
        return array.tolist()
    flat = np.empty(array.size, object)
    flat[:] = [value.decode("utf-8", "replace") for value in array.ravel()]
    return flat.reshape(array.shape).tolist()
