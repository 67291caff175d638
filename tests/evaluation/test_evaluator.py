import json
import math
import subprocess
import sys

import numpy as np
import pytest

from kerasllm.errors import DataError
from kerasllm.evaluation.evaluator import Mistake, evaluate_classification
from kerasllm.metrics import accuracy, f1, precision_recall_f1

LABELS = ["negative", "neutral", "positive"]


def scored(size=500, classes=3, seed=0):
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, classes, size)
    logits = rng.normal(size=(size, classes))
    logits[np.arange(size), targets] += 2
    table = np.exp(logits)
    return targets, (table / table.sum(axis=1, keepdims=True)).astype(np.float32)


def test_the_figures_are_those_of_the_metrics():
    targets, probabilities = scored()
    guess = probabilities.argmax(axis=1)
    evaluation = evaluate_classification(targets, probabilities, labels=LABELS)
    assert evaluation.accuracy == accuracy(targets, guess)
    assert evaluation.macro_f1 == f1(targets, guess)
    assert evaluation.weighted_f1 == f1(targets, guess, average="weighted")
    assert evaluation.micro_f1 == pytest.approx(evaluation.accuracy)
    assert [row["recall"] for row in evaluation.per_label.values()] == precision_recall_f1(
        targets, guess
    ).recall.tolist()
    assert sum(map(sum, evaluation.confusion_matrix)) == evaluation.num_rows == 500
    for name in ("accuracy", "macro_f1", "weighted_f1", "micro_f1"):
        low, high = evaluation.intervals[name]
        assert low < getattr(evaluation, name) < high
    assert sum(each["count"] for each in evaluation.calibration_bins) == 500


def test_repr_says_the_figures_with_half_their_interval():
    targets = np.array([0] * 250 + [1] * 250)
    probabilities = np.tile([[0.9, 0.1]], (500, 1))
    probabilities[250:] = [0.1, 0.9]
    probabilities[:20], probabilities[250:275] = [0.1, 0.9], [0.9, 0.1]
    evaluation = evaluate_classification(targets, probabilities, labels=["negative", "positive"])
    assert repr(evaluation) == "Evaluation(accuracy=0.91 ± 0.03, macro_f1=0.91 ± 0.03, n=500)"
    without = evaluate_classification(targets, probabilities, labels=["a", "b"], num_bootstrap=0)
    assert repr(without) == "Evaluation(accuracy=0.91, macro_f1=0.91, n=500)"
    assert without.intervals == {}


def test_the_table_has_a_line_a_figure_and_a_line_a_label():
    evaluation = evaluate_classification(
        [0, 1], [[0.9, 0.1], [0.2, 0.8]], labels=["negative", "posi\x1b[31mtive"]
    )
    assert str(evaluation).splitlines() == [
        "2 rows, 2 labels",
        "  accuracy            1.000   95 % interval 1.000 to 1.000",
        "  macro F1            1.000   95 % interval 1.000 to 1.000",
        "  weighted F1         1.000   95 % interval 1.000 to 1.000",
        "  log loss            0.164",
        "  Brier score         0.050",
        "  calibration error   0.150",
        "",
        "  label             precision  recall     f1  support",
        "  negative              1.000   1.000  1.000        1",
        "  posi\\x1b[31mtive      1.000   1.000  1.000        1",
    ]


def test_a_long_table_is_cut():
    targets, probabilities = scored(200, 60)
    evaluation = evaluate_classification(targets, probabilities, labels=[f"topic {i}" * 9 for i in range(60)])
    lines = str(evaluation).splitlines()
    assert lines[-1] == "  … and 10 labels more"
    assert max(map(len, lines)) < 80


def test_everything_but_the_quoted_texts_is_json():
    targets, probabilities = scored(50)
    evaluation = evaluate_classification(targets, probabilities, labels=LABELS, texts=["secret"] * 50)
    text = json.dumps(evaluation.to_dict(), allow_nan=False)
    values = json.loads(text)
    assert values["num_rows"] == 50
    assert values["intervals"]["accuracy"] == list(evaluation.intervals["accuracy"])
    assert values["per_label"]["neutral"] == evaluation.per_label["neutral"]
    assert "secret" not in text
    assert evaluation.mistakes[0].text == "secret"


