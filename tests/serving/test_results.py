import math

import pytest

from kerasllm.serving.results import Classification, classifications, is_classification


def test_the_likeliest_label_wins_and_of_equals_the_first():
    assert Classification.from_scores(["a", "b", "c"], [0.2, 0.5, 0.3]).label == "b"
    assert Classification.from_scores(["a", "b"], [0.5, 0.5]).label == "a"


def test_a_result_prints_as_in_the_documentation():
    result = Classification.from_scores(["negative", "positive"], [0.03, 0.97])
    assert repr(result) == "Classification(label='positive', score=0.97)"
    assert result.to_dict() == {
        "label": "positive",
        "score": 0.97,
        "scores": {"negative": 0.03, "positive": 0.97},
    }


def test_as_many_scores_as_labels():
    with pytest.raises(ValueError, match="shorter"):
        Classification.from_scores(["a", "b"], [1.0])


def test_scores_read_from_json_are_the_float32_that_the_model_computed():
    outputs = {"label": ["b"], "score": [0.699999988], "labels": [["a", "b"]], "scores": [[0.3, 0.699999988]]}
    (result,) = classifications(outputs)
    assert result.score == 0.699999988079071  # float32(0.7)
    assert math.isclose(result.scores["a"], 0.30000001192092896, abs_tol=0)


def test_outputs_of_other_models_are_no_classification():
    assert is_classification(["label", "score", "labels", "scores", "more"])
    assert not is_classification(["label", "score"])
