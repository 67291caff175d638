"""Exported models in this process, and their verification."""

import json
import shutil

import numpy as np
import pytest

from kerasllm.errors import DataError, ServingError
from kerasllm.resources.manifest import write_manifest
from kerasllm.serving.exported_model import ExportedModel


@pytest.fixture
def exported(toy):
    """The toy model with what an export adds: metadata and golden requests."""
    version = toy / "1"
    model = ExportedModel(version)
    golden = []
    for texts in (["a"], ["a text that is long", "b"]):
        outputs = model.predict({"text": texts})
        golden.append(
            {
                "signature": "serving_default",
                "inputs": {"text": texts},
                "outputs": {
                    "label": [label.decode() for label in outputs["label"]],
                    "score": outputs["score"].tolist(),
                    "scores": outputs["scores"].tolist(),
                },
            }
        )
    write_metadata(version, golden)
    return ExportedModel(toy)


def write_metadata(version, golden):
    metadata = {
        "kind": "exported_model",
        "task": "text_classification",
        "labels": ["short", "long"],
        "signatures": {"serving_default": {"inputs": {"text": {}}, "outputs": {"label": {}}}},
        "golden": {"tolerance": 1e-4, "requests": golden},
    }
    (version / "kerasllm.json").write_text(json.dumps(metadata))
    write_manifest(version)


def test_the_newest_version_of_a_directory(toy, toy_versions):
    shutil.copytree(toy_versions / "2", toy / "10")
    (toy / "11").mkdir()
    model = ExportedModel(toy)
    assert (model.version, model.name) == (10, "toy")
    assert repr(model) == f"ExportedModel('{toy}/10', signatures=['serving_default'])"
    assert ExportedModel(toy / "1").version == 1


def test_signatures_and_metadata(exported, toy_versions):
    assert exported.metadata["labels"] == ["short", "long"]
    assert list(exported.signatures) == ["serving_default"]
    other = ExportedModel(toy_versions / "1")
    assert other.metadata == {}
    assert other.signatures == {
        "serving_default": {"inputs": ["text"], "outputs": ["label", "labels", "score", "scores"]}
    }


def test_predict_takes_texts_or_named_inputs(exported):
    (result,) = exported.predict("a text that is long")
    assert result.label == "long"
    outputs = exported.predict({"text": ["a text that is long"]})
    assert outputs["label"].tolist() == [b"long"]
    assert outputs["scores"].dtype == np.float32
    assert result.score == float(outputs["score"][0])
    assert exported.predict([]) == []


def test_what_does_not_fit_is_refused(exported):
    with pytest.raises(DataError, match=r"Input 0 is '5' .int., but the model takes a text each"):
        exported.predict([5])
    with pytest.raises(DataError, match=r"takes the inputs \['text'\], but got \['texts'\]"):
        exported.predict({"texts": ["a"]})
    with pytest.raises(ServingError, match=r"has no signature `nope`. It has \['serving_default'\]"):
        exported.predict(["a"], signature_name="nope")


def test_no_model(tmp_path):
    with pytest.raises(
        ServingError, match=r"There is no exported model at .*neither a SavedModel nor numbered"
    ):
        ExportedModel(tmp_path)


def test_verify_in_this_process_and_against_servers(exported, serve_directory):
    found = exported.verify()
    assert (found.num_requests, found.max_difference) == (2, 0.0)
    assert str(found).endswith("2 golden requests answered alike by this process (largest difference 0).")
    with serve_directory(exported.path.parent) as server:
        for url in (f"http://127.0.0.1:{server.rest_port}", f"grpc://127.0.0.1:{server.grpc_port}"):
            found = exported.verify(url)
            assert found.num_requests == 2
            assert found.max_difference < 1e-6


def test_verify_finds_damage(exported):
    (exported.path / "variables" / "variables.index").write_bytes(b"")
    with pytest.raises(ServingError, match=r"variables\.index"):
        exported.verify()


def test_verify_finds_a_server_that_serves_another_version(exported, toy_versions, serve_directory, tmp_path):
    shutil.copytree(toy_versions / "2", tmp_path / "other" / "toy" / "1")
    with serve_directory(tmp_path / "other" / "toy") as server:
        with pytest.raises(
            ServingError, match=r"answered a golden request with score\[0\] = .* but the export"
        ):
            exported.verify(f"http://127.0.0.1:{server.rest_port}")
        with pytest.raises(ServingError, match="answered 404"):
            exported.verify(f"http://127.0.0.1:{server.rest_port}", model_name="reviews")


def test_verify_finds_other_outputs(exported):
    golden = exported.metadata["golden"]["requests"]
    golden[0]["outputs"]["colour"] = ["red"]
    write_metadata(exported.path, golden)
    with pytest.raises(ServingError, match="this process answered without `colour`"):
        ExportedModel(exported.path).verify()
    golden[0]["outputs"] = {"label": ["long"]}
    write_metadata(exported.path, golden)
    with pytest.raises(ServingError, match=r"with label\[0\] = 'short', but the export answered 'long'"):
        ExportedModel(exported.path).verify()


def test_there_is_nothing_to_verify_in_other_models(toy):
    (toy / "1" / "MANIFEST.json").unlink()
    with pytest.raises(ServingError, match="was not exported by kerasllm"):
        ExportedModel(toy).verify()


def test_damaged_metadata(exported):
    (exported.path / "kerasllm.json").write_text("{")
    with pytest.raises(ServingError, match=r"kerasllm\.json` is damaged"):
        ExportedModel(exported.path).metadata  # noqa: B018
