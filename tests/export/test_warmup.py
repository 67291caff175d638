"""The warm-up file is what TF Serving reads."""

import pytest
import tensorflow as tf

from kerasllm.export.warmup import MAX_RECORDS, WARMUP_FILE, prediction_log, warmup_requests, write_warmup


def read(directory):
    return [record.numpy() for record in tf.data.TFRecordDataset(str(directory / WARMUP_FILE))]


@pytest.mark.parametrize(
    "inputs", [{"text": ["a"]}, {"text": ["x" * 200, "ü\0"], "text_pair": ["", "b" * 20000]}]
)
def test_a_record_is_the_message_that_the_server_defines(inputs):
    prediction_log_pb2 = pytest.importorskip("tensorflow_serving.apis.prediction_log_pb2")
    encoded = prediction_log(inputs, signature="serving_default", model_name="reviews")
    expected = prediction_log_pb2.PredictionLog()
    request = expected.predict_log.request
    request.model_spec.name, request.model_spec.signature_name = "reviews", "serving_default"
    for name, texts in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(texts, dtype=tf.string))
    decoded = prediction_log_pb2.PredictionLog.FromString(encoded)
    assert decoded == expected
    assert decoded.SerializeToString(deterministic=True) == expected.SerializeToString(deterministic=True)
    assert tf.make_ndarray(decoded.predict_log.request.inputs["text"]).tolist() == [
        t.encode() for t in inputs["text"]
    ]


def test_an_export_warms_up_small_and_large_batches_of_short_and_long_texts(exported):
    prediction_log_pb2 = pytest.importorskip("tensorflow_serving.apis.prediction_log_pb2")
    signature = tf.saved_model.load(str(exported)).signatures["serving_default"]
    sizes, longest = set(), set()
    records = read(exported)
    for record in records:
        request = prediction_log_pb2.PredictionLog.FromString(record).predict_log.request
        assert request.model_spec.signature_name == "serving_default"
        assert list(request.inputs) == ["text"]
        texts = tf.make_ndarray(request.inputs["text"])
        sizes.add(len(texts))
        longest.add(max(len(text.split()) for text in texts))
        assert signature(text=tf.constant(texts))["score"].shape == (len(texts),)
    assert {1, 32} <= sizes
    assert len(longest) >= 4
    assert len(records) <= MAX_RECORDS


def test_a_pair_warms_up_with_both_texts():
    assert all(set(request) == {"text", "text_pair"} for request in warmup_requests(("text", "text_pair")))


def test_more_records_than_a_server_takes_are_refused(tmp_path):
    with pytest.raises(ValueError, match="at most 1,000 warm-up requests, not 1,001"):
        write_warmup(tmp_path, [{"text": ["a"]}] * 1001)
