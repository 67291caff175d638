"""Versions that come, go, and are broken, while requests are made."""

import json
import shutil
import threading
import time
import urllib.error
import urllib.request

import pytest

from kerasllm.errors import ServingError
from kerasllm.resources.manifest import write_manifest

FAST = {"poll_interval": 0.05, "load_retry_interval": 0.01}


def ask(server, text="a text that is long", path="toy:predict"):
    request = urllib.request.Request(
        f"http://127.0.0.1:{server.rest_port}/v1/models/{path}",
        json.dumps({"inputs": [text]}).encode() if ":" in path else None,
    )
    with urllib.request.urlopen(request, timeout=30) as response:
        return json.loads(response.read())


def score(server):
    return ask(server)["outputs"]["scores"][0][1]


def states(server):
    entries = ask(server, path="toy")["model_version_status"]
    return {int(entry["version"]): (entry["state"], entry["status"]["error_code"]) for entry in entries}


def wait_until(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def publish(toy, version, source):
    """Copies a version into the served directory as an export does: in one step."""
    shutil.copytree(source, toy / f".tmp-{version}")
    (toy / f".tmp-{version}").rename(toy / str(version))


def test_a_new_version_takes_over_and_the_old_one_ends(toy, toy_versions, serve_directory):
    with serve_directory(toy, **FAST) as server:
        old = score(server)
        publish(toy, 2, toy_versions / "2")
        wait_until(lambda: states(server).get(1) == ("END", "OK"))
        assert states(server)[2] == ("AVAILABLE", "OK")
        assert score(server) == pytest.approx(old + 0.25, abs=1e-6)


@pytest.mark.parametrize("num_swaps", [3, pytest.param(50, marks=pytest.mark.slow)])
def test_no_request_fails_while_versions_are_swapped(num_swaps, toy, toy_versions, serve_directory):
    errors, answers, stop = [], [0] * 8, threading.Event()

    def hammer(worker):
        while not stop.is_set():
            try:
                value = score(server)
            except Exception as error:
                errors.append(repr(error))
                return
            if not any(value == pytest.approx(wanted, abs=1e-6) for wanted in expected):
                errors.append(f"an answer of no version: {value}")
            answers[worker] += 1

    with serve_directory(toy, **FAST) as server:
        expected = [score(server), score(server) + 0.25]
        threads = [threading.Thread(target=hammer, args=(worker,)) for worker in range(8)]
        for thread in threads:
            thread.start()
        for version in range(2, num_swaps + 2):
            publish(toy, version, toy_versions / str(2 - version % 2))
            wait_until(lambda number=version: states(server).get(number) == ("AVAILABLE", "OK"))
            if version > 3:
                shutil.rmtree(toy / str(version - 2))
        stop.set()
        for thread in threads:
            thread.join()
    assert errors == []
    assert min(answers) > 0
    print(f"{sum(answers)} requests during {num_swaps} swaps, 0 errors")


def break_manifest(version):
    (version / "saved_model.pb").write_bytes((version / "saved_model.pb").read_bytes() + b"\0")
    return "DATA_LOSS"


def break_variables(version):
    (version / "MANIFEST.json").unlink()
    shard = version / "variables" / "variables.data-00000-of-00001"
    shard.write_bytes(b"")
    return "OUT_OF_RANGE"


def break_graph(version):
    (version / "saved_model.pb").write_bytes(b"\xff" * 100)
    write_manifest(version)
    return "DATA_LOSS"


def break_warmup(version):
    from kerasllm.export.warmup import write_warmup

    write_warmup(version, [{"no_such_input": ["x"]}])
    write_manifest(version)
    return "INVALID_ARGUMENT"


def remove_everything(version):
    shutil.rmtree(version)
    version.mkdir()
    return "NOT_FOUND"


@pytest.mark.parametrize(
    "damage", [break_manifest, break_graph, break_variables, break_warmup, remove_everything]
)
def test_a_broken_version_is_reported_and_the_old_one_goes_on(damage, toy, toy_versions, serve_directory):
    shutil.copytree(toy_versions / "2", toy / "new")
    code = damage(toy / "new")
    with serve_directory(toy, **FAST) as server:
        (toy / "new").rename(toy / "2")
        wait_until(lambda: states(server).get(2, ("", ""))[0] == "END")
        assert states(server) == {2: ("END", code), 1: ("AVAILABLE", "OK")}
        ask(server)
        shutil.rmtree(toy / "2")
        publish(toy, 2, toy_versions / "2")  # mended
        wait_until(lambda: states(server) == {2: ("AVAILABLE", "OK"), 1: ("END", "OK")})


def test_a_version_that_is_copied_file_by_file_is_served_when_it_is_whole(toy, toy_versions, serve_directory):
    with serve_directory(toy, **FAST) as server:
        source = toy_versions / "2"
        (toy / "2").mkdir()
        for file in sorted(source.rglob("*"), reverse=True):  # variables first, the graph, then the manifest
            if file.is_file():
                target = toy / "2" / file.relative_to(source)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file, target)
                ask(server)
                time.sleep(0.1)
        wait_until(lambda: states(server).get(2) == ("AVAILABLE", "OK"))


