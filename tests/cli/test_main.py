"""The command line as a whole: help, exit codes, errors in one sentence, what reaches stdout and stderr."""

import os
import pty
import signal
import subprocess
import sys
import textwrap
import time

import click
import pytest
from click.testing import CliRunner

from kerasllm.cli import commands
from kerasllm.cli.commands import Command, LazyGroup
from kerasllm.cli.main import COMMANDS
from kerasllm.errors import DataError, KerasLLMError

RAISE = "from kerasllm.errors import DataError; raise DataError"
KERASLLM = [sys.executable, "-m", "kerasllm"]


def test_help_lists_every_command_with_what_it_does(run):
    result = run("-h")
    assert result.exit_code == 0
    for name, sentence in COMMANDS.items():
        assert f"{name} " in result.stdout
        assert sentence in result.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(run, name):
    result = run(name, "-h")
    assert result.exit_code == 0
    assert f"Usage: kerasllm {name}" in result.stdout
    assert "--debug" in result.stdout or "Commands:" in result.stdout


def test_a_mistyped_command_is_corrected(run):
    result = run("finetun")
    assert result.exit_code == 2
    assert "No such command 'finetun'. Did you mean 'finetune'?" in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize(
    "arguments", [["finetune"], ["finetune", "a", "--epochs", "3"], ["predict"], ["export", "a"]]
)
def test_misuse_exits_with_2(run, arguments):
    result = run(*arguments)
    assert result.exit_code == 2
    assert "Usage: kerasllm" in result.stderr


def test_an_error_of_ours_is_one_sentence_and_exits_with_1(run):
    result = run("finetune", "text_classification/sentiment_minlm")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr == (
        "Error: There is no file and no packaged config `text_classification/sentiment_minlm`. "
        "Did you mean `text_classification/sentiment_minilm`?\n"
    )


@pytest.mark.parametrize(
    "arguments", [["--debug", "configs", "show", "x"], ["configs", "show", "x", "--debug"]]
)
def test_debug_shows_the_traceback(run, arguments):
    result = run(*arguments)
    assert result.exit_code == 1
    assert isinstance(result.exception, KerasLLMError)


@pytest.mark.parametrize(
    ("option", "field"),
    [("--epochs", "training.epochs"), ("--learning-rate", "training.learning_rate"), ("--seed", "seed")],
)
def test_an_option_that_is_a_field_is_answered_with_how_it_is_set(run, option, field):
    result = run("finetune", "text_classification/my_data", option, "3")
    assert result.exit_code == 2
    assert f"No such option '{option}'. Fields of the config are set with `-s`, e.g. `-s {field}=…`." in (
        " ".join(result.stderr.split())
    )


def test_dry_run_and_resume_exclude_each_other(run):
    result = run("finetune", "text_classification/my_data", "--dry-run", "--resume")
    assert result.exit_code == 2
    assert "`--dry-run` and `--resume` exclude each other." in result.stderr


# A group with commands that fail in every way ---------------------------------------------------------------


