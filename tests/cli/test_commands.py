"""From a config to an answer of a server, by commands alone, on a small model."""

import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
import urllib.request

import pytest

TEXT = "A joy from start to end."


def lines_of(result):
    assert result.exit_code == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_the_last_screen_says_figures_places_and_next_commands(trained):
    screen = trained.result.stdout
    assert re.search(
        r"^Test accuracy +\d\.\d{3}  \(95% interval \d\.\d{3} to \d\.\d{3}, 40 rows\)$", screen, re.M
    )
    assert re.search(rf"^Run +{re.escape(str(trained.run))}$", screen, re.M)
    assert re.search(rf"^Export +{re.escape(str(trained.export))}$", screen, re.M)
    assert f'  kerasllm predict {trained.run} "{TEXT}"\n' in screen
    assert f"  kerasllm serve {trained.export.parent}\n" in screen
    assert "  curl -d '{" in screen
    assert "http://127.0.0.1:8501/v1/models/reviews:predict" in screen


def test_predict_answers_a_text(run, trained):
    [answer] = lines_of(run("predict", trained.run, TEXT))
    assert list(answer) == ["text", "label", "score", "scores"]
    assert answer["text"] == TEXT
    assert answer["score"] == max(answer["scores"].values())


def test_predict_answers_files_and_standard_input_alike(run, trained, tmp_path):
    texts = [json.loads(line)["text"] for line in trained.data.read_text().splitlines()[:5]]
    file = tmp_path / "some.csv"
    file.write_text("review\n" + "\n".join(f'"{text}"' for text in texts) + "\n")
    from_file = lines_of(run("predict", trained.run, file, "-s", "data.columns.text=review"))
    from_stdin = lines_of(run("predict", trained.run, "-", input="\n".join(texts)))
    assert [answer["text"] for answer in from_file] == texts
    assert from_file == from_stdin
    assert lines_of(run("predict", trained.run, input="\n".join(texts))) == from_file


def test_predict_writes_all_answers_or_none(run, trained, tmp_path):
    good, bad, output = tmp_path / "good.txt", tmp_path / "bad.csv", tmp_path / "answers.jsonl"
    good.write_text("one\ntwo\n")
    result = run("predict", trained.run, good, "-o", output)
    assert (result.exit_code, result.stdout) == (0, "")
    assert f"Answers are in {output}" in result.stderr
    written = output.read_text()
    assert [json.loads(line)["text"] for line in written.splitlines()] == ["one", "two"]
    bad.write_text("text\n" + "fine\n" * 300 + '"never closed\n')
    assert run("predict", trained.run, bad, "-o", output).exit_code == 1
    assert output.read_text() == written
    assert sorted(path.name for path in tmp_path.iterdir()) == ["answers.jsonl", "bad.csv", "good.txt"]


def test_predict_escapes_what_a_terminal_would_obey(run, trained):
    result = run("predict", trained.run, "red \x1b[31m \x9b1m \u202e é")
    assert result.stdout.startswith('{"text": "red \\u001b[31m \\u009b1m \\u202e é"')
    assert lines_of(result)[0]["text"] == "red \x1b[31m \x9b1m \u202e é"


def test_evaluate_prints_figures_or_json(run, trained):
    shown = run("evaluate", trained.run, trained.data)
    assert shown.exit_code == 0, shown.stderr
    assert "accuracy" in shown.stdout.lower()
    figures = json.loads(run("evaluate", trained.run, trained.data, "--json").stdout)
    assert 0 <= figures["accuracy"] <= 1


def test_export_numbers_versions_and_never_overwrites(run, trained, tmp_path):
    result = run("export", trained.run, tmp_path / "again", "--version", 7)
    assert result.exit_code == 0, result.stderr
    assert str(tmp_path / "again" / "7") in result.stdout
    assert f"kerasllm serve {tmp_path / 'again'}" in result.stdout
    result = run("export", trained.run, tmp_path / "again", "--version", 7)
    assert result.exit_code == 1
    assert "exists" in result.stderr


