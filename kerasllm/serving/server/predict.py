"""Checks a predict request against the model's signature, in the order and words of the server."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from kerasllm.serving.server.servable import Servable, Signature
from kerasllm.serving.status import StatusError
from kerasllm.serving.tensor_proto import array_from_proto

__all__ = ["check_inputs", "chosen_outputs", "predict_inputs", "rest_signature"]

_DEFAULT_SIGNATURE = "serving_default"
_MAX_FILLED_ELEMENTS = 2**20


def rest_signature(servable: Servable, name: str) -> Signature:
    """Finds a signature for a REST request.

    Raises:
        StatusError: INVALID_ARGUMENT; gRPC has another code and other words for it.
    """
    signature = servable.signature(name)
    if signature is None:
        raise StatusError("INVALID_ARGUMENT", f'Serving signature name: "{name}" not found in signature def')
    if not signature.inputs:
        raise StatusError("INVALID_ARGUMENT", f"Failed to get input map for signature: {name}")
    return signature


def predict_inputs(
    servable: Servable, request: Any, *, max_filled_elements: int = _MAX_FILLED_ELEMENTS
) -> tuple[Signature, dict[str, np.ndarray], list[str]]:
    """Reads a `PredictRequest`.

    Returns:
        The signature, the arrays of its inputs by name, and the names of the outputs wanted.

    Raises:
        StatusError: If the request does not fit the model.
    """
    name = request.model_spec.signature_name or _DEFAULT_SIGNATURE
    signature = servable.signature(name)
    if signature is None:
        raise StatusError("FAILED_PRECONDITION", f'Serving signature key "{name}" not found.')
    check_inputs(signature, request.inputs)
    inputs = {}
    for alias in signature.inputs:
        try:
            inputs[alias] = array_from_proto(request.inputs[alias], max_filled_elements=max_filled_elements)
        except ValueError as error:
            raise StatusError("INVALID_ARGUMENT", f"tensor parsing error: {alias}") from error
    return signature, inputs, chosen_outputs(signature, request.output_filter)


def check_inputs(signature: Signature, inputs: Mapping[str, Any]) -> None:
    """Checks the names of the inputs.

    Raises:
        StatusError: INVALID_ARGUMENT, if an input is missing or unknown.
    """
    sent, wanted = set(inputs), set(signature.inputs)
    if len(sent) != len(wanted):
        raise StatusError(
            "INVALID_ARGUMENT",
            f"input size does not match signature: {len(sent)}!={len(wanted)} len({_set(sent)}) != "
            f"len({_set(wanted)}). Sent extra: {_set(sent - wanted)}. "
            f"Missing but required: {_set(wanted - sent)}.",
        )
    for alias in sorted(wanted - sent):
        raise StatusError(
            "INVALID_ARGUMENT",
            f"Signature input alias: {alias}(feed name: {signature.definition.inputs[alias].name}) not found "
            f"in request and no default value provided. Inputs expected to be in the request {_set(sent)}, "
            "or default input alias set: ",
        )


def chosen_outputs(signature: Signature, output_filter: Sequence[str]) -> list[str]:
    """Returns the names of the outputs wanted: all, unless the request names some.

    Raises:
        StatusError: INVALID_ARGUMENT, if it names an unknown output, or one twice.
    """
    chosen: list[str] = []
    for alias in output_filter:
        if alias not in signature.definition.outputs:
            raise StatusError(
                "INVALID_ARGUMENT",
                f"output tensor alias not found in signature: {alias} Outputs expected to be in the set "
                f"{_set(signature.outputs)}.",
            )
        if alias in chosen:
            raise StatusError("INVALID_ARGUMENT", f"duplicate output tensor alias: {alias}")
        chosen.append(alias)
    return chosen or signature.outputs


def _set(names: Iterable[str]) -> str:
    return "{" + ",".join(sorted(names)) + "}"