def test_the_surest_mistakes_come_first():
    probabilities = [[0.9, 0.1], [0.6, 0.4], [0.3, 0.7], [0.2, 0.8]]
    evaluation = evaluate_classification(
        [1, 1, 0, 1], probabilities, labels=["no", "yes"], texts=["a", "b", "c", "d"], num_mistakes=2
    )
    assert evaluation.mistakes == (
        Mistake(row=0, text="a", target="yes", predicted="no", score=0.9),
        Mistake(row=2, text="c", target="no", predicted="yes", score=0.7),
    )


def test_several_labels_a_row():
    targets = np.array([[1, 0, 1], [0, 1, 0], [0, 0, 0], [1, 1, 0]], np.float32)
    probabilities = [[0.9, 0.1, 0.8], [0.2, 0.7, 0.95], [0.1, 0.1, 0.1], [0.9, 0.4, 0.2]]
    evaluation = evaluate_classification(
        targets, probabilities, labels=LABELS, multi_label=True, texts="abcd"
    )
    assert evaluation.accuracy == 0.5
    assert evaluation.micro_f1 == pytest.approx(0.8)
    assert evaluation.macro_f1 == pytest.approx((1 + 2 / 3 + 2 / 3) / 3)
    assert evaluation.confusion_matrix is None
    assert evaluation.mistakes == (
        Mistake(row=1, text="b", target="neutral", predicted="neutral, positive", score=0.95),
        Mistake(row=3, text="d", target="negative, neutral", predicted="negative", score=pytest.approx(0.6)),
    )
    assert "micro F1" in str(evaluation)
    assert set(evaluation.intervals) == {"accuracy", "macro_f1", "weighted_f1", "micro_f1"}
    json.dumps(evaluation.to_dict(), allow_nan=False)
    strict = evaluate_classification(targets, probabilities, labels=LABELS, multi_label=True, threshold=0.75)
    assert strict.per_label["neutral"]["recall"] == 0
    assert strict.mistakes[1].target == "negative, neutral"


def test_the_seed_decides_the_intervals():
    targets, probabilities = scored()
    first = evaluate_classification(targets, probabilities, labels=LABELS, seed=3)
    assert first.intervals == evaluate_classification(targets, probabilities, labels=LABELS, seed=3).intervals
    assert first.intervals != evaluate_classification(targets, probabilities, labels=LABELS, seed=4).intervals


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"targets": [0, math.nan]}, r"Row 1 of the targets is not finite \(NaN or infinite\)"),
        ({"targets": [0, 2]}, r"Row 1 of the targets is no class: 2. Classes go from 0 to 1."),
        ({"targets": [0]}, r"The arrays differ in length: {'targets': 1, 'probabilities': 2}"),
        (
            {"targets": [[0, 1], [1, 0]]},
            r"The targets have the shape \(2, 2\), but one class index an example",
        ),
        ({"probabilities": [[math.nan, 1], [0, 1]]}, r"Row 0 of the probabilities is not finite"),
        ({"probabilities": [[-3.0, 4.0], [1.0, 2.0]]}, r"Are these logits\? Apply softmax first."),
        ({"probabilities": np.zeros((0, 2)), "targets": []}, r"There is nothing to measure"),
        ({"labels": ["a"]}, r"The probabilities have 2 columns, but there are 1 labels: one column a label"),
        ({"labels": ["a", "a"]}, r"The labels \['a'\] occur twice. Give each column a name of its own."),
        ({"texts": ["a"]}, r"There are 1 texts for 2 examples; give one for each, or none."),
        ({"confidence": 2}, r"`confidence` is 2, but must lie between 0 and 1"),
        (
            {"multi_label": True},
            r"The targets have the shape \(2,\), but a row an example and a column a label",
        ),
    ],
)
def test_what_cannot_be_measured_is_refused(change, match):
    arguments = {"targets": [0, 1], "probabilities": [[0.9, 0.1], [0.2, 0.8]], "labels": ["a", "b"], **change}
    with pytest.raises(DataError, match=match):
        evaluate_classification(arguments.pop("targets"), arguments.pop("probabilities"), **arguments)


def test_metrics_and_evaluation_leave_heavy_packages_alone():
    code = (
        "import sys, kerasllm.metrics, kerasllm.evaluation.report, kerasllm.evaluation.evaluator as e\n"
        "e.evaluate_classification([0], [[1.0]], labels=['a'])\n"
        "heavy = {'tensorflow', 'keras', 'torch', 'transformers', 'matplotlib', 'jinja2', 'pyarrow'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