@pytest.fixture
def group(tmp_path, monkeypatch):
    """A command line like ours, whose one command runs the code that it is given."""
    package = tmp_path / "failing"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "do.py").write_text(
        textwrap.dedent(
            """
            import click
            from kerasllm.cli.commands import Command

            @click.command(cls=Command)
            @click.argument("code")
            def command(code):
                exec(code)
            """
        )
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield LazyGroup(name="kerasllm", lazy={"do": "Fail."}, package="failing")
    for name in [name for name in sys.modules if name.partition(".")[0] == "failing"]:
        del sys.modules[name]


def test_what_a_terminal_would_obey_is_escaped_in_errors(group):
    code = (
        "from kerasllm.errors import DataError; raise DataError('label \\x1b[31m\\x9b1m\\u202e in\\nline 3')"
    )
    result = CliRunner().invoke(group, ["do", code])
    assert result.exit_code == 1
    assert result.stderr == "Error: label \\u001b[31m\\u009b1m\\u202e in\nline 3\n"


def test_other_exceptions_keep_their_traceback(group):
    result = CliRunner().invoke(group, ["do", "raise TypeError('a bug')"])
    assert isinstance(result.exception, TypeError)


def test_an_error_of_ours_with_debug_keeps_its_traceback(group):
    assert isinstance(CliRunner().invoke(group, ["do", RAISE + "('x')", "--debug"]).exception, DataError)


def test_ctrl_c_says_one_sentence_and_exits_with_130(group):
    result = CliRunner().invoke(group, ["do", "raise KeyboardInterrupt"])
    assert (result.exit_code, result.stderr) == (130, "Interrupted.\n")


def test_ctrl_c_says_how_to_go_on_where_the_library_knows(group):
    result = CliRunner().invoke(group, ["do", "raise KeyboardInterrupt('Go on with --resume.')"])
    assert (result.exit_code, result.stderr) == (130, "Go on with --resume.\n")


def test_messages_of_the_library_go_to_stderr_and_only_while_a_command_runs(group):
    code = (
        "log = __import__('logging').getLogger('kerasllm.data'); log.info('reads'); log.warning('odd\\x07')"
    )
    result = CliRunner().invoke(group, ["do", code])
    assert result.stdout == ""
    assert result.stderr == "reads\nWarning: odd\\u0007\n"
    assert not any(
        isinstance(handler, commands._Echo) for handler in commands.logging.getLogger("kerasllm").handlers
    )


def test_the_exit_code_of_a_command_is_kept(group):
    assert CliRunner().invoke(group, ["do", "click.get_current_context().exit(7)"]).exit_code == 7
    assert CliRunner().invoke(group, ["do", "pass"]).exit_code == 0


def test_commands_can_be_used_from_python_without_exit(group):
    with pytest.raises(click.ClickException, match="x"):
        group.main(["do", RAISE + "('x')"], standalone_mode=False)
    assert isinstance(Command("a"), click.Command)


# Real processes ---------------------------------------------------------------------------------------------


def test_the_version_is_the_installed_one():
    from importlib.metadata import version

    done = subprocess.run([*KERASLLM, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"kerasllm {version('kerasllm')}\n"


def test_a_closed_pipe_is_quiet():
    script = f"{' '.join(KERASLLM)} configs show | true; exit ${{PIPESTATUS[0]}}"
    for _ in range(3):
        done = subprocess.run(["bash", "-c", script], capture_output=True, text=True)
        assert done.stderr == ""
        assert done.returncode in (0, 141)  # 0 where all was written before the reader went


def test_writing_to_a_reader_that_is_gone_exits_with_141():
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([*KERASLLM, "configs", "show"], stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


def test_ctrl_c_while_reading_texts(tmp_path):
    code = (
        "import kerasllm.cli.predict as predict, sys\n"
        "def slow(*_):\n"
        "    print('reading', file=sys.stderr, flush=True)\n"
        "    sys.stdin.read()\n"
        "    yield {}\n"
        "predict._answers = slow\n"
        "from kerasllm.cli.main import main\n"
        "sys.argv = ['kerasllm', 'predict', 'model', '-']\n"
        "main()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr.readline() == "reading\n"
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=30)
    assert (process.returncode, stdout, stderr.strip()) == (130, "", "Interrupted.")


def test_a_table_on_a_terminal():
    leader, follower = pty.openpty()
    process = subprocess.Popen([*KERASLLM, "configs", "list"], stdout=follower, stdin=follower)
    os.close(follower)
    output = b""
    while True:
        try:
            chunk = os.read(leader, 1 << 16)
        except OSError:  # the other end is closed
            break
        if not chunk:
            break
        output += chunk
    os.close(leader)
    assert process.wait(timeout=30) == 0
    assert b"sentiment_minilm" in output
    assert b"\t" not in output
