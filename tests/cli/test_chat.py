"""`kerasllm chat` in a pipe: a line in, an answer out, and commands."""

import json

import pytest
from click.testing import CliRunner

import kerasllm
from kerasllm.cli.main import command
from kerasllm.cli.terminal import printable
from kerasllm.testing import tiny_bert, tiny_llama
from kerasllm.testing.chat_templates import ALTERNATING, CHATML


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(tiny_llama(tmp_path_factory.mktemp("chat"), chat_template=CHATML))


def run(*arguments, lines=""):
    return CliRunner().invoke(command, ["chat", *arguments, "-s", "max_new_tokens=6"], input=lines)


def test_lines_are_turns_of_one_conversation_until_it_is_reset(model):
    chat = kerasllm.load(model)
    system = {"role": "system", "content": "Be brief."}
    first = [system, {"role": "user", "content": "Hello"}]
    answer = chat.reply(first, max_new_tokens=6).text
    second = [*first, {"role": "assistant", "content": answer}, {"role": "user", "content": "And now?"}]
    follow = chat.reply(second, max_new_tokens=6).text
    result = run(model, lines="/system Be brief.\nHello\nAnd now?\n/reset\nHello\n/exit\nnever read\n")
    assert result.exit_code == 0
    assert result.stdout == "".join(f"{printable(text)}\n" for text in (answer, follow, answer))


def test_the_system_option_and_unknown_commands(model):
    result = run(model, "--system", "Be brief.", lines="/what\nHello\n")
    assert "There is no /what. /reset forgets" in result.stderr
    chat = kerasllm.load(model)
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]
    assert result.stdout == printable(chat.reply(messages, max_new_tokens=6).text) + "\n"


def test_a_turn_that_the_template_refuses_does_not_end_the_conversation(tmp_path):
    model = str(tiny_llama(tmp_path, chat_template=ALTERNATING))
    result = run(model, "--system", "Be brief.", lines="Hello\n/system\nHello\n")
    assert result.exit_code == 0
    assert "No system role" in result.stderr
    assert result.stdout == printable(kerasllm.load(model).reply("Hello", max_new_tokens=6).text) + "\n"


def test_bad_settings_and_models_without_a_template_are_errors(model, tmp_path):
    result = run(model, "-s", "temperature=-1")
    assert result.exit_code == 1
    assert "`temperature` is -1; expected a number from 0 up" in result.stderr
    assert "write it as `-s temperature=0.7`" in run(model, "-s", "temperature").stderr
    result = run(str(tiny_llama(tmp_path / "plain")))
    assert "has no chat template, so it cannot hold a conversation" in result.stderr
    assert "has no chat template" in run(str(tiny_bert(tmp_path / "bert"))).stderr


def test_predict_answers_prompts_and_other_commands_say_what_is_amiss(model, tmp_path):
    result = CliRunner().invoke(command, ["predict", model, "Hello"])
    (row,) = [json.loads(line) for line in result.stdout.splitlines()]
    assert row == {"prompt": "Hello", **kerasllm.load(model).reply("Hello").to_dict()}
    (tmp_path / "lines.txt").write_text("Hello\nAnd now?\n")
    result = CliRunner().invoke(command, ["predict", model, str(tmp_path / "lines.txt")])
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [each["prompt"] for each in rows] == ["Hello", "And now?"]
    assert rows[0] == row
    result = CliRunner().invoke(command, ["evaluate", model, str(tmp_path / "lines.txt")])
    assert result.exit_code == 1
    assert "continues texts, and this is for models that classify them" in result.stderr
