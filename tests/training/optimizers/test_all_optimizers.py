"""What holds of every optimizer of ours: state, precision, sparse gradients, frozen variables, config."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasllm.training.optimizers import Adafactor, AdamW, Lion, Muon

KINDS = [AdamW, Adafactor, Lion, Muon]
OPTIONS = {"weight_decay": 0.1, "use_ema": True, "ema_momentum": 0.9, "global_clipnorm": 1.0}


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
def kind(request):
    return request.param


def tiny_model():
    keras.utils.set_random_seed(3)
    ids = keras.Input((6,), dtype="int32")
    hidden = keras.layers.Embedding(9, 8, name="token_embedding")(ids)
    hidden = keras.layers.Dense(8, activation="tanh", name="layer_0")(hidden)
    hidden = keras.layers.LayerNormalization(name="layer_1_norm")(hidden)
    hidden = keras.layers.GlobalAveragePooling1D()(hidden)
    return keras.Model(ids, keras.layers.Dense(3, dtype="float32", name="head")(hidden))


def batches(num_batches=6, seed=0):
    random = np.random.default_rng(seed)
    ids = random.integers(0, 9, size=(num_batches, 4, 6)).astype(np.int32)
    return [(tf.constant(x), tf.constant(x.sum(-1) % 3)) for x in ids]


def train(model, optimizer, data, in_graph=True):
    loss_of = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def step(x, y):
        with tf.GradientTape() as tape:
            loss = optimizer.scale_loss(loss_of(y, model(x, training=True)))
        variables = model.trainable_variables
        optimizer.apply(tape.gradient(loss, variables), variables)

    step = tf.function(step) if in_graph else step
    for x, y in data:
        step(x, y)
    return [variable.numpy() for variable in model.variables]


@pytest.mark.parametrize("scaled", [False, True], ids=["plain", "loss_scale"])
def test_state_saves_and_restores_bit_for_bit(kind, scaled):
    def build(model):
        optimizer = kind(0.01, **OPTIONS)
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer) if scaled else optimizer
        optimizer.build(model.trainable_variables)
        return optimizer

    data = batches()
    model = tiny_model()
    optimizer = build(model)
    train(model, optimizer, data[:3])
    saved = [v.numpy() for v in model.variables], [v.numpy() for v in optimizer.variables]
    expected = train(model, optimizer, data[3:])

    again = tiny_model()
    resumed = build(again)
    for variables, values in zip((again.variables, resumed.variables), saved, strict=True):
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
    for ours, theirs in zip(train(again, resumed, data[3:]), expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    for ours, theirs in zip(resumed.variables, optimizer.variables, strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())


def test_graph_and_eager_agree(kind):
    values = []
    for in_graph in (True, False):
        model = tiny_model()
        values.append(train(model, kind(0.01, **OPTIONS), batches(), in_graph=in_graph))
    for graph, eager in zip(*values, strict=True):
        np.testing.assert_allclose(graph, eager, atol=2e-6)


def test_sparse_gradients_are_the_dense_ones(kind):
    values = []
    for dense in (False, True):
        variable = keras.Variable(np.linspace(-1, 1, 24, dtype=np.float32).reshape(6, 4), name="embeddings")
        optimizer = kind(0.01, **OPTIONS)
        optimizer.build([variable])
        for seed in range(4):
            random = np.random.default_rng(seed)
            rows = random.normal(size=(5, 4)).astype(np.float32)
            gradient = tf.IndexedSlices(tf.constant(rows), tf.constant([2, 2, 0, 5, 2]), tf.constant([6, 4]))
            optimizer.apply([tf.convert_to_tensor(gradient) if dense else gradient], [variable])
        values.append(variable.numpy())
    np.testing.assert_allclose(values[0], values[1], atol=1e-6)


def test_mixed_bfloat16_trains_float32_weights(kind):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = tiny_model()
    finally:
        keras.config.set_dtype_policy("float32")
    model.compile(kind(0.02), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x, y = (np.concatenate(parts) for parts in zip(*batches(8), strict=True))
    losses = model.fit(x, y, epochs=15, batch_size=8, verbose=0).history["loss"]
    assert losses[-1] < losses[0] - 0.02
    assert {str(v.dtype) for v in model.trainable_variables} == {"float32"}


def test_an_overflow_under_loss_scaling_changes_nothing_but_the_scale(kind):
    variable = keras.Variable(np.ones((3, 3), np.float32), name="embeddings")
    optimizer = keras.optimizers.LossScaleOptimizer(kind(0.01, **OPTIONS), initial_scale=8.0)
    optimizer.build([variable])
    before = [v.numpy() for v in optimizer.inner_optimizer.variables]
    rows = tf.constant([[np.inf, 1.0, 1.0]])
    optimizer.apply([tf.IndexedSlices(rows, tf.constant([1]), tf.constant([3, 3]))], [variable])
    np.testing.assert_array_equal(variable.numpy(), 1.0)
    for now, then in zip(optimizer.inner_optimizer.variables, before, strict=True):
        np.testing.assert_array_equal(now.numpy(), then)
    assert float(optimizer.dynamic_scale) == 4.0


def test_groups_set_rate_decay_and_freezing_in_one_apply(kind):
    variables = [keras.Variable(np.ones((4, 4), np.float32), name=n) for n in ("low", "high", "still", "own")]
    groups = [
        {"pattern": "^low$", "learning_rate_multiplier": 0.1},
        {"pattern": "still", "frozen": True},
        {"pattern": "own", "weight_decay": 0.5},
    ]
    optimizer = kind(0.01, weight_decay=0.0, groups=groups)
    optimizer.build(variables)
    assert not any("still" in variable.path for variable in optimizer.variables)
    gradient = tf.constant(np.diag([1.0, 2.0, 3.0, 4.0]).astype(np.float32))
    optimizer.apply([gradient] * 4, variables)
    low, high, still, own = (1 - variable.numpy() for variable in variables)
    assert np.abs(high).max() > 1e-3
    np.testing.assert_allclose(low, 0.1 * high, rtol=1e-3, atol=1e-7)
    np.testing.assert_array_equal(still, 0.0)
    scale = 0.995 if kind is Adafactor else 1.0  # its updates are relative to the decayed weights
    np.testing.assert_allclose(own, 0.01 * 0.5 + scale * high, rtol=1e-3, atol=1e-6)


def test_the_config_makes_the_same_optimizer(kind):
    options = {**OPTIONS, "groups": [{"pattern": "bias", "weight_decay": 0.0}], "layer_decay": 0.8}
    model = tiny_model()
    optimizer = kind(0.01, **options)
    again = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert type(again) is kind
    assert again.get_config() == optimizer.get_config()
    first = train(tiny_model(), optimizer, batches())
    for ours, theirs in zip(first, train(model, again, batches()), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_model_saved_with_its_optimizer_goes_on_alike(kind, tmp_path):
    model = tiny_model()
    model.compile(kind(0.01, **OPTIONS), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x, y = (np.concatenate(parts) for parts in zip(*batches(8), strict=True))
    model.fit(x, y, epochs=1, batch_size=8, shuffle=False, verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    losses = [
        m.fit(x, y, epochs=2, batch_size=8, shuffle=False, verbose=0).history["loss"] for m in (model, again)
    ]
    assert losses[0] == losses[1]


def test_weights_in_bfloat16_have_their_state_in_float32(kind):
    # Keras' own AdamW does not move them at all: 0.999 is 1 in bfloat16.
    variable = keras.Variable(np.ones((4, 4), np.float32), dtype="bfloat16", name="kernel")
    optimizer = kind(0.1, weight_decay=0.0, use_ema=True, ema_momentum=0.999)
    optimizer.build([variable])
    for _ in range(2):
        optimizer.apply([tf.eye(4, dtype=tf.bfloat16) + 0.5], [variable])
    assert float(tf.reduce_max(1.0 - tf.cast(variable, tf.float32))) > 0.05
    states = [v for v in optimizer.variables if len(v.shape)]
    assert {str(v.dtype) for v in states} <= {"float32", "int64"}
    average = optimizer._model_variables_moving_average[0]
    assert not np.array_equal(average.numpy(), variable.numpy().astype(np.float32))
