"""The chunked cross-entropy against the plain one, in every variant."""

import numpy as np
import pytest
import tensorflow as tf

from kerasllm.errors import ConfigError
from kerasllm.training.losses import vocabulary
from kerasllm.training.losses.chunked import chunked_crossentropy, chunked_crossentropy_sum

RANDOM = np.random.default_rng(0)
TOKENS, DIM, VOCABULARY = 37, 8, 50
HIDDEN = RANDOM.normal(size=(TOKENS, DIM)).astype(np.float32)
TABLE = RANDOM.normal(size=(VOCABULARY, DIM)).astype(np.float32)
BIAS = RANDOM.normal(size=VOCABULARY).astype(np.float32)
LABELS = RANDOM.integers(0, VOCABULARY, TOKENS)
WEIGHTS = RANDOM.random(TOKENS).astype(np.float32)
WEIGHTS[::4] = 0

VARIANTS = {
    "table": {},
    "kernel, bias": {"vocabulary_axis": 1, "bias": BIAS},
    "smoothed, capped, scaled": {"label_smoothing": 0.1, "softcap": 3.0, "scale": 0.5, "bias": BIAS},
    "one chunk": {"chunk_size": 100},
    "a token a chunk": {"chunk_size": 1},
}


def plain(hidden, table, bias=None, *, vocabulary_axis=0, label_smoothing=0.0, softcap=None, scale=1.0, **_):
    logits = tf.matmul(hidden * scale, table, transpose_b=vocabulary_axis == 0)
    logits = tf.cast(logits if bias is None else logits + bias, tf.float32)
    if softcap is not None:
        logits = tf.tanh(logits / softcap) * softcap
    log_p = tf.nn.log_softmax(logits)
    right = tf.gather(log_p, LABELS, batch_dims=1)
    return -(1 - label_smoothing) * right - label_smoothing * tf.reduce_mean(log_p, -1)


def both(options, dtype="float32", **more):
    """Arguments, options, and each kind of loss with its gradients, of a sum that is weighted and tripled."""
    options = {"chunk_size": 16, **options}
    bias = options.pop("bias", None)
    table = TABLE if options.get("vocabulary_axis", 0) == 0 else TABLE.T
    arguments = [tf.cast(tf.constant(HIDDEN), dtype), tf.constant(table)]
    arguments += [] if bias is None else [tf.constant(bias)]

    @tf.function
    def run(kind, *arguments):
        with tf.GradientTape() as tape:
            tape.watch(arguments)
            given = dict(zip(("hidden", "table", "bias"), arguments, strict=False))
            if kind == "sum":
                losses = chunked_crossentropy_sum(labels=LABELS, weights=WEIGHTS, **given, **options, **more)
                total, losses = losses.total, losses.losses
            elif kind == "each":
                losses = chunked_crossentropy(labels=LABELS, **given, **options)
                total = tf.reduce_sum(losses * WEIGHTS)
            else:
                cast = [tf.cast(value, dtype) for value in arguments]
                losses = plain(*cast, **options)
                total = tf.reduce_sum(losses * WEIGHTS)
            scaled = 3.0 * total
        return losses, total, tape.gradient(scaled, arguments)

    return {kind: run(kind, *arguments) for kind in ("plain", "each", "sum")}