def test_verify_finds_damage(run, trained, tmp_path):
    assert run("verify", trained.export).exit_code == 0
    assert run("verify", trained.export.parent).exit_code == 0
    copy = tmp_path / "copy" / "1"
    shutil.copytree(trained.export, copy)
    damaged = copy / "saved_model.pb"
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    result = run("verify", copy)
    assert result.exit_code == 1
    assert "saved_model.pb" in result.stderr


@pytest.fixture(scope="module")
def server(trained):
    """`kerasllm serve` in a process of its own, on free ports: `(process, REST port, gRPC port)`."""
    command = [sys.executable, "-m", "kerasllm", "serve", str(trained.export.parent)]
    command += ["--port", "0", "--rest_api_port", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    seen = []
    for line in process.stderr:
        seen.append(line)
        if ports := re.search(r"REST port (\d+), gRPC port (\d+)", line):
            break
    assert ports, seen
    yield process, *ports.groups()
    process.send_signal(signal.SIGINT)
    stdout, _ = process.communicate(timeout=60)
    assert (process.returncode, stdout) == (0, "")


def test_query_asks_a_server_over_rest_and_grpc(run, trained, server):
    _, rest, grpc = server
    [expected] = lines_of(run("predict", trained.run, TEXT))
    for url in (f"http://127.0.0.1:{rest}", f"grpc://127.0.0.1:{grpc}"):
        [answer] = lines_of(run("query", url, "reviews", TEXT, "--signature", "serving_default"))
        assert answer["label"] == expected["label"]
        assert answer["score"] == pytest.approx(expected["score"], abs=1e-4)
        result = run("query", url, "review", TEXT)
        assert result.exit_code == 1
        assert "review" in result.stderr


def test_the_curl_of_the_last_screen_is_answered(trained, server):
    _, rest, _ = server
    [line] = [line for line in trained.result.stdout.splitlines() if line.startswith("  curl ")]
    _, _, body, url = shlex.split(line)
    request = urllib.request.Request(url.replace(":8501", f":{rest}"), body.encode())
    with urllib.request.urlopen(request) as response:
        answer = json.load(response)
    assert len(answer["predictions"]) == 1


def test_verify_asks_a_server_the_same_questions(run, trained, server):
    _, rest, _ = server
    result = run("verify", trained.export, "--url", f"http://127.0.0.1:{rest}")
    assert result.exit_code == 0, result.stderr
    result = run("verify", trained.export, "--url", f"http://127.0.0.1:{rest}", "--model_name", "other")
    assert result.exit_code == 1
    assert "other" in result.stderr
    assert run("verify", trained.export, "--model_name", "other").exit_code == 2


def test_serve_refuses_a_port_that_is_taken(run, trained, server):
    _, rest, _ = server
    result = run("serve", trained.export.parent, "--port", "0", "--rest_api_port", rest)
    assert result.exit_code == 1
    assert rest in result.stderr


def test_serve_takes_one_path(run, trained):
    result = run("serve", trained.export, "--model_base_path", trained.export)
    assert result.exit_code == 2
    assert "PATH and `--model_base_path` are the same; give one." in result.stderr
    assert run("serve").exit_code == 1
    missing = run("serve", trained.folder / "missing")
    assert missing.exit_code == 1
    assert "There is no model directory" in missing.stderr


def test_dry_run_prints_the_plan_and_writes_nothing(run, trained, tmp_path):
    before = sorted(trained.folder.rglob("*"))
    result = run("finetune", trained.config, "--dry-run", "-s", f"output_dir={tmp_path / 'none'}")
    assert result.exit_code == 0, result.stderr
    for word in ("rows", "labels", "tokens", "steps", "parameters", "memory"):
        assert word in result.stdout
    assert sorted(trained.folder.rglob("*")) == before
    assert not (tmp_path / "none").exists()


def test_a_name_that_looks_like_a_file_must_be_one(run, trained):
    result = run("predict", trained.run, "missing.csv.gz")
    assert result.exit_code == 1
    assert "There is no file `missing.csv.gz`. If it is a text, give it on standard input." in result.stderr


def test_only_columns_can_be_set_where_only_columns_matter(run, trained):
    result = run("evaluate", trained.run, trained.data, "-s", "training.epochs=3")
    assert result.exit_code == 1
    assert "`-s training.epochs=3` has no effect here: only columns can be mapped" in result.stderr
