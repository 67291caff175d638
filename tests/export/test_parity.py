"""An export that would answer otherwise than Python is refused (rows E4 of the reliability matrix)."""

import numpy as np
import pytest
import tensorflow as tf

from kerasllm.errors import ExportError
from kerasllm.export import forward, signatures
from kerasllm.export.parity import check_batchable, check_parity, check_signature, load_endpoint
from kerasllm.export.probes import BUILTIN_TEXTS, all_probes, builtin_probes
from kerasllm.export.saved_model import export_saved_model
from kerasllm.models.transformer import dense
from kerasllm.tokenization.tokenizer import Tokenizer

LABELS = ("negative", "positive")
PROBES = {"text": ["fine", "so long a text that it would fill the line and more, so it is cut " * 3, "bad"]}


def endpoint(table, **wrong):
    """An endpoint with the given scores, which answers a text by its place in `PROBES`."""
    table = dict(zip(PROBES["text"], np.asarray(table, np.float32), strict=True))

    def ask(inputs):
        rows = np.array([table[text] for text in inputs["text"]], np.float32).reshape(-1, 2)
        names = np.array(LABELS, dtype=object)
        answers = {
            "label": names[rows.argmax(axis=1)],
            "score": rows.max(axis=1, initial=-np.inf),
            "labels": np.tile(names, (len(rows), 1)),
            "scores": rows,
        }
        return answers | {name: change(answers, inputs) for name, change in wrong.items()}

    return ask


def reference(scores):
    table = dict(zip(PROBES["text"], np.asarray(scores, np.float32), strict=True))
    return lambda texts: np.array([table[text] for text in texts])


GOOD = [[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]]


def test_equal_answers_pass_and_the_difference_is_told():
    found = check_parity(endpoint(GOOD), reference(np.array(GOOD) + 5e-5), PROBES, labels=LABELS)
    assert found.num_probes == 3
    assert found.max_difference == pytest.approx(5e-5, rel=0.01)
    assert found.tolerance == 1e-4


def test_the_worst_text_is_shown_with_both_answers():
    other = [[0.9, 0.1], [0.2, 0.8], [0.1, 0.9]]
    with pytest.raises(
        ExportError,
        match=r"answers otherwise than Python for 1 of 3 texts\. For 'bad' the SavedModel says "
        r"\{'negative': 0\.600000, 'positive': 0\.400000\} and Python \{'positive': 0\.900000, 'negative': "
        r"0\.100000\}: a difference of 0\.5, where 1e-04 is allowed\. Nothing was published",
    ):
        check_parity(endpoint(GOOD), reference(other), PROBES, labels=LABELS)


def test_a_long_text_is_shortened_in_the_message():
    other = [[0.9, 0.1], [0.3, 0.7], [0.6, 0.4]]
    with pytest.raises(
        ExportError, match=r"For 'so long a text that it would fill .{10,60}\.\.\.' the SavedModel"
    ):
        check_parity(endpoint(GOOD), reference(other), PROBES, labels=LABELS)


def test_not_a_number_is_no_answer():
    broken = [[0.9, 0.1], [0.2, 0.8], [np.nan, np.nan]]
    with pytest.raises(ExportError, match=r"For 'bad' the SavedModel says \{'negative': nan"):
        check_parity(endpoint(broken), reference(GOOD), PROBES, labels=LABELS)


def test_where_two_labels_tie_either_is_right():
    tied = [[0.9, 0.1], [0.2, 0.8], [0.50004, 0.49996]]
    check_parity(endpoint(tied), reference([*GOOD[:2], [0.49996, 0.50004]]), PROBES, labels=LABELS)
    apart = [[0.9, 0.1], [0.2, 0.8], [0.5007, 0.4993]]
    with pytest.raises(ExportError, match="answers otherwise than Python for 1 of 3"):
        check_parity(endpoint(apart), reference([*GOOD[:2], [0.4993, 0.5007]]), PROBES, labels=LABELS)


@pytest.mark.parametrize(
    "wrong",
    [
        {"label": lambda answers, _: answers["label"][[1, 0, 2]]},
        {"score": lambda answers, _: answers["score"] / 2},
        {"labels": lambda answers, _: answers["labels"][:, ::-1]},
    ],
)
def test_outputs_that_contradict_each_other_are_refused(wrong):
    with pytest.raises(ExportError, match=r"contradicts itself: `label` and `score` are not the highest"):
        check_parity(endpoint(GOOD, **wrong), reference(GOOD), PROBES, labels=LABELS)


def test_outputs_of_another_shape_are_refused():
    lost = endpoint(GOOD, score=lambda answers, _: answers["score"][:2])
    with pytest.raises(
        ExportError, match=r"answers 3 texts with the shapes .*'score': \(2,\).*expected .*'score': \(3,\)"
    ):
        check_parity(lost, reference(GOOD), PROBES, labels=LABELS)
    with pytest.raises(
        ExportError, match=r"Python gives scores of shape \(3, 3\), the exported model \(3, 2\)"
    ):
        check_parity(endpoint(GOOD), reference(np.zeros((3, 3))), PROBES, labels=LABELS)


def test_a_row_that_depends_on_its_neighbours_is_refused():
    def mixed(answers, inputs):
        return answers["scores"] + 0.001 * len(inputs["text"])

    with pytest.raises(
        ExportError,
        match=r"otherwise in a batch of 3 than alone: for 'fine' `scores` is .* in the batch and .* alone",
    ):
        check_batchable(endpoint(GOOD, scores=mixed), PROBES)
    check_batchable(endpoint(GOOD), PROBES)


