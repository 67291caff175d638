"""Every gRPC exchange recorded on a real TensorFlow Serving 2.20, sent to the embedded server."""

import json
from pathlib import Path

import pytest

_FILE = Path(__file__).parents[3] / "shared" / "serving" / "grpc.jsonl"
_RECORDINGS = [json.loads(line) for line in _FILE.read_text().splitlines()] if _FILE.is_file() else []

# Not part of the server yet; asking for them must be a clear error.
NOT_YET = {
    "classify_empty",
    "classify_sig_missing",
    "classify_unknown",
    "classify_wrong_sig",
    "multi_no_tasks",
    "multi_ok",
    "multi_two_models",
    "regress_default",
    "regress_ok",
    "reload_bad_platform",
    "reload_change_platform",
    "reload_dup",
    "reload_empty",
    "reload_relative",
}


def message_types(method):
    from tensorflow_serving.apis import (
        classification_pb2,
        get_model_metadata_pb2,
        get_model_status_pb2,
        inference_pb2,
        model_management_pb2,
        predict_pb2,
        regression_pb2,
    )

    types = {
        "Predict": (predict_pb2.PredictRequest, predict_pb2.PredictResponse),
        "Classify": (classification_pb2.ClassificationRequest, classification_pb2.ClassificationResponse),
        "Regress": (regression_pb2.RegressionRequest, regression_pb2.RegressionResponse),
        "MultiInference": (inference_pb2.MultiInferenceRequest, inference_pb2.MultiInferenceResponse),
        "GetModelMetadata": (
            get_model_metadata_pb2.GetModelMetadataRequest,
            get_model_metadata_pb2.GetModelMetadataResponse,
        ),
        "GetModelStatus": (
            get_model_status_pb2.GetModelStatusRequest,
            get_model_status_pb2.GetModelStatusResponse,
        ),
        "HandleReloadConfigRequest": (
            model_management_pb2.ReloadConfigRequest,
            model_management_pb2.ReloadConfigResponse,
        ),
    }
    return types.get(method.rpartition("/")[2], types["Predict"])


@pytest.fixture(scope="module")
def channel(recorded_server):
    grpc = pytest.importorskip("grpc")
    with grpc.insecure_channel(f"127.0.0.1:{recorded_server.grpc_port}") as channel:
        yield channel


def call(channel, recording):
    """Returns code, message and response of a recorded call made again."""
    import grpc
    from google.protobuf import text_format

    request_type, response_type = message_types(recording["method"])
    request = text_format.Parse(recording["request"], request_type())
    function = channel.unary_unary(
        recording["method"],
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=response_type.FromString,
    )
    try:
        return "OK", "", function(request, timeout=recording["timeout_s"])
    except grpc.RpcError as error:
        return error.code().name, error.details(), None


def unpacked(response):
    """Returns the parts of a response that can be compared; an `Any` holds maps in any order."""
    from tensorflow_serving.apis import get_model_metadata_pb2

    if not isinstance(response, get_model_metadata_pb2.GetModelMetadataResponse):
        return response
    signatures = get_model_metadata_pb2.SignatureDefMap()
    response.metadata["signature_def"].Unpack(signatures)
    return response.model_spec, signatures


@pytest.mark.skipif(not _RECORDINGS, reason=f"the recordings of the real server are not there: {_FILE}")
@pytest.mark.parametrize("recording", _RECORDINGS, ids=[recording["name"] for recording in _RECORDINGS])
def test_the_embedded_server_answers_as_the_real_one(recording, channel):
    from google.protobuf import text_format

    code, message, response = call(channel, recording)
    if recording["name"] in NOT_YET:
        assert code in ("UNIMPLEMENTED", "PERMISSION_DENIED")
        assert "embedded server" in message
        return
    first_line = slice(None) if "{{node" not in recording["message"] else slice(1)
    assert code == recording["code"]
    assert message.split("\n")[first_line] == recording["message"].split("\n")[first_line]
    if recording["code"] == "OK":
        expected = text_format.Parse(recording["response"], message_types(recording["method"])[1]())
        assert unpacked(response) == unpacked(expected)


@pytest.mark.skipif(not _RECORDINGS, reason=f"the recordings of the real server are not there: {_FILE}")
def test_what_is_not_answered_yet_is_a_known_part():
    names = {recording["name"] for recording in _RECORDINGS}
    assert names >= NOT_YET
    print(f"gRPC: {len(names) - len(NOT_YET)} of {len(names)} recordings replayed, {len(NOT_YET)} not yet")
