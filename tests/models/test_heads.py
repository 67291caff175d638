"""The layers that we put on a backbone."""

import keras
import numpy as np
import pytest

from kerasllm.models.heads import MeanPooling


def test_mean_pooling_ignores_padding():
    tokens = np.array([[[1.0, 2.0], [3.0, 4.0], [100.0, 100.0]]], np.float32)
    pooled = MeanPooling()(tokens, padding_mask=np.array([[1, 1, 0]]))
    np.testing.assert_allclose(pooled, [[2.0, 3.0]])


def test_mean_pooling_of_nothing_is_zero():
    pooled = MeanPooling()(np.ones((1, 3, 2), np.float32), padding_mask=np.zeros((1, 3)))
    np.testing.assert_array_equal(pooled, [[0.0, 0.0]])


@pytest.mark.parametrize(("policy", "dtype"), [("mixed_float16", "float16"), ("mixed_bfloat16", "bfloat16")])
def test_mean_pooling_does_not_overflow(policy, dtype):
    """512 vectors of 1,000 sum to more than float16 holds."""
    pooled = MeanPooling(dtype=policy)(np.full((1, 512, 2), 1000.0), padding_mask=np.ones((1, 512)))
    assert keras.backend.standardize_dtype(pooled.dtype) == dtype
    np.testing.assert_allclose(np.asarray(pooled, np.float32), 1000.0)


def test_mean_pooling_in_a_functional_model():
    inputs = (keras.Input((None, 4)), keras.Input((None,), dtype="int32"))
    assert MeanPooling()(inputs[0], padding_mask=inputs[1]).shape == (None, 4)
