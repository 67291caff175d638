"""A backbone in 8 bits: how far off it is, that only adapters learn, and that it comes back."""

import gc
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasllm.errors import AdapterError
from kerasllm.models.adapters import LoRASettings, adapted_layers, add_lora, merge_lora
from kerasllm.models.builders import build_classifier, load_classifier, save_weights, with_dtype_policy
from kerasllm.models.peft_format import load_adapter, save_adapter
from kerasllm.models.presets import Preset
from kerasllm.models.quantization import check_trainable, quantize_backbone, quantized_layers
from kerasllm.models.transformer.dense import Dense
from kerasllm.models.transformer.int8 import Int8Matrix, quantized
from kerasllm.testing import tiny_bert


def made(path, *, policy="float32", settings=None, pooling="cls"):
    keras.utils.set_random_seed(0)
    model = build_classifier(Preset.load(path), num_classes=2, dtype_policy=policy, pooling=pooling)
    quantize_backbone(model)
    if settings is not None:
        add_lora(model, settings, roles=["all"])
    return model


def train(model, batch):
    model.compile(keras.optimizers.Adam(0.005), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model.fit(batch, np.array([0, 1, 0]), epochs=30, verbose=0).history["loss"]


def test_each_number_is_within_half_a_scale():
    matrix = np.random.default_rng(0).normal(size=(50, 7)).astype(np.float32)
    matrix[:, 3] = 0
    matrix[:, 4] *= 1e-30
    values, scales = quantized(matrix)
    assert values.dtype == np.int8
    assert np.abs(values).max(axis=0).tolist() == [127, 127, 127, 0, 127, 127, 127]
    assert (np.abs(values * scales - matrix) <= scales * (0.5 + 1e-4)).all()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_gradients_are_those_of_the_matrix_that_8_bits_stand_for(dtype):
    random = np.random.default_rng(0)
    layer = Int8Matrix(5, dtype=dtype)
    layer.build((None, 9))
    layer.assign(random.normal(size=(9, 5)).astype(np.float32))
    inputs = tf.cast(random.normal(size=(4, 9)), dtype)

    @tf.function
    def gradients(inputs):
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(inputs)
            found, expected = layer(inputs), tf.matmul(inputs, layer.matrix(dtype))
            sums = [tf.reduce_sum(tf.square(product)) for product in (found, expected)]
        return found, expected, *(tape.gradient(total, inputs) for total in sums)

    found, expected, found_gradient, expected_gradient = gradients(inputs)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(found_gradient, expected_gradient)


def test_logits_move_little(tmp_path):
    path = tiny_bert(tmp_path / "wide", hidden_dim=32, labels=["bad", "good"])
    exact, rounded = load_classifier(path), load_classifier(path)
    ids = np.random.default_rng(0).integers(5, 60, (8, 12)).astype(np.int32)
    inputs = {"token_ids": ids, "padding_mask": np.ones_like(ids), "segment_ids": np.zeros_like(ids)}
    assert len(quantize_backbone(rounded)) == 2 * 6
    before, after = np.asarray(exact(inputs)), np.asarray(rounded(inputs))
    difference = np.abs(after - before).max() / np.abs(before).max()
    assert 0 < difference < 0.02


@pytest.mark.parametrize("dora", [False, True])
@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_only_adapters_and_head_learn(tiny_path, batch, policy, dora):
    model = made(tiny_path, policy=policy, settings=LoRASettings(4, dora=dora))
    kept = [np.array(weight) for weight in model.non_trainable_weights]
    losses = train(model, batch)
    assert min(losses) < 0.7 * losses[0]
    for old, new in zip(kept, model.non_trainable_weights, strict=True):
        np.testing.assert_array_equal(old, np.array(new))
    assert {weight.dtype for layer in adapted_layers(model).values() for weight in layer.adapter.weights} == {
        "float32"
    }


def test_the_matrices_are_8_bits_in_memory():
    layer = Dense(256, name="encoder_layer_0")
    layer.build((None, 512))
    model = keras.Sequential([keras.Input((512,)), layer])
    kernel = weakref.ref(layer._kernel)
    quantize_backbone(model)
    assert layer.kernel is None
    gc.collect()
    assert kernel() is None  # nothing holds the float32 matrix any more
    assert sum(np.asarray(weight).nbytes for weight in model.weights) == 512 * 256 + 4 * 256 + 4 * 256


def test_no_floating_point_copy_lives_from_the_forward_to_the_backward_pass():
    """The gradient makes the matrix anew after what it is multiplied with is known."""
    layer = Int8Matrix(64)
    layer.build((None, 64))

    @tf.function
    def gradient(inputs):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            total = tf.reduce_sum(tf.square(layer(inputs)))
        return tape.gradient(total, inputs)

    graph = gradient.get_concrete_function(tf.TensorSpec((None, 64), tf.float32)).graph
    casts = [op for op in graph.get_operations() if op.type == "Cast" and op.inputs[0].dtype == tf.int8]
    assert sorted(bool(op.control_inputs) for op in casts) == [False, True]


@pytest.mark.parametrize("dora", [False, True])
@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_merging_gives_a_plain_float32_model(tiny_path, batch, policy, dora, tmp_path):
    model = made(tiny_path, policy=policy, settings=LoRASettings(4, dora=dora))
    train(model, batch)
    merged = merge_lora(model)
    assert not adapted_layers(merged)
    assert not quantized_layers(merged)
    assert {weight.dtype for weight in merged.weights} == {"float32"}
    assert all(weight.trainable for weight in merged.weights)
    tolerance = 1e-5 if policy == "float32" else 0.3
    expected = np.asarray(model(batch, training=False))
    np.testing.assert_allclose(np.asarray(merged(batch)), expected, atol=tolerance)
    save_weights(model, tmp_path)
    np.testing.assert_array_equal(np.asarray(load_classifier(tmp_path)(batch)), np.asarray(merged(batch)))


def test_a_copy_computes_the_same(tiny_path, batch):
    model = made(tiny_path, settings=LoRASettings(4))
    train(model, batch)
    copy = with_dtype_policy(model, "float32")
    assert list(quantized_layers(copy)) == list(quantized_layers(model))
    np.testing.assert_array_equal(
        np.asarray(copy(batch, training=False)), np.asarray(model(batch, training=False))
    )


def test_base_and_adapter_make_the_model_again(tiny_path, batch, tmp_path):
    model = made(tiny_path, settings=LoRASettings(4, dora=True), pooling="mean")
    train(model, batch)
    save_adapter(model, tmp_path / "adapter", base_model="tiny")
    again = build_classifier(Preset.load(tiny_path), num_classes=2, pooling="mean")
    load_adapter(again, tmp_path / "adapter")
    assert list(quantized_layers(again)) == list(quantized_layers(model))
    np.testing.assert_array_equal(
        np.asarray(again(batch, training=False)), np.asarray(model(batch, training=False))
    )


def test_weights_of_keras_are_saved_and_loaded(tiny_path, batch, tmp_path):
    model = made(tiny_path, settings=LoRASettings(4))
    train(model, batch)
    model.save_weights(tmp_path / "model.weights.h5")
    again = made(tiny_path, settings=LoRASettings(4))
    again.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_array_equal(
        np.asarray(again(batch, training=False)), np.asarray(model(batch, training=False))
    )


def test_what_cannot_be_is_refused(tiny_path):
    model = made(tiny_path)
    with pytest.raises(AdapterError, match="The backbone is in 8 bits already"):
        quantize_backbone(model)
    with pytest.raises(AdapterError, match=r"is in 8 bits, which cannot be trained\. Put adapters on it"):
        check_trainable(model)
    model.backbone.trainable = True
    assert not any(weight.trainable for weight in model.weights if "int8" in weight.path)
    with pytest.raises(AdapterError, match=r"is in 8 bits, which cannot be trained\. Put adapters on it"):
        check_trainable(model)
    add_lora(model, LoRASettings(4))
    check_trainable(model)
    model.trainable = False
    with pytest.raises(AdapterError, match="Nothing of the model is trainable"):
        check_trainable(model)
    with pytest.raises(AdapterError, match="no dense layers whose matrices could be kept in 8 bits"):
        quantize_backbone(keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]))


def test_numbers_that_are_none_are_refused(tiny_path):
    model = build_classifier(Preset.load(tiny_path), num_classes=2)
    layer = model.backbone.get_layer("encoder_layer_1").attention.query
    layer.kernel.assign(np.full(layer.kernel.shape, np.inf))
    with pytest.raises(AdapterError, match="encoder_layer_1/attention/query` has values that are not finite"):
        quantize_backbone(model)
    assert not quantized_layers(model)
