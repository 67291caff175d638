"""Requests that TF Serving runs while it loads a version, so that the first user does not wait for them.

`assets.extra/tf_serving_warmup_requests` is a TFRecord file of `tensorflow.serving.PredictionLog`. That
message lives in tensorflow-serving-api, which an export should not need: every field on the way to the
tensors is a string or a message, so its encoding is the few lines below.
"""

import errno
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["WARMUP_FILE", "prediction_log", "warmup_requests", "write_warmup"]

WARMUP_FILE = "assets.extra/tf_serving_warmup_requests"
MAX_RECORDS = 1000  # a server refuses to load a version with more

_BATCH_SIZES = (1, 8, 32)
_NUM_WORDS = (3, 24, 96, 384)
_WORDS = ("the weather report for tomorrow says that it may rain in the north , and the roads " * 30).split()

# Field numbers of tensorflow_serving/apis/prediction_log.proto, predict.proto and model.proto.
_PREDICT_LOG, _REQUEST, _MODEL_SPEC, _INPUTS = 6, 1, 1, 2
_NAME, _SIGNATURE_NAME, _KEY, _VALUE = 1, 3, 1, 2


def warmup_requests(names: Sequence[str]) -> list[dict[str, list[str]]]:
    """Makes requests of several batch sizes and lengths, also mixed ones.

    Args:
        names: Names of the signature's inputs, each of which takes texts.

    Returns:
        One dict of equally long lists of texts a request.
    """
    requests = []
    for batch_size in _BATCH_SIZES:
        for num_words in _NUM_WORDS:
            lengths = [max(1, num_words * (row + 1) // batch_size) for row in range(batch_size)]
            requests.append({name: [_text(length) for length in lengths] for name in names})
    return requests


def write_warmup(
    directory: Path,
    requests: Sequence[Mapping[str, Any] | tuple[str, Mapping[str, Any]]],
    *,
    model_name: str = "model",
) -> Path:
    """Writes the warm-up file of a SavedModel.

    Args:
        directory: Directory of the version.
        requests: Inputs by name, each texts or an array, for `"serving_default"`; or a signature and its
            inputs. At most 1,000.
        model_name: What the requests call the model; a server does not look at it.

    Returns:
        Path of the file.
    """
    import tensorflow as tf

    if len(requests) > MAX_RECORDS:
        raise ValueError(f"A server takes at most {MAX_RECORDS:,} warm-up requests, not {len(requests):,}.")
    path = directory / WARMUP_FILE
    path.parent.mkdir(exist_ok=True)
    named = [request if isinstance(request, tuple) else ("serving_default", request) for request in requests]
    records = [prediction_log(inputs, signature=name, model_name=model_name) for name, inputs in named]
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records:
            writer.write(record)
    # The writer does not say so when the disk is full; a record has 16 bytes of length and checksums.
    if path.stat().st_size != sum(len(record) + 16 for record in records):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
    return path


def prediction_log(inputs: Mapping[str, Any], *, signature: str, model_name: str) -> bytes:
    """Encodes a predict request as a serialised `tensorflow.serving.PredictionLog`."""
    import tensorflow as tf

    spec = _field(_NAME, model_name.encode()) + _field(_SIGNATURE_NAME, signature.encode())
    request = _field(_MODEL_SPEC, spec)
    for name, values in inputs.items():
        array = np.asarray(values)
        # NumPy's own texts have one width for all, and lose zero bytes at their ends.
        is_text = array.dtype.kind in "UO"
        tensor = tf.make_tensor_proto(
            np.asarray(values, object) if is_text else array, tf.string if is_text else None
        )
        entry = _field(_KEY, name.encode()) + _field(_VALUE, tensor.SerializeToString())
        request += _field(_INPUTS, entry)
    return _field(_PREDICT_LOG, _field(_REQUEST, request))


def _field(number: int, payload: bytes) -> bytes:
    """Encodes a length-delimited protocol buffer field."""
    return _varint(number << 3 | 2) + _varint(len(payload)) + payload


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 127:
        encoded.append(value & 127 | 128)
        value >>= 7
    return bytes([*encoded, value])


def _text(num_words: int) -> str:
    return " ".join(_WORDS[:num_words])
