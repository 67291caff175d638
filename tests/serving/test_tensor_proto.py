"""`TensorProto` both ways, against TensorFlow's own reader and the server's rules."""

import math

import numpy as np
import pytest

from kerasllm.serving.dtypes import TYPES
from kerasllm.serving.tensor_proto import array_from_proto, fill_proto


@pytest.fixture(scope="module")
def tf():
    return pytest.importorskip("tensorflow")


def values(kind, shape):
    if kind.name == "string":
        return np.array([f"text {i}\0".encode() for i in range(math.prod(shape))], object).reshape(shape)
    numbers = np.arange(math.prod(shape)).reshape(shape) % 2
    if kind.name == "bfloat16":
        import ml_dtypes

        return numbers.astype(ml_dtypes.bfloat16)
    return (numbers * 1j if kind.name.startswith("complex") else numbers).astype(kind.numpy)


@pytest.mark.parametrize("kind", TYPES.values(), ids=lambda kind: kind.name)
@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (0, 3)])
def test_written_and_read_as_tensorflow_does(kind, shape, tf):
    from tensorflow.core.framework import tensor_pb2

    array = values(kind, shape)
    written = tensor_pb2.TensorProto()
    fill_proto(written, array)
    np.testing.assert_array_equal(tf.make_ndarray(written), array)
    for proto in (written, tf.make_tensor_proto(array)):
        read = array_from_proto(proto)
        np.testing.assert_array_equal(read, array)
        assert read.shape == shape


def test_strings_in_tensor_content(tf):
    from tensorflow.core.framework import tensor_pb2

    proto = tensor_pb2.TensorProto(dtype=7)
    proto.tensor_shape.dim.add().size = 3
    proto.tensor_content = bytes([1, 0, 130, 1]) + b"a" + b"b" * 130
    assert array_from_proto(proto).tolist() == [b"a", b"", b"b" * 130]
    for content in (b"\x01", b"\x80\x80\x80", bytes([1, 0, 5]) + b"a", b"\xff" * 40):
        proto.tensor_content = content
        with pytest.raises(ValueError, match="string"):
            array_from_proto(proto)


def test_lists_that_are_short_are_continued_and_long_ones_are_cut(tf):
    from tensorflow.core.framework import tensor_pb2

    proto = tensor_pb2.TensorProto(dtype=1)
    proto.tensor_shape.dim.add().size = 4
    assert array_from_proto(proto).tolist() == [0, 0, 0, 0]
    proto.float_val.extend([1, 2])
    assert array_from_proto(proto).tolist() == [1, 2, 2, 2]
    proto.float_val.extend([3, 4, 5, 6])
    assert array_from_proto(proto).tolist() == [1, 2, 3, 4]


def test_what_is_no_tensor(tf):
    from tensorflow.core.framework import tensor_pb2

    proto = tensor_pb2.TensorProto(dtype=1)
    proto.tensor_shape.unknown_rank = True
    with pytest.raises(ValueError, match="not a tensor"):
        array_from_proto(proto)
    with pytest.raises(ValueError, match="not a tensor: type 0"):
        array_from_proto(tensor_pb2.TensorProto())
    proto = tensor_pb2.TensorProto(dtype=1)
    for _ in range(300):
        proto.tensor_shape.dim.add().size = 1
    with pytest.raises(ValueError, match="not a tensor"):
        array_from_proto(proto)
