import json

import numpy as np
import pytest

from kerasllm.serving.rest_response import predict_answer
from kerasllm.serving.status import StatusError


def strings(*values):
    array = np.empty(len(values), object)
    array[:] = values
    return array


def test_rows_and_columns_are_laid_out_as_the_server_does():
    array = np.array([[73, 106], [1, 2]], np.float32)
    assert predict_answer({"y": array}, by_rows=True) == (
        b'{\n    "predictions": [[73.0, 106.0], [1.0, 2.0]\n    ]\n}'
    )
    assert predict_answer({"y": array[0]}, by_rows=False) == (
        b'{\n    "outputs": [\n        73.0,\n        106.0\n    ]\n}'
    )


def test_bytes_are_base64_and_their_braces_are_indented():
    answer = predict_answer({"a_bytes": strings(b"hi"), "n": np.array([1])}, by_rows=True)
    assert answer == (
        b'{\n    "predictions": [\n        {\n            "a_bytes": {\n                "b64": "aGk="\n'
        b'            },\n            "n": 1\n        }\n    ]\n}'
    )


@pytest.mark.parametrize("by_rows", [True, False])
def test_every_shape_is_json(by_rows):
    generator = np.random.default_rng(0)
    for shape in [(1,), (3,), (2, 3), (2, 0), (0, 3), (2, 1, 3), (0,), (2, 0, 3)]:
        outputs = {
            "a": generator.normal(size=shape).astype(np.float32),
            "b_bytes": np.full(shape, b"x", object),
        }
        for chosen in (outputs, {"a": outputs["a"]}, {"b_bytes": outputs["b_bytes"]}):
            parsed = json.loads(predict_answer(chosen, by_rows=by_rows))
            if by_rows:
                assert len(parsed["predictions"]) == shape[0]
            elif len(chosen) == 2:
                assert np.shape(parsed["outputs"]["a"]) == shape[: len(np.shape(parsed["outputs"]["a"]))]


def test_float32_reads_back_exactly():
    values = np.random.default_rng(0).integers(0, 2**32, 20_000, np.uint32).view(np.float32)
    values = values[np.isfinite(values) & (np.abs(values) >= np.finfo(np.float32).tiny)]
    parsed = json.loads(predict_answer({"y": values}, by_rows=True))["predictions"]
    np.testing.assert_array_equal(np.array(parsed).astype(np.float32), values)


def test_float64_reads_back_exactly():
    values = np.random.default_rng(0).normal(size=5_000)
    parsed = json.loads(predict_answer({"y": values}, by_rows=True))["predictions"]
    assert parsed == values.tolist()


def test_types_that_json_cannot_hold():
    with pytest.raises(StatusError, match="Failed to write JSON value for tensor type: half"):
        predict_answer({"y": np.zeros(1, np.float16)}, by_rows=False)
    with pytest.raises(StatusError, match="Cannot convert empty tensor map to JSON"):
        predict_answer({}, by_rows=True)
