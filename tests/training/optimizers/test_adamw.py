"""AdamW beside PyTorch's, on trees of random variables, and in the cases in which Keras' own is wrong."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasllm.training.optimizers import AdamW

SHAPES = [(7, 5), (5,), (3, 4, 2), (1,), (11, 3)]


def sparse(rows, places, count):
    rows = np.asarray(rows, np.float32)
    return tf.IndexedSlices(tf.constant(rows), tf.constant(places), tf.constant([count, *rows.shape[1:]]))


def dense_of(slices):
    values = np.zeros(slices.dense_shape.numpy(), np.float32)
    np.add.at(values, slices.indices.numpy(), slices.values.numpy())
    return values


def random_tree(seed, num_steps):
    """Initial values, and for each step gradients, the last of which are sparse with repeated rows."""
    random = np.random.default_rng(seed)
    start = [random.normal(size=shape).astype(np.float32) for shape in SHAPES]
    steps = []
    for _ in range(num_steps):
        scale = 10.0 ** random.uniform(-6, 2)
        gradients = [tf.constant(scale * random.normal(size=s).astype(np.float32)) for s in SHAPES[:-1]]
        places = random.integers(0, 5, size=6)  # of 11 rows: some repeated, some never touched
        gradients.append(sparse(scale * random.normal(size=(6, 3)), places, 11))
        steps.append(gradients)
    return start, steps


def torch_adamw(start, steps, **options):
    torch = pytest.importorskip("torch")
    parameters = [torch.nn.Parameter(torch.tensor(values)) for values in start]
    optimizer = torch.optim.AdamW(parameters, **options)
    for gradients in steps:
        for parameter, gradient in zip(parameters, gradients, strict=True):
            values = dense_of(gradient) if isinstance(gradient, tf.IndexedSlices) else gradient.numpy()
            parameter.grad = torch.tensor(values)
        optimizer.step()
    return [parameter.detach().numpy() for parameter in parameters]


@pytest.mark.parametrize("in_graph", [False, True])
@pytest.mark.parametrize(
    ("rate", "decay", "betas", "epsilon"),
    [
        (1e-2, 0.1, (0.9, 0.999), 1e-8),
        (1e-3, 0.0, (0.9, 0.95), 1e-5),
        (1e-2, 0.01, (0.8, 0.999), 1e-2),  # where it matters on which side of the root epsilon is
        (5e-5, 0.01, (0.9, 0.98), 1e-6),
    ],
)
def test_twenty_steps_are_those_of_pytorch(rate, decay, betas, epsilon, in_graph):
    start, steps = random_tree(0, 20)
    variables = [keras.Variable(values) for values in start]
    optimizer = AdamW(rate, weight_decay=decay, beta_1=betas[0], beta_2=betas[1], epsilon=epsilon)
    optimizer.build(variables)
    apply = optimizer.apply
    if in_graph:
        apply = tf.function(lambda gradients: optimizer.apply(gradients, variables), reduce_retracing=True)
    for gradients in steps:
        apply(gradients) if in_graph else apply(gradients, variables)
    expected = torch_adamw(start, steps, lr=rate, betas=betas, eps=epsilon, weight_decay=decay)
    for ours, theirs in zip(variables, expected, strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs, atol=1e-6, rtol=0)


def test_repeated_tokens_of_an_embedding_count_as_their_sum():
    # The same with Keras' own is off by 0.0121.
    rows, places = [[1.0, 2.0, 3.0], [0.5, 0.5, 0.5], [-1.0, 4.0, 0.0]], [2, 2, 0]
    values = []
    for gradient in (sparse(rows, places, 4), tf.constant(dense_of(sparse(rows, places, 4)))):
        variable = keras.Variable(np.ones((4, 3), np.float32))
        optimizer = AdamW(0.01, weight_decay=0.0)
        optimizer.build([variable])
        for _ in range(3):
            optimizer.apply([gradient], [variable])
        values.append(variable.numpy())
    np.testing.assert_array_equal(values[0], values[1])
    assert np.abs(values[0] - 1).max() == pytest.approx(0.03, abs=1e-6)


def test_untouched_rows_go_on_moving():
    variable = keras.Variable(np.ones((4, 1), np.float32))
    optimizer = AdamW(0.01, weight_decay=0.0)
    optimizer.build([variable])
    optimizer.apply([sparse([[1.0]], [3], 4)], [variable])
    before = variable.numpy()
    optimizer.apply([sparse([[1.0]], [0], 4)], [variable])
    assert before[3] - variable.numpy()[3] == pytest.approx(0.0067, abs=1e-4)


@pytest.mark.parametrize("clipping", ["global_clipnorm", "clipnorm"])
def test_clipping_takes_the_norm_of_summed_rows(clipping):
    variable = keras.Variable(np.zeros((2, 1), np.float32))
    optimizer = AdamW(0.01, weight_decay=0.0, **{clipping: 1.0})
    optimizer.build([variable])
    # Two opposite rows of one token: their sum is zero, so nothing may be clipped and nothing may move.
    optimizer.apply([sparse([[5.0], [-5.0]], [1, 1], 2)], [variable])
    np.testing.assert_array_equal(variable.numpy(), 0.0)


@pytest.mark.parametrize("clipping", [{"global_clipnorm": 0.7}, {"clipnorm": 0.3}, {"clipvalue": 0.05}])
def test_clipping_is_that_of_pytorch(clipping):
    torch = pytest.importorskip("torch")
    start, steps = random_tree(1, 5)
    variables = [keras.Variable(values) for values in start]
    optimizer = AdamW(1e-2, weight_decay=0.0, epsilon=0.1, **clipping)  # a large epsilon lets scales show
    optimizer.build(variables)
    clipped = []
    for gradients in steps:
        optimizer.apply(gradients, variables)
        parameters = [torch.nn.Parameter(torch.zeros(shape)) for shape in SHAPES]
        for parameter, gradient in zip(parameters, gradients, strict=True):
            values = dense_of(gradient) if isinstance(gradient, tf.IndexedSlices) else gradient.numpy()
            parameter.grad = torch.tensor(values)
        if "clipvalue" in clipping:
            torch.nn.utils.clip_grad_value_(parameters, 0.05)
        else:
            groups = [parameters] if "global_clipnorm" in clipping else [[p] for p in parameters]
            for group in groups:
                torch.nn.utils.clip_grad_norm_(group, next(iter(clipping.values())))
        clipped.append([tf.constant(parameter.grad.numpy()) for parameter in parameters])
    expected = torch_adamw(start, clipped, lr=1e-2, eps=0.1, weight_decay=0.0)
    for ours, theirs in zip(variables, expected, strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs, atol=1e-6, rtol=0)


def test_a_variable_that_joins_late_is_stepped_as_in_pytorch():
    start, steps = random_tree(2, 12)
    variables = [keras.Variable(values) for values in start]
    optimizer = AdamW(1e-2, weight_decay=0.1)
    optimizer.build(variables)
    for gradients in steps[:7]:
        optimizer.apply(gradients[1:], variables[1:])
    optimizer.start(variables[:1])
    for gradients in steps[7:]:
        optimizer.apply(gradients, variables)
    expected = torch_adamw(
        start[:1], [gradients[:1] for gradients in steps[7:]], lr=1e-2, eps=1e-8, weight_decay=0.1
    )
    np.testing.assert_allclose(variables[0].numpy(), expected[0], atol=1e-6, rtol=0)


def test_an_outer_loop_may_apply_once_a_window():
    start, steps = random_tree(3, 4)
    variables = [keras.Variable(values) for values in start]
    optimizer = AdamW(1e-2)
    optimizer.build(variables)
    sums = [tf.add_n([tf.convert_to_tensor(g[i]) for g in steps]) / 4 for i in range(len(SHAPES))]
    optimizer.apply_gradients(zip(sums, variables, strict=True))
    assert int(optimizer.iterations) == 1
    expected = torch_adamw(start, [sums], lr=1e-2, eps=1e-8, weight_decay=0.01)
    for ours, theirs in zip(variables, expected, strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs, atol=1e-6, rtol=0)


def test_a_missing_gradient_leaves_its_variable_alone():
    variables = [keras.Variable(np.ones(3, np.float32)) for _ in range(2)]
    optimizer = AdamW(0.1, weight_decay=0.1)
    optimizer.build(variables)
    with pytest.warns(UserWarning, match="Gradients do not exist"):
        optimizer.apply([tf.ones(3), None], variables)
    np.testing.assert_array_equal(variables[1].numpy(), 1.0)
    assert variables[0].numpy()[0] == pytest.approx(0.89)
