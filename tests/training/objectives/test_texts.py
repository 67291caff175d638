"""Objectives of whole texts: exact sums, R-Drop, numbers and pairs."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasllm.errors import ConfigError
from kerasllm.models.presets import Preset
from kerasllm.testing import tiny_bert
from kerasllm.training.losses import classification_loss
from kerasllm.training.objectives import Classification, PairSimilarity, RDrop, Regression

RANDOM = np.random.default_rng(0)
ROWS = tf.constant(RANDOM.normal(size=(10, 6)).astype(np.float32))
CLASSES = tf.constant(RANDOM.integers(0, 3, 10).astype(np.int32))
CLASS_WEIGHTS = np.array([0.3, 1.0, 4.0], np.float32)
WEIGHTS = tf.constant(CLASS_WEIGHTS[CLASSES.numpy()])


def make_model(units=3, dropout=0.0):
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(8, "tanh"), keras.layers.Dropout(dropout), keras.layers.Dense(units)]
    return keras.Sequential([keras.Input((6,)), *layers])


def gradients(objective, model, batches):
    sums, weight = [0.0] * len(model.trainable_variables), 0.0
    for rows in batches:
        with tf.GradientTape() as tape:
            value = objective.loss(model, ROWS[rows], CLASSES[rows], WEIGHTS[rows], training=True)
        found = tape.gradient(value.total, model.trainable_variables)
        sums, weight = [a + b for a, b in zip(sums, found, strict=True)], weight + value.weight
    return [part / weight for part in sums]


@pytest.mark.parametrize("kind", ["crossentropy", "focal"])
@pytest.mark.parametrize("r_drop", [False, True])
def test_class_weights_and_unequal_batches_add_up_to_one_batch(kind, r_drop):
    model = make_model()
    objective = Classification(classification_loss(multi_label=False, kind=kind), 3)
    objective = RDrop(objective, 0.5) if r_drop else objective
    whole = gradients(objective, model, [slice(0, 10)])
    parts = gradients(objective, model, [slice(0, 1), slice(1, 8), slice(8, 10)])
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-6)


def test_class_weights_are_those_of_pytorch():
    torch = pytest.importorskip("torch")
    model = make_model()
    value = Classification(classification_loss(multi_label=False), 3).loss(
        model, ROWS, CLASSES, WEIGHTS, training=False
    )
    expected = torch.nn.functional.cross_entropy(
        torch.tensor(np.asarray(model(ROWS))),
        torch.tensor(CLASSES.numpy()).long(),
        weight=torch.tensor(CLASS_WEIGHTS),
    )
    assert float(value.total / value.weight) == pytest.approx(float(expected), abs=1e-6)


def test_r_drop_is_the_mean_loss_and_the_divergence_of_two_passes():
    model, calls = make_model(dropout=0.5), []

    def recorded(inputs, training):
        calls.append((len(inputs), model(inputs, training=training)))
        return calls[-1][1]

    objective = Classification(classification_loss(multi_label=False), 3)
    value = RDrop(objective, 2.0).loss(recorded, ROWS, CLASSES, WEIGHTS, training=True)
    ((count, both),) = calls
    assert count == 20
    first, second = both[:10].numpy(), both[10:].numpy()
    assert np.abs(first - second).max() > 0.01
    p, q = (np.exp(z) / np.exp(z).sum(1, keepdims=True) for z in (first, second))
    crossentropy = sum(-np.log(r[np.arange(10), CLASSES]) for r in (p, q)) / 2
    apart = ((p * np.log(p / q)).sum(1) + (q * np.log(q / p)).sum(1)) / 2
    expected = ((crossentropy + 2.0 * apart) * WEIGHTS.numpy()).sum()
    assert float(value.total) == pytest.approx(float(expected), rel=1e-5)
    assert float(value.weight) == pytest.approx(float(tf.reduce_sum(WEIGHTS)))
    np.testing.assert_array_equal(value.outputs, first)
    names = [metric.name for metric in RDrop(objective).metrics()]
    assert names == [metric.name for metric in objective.metrics()]


def test_r_drop_leaves_evaluation_alone_and_other_objectives():
    model = make_model(dropout=0.5)
    objective = Classification(classification_loss(multi_label=False), 3)
    plain, wrapped = (
        each.loss(model, ROWS, CLASSES, None, training=False) for each in (objective, RDrop(objective))
    )
    assert float(plain.total) == float(wrapped.total)
    assert float(wrapped.weight) == 10
    with pytest.raises(
        ConfigError, match="R-Drop compares the classes of two passes, but `Regression` has none"
    ):
        RDrop(Regression())
    with pytest.raises(ConfigError, match=r"`alpha` of R-Drop is 0, but must be above 0"):
        RDrop(objective, 0)


@pytest.mark.parametrize(("kind", "expected"), [("squared_error", "mse"), ("huber", "huber")])
def test_regression_is_the_keras_loss_and_says_how_far_off_it_is(kind, expected):
    model, targets = make_model(1), tf.constant(RANDOM.normal(size=10).astype(np.float32) * 3)
    objective = Regression(kind)
    value = objective.loss(model, ROWS, targets, WEIGHTS, training=True)
    outputs = model(ROWS)[:, 0]
    each = keras.losses.get(expected)(targets[:, None], outputs[:, None])
    assert float(value.total) == pytest.approx(float(tf.reduce_sum(each * WEIGHTS)), rel=1e-5)
    assert value.outputs.shape == (10,)
    for metric in objective.metrics():
        metric.update_state(targets, value.outputs)
    assert float(objective.metrics()[0](targets, value.outputs)) == pytest.approx(
        float(np.abs(targets - outputs).mean()), rel=1e-5
    )
    with pytest.raises(ConfigError, match="The loss 'mse' is unknown; choose 'squared_error' or 'huber'"):
        Regression("mse")
    with pytest.raises(ConfigError, match="`delta` of the Huber loss is -1, but must be above 0"):
        Regression("huber", delta=-1)


def test_pairs_of_texts_move_together_or_apart(tmp_path):
    backbone = Preset.load(tiny_bert(tmp_path / "bert")).backbone
    random = np.random.default_rng(1)
    inputs = {}
    for prefix, width in (("", 7), ("second_", 5)):
        ids = random.integers(5, 40, (4, width)).astype(np.int32)
        inputs |= {
            f"{prefix}token_ids": tf.constant(ids),
            f"{prefix}padding_mask": tf.ones_like(ids),
            f"{prefix}segment_ids": tf.zeros_like(ids),
        }
    scores, objective = tf.constant([1.0, 0.0, 1.0, 0.0]), PairSimilarity()
    optimizer = keras.optimizers.Adam(0.01)

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            value = objective.loss(backbone, inputs, scores, None, training=False)
        variables = backbone.trainable_variables
        pairs = zip(tape.gradient(value.total, variables), variables, strict=True)
        optimizer.apply_gradients(
            [(gradient, variable) for gradient, variable in pairs if gradient is not None]
        )
        return value

    before = step()
    assert before.outputs.shape == (4,)
    assert float(before.weight) == 4
    for _ in range(15):
        after = step()
    assert float(after.total) < 0.5 * float(before.total)
    with pytest.raises(ConfigError, match=r"need the same inputs twice, but there are \['a'\] for the first"):
        objective.loss(backbone, {"a": 0, "second_b": 0}, scores, None, training=False)
