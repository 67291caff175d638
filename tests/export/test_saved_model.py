"""What an export writes, what it refuses, and what its numbers are."""

import json

import numpy as np
import pytest
import tensorflow as tf

from kerasllm.errors import ExportError, ResourceError
from kerasllm.resources.manifest import verify_manifest

TEXTS = ["the film is truly wonderful", "", "an awful plot " * 30]


def test_an_export_is_a_numbered_directory_with_all_that_a_server_wants(exported):
    files = {path.relative_to(exported).as_posix() for path in exported.rglob("*") if path.is_file()}
    assert exported.name == "1"
    assert files == {
        "MANIFEST.json",
        "assets.extra/tf_serving_warmup_requests",
        "fingerprint.pb",
        "kerasllm.json",
        "saved_model.pb",
        "variables/variables.data-00000-of-00001",
        "variables/variables.index",
    }
    assert [path.name for path in exported.parent.iterdir()] == ["1"]
    verify_manifest(exported)


def test_the_written_signature_is_text_in_and_labels_and_scores_out(exported, classifier):
    signature = tf.saved_model.load(str(exported)).signatures["serving_default"]
    assert signature.structured_input_signature[1] == {"text": tf.TensorSpec([None], tf.string, "text")}
    outputs = {
        name: (spec.dtype.name, spec.shape.as_list()) for name, spec in signature.structured_outputs.items()
    }
    assert outputs == {
        "label": ("string", [None]),
        "score": ("float32", [None]),
        "labels": ("string", [None, 3]),
        "scores": ("float32", [None, 3]),
    }
    answers = signature(text=tf.constant(TEXTS))
    np.testing.assert_allclose(answers["scores"], classifier.reference(TEXTS), atol=1e-5)
    assert answers["labels"].numpy().tolist() == [[b"negative", b"neutral", b"positive"]] * 3


def test_kerasllm_json_says_what_the_model_is(exported, classifier):
    content = json.loads((exported / "kerasllm.json").read_text("utf-8"))
    assert content["format_version"] == 1
    assert content["task"] == "text_classification"
    assert content["labels"] == ["negative", "neutral", "positive"]
    assert (content["multi_label"], content["sequence_length"], content["dtype"]) == (False, 32, "float32")
    assert content["tokenizer_fingerprint"] == classifier.tokenizer.fingerprint
    assert content["target"] == "TensorFlow Serving 2.20"
    assert content["versions"]["tensorflow"] == tf.__version__
    assert content["signatures"]["serving_default"]["inputs"]["text"]["shape"] == ["batch"]
    assert content["signatures"]["serving_default"]["outputs"]["scores"]["dtype"] == "float32"
    assert content["parity"]["num_probes"] >= 32
    assert content["parity"]["max_difference"] <= content["parity"]["tolerance"] == 1e-4


def test_golden_requests_can_be_replayed(exported):
    golden = json.loads((exported / "kerasllm.json").read_text("utf-8"))["golden"]
    signature = tf.saved_model.load(str(exported)).signatures["serving_default"]
    sizes = []
    for request in golden["requests"]:
        inputs = {name: tf.constant(texts) for name, texts in request["inputs"].items()}
        answers = signature(**inputs)
        np.testing.assert_allclose(answers["scores"], request["outputs"]["scores"], atol=golden["tolerance"])
        assert [label.decode() for label in answers["label"].numpy()] == request["outputs"]["label"]
        sizes.append(len(request["outputs"]["score"]))
    assert sizes[0] == 1
    assert sizes[1] >= 32


def test_the_users_texts_do_not_leave_with_the_model(classifier, tmp_path):
    secret = "the password of the vault is wonderful"
    folder = classifier.export(tmp_path / "reviews", probes={"text": [secret]})
    content = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    assert secret.encode() not in content
    assert json.loads((folder / "kerasllm.json").read_text("utf-8"))["parity"]["num_probes"] == 36


