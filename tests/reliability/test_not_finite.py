"""A training row that is no number, at any step and in any precision: nothing of it is ever published."""

import keras
import numpy as np
import pytest
import safetensors.numpy
import tensorflow as tf

import tests.training.test_loop as loop
from kerasllm.training.step import NotFiniteError


@pytest.fixture
def policy(request):
    """A dtype policy, and no tracing, which would take longer than these runs."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(request.param)
    tf.config.run_functions_eagerly(True)
    yield request.param
    tf.config.run_functions_eagerly(False)
    keras.config.set_dtype_policy(before)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Even though the `tf.config.experimental_run_functions_eagerly`")
@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16", "mixed_float16"], indirect=True)
def test_no_checkpoint_of_30_runs_holds_what_is_no_number(tmp_path, monkeypatch, policy):
    for step in range(0, 20, 2):
        batches = list(loop.BATCHES)
        inputs, targets = batches[step]
        batches[step] = (inputs.copy(), targets)
        batches[step][0][1, 2] = (np.nan, np.inf)[step % 4 == 0]
        model = loop.make_model()
        with monkeypatch.context() as patch:
            patch.setattr(loop, "BATCHES", batches)
            with pytest.raises(NotFiniteError):
                loop.train(model, tmp_path / str(step))
        assert all(np.isfinite(array).all() for array in loop.weights(model))
        files = list((tmp_path / str(step)).rglob("*.safetensors"))
        assert bool(files) == (step > 2)  # the first checkpoint is that of the third step
        for path in files:
            for name, array in safetensors.numpy.load_file(path).items():
                assert array.dtype.kind == "i" or np.isfinite(array).all(), (path, name)
