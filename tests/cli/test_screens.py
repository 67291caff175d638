"""The last screen of a run, and what reaches a terminal."""

import json

import pytest

from kerasllm.cli.screens import RunSummary, next_commands, show_run
from kerasllm.cli.terminal import json_text, printable, write_json_lines, write_table

SUMMARY = RunSummary(
    run_directory="runs/my reviews",
    metrics={"accuracy": [0.842, 0.8204, 0.8636], "macro_f1": [0.8]},
    num_rows=1281,
    export_directory="models/my reviews/3",
)


def test_the_screen_of_a_run(capsys):
    show_run(SUMMARY)
    assert capsys.readouterr().out == (
        "Test accuracy  0.842  (95% interval 0.820 to 0.864, 1,281 rows)\n"
        "Test macro F1  0.800\n"
        "Run            runs/my reviews\n"
        "Report         runs/my reviews/report.html\n"
        "Export         models/my reviews/3\n"
        "\n"
        "Next:\n"
        "  kerasllm predict 'runs/my reviews' \"A joy from start to end.\"\n"
        "  kerasllm serve 'models/my reviews'\n"
        '  curl -d \'{"instances": ["A joy from start to end."]}\' '
        "'http://127.0.0.1:8501/v1/models/my reviews:predict'\n"
    )


def test_the_screen_of_a_run_without_export_and_figures(capsys):
    show_run(RunSummary(run_directory="runs/a", warnings=["no validation rows"]))
    assert capsys.readouterr().out == (
        "Figures  none: the run had neither test nor validation rows\n"
        "Run      runs/a\n"
        "Export   none (`export.path` is not set)\n"
        "Warning  no validation rows\n"
        "\n"
        "Next:\n"
        '  kerasllm predict runs/a "A joy from start to end."\n'
        "  kerasllm export runs/a models/a\n"
    )


def test_pairs_are_asked_with_two_texts():
    commands = next_commands(RunSummary(run_directory="runs/a", export_directory="models/a/1", pair=True))
    assert commands[0].count('"') == 4
    assert '{"instances": [{"text": "A joy from start to end.", "text_pair": ' in commands[2]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("naïve 한국어 👍🏽\tand\nlines", "naïve 한국어 👍🏽\tand\nlines"),
        ("\x1b]0;title\x07", "\\u001b]0;title\\u0007"),
        ("\x9b31m", "\\u009b31m"),
        ("a\rb", "a\\u000db"),
        ("user\u202etxt.exe", "user\\u202etxt.exe"),
        ("\ud800", "\\ud800"),
    ],
)
def test_what_a_terminal_would_obey_is_escaped(text, shown):
    assert printable(text) == shown


@pytest.mark.parametrize("text", ["\x1b[31m", "\x9b", "\u2028\u202e", "a\nb\tc", 'q"\\', "é", "\x7f"])
def test_escaped_json_is_the_same_json(text):
    assert json.loads(json_text({"text": text})) == {"text": text}
    assert not set(json_text({"text": text})) & set("\x1b\x9b\u202e\x7f\n")


def test_json_lines_stream(capsys):
    def rows():
        yield {"n": 1}
        assert capsys.readouterr().out == '{"n": 1}\n'
        yield {"n": 2}

    write_json_lines(rows())
    assert capsys.readouterr().out == '{"n": 2}\n'


def test_tables_in_a_pipe_have_one_line_a_row(capsys):
    write_table([("a\nb", "c\td"), ("\x1b", "")], header=("x", "y"))
    assert capsys.readouterr().out == "a b\tc d\n\\u001b\t\n"