@pytest.mark.parametrize(("pooling", "pooler"), [("cls", 2), ("mean", 0)])
def test_only_what_serving_needs_is_saved(make_classifier, tmp_path, pooling, pooler):
    """No optimizer state, no random states; and where tokens are averaged, no pooler."""
    classifier = make_classifier(("a", "b"), pooling=pooling)
    classifier.model.compile("adamw", "mse")
    classifier.model.fit(_batch(classifier), np.zeros((2, 2)), verbose=0)
    reader = tf.train.load_checkpoint(str(classifier.export(tmp_path / "m") / "variables" / "variables"))
    saved = [name for name in reader.get_variable_to_shape_map() if name.endswith("VARIABLE_VALUE")]
    assert len(saved) == len(classifier.model.weights)
    assert sum("pooler" in weight.path for weight in classifier.model.weights) == pooler


def _batch(classifier):
    names = ("token_ids", "padding_mask", "segment_ids")
    return {name: np.ones((2, 5), np.int32) for name in names}


def test_versions_go_up_and_none_is_overwritten(classifier, tmp_path, caplog):
    base = tmp_path / "reviews"
    assert classifier.export(base, version=7).name == "7"
    before = {path: path.read_bytes() for path in (base / "7").rglob("*") if path.is_file()}
    with pytest.raises(ExportError, match=r"Version 7 of `.*reviews` exists already.*`version` out to get 8"):
        classifier.export(base, version=7)
    assert classifier.export(base).name == "8"
    assert not caplog.records
    assert classifier.export(base, version=3).name == "3"
    assert "Version 3 is lower than version 8" in caplog.text
    assert {path: path.read_bytes() for path in before} == before
    assert sorted(path.name for path in base.iterdir()) == ["3", "7", "8"]


@pytest.mark.parametrize("version", [0, -1, 2**63])
def test_a_version_must_be_one_that_a_server_takes(classifier, tmp_path, version):
    with pytest.raises(
        ExportError, match=f"The version {version} is no version: a server takes whole numbers from 1"
    ):
        classifier.export(tmp_path / "reviews", version=version)
    assert not (tmp_path / "reviews").exists()


def test_what_a_killed_export_left_is_swept_away(classifier, tmp_path):
    leftover = tmp_path / "reviews" / ".tmp-1-99999-0123abcd"
    (leftover / "variables").mkdir(parents=True)
    classifier.export(tmp_path / "reviews")
    assert [path.name for path in (tmp_path / "reviews").iterdir()] == ["1"]


def test_a_path_that_is_a_file_is_refused(classifier, tmp_path):
    (tmp_path / "reviews").write_text("mine")
    with pytest.raises(ResourceError, match=r"The directory `.*reviews` cannot be used: File exists"):
        classifier.export(tmp_path / "reviews")
    assert (tmp_path / "reviews").read_text() == "mine"


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_smaller_weights_make_a_smaller_model_with_nearly_the_same_answers(
    classifier, exported, tmp_path, dtype
):
    from kerasllm.export.saved_model import export_saved_model

    folder = export_saved_model(
        tmp_path / "small", classifier.module(dtype=dtype), reference=classifier.reference
    )
    content = json.loads((folder / "kerasllm.json").read_text("utf-8"))
    assert content["dtype"] == dtype
    assert 1e-6 < content["parity"]["max_difference"] < content["parity"]["tolerance"]
    size, full = (sum(f.stat().st_size for f in (d / "variables").iterdir()) for d in (folder, exported))
    assert size < 0.65 * full


def test_unknown_precision_is_refused(classifier):
    with pytest.raises(ExportError, match=r"cannot be exported as 'int8'; choose one of \['float32', "):
        classifier.module(dtype="int8")


def test_more_tokens_than_the_model_has_positions_are_refused(classifier):
    from kerasllm.export.signatures import ClassificationModule

    with pytest.raises(
        ExportError, match=r"positions for 64 tokens, not for 65\. Pass a `sequence_length` of 64 or less"
    ):
        ClassificationModule(
            classifier.model, classifier.tokenizer, labels=classifier.labels, sequence_length=65
        )


def test_labels_that_do_not_fit_the_model_are_refused(classifier):
    from kerasllm.export.signatures import ClassificationModule

    with pytest.raises(ExportError, match=r"has 3 outputs, but there are 2 labels: \['a', 'b'\]"):
        ClassificationModule(classifier.model, classifier.tokenizer, labels=["a", "b"], sequence_length=8)
