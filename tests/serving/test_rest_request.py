"""Requests: the fast road and the exact one must agree, and errors must be those of the server."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kerasllm.serving.dtypes import TYPES
from kerasllm.serving.plain_tensor import plain_tensors
from kerasllm.serving.rest_request import PredictBody
from kerasllm.serving.status import StatusError

FLOAT, INT32, STRING, INT64, BOOL, INT8 = (TYPES[number] for number in (1, 3, 7, 9, 10, 6))


def read(body, inputs, *, exact=False):
    parsed = PredictBody(body if isinstance(body, bytes) else json.dumps(body).encode())
    if exact:
        parsed._plain = None
    return parsed.tensors(inputs)


LEAVES = st.integers(-(2**40), 2**40) | st.floats(width=32) | st.booleans() | st.text(max_size=5) | st.none()
VALUES = st.recursive(
    LEAVES | st.fixed_dictionaries({"b64": st.sampled_from(["", "aGk=", "aGk", "!"])}),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
    max_leaves=6,
)


@settings(max_examples=300, deadline=None)
@given(VALUES, st.sampled_from(["instances", "inputs"]), st.sampled_from([FLOAT, INT32, STRING, BOOL, INT8]))
def test_the_fast_road_says_what_the_exact_one_says(value, key, kind):
    body = json.dumps({key: value}).encode()
    for inputs in ({"a": kind}, {"a": kind, "b": kind}):
        try:
            exact, by_rows = read(body, inputs, exact=True)
        except StatusError:
            exact = None
        fast = plain_tensors(json.loads(body), inputs)
        if fast is None:
            continue
        assert exact is not None
        assert by_rows == (key == "instances")
        for name, array in fast.items():
            np.testing.assert_array_equal(array, exact[name])
            assert array.dtype == exact[name].dtype
            assert array.shape == exact[name].shape


def test_ordinary_requests_take_the_fast_road():
    for body in (
        {"instances": ["é", "\U0001f600", "x"]},
        {"inputs": {"text": ["a"]}},
        {"instances": [{"text": "a"}]},
    ):
        parsed = PredictBody(json.dumps(body).encode())
        parsed.tensors({"text": STRING})
        assert parsed._document is None


@pytest.mark.parametrize(
    "body",
    [
        b'{"instances": ["a"], "instances": ["b"]}',
        b'{"instances": ["\xff"]}',
        b'\xef\xbb\xbf{"instances": ["a"]}',
        b'{"instances": ["a"], "n": 12345678901234567890}',
    ],
)
def test_what_python_might_read_otherwise_takes_the_exact_road(body):
    assert PredictBody(body)._plain is None


@pytest.mark.parametrize(
    "body",
    [b'{"instances": ["\\ud800"]}', b'{"instances": [1e400]}', b'{"instances": ["\\\\ud83d\\ude00"]}'],
)
def test_what_python_accepts_and_the_server_does_not(body):
    assert json.loads(body)
    with pytest.raises(StatusError, match="JSON Parse error"):
        PredictBody(body)


def test_rows_with_a_name_twice_keep_the_values_that_came_first():
    body = b'{"instances":[{"x":[1,2],"x":[3,4]},{"x":[5,6]}]}'
    tensors, _ = read(body, {"x": FLOAT})
    np.testing.assert_array_equal(tensors["x"], [[1, 2], [3, 4]])


def test_shapes_of_empty_lists():
    assert read({"inputs": [[], []]}, {"x": FLOAT})[0]["x"].shape == (2, 0)
    assert read({"instances": [[]]}, {"x": STRING})[0]["x"].shape == (1, 0)


@pytest.mark.parametrize(
    ("body", "inputs", "message"),
    [
        (
            {"instances": [1], "inputs": [1]},
            {"x": FLOAT},
            "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist ",
        ),
        (
            {"inputs": [[1], [2, 3]]},
            {"x": FLOAT},
            "Encountered list at unexpected size: 2 at level: 1 expected size: 1",
        ),
        ({"inputs": [1, [2]]}, {"x": FLOAT}, "Encountered list at unexpected level: 1 expected < 1"),
        ({"inputs": [{"b64": "a-_b"}]}, {"x": STRING}, "Unable to base64 decode"),
        (
            {"instances": [[1, 2], [[1], [2]]]},
            {"x": FLOAT},
            "Failed to process element: 1 of 'instances' list. Error: INVALID_ARGUMENT: "
            "Expecting shape [2] but got: [2,1]",
        ),
        (
            {"inputs": [2**63]},
            {"x": INT64},
            "JSON Value: 9223372036854775808 Type: Number is not of expected type: int64",
        ),
        ({"inputs": {"a": [1]}}, {"x": FLOAT, "y": FLOAT}, "Missing named input: x in 'inputs' object."),
    ],
)
def test_errors_are_worded_as_the_server_does(body, inputs, message):
    with pytest.raises(StatusError) as caught:
        read(body, inputs)
    assert caught.value.code == "INVALID_ARGUMENT"
    assert caught.value.message.endswith(message)


def test_a_quoted_value_is_cut():
    with pytest.raises(StatusError) as caught:
        read({"inputs": ["x" * 10_000]}, {"x": FLOAT})
    assert len(caught.value.message) < 400


def test_denormal_numbers_are_flushed_and_large_ones_are_infinite():
    values = read(b'{"instances":[1e-40,-1e-40,1e39,0.1]}', {"x": FLOAT})[0]["x"]
    np.testing.assert_array_equal(values, np.array([0, -0.0, np.inf, 0.1], np.float32))
    assert np.signbit(values[1])


def test_a_long_malformed_body_names_the_offset():
    body = b'{"instances":[' + b"[1,2,3]," * 20_000
    with pytest.raises(StatusError, match=r"JSON Parse error: Invalid value\. at offset: 160014"):
        PredictBody(body)
