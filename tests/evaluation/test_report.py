import html.parser
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from kerasllm.errors import ResourceError
from kerasllm.evaluation.evaluator import evaluate_classification
from kerasllm.evaluation.plots import confusion_svg, history_svg, reliability_svg
from kerasllm.evaluation.report import write_report

# Row X8: each would run, break the page, be obeyed by a terminal, or be read as mathematics.
HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</text></svg><script>alert(2)</script>",
    "{{ 7 * 7 }}{% raw %}",
    "$\\frac{",
    "_hidden & <b>bold</b>",
    "bell\x07 escape\x1b[31m null\x00 \u202eright to left",
    "很好 العربية 🙂 e\u0301",
    "=1+1",
    "]]><!--",
]
HISTORY = [
    {"loss": 0.7, "val_loss": 0.6, "val_macro_f1": 0.7, "learning_rate": 1e-5},
    {"loss": 0.4, "val_loss": 0.5, "val_macro_f1": 0.8, "learning_rate": 1e-5},
]


VOID = {"meta", "br", "img"}


class Page(html.parser.HTMLParser):
    """Collects tags, attributes and text, and checks that tags are closed in order."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.tags, self.attributes, self.words, self.open = [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def evaluation(labels=("negative", "neutral", "positive"), size=200, **options):
    rng = np.random.default_rng(0)
    targets = rng.integers(0, len(labels), size)
    table = np.exp(rng.normal(size=(size, len(labels))) * 2)
    table /= table.sum(axis=1, keepdims=True)
    options.setdefault("texts", [f"review {number}" for number in range(size)])
    return evaluate_classification(targets, table, labels=list(labels), num_bootstrap=50, **options)


def written(tmp_path, **options):
    path = write_report(tmp_path / "report.html", title="reviews-1", **options)
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert page.open == []
    return text, page


def test_a_full_report(tmp_path):
    result = evaluation()
    _, page = written(
        tmp_path,
        evaluation=result,
        history=HISTORY,
        data_report={
            "splits": {
                "train": {"num_rows": 1200, "labels": {"a": 3, "b": 4}, "empty": None, "examples": []}
            },
            "leaks": [{"held_out": "test", "num_rows": 2}],
            "warnings": ["3 rows are truncated"],
            "problems": [],
        },
        config={"task": "text_classification", "training": {"learning_rate": 5e-05}, "output_dir": tmp_path},
    )
    words = " ".join(page.words)
    for expected in (
        "reviews-1",
        f"{result.accuracy:.3f}",
        f"{result.calibration_error:.3f}",
        "95 % interval",
        "Most confident mistakes",
        result.mistakes[0].text,
        "Most frequent confusions",
        "3 rows are truncated",
        "1,200",
        "learning_rate: 5.0e-05",
        "val_macro_f1",
        "share that is right",
    ):
        assert expected in words, expected
    assert page.tags.count("svg") == 3


def test_the_page_needs_nothing_else(tmp_path):
    _, page = written(tmp_path, evaluation=evaluation(), history=HISTORY)
    assert not {"script", "link", "img", "iframe", "object", "embed", "base", "form"} & set(page.tags)
    for name, value in page.attributes:
        assert not name.startswith("on")
        if name in {"src", "href", "xlink:href", "action", "data"}:
            assert value.startswith("#")
    assert ("http-equiv", "Content-Security-Policy") in page.attributes
    assert ("content", "default-src 'none'; style-src 'unsafe-inline'") in page.attributes


def test_hostile_labels_texts_and_settings_are_shown_and_not_obeyed(tmp_path):
    """Row X8."""
    result = evaluation(labels=HOSTILE, texts=HOSTILE * 20)
    text, page = written(
        tmp_path,
        evaluation=result,
        history=[dict.fromkeys(HOSTILE, 0.5)],
        data_report={
            "splits": {hostile: {hostile: hostile} for hostile in HOSTILE},
            "warnings": list(HOSTILE),
        },
        config={hostile: [hostile] for hostile in HOSTILE},
    )
    assert "script" not in page.tags
    assert "img" not in page.tags
    assert not any(name.startswith("on") for name, _ in page.attributes)
    words = "".join(page.words)
    assert "<script>alert(1)</script>" in words
    assert "{{ 7 * 7 }}{% raw %}" in words
    assert "49" not in [word.strip() for word in page.words]
    assert r"bell\x07 escape\x1b[31m null\x00 \u202eright to left" in words
    assert not {"\x00", "\x07", "\x1b", "\u202e"} & set(text)


def test_a_hostile_title(tmp_path):
    path = write_report(tmp_path / "report.html", title="</title><script>alert(1)</script>")
    page = Page(path.read_text(encoding="utf-8"))
    assert "script" not in page.tags
    assert page.open == []


@pytest.mark.parametrize("hostile", HOSTILE)
def test_plots_are_well_formed_whatever_the_labels_say(hostile):
    plots = [confusion_svg([[1, 2], [3, 4]], [hostile, "b"]), history_svg([{hostile: 1.0, "loss": 2.0}])]
    for svg in plots:
        root = ElementTree.fromstring(svg)
        assert not [node for node in root.iter() if node.tag.endswith("script")]


def test_plots_are_the_same_bytes_every_time():
    bins = evaluation().calibration_bins
    assert reliability_svg(bins) == reliability_svg(bins)
    assert history_svg(HISTORY) == history_svg(HISTORY)


def test_no_global_state_of_matplotlib_is_touched():
    code = (
        "import sys, matplotlib\nnames = ['svg.fonttype', 'svg.hashsalt', 'font.family', 'axes.spines.top']\n"
        "before = {name: matplotlib.rcParams[name] for name in names}\n"
        "from kerasllm.evaluation.plots import history_svg\n"
        "history_svg([{'loss': 1.0}])\n"
        "assert {name: matplotlib.rcParams[name] for name in names} == before\n"
        "assert 'matplotlib.pyplot' not in sys.modules and 'tensorflow' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_several_labels_a_row_have_no_confusion_matrix(tmp_path):
    targets = [[1, 0], [1, 1], [0, 0]]
    result = evaluate_classification(
        targets, [[0.9, 0.2], [0.4, 0.7], [0.1, 0.6]], labels=["a", "b"], multi_label=True
    )
    _, page = written(tmp_path, evaluation=result)
    assert page.tags.count("svg") == 1
    assert "micro F1" in " ".join(page.words)
    assert "row 1" in " ".join(page.words)


def test_too_many_labels_for_a_plot_are_listed(tmp_path):
    _, page = written(tmp_path, evaluation=evaluation(labels=[f"topic {number}" for number in range(60)]))
    assert page.tags.count("svg") == 1
    assert "Most frequent confusions" in " ".join(page.words)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"history": HISTORY},
        {"history": [{"loss": float("nan")}]},
        {"history": [{"loss": 1.0}, {"val_macro_f1": 0.5}]},
        {"data_report": {}},
        {"config": {"a": None}},
        {"examples": [{"text": "given", "target": "a", "predicted": "b", "score": 0.9}]},
    ],
)
def test_every_part_may_be_left_out(tmp_path, options):
    written(tmp_path, **options)
    written(tmp_path, evaluation=evaluation(), **options)


def test_a_perfect_model_has_no_mistakes(tmp_path):
    result = evaluate_classification([0, 1], [[1.0, 0.0], [0.0, 1.0]], labels=["a", "b"], texts=["x", "y"])
    _, page = written(tmp_path, evaluation=result)
    assert "Most confident mistakes" not in " ".join(page.words)


def test_long_texts_are_shortened(tmp_path):
    result = evaluate_classification([1], [[1.0, 0.0]], labels=["a", "b"], texts=["word " * 100_000])
    text, _ = written(tmp_path, evaluation=result)
    assert len(text) < 100_000


def test_a_report_that_cannot_be_written_says_so(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(
        ResourceError, match=r"`.*report.html` cannot be written: a parent is not a directory"
    ):
        write_report(tmp_path / "file" / "report.html", title="x")
