"""What the served graph answers."""

import numpy as np
import pytest
import tensorflow as tf

from kerasllm.export.forward import HeadForward, KerasForward, make_forward
from kerasllm.models.twins import to_dtype

TEXTS = ["the film is truly wonderful", "bad", "", "an awful plot " * 30, "the cast is superb", "boring"]


def test_a_batch_is_answered_in_the_order_of_the_request(classifier):
    module = classifier.module()
    rng = np.random.default_rng(0)
    words = ["the", "film", "plot", "cast", "is", "truly", "wonderful", "awful", "boring", "superb"]
    texts = [" ".join(rng.choice(words, rng.integers(0, 40))) for _ in range(70)]
    scores = module.serve(tf.constant(texts))["scores"].numpy()
    np.testing.assert_allclose(scores, classifier.reference(texts), atol=1e-5)
    shuffled = rng.permutation(len(texts))
    again = module.serve(tf.constant([texts[i] for i in shuffled]))["scores"].numpy()
    np.testing.assert_allclose(again, scores[shuffled], atol=1e-6)


@pytest.mark.parametrize("chunk_tokens", [1, 7, 64, 100_000])
def test_how_texts_are_chunked_does_not_change_the_answer(classifier, chunk_tokens):
    scores = classifier.module(chunk_tokens=chunk_tokens).serve(tf.constant(TEXTS * 3))["scores"]
    np.testing.assert_allclose(scores, classifier.reference(TEXTS * 3), atol=1e-5)


def test_no_texts_give_no_answers(classifier):
    answers = classifier.module().serve(tf.constant([], tf.string))
    shapes = {name: tuple(value.shape) for name, value in answers.items()}
    assert shapes == {"label": (0,), "score": (0,), "labels": (0, 3), "scores": (0, 3)}


def test_bytes_that_are_no_text_are_answered_too(classifier):
    """A server must not fail a batch of others' requests for one that is broken."""
    answers = classifier.module().serve(tf.constant([b"\xff\xfe broken \xc3", b"a\0b", b"the film"]))
    np.testing.assert_allclose(answers["scores"][2], classifier.reference(["the film"])[0], atol=1e-5)
    assert np.isfinite(answers["scores"]).all()


def test_long_texts_are_cut_as_in_training(classifier):
    whole, cut = "the film is awful " * 50, "the film is awful " * 8
    answers = classifier.module().serve(tf.constant([whole, cut]))
    np.testing.assert_array_equal(answers["scores"][0], answers["scores"][1])


def test_multi_label_scores_each_label_by_itself(make_classifier):
    classifier = make_classifier(("food", "price", "service"), multi_label=True)
    answers = classifier.module().serve(tf.constant(TEXTS))
    np.testing.assert_allclose(answers["scores"], classifier.reference(TEXTS), atol=1e-5)
    assert not np.allclose(answers["scores"].numpy().sum(axis=1), 1)
    best = answers["scores"].numpy().argmax(axis=1)
    assert [label.decode() for label in answers["label"].numpy()] == [classifier.labels[i] for i in best]
    np.testing.assert_array_equal(answers["score"], answers["scores"].numpy().max(axis=1))


def test_a_pair_is_two_inputs(make_classifier):
    classifier = make_classifier(("no", "yes"), pair=True)
    serve = classifier.module().serve
    scores = serve(tf.constant(TEXTS), tf.constant(TEXTS[::-1]))["scores"]
    np.testing.assert_allclose(scores, classifier.reference(TEXTS, TEXTS[::-1]), atol=1e-5)
    assert not np.allclose(scores, serve(tf.constant(TEXTS[::-1]), tf.constant(TEXTS))["scores"])
    with pytest.raises(tf.errors.InvalidArgumentError, match="need the same number of rows"):
        serve(tf.constant(TEXTS), tf.constant(TEXTS[:1]))


def test_training_on_changes_what_is_served(make_classifier):
    classifier = make_classifier(dtype_policy="mixed_bfloat16")
    module = classifier.module()
    before = module.serve(tf.constant(TEXTS))["scores"].numpy()
    head = classifier.model.head.output_dense
    head.kernel.assign(-head.kernel)
    assert np.abs(module.serve(tf.constant(TEXTS))["scores"].numpy() - before).max() > 0.01


@pytest.mark.parametrize("pooling", ["cls", "mean"])
@pytest.mark.parametrize("hidden_act", ["gelu", "gelu_new", "relu"])
def test_the_written_out_forward_pass_computes_what_the_keras_layers_do(make_classifier, pooling, hidden_act):
    model = make_classifier(pooling=pooling, hidden_act=hidden_act, num_layers=3).model
    inputs = _inputs()
    mask = tf.sequence_mask(inputs[1], inputs[0].shape[1], tf.int32)
    expected = model({"token_ids": inputs[0], "padding_mask": mask, "segment_ids": inputs[2]}, training=False)
    forward = make_forward(model, "float32")
    assert isinstance(forward, HeadForward)
    np.testing.assert_allclose(forward(*inputs), expected, atol=1e-4)
    np.testing.assert_allclose(KerasForward(model, "float32")(*inputs), expected, atol=1e-4)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("forward", [HeadForward, KerasForward])
def test_every_precision_of_training_is_served_in_every_precision(make_classifier, forward, dtype):
    for policy in ("mixed_bfloat16", "mixed_float16"):
        model = make_classifier(dtype_policy=policy).model
        twin = to_dtype(model, "float32")
        inputs = _inputs()
        expected = KerasForward(twin, "float32")(*inputs)
        served = forward(model, dtype)
        wanted = {"float32": 1e-4, "bfloat16": 0.5, "float16": 0.06}[dtype]
        np.testing.assert_allclose(served(*inputs), expected, atol=wanted)
        assert tf.as_dtype(dtype) in {variable.dtype for variable in served.variables}


def test_a_twin_shares_the_weights_of_a_model_in_mixed_precision(make_classifier):
    model = make_classifier(dtype_policy="mixed_bfloat16").model
    twin = to_dtype(model, "float32")
    assert twin is not model
    assert all(new.value is old.value for new, old in zip(twin.weights, model.weights, strict=True))
    assert to_dtype(twin, "float32") is twin
    small = to_dtype(model, "bfloat16")
    assert {weight.dtype for weight in small.get_layer("backbone").weights} == {"bfloat16"}


def _inputs():
    lengths = tf.constant([9, 5, 2])
    token_ids = tf.random.stateless_uniform([3, 9], (0, 1), 0, 50, tf.int32)
    return token_ids, lengths, tf.cast(token_ids % 2, tf.int32)
