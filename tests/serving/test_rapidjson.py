"""RapidJSON's rules, beyond what the recordings show."""

import contextlib
import json
import math
import random
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kerasllm.serving.grisu import double_text
from kerasllm.serving.rapid_numbers import to_double
from kerasllm.serving.rapidjson import JsonObject, JsonParseError, parse_json

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text() | st.floats(allow_nan=False),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


def as_python(value):
    if isinstance(value, JsonObject):
        return {name.decode(): as_python(member) for name, member in value}
    if isinstance(value, list):
        return [as_python(element) for element in value]
    return value.decode() if isinstance(value, bytes) else value


def alike(left, right):
    if isinstance(left, float) and isinstance(right, float):
        return math.isclose(left, right, rel_tol=1e-15) or (left == 0.0 and abs(right) < 2.3e-308)
    if isinstance(left, list):
        return len(left) == len(right) and all(map(alike, left, right))
    if isinstance(left, dict):
        return list(left) == list(right) and all(alike(left[name], right[name]) for name in left)
    return type(left) is type(right) and left == right


@settings(max_examples=150, deadline=None)
@given(JSON, st.booleans(), st.sampled_from([None, 2]))
def test_json_is_read_as_python_reads_it(value, ascii_only, indent):
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent)
    assert alike(as_python(parse_json(text.encode())), value)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=40) | st.text("{}[]\",:.0123eE-+\\u'tfnNaI \x00", max_size=40).map(str.encode))
def test_any_bytes_give_a_value_or_a_parse_error(body):
    with contextlib.suppress(JsonParseError):
        parse_json(body)


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b'["a', "Missing a closing quotation mark in string. at offset: 3"),
        (b'["a\nb"]', "Invalid escape character in string. at offset: 3"),
        (b'["\\u12g4"]', "Incorrect hex digit after \\u escape in string. at offset: 2"),
        (b'["\\udc00"]', "The surrogate pair in string is invalid. at offset: 2"),
        (b'["\\ud800\\u0041"]', "The surrogate pair in string is invalid. at offset: 2"),
        (b"[1e]", "Miss exponent in number. at offset: 3"),
        (b"[1e400]", "Number too big to be stored in double. at offset: 1"),
        (b"[" + b"9" * 400 + b"]", "Number too big to be stored in double. at offset: 1"),
        (b"[+1]", "Invalid value. at offset: 1"),
        (b"[-]", "Invalid value. at offset: 2"),
        (b"[01]", "Missing a comma or ']' after an array element. at offset: 2"),
        (b'{"a" 1}', "Missing a colon after a name of object member. at offset: 5"),
        (b'{"a":1 "b"}', "Missing a comma or '}' after an object member. at offset: 7"),
        (b'{"a":1]', "Missing a comma or '}' after an object member. at offset: 6"),
        (b"[Infinit]", "Invalid value. at offset: 8"),
        (b"]", "The document is empty. at offset: 0"),
        (b"// comment\n1", "Invalid value. at offset: 0"),
    ],
)
def test_errors_are_worded_and_placed_as_the_server_does(body, error):
    with pytest.raises(JsonParseError) as caught:
        parse_json(body)
    assert str(caught.value) == error


def test_what_python_reads_otherwise():
    assert parse_json(b'\xef\xbb\xbf{"a": [NaN, -Inf, Infinity]} and more')[0][0] == b"a"
    assert parse_json(b'{"a": 1, "a": 2}').find(b"a") == 1
    assert parse_json(b'["\xff\xfe"]') == [b"\xff\xfe"]
    assert parse_json(b"[1, 1.0, -0, 18446744073709551615]") == [1, 1.0, 0, 2**64 - 1]
    assert isinstance(parse_json(b"18446744073709551616"), float)
    assert isinstance(parse_json(b"-9223372036854775809"), float)


def test_deep_nesting_does_not_recurse():
    value = parse_json(b"[" * 20_000 + b"]" * 20_000)
    assert value == parse_json(b"[" * 2 + b"]" * 2) or isinstance(value, list)
    while value:  # take it apart by hand: Python would recurse to free it
        value = value[0]


def test_doubles_are_rounded_as_in_fast_mode():
    assert to_double("1e-45") == 1.0000000000000001e-45
    assert math.copysign(1, to_double("-1e-400")) == -1
    assert to_double("1e-310") == 0.0  # denormal
    generator = random.Random(0)
    for _ in range(2000):
        value = struct.unpack("d", generator.randbytes(8))[0]
        if math.isfinite(value) and abs(value) > 1e-300:
            assert math.isclose(to_double(repr(value)), value, rel_tol=5e-16)


def test_printed_doubles_read_back():
    generator = random.Random(0)
    for _ in range(2000):
        value = struct.unpack("d", generator.randbytes(8))[0]
        if math.isfinite(value):
            assert float(double_text(value)) == value