@pytest.mark.parametrize("variant", VARIANTS)
def test_values_and_gradients_are_those_of_the_plain_loss(variant, monkeypatch):
    monkeypatch.setattr(vocabulary, "_BLOCK", 16)
    found = both(VARIANTS[variant])
    losses, total, gradients = found["plain"]
    np.testing.assert_allclose(found["each"][0], losses, atol=1e-5)
    np.testing.assert_allclose(found["sum"][0], np.where(WEIGHTS > 0, losses, 0), atol=1e-5)
    for kind in ("each", "sum"):
        np.testing.assert_allclose(found[kind][1], total, rtol=1e-6)
        for got, expected in zip(found[kind][2], gradients, strict=True):
            np.testing.assert_allclose(got, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_in_half_precision_it_is_as_near_to_the_exact_one_as_the_plain_loss(dtype):
    exact, found = both({})["plain"], both({}, dtype)
    for kind in ("each", "sum"):
        assert found[kind][2][0].dtype == dtype
        assert found[kind][2][1].dtype == tf.float32
        for got, theirs, truth in zip(found[kind][2], found["plain"][2], exact[2], strict=True):
            error, usual = (np.abs(tf.cast(value, tf.float32) - truth).max() for value in (got, theirs))
            assert error <= 1.5 * usual + 1e-4


def test_all_tokens_can_be_kept_for_xla():
    @tf.function(jit_compile=True)
    def compiled(hidden, table):
        with tf.GradientTape() as tape:
            tape.watch([hidden, table])
            total = chunked_crossentropy_sum(
                hidden, table, LABELS, WEIGHTS, chunk_size=16, skip_unweighted=False
            ).total
        return total, tape.gradient(total, [hidden, table])

    total, gradients = compiled(tf.constant(HIDDEN), tf.constant(TABLE))
    _, expected, theirs = both({})["plain"]
    np.testing.assert_allclose(total, expected, rtol=1e-5)
    for got, truth in zip(gradients, theirs, strict=True):
        np.testing.assert_allclose(3 * got, truth, atol=2e-5)


@pytest.mark.parametrize("skip", [True, False])
def test_tokens_that_weigh_nothing_contribute_nothing_whatever_their_label(skip):
    labels = np.where(WEIGHTS > 0, LABELS, -100)
    found = chunked_crossentropy_sum(HIDDEN, TABLE, labels, WEIGHTS, chunk_size=16, skip_unweighted=skip)
    np.testing.assert_allclose(found.total, both({})["plain"][1], rtol=1e-6)
    for values in found[1:]:
        np.testing.assert_array_equal(np.asarray(values)[WEIGHTS == 0], 0)


def test_nothing_at_all_has_the_loss_zero():
    hidden = tf.constant(HIDDEN)
    with tf.GradientTape() as tape:
        tape.watch(hidden)
        total = chunked_crossentropy_sum(hidden, TABLE, LABELS, np.zeros(TOKENS)).total
    assert float(total) == 0
    np.testing.assert_array_equal(tape.gradient(total, hidden), np.zeros_like(HIDDEN))


def test_a_frozen_table_gets_no_gradient_and_the_vectors_the_same():
    with tf.GradientTape() as tape:
        hidden, table = tf.constant(HIDDEN), tf.constant(TABLE)
        tape.watch([hidden, table])
        total = 3.0 * chunked_crossentropy_sum(hidden, table, LABELS, WEIGHTS, table_gradient=False).total
    of_hidden, of_table = tape.gradient(total, [hidden, table])
    assert of_table is None
    np.testing.assert_allclose(of_hidden, both({})["plain"][2][0], atol=1e-5)


def test_right_answers_and_perplexity_need_no_logits():
    smoothed = chunked_crossentropy_sum(HIDDEN, TABLE, LABELS, np.ones(TOKENS), label_smoothing=0.3)
    logits = HIDDEN @ TABLE.T
    np.testing.assert_array_equal(smoothed.right, (logits.argmax(1) == LABELS).astype(np.float32))
    np.testing.assert_allclose(smoothed.log_losses, plain(HIDDEN, TABLE), atol=1e-5)
    evaluated = chunked_crossentropy_sum(
        HIDDEN, TABLE, LABELS, np.ones(TOKENS), label_smoothing=0.3, gradient=False
    )
    for got, expected in zip(evaluated, smoothed, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_any_number_of_tokens_runs_in_one_graph():
    @tf.function(input_signature=[tf.TensorSpec([None, DIM]), tf.TensorSpec([None], tf.int32)])
    def total(hidden, labels):
        return chunked_crossentropy_sum(hidden, TABLE, labels, tf.ones(tf.shape(labels)), chunk_size=4).total

    for count in (1, 4, 9, TOKENS):
        got = total(HIDDEN[:count], LABELS[:count].astype(np.int32))
        np.testing.assert_allclose(got, np.sum(plain(HIDDEN, TABLE)[:count]), rtol=1e-5)
    assert total.experimental_get_tracing_count() == 1


def test_the_logits_of_a_batch_are_never_in_the_graph():
    """The largest tensor of forward and backward pass is that of a chunk, or the table."""

    @tf.function
    def run(hidden, table):
        with tf.GradientTape() as tape:
            tape.watch([hidden, table])
            total = chunked_crossentropy_sum(
                hidden, table, np.zeros(64, np.int32), np.ones(64), chunk_size=8, skip_unweighted=False
            ).total
        return tape.gradient(total, [hidden, table])

    graph = run.get_concrete_function(tf.zeros([64, DIM]), tf.zeros([VOCABULARY, DIM])).graph
    functions = [graph, *(graph._functions[name].graph for name in graph._functions)]
    shapes = [output.shape for part in functions for op in part.get_operations() for output in op.outputs]
    assert not [shape for shape in shapes if shape.rank == 2 and shape[0] == 64 and shape[1] == VOCABULARY]


def test_impossible_settings_are_refused():
    with pytest.raises(ConfigError, match="`vocabulary_axis` is 2, but must be 0"):
        chunked_crossentropy(HIDDEN, TABLE, LABELS, vocabulary_axis=2)
    with pytest.raises(ConfigError, match="`chunk_size` is 0, but must be at least 1"):
        chunked_crossentropy(HIDDEN, TABLE, LABELS, chunk_size=0)