def test_a_server_starts_with_the_newest_version_that_works(toy, toy_versions, serve_directory):
    shutil.copytree(toy_versions / "2", toy / "2")
    break_manifest(toy / "2")
    with serve_directory(toy, **FAST) as server:
        assert states(server) == {2: ("END", "DATA_LOSS"), 1: ("AVAILABLE", "OK")}


def test_a_damaged_model_is_refused_with_the_file_that_is_damaged(toy, serve_directory):
    break_manifest(toy / "1")
    with pytest.raises(ServingError, match=r"Version 1 of model `toy` .* cannot be served: .*model\.pb"):
        serve_directory(toy).start()


def test_a_directory_without_versions_is_refused(tmp_path, serve_directory):
    (tmp_path / "empty" / "final").mkdir(parents=True)
    with pytest.raises(ServingError, match=r"`empty` has no version to serve .* a directory there"):
        serve_directory(tmp_path / "empty").start()


def test_the_folder_above_a_model_is_refused_with_the_models_in_it(toy, serve_directory):
    with pytest.raises(ServingError, match=rf"There are versions in `{toy}`.*: name that folder"):
        serve_directory(toy.parent).start()


def test_what_is_no_version_is_ignored(toy, serve_directory):
    (toy / "2").write_text("a file")
    for name in ("-3", "v4", "99999999999999999999", "\u0665", ".tmp-6"):
        (toy / name).mkdir()
    with serve_directory(toy, **FAST) as server:
        time.sleep(0.2)
        assert states(server) == {1: ("AVAILABLE", "OK")}


def test_the_last_version_outlives_its_directory(toy, serve_directory):
    with serve_directory(toy, **FAST) as server:
        shutil.rmtree(toy / "1")
        time.sleep(0.3)
        ask(server)
        shutil.rmtree(toy)
        time.sleep(0.3)
        ask(server)


def test_as_the_stock_server_the_last_version_can_go_with_its_directory(toy, serve_directory):
    with serve_directory(toy, **FAST, keep_last_version=False) as server:
        shutil.rmtree(toy / "1")
        wait_until(lambda: states(server)[1] == ("END", "OK"))
        with pytest.raises(urllib.error.HTTPError) as error:
            ask(server)
        with error.value:
            assert error.value.code == 404


def test_removing_the_newest_version_brings_back_the_one_before(toy, toy_versions, serve_directory):
    shutil.copytree(toy_versions / "2", toy / "2")
    with serve_directory(toy, **FAST) as server:
        assert states(server) == {2: ("AVAILABLE", "OK")}
        shutil.rmtree(toy / "2")
        wait_until(lambda: states(server) == {2: ("END", "OK"), 1: ("AVAILABLE", "OK")})


def test_the_warm_up_requests_are_run(toy, serve_directory, monkeypatch):
    from kerasllm.serving.server import loading

    counts = []
    run_warmup = loading.run_warmup
    monkeypatch.setattr(loading, "run_warmup", lambda servable: counts.append(run_warmup(servable)))
    with serve_directory(toy):
        assert counts == [2]
