"""Runs the requests that an export ships for the purpose, so that the first user does not wait."""

import logging

from kerasllm.serving.server.predict import predict_inputs
from kerasllm.serving.server.servable import Servable
from kerasllm.serving.status import StatusError

__all__ = ["run_warmup"]

_FILE = "assets.extra/tf_serving_warmup_requests"
_MAX_RECORDS = 1000
_LOG = logging.getLogger(__name__)


def run_warmup(servable: Servable) -> int:
    """Runs the warm-up requests of a version, a TFRecord file of `PredictionLog`.

    Returns:
        Number of requests.

    Raises:
        StatusError: If the file is damaged or too long, or if a request fails: the load then fails, too.
    """
    import tensorflow as tf
    from google.protobuf.message import DecodeError
    from tensorflow_serving.apis import prediction_log_pb2

    path = servable.path / _FILE
    if not path.is_file():
        return 0
    try:
        records = [record.numpy() for record in tf.data.TFRecordDataset(str(path)).take(_MAX_RECORDS + 1)]
        logs = [prediction_log_pb2.PredictionLog.FromString(record) for record in records]
    except (tf.errors.OpError, DecodeError) as error:
        raise StatusError("DATA_LOSS", f"The warm-up requests {path} cannot be read: {error}") from error
    if len(logs) > _MAX_RECORDS:
        raise StatusError(
            "INVALID_ARGUMENT",
            f"Number of warmup records exceeds the maximum ({_MAX_RECORDS}) at {path}. Please reduce the "
            "number of warmup records.",
        )
    for log in logs:
        if log.WhichOneof("log_type") != "predict_log":
            _LOG.warning("%s: a warm-up request of the kind %s is left out", path, log.WhichOneof("log_type"))
            continue
        request = log.predict_log.request
        signature, inputs, outputs = predict_inputs(servable, request)
        servable.run(signature, inputs, outputs)
    return len(logs)
