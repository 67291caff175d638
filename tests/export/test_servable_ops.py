"""What a stock TF Serving cannot run is found in the written graph."""

import re
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from kerasllm.errors import ExportError
from kerasllm.export.servable_ops import check_servable, find_problems

VECTOR = tf.TensorSpec([None], tf.float32, name="x")
TEXT = tf.TensorSpec([None], tf.string, name="text")


def save(path, function, spec, *, holder=None):
    module = holder or tf.Module()
    module.serve = tf.function(function, input_signature=[spec])
    tf.saved_model.save(module, str(path), signatures={"serving_default": module.serve})
    return path


def edit(source, target, change):
    shutil.copytree(source, target)
    message = saved_model_pb2.SavedModel.FromString((target / "saved_model.pb").read_bytes())
    graph = message.meta_graphs[0].graph_def
    change([node for function in graph.library.function for node in function.node_def])
    (target / "saved_model.pb").write_bytes(message.SerializeToString())
    return target


def grown(text):
    table = tf.lookup.experimental.MutableHashTable(tf.string, tf.int64, -1)
    table.insert(text, tf.ones_like(text, tf.int64))
    return {"y": table.lookup(text)}


def dense_table(text):
    table = tf.lookup.experimental.DenseHashTable(tf.string, tf.int64, -1, "", "\0")
    return {"y": table.lookup(text)}


def in_a_loop(x):
    def body(i, total):
        return i + 1, total + tf.ensure_shape(tf.numpy_function(np.sin, [x], tf.float32), [None])

    return {"y": tf.while_loop(lambda i, _: i < 3, body, [0, x])[1]}


def from_lines(text):
    lines = tf.data.TextLineDataset(text)
    return {"y": lines.reduce(tf.constant(0, tf.int64), lambda total, _: total + 1)[None]}


def queue(x):
    waiting = tf.raw_ops.FIFOQueueV2(component_types=[tf.float32])
    return {"y": x + tf.cast(tf.raw_ops.QueueSizeV2(handle=waiting), tf.float32)}


def update(x):
    padded = tf.zeros([8])
    return {"y": keras.ops.slice_update(padded, [tf.size(x)], x[:1])}


@pytest.mark.parametrize(
    ("function", "spec", "message"),
    [
        (lambda x: {"y": tf.py_function(lambda v: v, [x], tf.float32)}, VECTOR, "EagerPyFunc (calls Python"),
        (lambda x: {"y": tf.numpy_function(np.sin, [x], tf.float32)}, VECTOR, "PyFunc (calls Python"),
        (
            lambda x: {"y": tf.numpy_function(np.sin, [x], tf.float32, stateful=False)},
            VECTOR,
            "PyFuncStateless (calls Python",
        ),
        (in_a_loop, VECTOR, "PyFunc (calls Python"),
        (update, VECTOR, "XlaDynamicUpdateSlice (needs XLA"),
        (lambda x: {"y": tf.function(tf.sin, jit_compile=True)(x)}, VECTOR, "must be compiled by XLA"),
        (grown, TEXT, "MutableHashTable"),
        (grown, TEXT, "LookupTableInsertV2 (keeps state that grows"),
        (dense_table, TEXT, "MutableDenseHashTable"),
        (queue, VECTOR, "FIFOQueueV2 (keeps state that grows"),
        (lambda text: {"y": tf.map_fn(tf.io.read_file, text)}, TEXT, "ReadFile (reads or writes files"),
        (lambda text: {"y": tf.io.matching_files(text)}, TEXT, "MatchingFiles (reads or writes files"),
        (from_lines, TEXT, "TextLineDataset (reads or writes files"),
        (
            lambda x: {"y": tf.raw_ops.Timestamp()[None] + tf.cast(x, tf.float64)},
            VECTOR,
            "Timestamp (keeps state",
        ),
    ],
)
def test_an_op_that_cannot_be_served_is_named(tmp_path, function, spec, message):
    path = save(tmp_path / "model", function, spec)
    with pytest.raises(ExportError, match=re.escape(message)):
        check_servable(path)