def test_an_output_that_is_not_one_a_row_is_refused():
    with pytest.raises(ExportError, match=r"`score` is .* in the batch and .* alone"):
        check_batchable(endpoint(GOOD, score=lambda answers, _: answers["score"].max()), PROBES)


def test_an_empty_request_must_give_empty_answers():
    def never_empty(answers, _):
        return answers["score"] if len(answers["score"]) else np.zeros(1, np.float32)

    with pytest.raises(ExportError, match=r"answers an empty request with the shapes .*'score': \(1,\)"):
        check_batchable(endpoint(GOOD, score=never_empty), PROBES)


@pytest.mark.parametrize(("shape", "shown"), [([2], r"\[2\]"), ([], r"\[\]")])
def test_a_signature_without_a_batch_is_refused(shape, shown):
    signature = tf.compat.v1.saved_model.build_signature_def(
        inputs={"text": _tensor_info([None])}, outputs={"score": _tensor_info(shape)}
    )
    with pytest.raises(
        ExportError, match=rf"The output `score` of the signature `other` has the shape {shown}, but a"
    ):
        check_signature(signature, "other")


def _tensor_info(shape):
    with tf.Graph().as_default():
        return tf.compat.v1.saved_model.build_tensor_info(tf.compat.v1.placeholder(tf.float32, shape))


def test_every_export_is_tried_on_32_texts_and_more():
    assert len(set(BUILTIN_TEXTS)) == len(BUILTIN_TEXTS) >= 32
    pairs = builtin_probes(("text", "text_pair"))
    assert sorted(pairs["text"]) == sorted(pairs["text_pair"])
    assert all(a != b for a, b in zip(*pairs.values(), strict=True))
    assert all_probes(("text",), {"text": ["mine"]})["text"][-1] == "mine"
    assert all_probes(("text",), {}) == builtin_probes(("text",))


def test_texts_are_python_strings_in_what_an_endpoint_answers(exported):
    answers = load_endpoint(exported)({"text": ["wonderful", "awful"]})
    assert answers["labels"].tolist() == [["negative", "neutral", "positive"]] * 2
    assert all(isinstance(label, str) for label in answers["label"])


def ascii_only(original):
    def encode(self, texts, pairs=None, *, sequence_length=None):
        return original(
            self, tf.strings.regex_replace(texts, "[^ -~]", ""), pairs, sequence_length=sequence_length
        )

    return encode


def longer(original):
    def encode(self, texts, pairs=None, *, sequence_length=None):
        return original(self, texts, pairs, sequence_length=sequence_length + 1)

    return encode


def unsorted(original):
    def logits(self, token_ids, segment_ids):
        found = original(self, token_ids, segment_ids)
        return tf.gather(found, tf.argsort(token_ids.row_lengths()))

    return logits


def without_mask(original):
    def call(self, token_ids, lengths, segment_ids):
        return original(self, token_ids, tf.fill(tf.shape(lengths), tf.shape(token_ids)[1]), segment_ids)

    return call


def warmer(original):
    return lambda self, *tokens: original(self, *tokens) * 1.01


def approximate(original):
    def call(self, inputs, training=None):
        product = original(self, inputs, training=training)
        # Only in the graph that is served, as a wrong rewrite of it would.
        return product if self.activation_name != "gelu" or tf.executing_eagerly() else product * 1.02

    return call


@pytest.mark.parametrize(
    ("owner", "name", "bug"),
    [
        (Tokenizer, "graph_encode_with_segments", longer),
        (Tokenizer, "graph_encode_with_segments", ascii_only),
        (signatures.ClassificationModule, "_logits", unsorted),
        (forward.HeadForward, "__call__", without_mask),
        (dense.Dense, "call", approximate),
        (signatures.ClassificationModule, "_logits", warmer),
    ],
    ids=lambda value: value.__name__ if callable(value) else None,
)
def test_a_bug_between_python_and_the_graph_publishes_nothing(
    make_classifier, tmp_path, monkeypatch, owner, name, bug
):
    classifier = make_classifier(pooling="mean")
    monkeypatch.setattr(owner, name, bug(getattr(owner, name)))
    with pytest.raises(ExportError, match=r"answers otherwise than Python for .* Nothing was published"):
        classifier.export(tmp_path / "models" / "reviews")
    assert list((tmp_path / "models").iterdir()) == []


def test_a_python_op_publishes_nothing(classifier, tmp_path, monkeypatch):
    plain = Tokenizer.graph_encode_with_segments

    def through_python(self, texts, *args, **options):
        same = tf.numpy_function(lambda value: value, [texts], tf.string)
        return plain(self, tf.ensure_shape(same, [None]), *args, **options)

    monkeypatch.setattr(Tokenizer, "graph_encode_with_segments", through_python)
    with pytest.raises(ExportError, match=r"cannot run or must not: PyFunc \(calls Python, in the function "):
        classifier.export(tmp_path / "models" / "reviews")
    assert list((tmp_path / "models").iterdir()) == []


def test_a_bug_of_a_later_version_leaves_the_earlier_alone(classifier, tmp_path):
    first = classifier.export(tmp_path / "reviews")
    with pytest.raises(ExportError, match="answers otherwise than Python"):
        export_saved_model(
            tmp_path / "reviews",
            classifier.module(),
            reference=lambda texts: classifier.reference(texts)[:, ::-1],
        )
    assert list((tmp_path / "reviews").iterdir()) == [first]
