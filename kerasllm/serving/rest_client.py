"""Asks a server over REST: ours or any TensorFlow Serving; imports no TensorFlow."""

import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import httpx2

from kerasllm.errors import ServingError
from kerasllm.serving.generation_requests import GenerationRequests
from kerasllm.serving.results import Classification, classifications, is_classification
from kerasllm.serving.retries import UnansweredError, retry
from kerasllm.serving.rows import text_columns

__all__ = ["Client"]


class Client(GenerationRequests):
    """A client for one model on one server.

    Connections are kept open and reused, also by several threads. Close the client, or use it in a `with`
    block.

    Args:
        url: Where the server's REST port is, such as `"http://127.0.0.1:8501"`.
        model: Name of the model.
        version: Number of the version to ask. Defaults to `None`, the newest.
        label: Label of the version to ask, such as `"stable"`. Defaults to `None`.
        timeout: Seconds for an answer, retries included. Defaults to 30.
        max_retries: Further attempts when nobody answers or the server is busy (503). Defaults to 3.

    Example:
    >>> client = Client("http://127.0.0.1:8501", "reviews")
    >>> client.predict(["A joy from start to end."])
    [Classification(label='positive', score=0.97)]
    """

    def __init__(
        self,
        url: str,
        model: str,
        *,
        version: int | None = None,
        label: str | None = None,
        timeout: float = 30.0,
        max_retries: int = 3,
    ):
        if not url.startswith(("http://", "https://")):
            raise ServingError(
                f"`{url}` is not the address of a REST server. Write it with `http://`, e.g. "
                "`http://127.0.0.1:8501`; for gRPC use `GrpcClient`, and `grpc://` in the shell."
            )
        if version is not None and label is not None:
            raise ServingError(f"Both version {version} and label `{label}` were given. Give one.")
        self.url = url.rstrip("/")
        self.model = model
        self._base = f"{self.url}/v1/models/{quote(model, safe='')}"
        if version is not None:
            self._base += f"/versions/{version}"
        if label is not None:
            self._base += f"/labels/{quote(label, safe='')}"
        self._timeout = timeout
        self._max_retries = max_retries
        self._http = httpx2.Client(trust_env=False)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def predict(
        self, texts: str | Sequence[Any], *, signature_name: str | None = None
    ) -> list[Classification]:
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
        if not isinstance(outputs, dict) or not is_classification(outputs):
            found = sorted(outputs) if isinstance(outputs, dict) else "one unnamed tensor"
            raise ServingError(
                f"Model `{self.model}` at {self.url} is not a text classifier: it answers {found} instead of "
                "`label`, `score`, `labels` and `scores`. Ask it with `predict_tensors`."
            )
        return classifications(outputs)

    def _ask_columns(self, signature_name: str, columns: Mapping[str, Any]) -> Mapping[str, Any]:
        plain = {name: values.tolist() for name, values in columns.items()}
        return self.predict_tensors(plain, signature_name=signature_name)  # type: ignore[no-any-return]

    def predict_tensors(
        self, inputs: Mapping[str, Any] | Sequence[Any], *, signature_name: str | None = None
    ) -> Any:
        """Asks any signature, in column format.

        Args:
            inputs: Nested lists by input name; or one nested list, for a signature with one input.
            signature_name: Which signature to ask. Defaults to the server's default.

        Returns:
            Nested lists by output name; for a signature with one output, that list itself.

        Raises:
            ServingError: If the server refuses or does not answer.
        """
        body: dict[str, Any] = {"inputs": inputs}
        if signature_name is not None:
            body["signature_name"] = signature_name
        return self._ask("POST", f"{self._base}:predict", json.dumps(body).encode())["outputs"]

    def status(self) -> list[dict[str, Any]]:
        """Returns the state of each version, newest first.

        Example:
        >>> client.status()
        [{'version': 1, 'state': 'AVAILABLE', 'error_code': 'OK', 'error_message': ''}]
        """
        answer = self._ask("GET", self._base)
        return [
            {"version": int(entry["version"]), "state": entry["state"], **entry["status"]}
            for entry in answer["model_version_status"]
        ]

    def metadata(self) -> dict[str, Any]:
        """Returns the signatures of the model by name, each with its inputs and outputs."""
        answer = self._ask("GET", f"{self._base}/metadata")
        return answer["metadata"]["signature_def"]["signature_def"]

    def _ask(self, method: str, url: str, body: bytes | None = None) -> Any:
        try:
            response = retry(
                lambda left: self._send(method, url, body, left),
                timeout=self._timeout,
                max_retries=self._max_retries,
            )
        except UnansweredError as error:
            raise self._unanswered(error) from error
        if response.status_code != 200:
            status = response.status_code
            raise ServingError(f"{url} was answered {status}: {_message(response)}", status=status)
        return _parsed(response)

    def _send(self, method: str, url: str, body: bytes | None, left: float) -> httpx2.Response:
        try:
            response = self._http.request(method, url, content=body, timeout=left)
        except httpx2.TimeoutException as error:
            raise ServingError(
                f"{self.url} did not answer within {self._timeout:g} s. Ask for less at once, or allow more "
                "time, e.g. `Client(…, timeout=120)`.",
                status=504,
            ) from error
        except httpx2.TransportError as error:
            raise UnansweredError(str(error)) from error
        if response.status_code == 503:
            raise UnansweredError(_message(response))
        return response

    def _unanswered(self, error: UnansweredError) -> ServingError:
        if isinstance(error.__cause__, httpx2.TransportError):
            return ServingError(
                f"No server answers at {self.url} ({error}). Start one with `kerasllm serve PATH`, or check "
                "host and port."
            )
        return ServingError(f"{self.url} is busy: {error}. Try again later.", status=503)


def _message(response: httpx2.Response) -> str:
    try:
        return str(_parsed(response)["error"])
    except (ServingError, KeyError, TypeError):
        return response.reason_phrase


def _parsed(response: httpx2.Response) -> Any:
    """Reads an answer; like the server, it may hold bytes that are not UTF-8, and NaN."""
    try:
        return json.loads(response.content.decode("utf-8", "replace"))
    except ValueError as error:
        raise ServingError(
            f"{response.url} did not answer JSON. Is it the REST port of a model server?",
            status=response.status_code,
        ) from error