def test_a_file_that_is_written_in_a_request_is_found(tmp_path):
    def write(text):
        tf.io.write_file("/nowhere/out", text[0])
        return {"y": text}

    assert any(
        "WriteFile (reads or writes files" in problem
        for problem in find_problems(save(tmp_path / "m", write, TEXT))
    )


def test_restoring_in_a_request_is_not_the_restoring_of_the_loader(tmp_path):
    """`RestoreV2` is in every SavedModel; what a request reaches must not read files with it."""
    harmless = save(tmp_path / "harmless", lambda x: {"y": x * 2}, VECTOR, holder=_with_variable())
    assert find_problems(harmless) == []

    def restore(text):
        return {
            "y": tf.raw_ops.RestoreV2(
                prefix=text[0], tensor_names=["a"], shape_and_slices=[""], dtypes=[tf.float32]
            )[0]
        }

    problems = find_problems(save(tmp_path / "harmful", restore, TEXT))
    assert [problem.split(",")[0] for problem in problems] == [
        "RestoreV2 (reads or writes files in a request"
    ]


def _with_variable():
    holder = tf.Module()
    holder.weight = tf.Variable([1.0])
    return holder


def test_the_message_says_where_each_op_is(tmp_path):
    path = save(tmp_path / "model", in_a_loop, VECTOR)
    with pytest.raises(
        ExportError,
        match=r"`.*model` has ops that a stock TF Serving 2\.20 cannot run or must not: "
        r"PyFunc \(calls Python, in the function .*while_body.*\)\. Build the model from ops that work",
    ):
        check_servable(path)


def test_an_op_of_a_newer_tensorflow_is_refused(exported, tmp_path):
    def rename(nodes):
        next(node for node in nodes if node.op == "Softmax").op = "DecodeJxl"

    newer = edit(exported, tmp_path / "newer", rename)
    with pytest.raises(
        ExportError, match=r"DecodeJxl \(unknown to TensorFlow 2\.20 and TF Text 2\.20, in the function "
    ):
        check_servable(newer)


def test_an_attribute_of_a_newer_tensorflow_is_refused(exported, tmp_path):
    """TensorFlow 2.21 gave `TensorListGetItem` an attribute, which 2.20 refuses unless it is left out."""

    def add(nodes):
        node = next(node for node in nodes if node.op == "Softmax")
        node.op = "TensorListGetItem"
        node.attr.clear()
        node.attr["Tshape"].type = 9

    newer = edit(exported, tmp_path / "newer", add)
    with pytest.raises(
        ExportError, match=r"TensorListGetItem \(attribute Tshape unknown to TensorFlow 2\.20"
    ):
        check_servable(newer)


def test_a_graph_of_tensorflow_1_is_read_too(tmp_path):
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        name = tf.compat.v1.placeholder(tf.string, [])
        content = tf.io.read_file(name)
        signature = tf.compat.v1.saved_model.predict_signature_def({"name": name}, {"content": content})
        builder = tf.compat.v1.saved_model.Builder(str(tmp_path / "old"))
        builder.add_meta_graph_and_variables(session, ["serve"], {"serving_default": signature})
        builder.save()
    assert find_problems(tmp_path / "old") == ["ReadFile (reads or writes files, in the main graph)"]


def test_what_is_no_saved_model_is_said(tmp_path):
    with pytest.raises(ExportError, match=r"holds no saved_model\.pb\. Give the directory of one version"):
        check_servable(tmp_path)
    (tmp_path / "saved_model.pb").write_bytes(b"\xff\xff\xff")
    with pytest.raises(ExportError, match=r"saved_model\.pb` is damaged: it is not a SavedModel"):
        check_servable(tmp_path)
    (tmp_path / "saved_model.pb").write_bytes(b"")
    with pytest.raises(ExportError, match=r"is damaged: it holds no graph"):
        check_servable(tmp_path)


def test_an_unknown_server_is_said(exported):
    with pytest.raises(
        ExportError, match=r"ops of TF Serving 1\.0 are not known here; known are \['2\.20'\]"
    ):
        check_servable(exported, target="1.0")
