"""Killed, crowded and full-disk exports: rows E1, E2, E3, E5 and E8 of the reliability matrix."""

import contextlib
import os
import random
import shutil
import signal
import threading
import time

import pytest

from kerasllm.errors import ResourceError, ServingError
from kerasllm.resources.manifest import MANIFEST, verify_manifest


class Watcher(threading.Thread):
    """Looks at a directory as a polling server does, and at every version as soon as it is there."""

    def __init__(self, base):
        super().__init__(daemon=True)
        self.base = base
        self.seen: list[int] = []
        self.faults: list[str] = []
        self._stop_wanted = threading.Event()

    def run(self):
        while not self._stop_wanted.wait(0.05):
            self.look()

    def look(self):
        names = os.listdir(self.base) if self.base.is_dir() else []
        for version in sorted(int(name) for name in names if name.isdigit()):
            if version in self.seen:
                continue
            self.seen.append(version)
            try:
                verify_manifest(self.base / str(version))
            except ResourceError as error:
                self.faults.append(str(error))

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self._stop_wanted.set()
        self.join()
        self.look()


def kill_exports(fork_server, base, num_kills, whole):
    """Kills exports in the middle; says how many ended before they were killed.

    Args:
        fork_server: Starts exports.
        base: Where they go.
        num_kills: How many to catch in the middle.
        whole: Seconds that an export took; less where the machine turns out to be faster now.
    """
    rng = random.Random(0)
    killed = finished = 0
    while killed < num_kills:
        pid = fork_server(base)
        time.sleep(whole * rng.uniform(0.3, 1.0))  # most of the writing is in the last two thirds
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        if fork_server.wait(pid)["status"] == 0:
            finished += 1
            whole *= 0.8
        else:
            killed += 1
    return finished


def measured(fork_server, base):
    start = time.monotonic()
    ended = fork_server.wait(fork_server(base))
    assert ended["status"] == 0, ended
    return time.monotonic() - start


@pytest.mark.parametrize(
    "num_kills", [3, pytest.param(100, marks=[pytest.mark.slow, pytest.mark.timeout(3000)])]
)
def test_a_killed_export_leaves_no_version(fork_server, tmp_path, num_kills):
    base = tmp_path / "reviews"
    whole = measured(fork_server, base)
    with Watcher(base) as watcher:
        finished = kill_exports(fork_server, base, num_kills, whole)
        measured(fork_server, base)
    assert watcher.faults == []
    assert watcher.seen == list(range(1, finished + 3))
    assert sorted(path.name for path in base.iterdir()) == sorted(map(str, watcher.seen))


@pytest.mark.parametrize(
    ("num_processes", "num_exports"),
    [(3, 1), pytest.param(8, 20, marks=[pytest.mark.slow, pytest.mark.timeout(3000)])],
)
def test_exports_at_once_get_numbers_of_their_own(fork_server, tmp_path, num_processes, num_exports):
    base = tmp_path / "reviews"
    with Watcher(base) as watcher:
        for _ in range(num_exports):
            running = [fork_server(base) for _ in range(num_processes)]
            assert [fork_server.wait(pid)["status"] for pid in running] == [0] * num_processes
    assert watcher.faults == []
    assert watcher.seen == list(range(1, num_processes * num_exports + 1)), (
        "in the order in which they appeared"
    )


def test_no_request_fails_while_a_version_is_exported(classifier, exported, tmp_path):
    """E3: the server looks twenty times a second, and takes the version when it is whole."""
    from kerasllm.serving.rest_client import Client
    from kerasllm.serving.server.embedded import EmbeddedServer
    from kerasllm.serving.server.model_config import config_for_path
    from kerasllm.serving.server.options import ServerOptions

    base = shutil.copytree(exported.parent, tmp_path / "reviews")
    options = ServerOptions(port=0, rest_api_port=0, poll_interval=0.05)
    seen: set[tuple[int, str]] = set()
    answers, errors, done = [], [], threading.Event()

    def ask(client):
        while not done.is_set() and not errors:
            try:
                answers.append(client.predict(["a text"]))
                seen.update((entry["version"], entry["state"]) for entry in client.status())
            except ServingError as error:
                errors.append(str(error))

    with (
        EmbeddedServer([config_for_path(base)], options) as server,
        Client(f"http://127.0.0.1:{server.rest_port}", "reviews", max_retries=0) as client,
    ):
        asking = threading.Thread(target=ask, args=[client])
        asking.start()
        classifier.export(base)
        end = time.monotonic() + 60
        while (1, "END") not in seen and asking.is_alive() and time.monotonic() < end:
            time.sleep(0.02)
        done.set()
        asking.join()
    assert errors == []
    assert {(2, "AVAILABLE"), (1, "END")} <= seen
    assert (2, "END") not in seen, "a version that was not whole"
    assert len(answers) > 20


@pytest.fixture(scope="module")
def sizes(fork_server, tmp_path_factory):
    """Bytes of each file of an export of the fork server."""
    base = tmp_path_factory.mktemp("sizes")
    measured(fork_server, base)
    return sorted(path.stat().st_size for path in base.rglob("*") if path.is_file())


@pytest.mark.parametrize("share", [0.02, 0.5, 0.97])
def test_a_full_disk_leaves_nothing(fork_server, sizes, tmp_path, share):
    base = tmp_path / "reviews"
    ended = fork_server.wait(fork_server(base, file_size_limit=int(max(sizes) * share)))
    assert ended["status"] == 3, ended
    assert ended["error"].startswith("ResourceError: The disk is full: `")
    assert "Nothing half-written was left" in ended["error"]
    assert not base.exists()


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_disk_that_fills_up_anywhere_leaves_a_whole_export_or_none(fork_server, sizes, tmp_path):
    limits = {size + change for size in sizes for change in (-1, 0, -size // 2)} | {1, 2 * max(sizes)}
    outcomes = set()
    for limit in sorted(limits):
        base = tmp_path / str(limit)
        ended = fork_server.wait(fork_server(base, file_size_limit=limit))
        outcomes.add(ended["status"])
        if ended["status"] == 0:
            verify_manifest(base / "1")
        else:
            assert ended["status"] == 3, ended
            assert ended["error"].startswith("ResourceError: The disk is full"), ended
            assert not base.exists()
    assert outcomes == {0, 3}


def test_an_interrupted_export_leaves_nothing(classifier, tmp_path, monkeypatch):
    from kerasllm.export import publishing, saved_model

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    for step in ("_write_graph", "check_servable", "check_batchable", "write_warmup", "write_manifest"):
        with monkeypatch.context() as patch:
            patch.setattr(saved_model if step == "check_batchable" else publishing, step, interrupt)
            with pytest.raises(KeyboardInterrupt):
                classifier.export(tmp_path / "models" / "reviews")
        assert list((tmp_path / "models").iterdir()) == []


def test_any_flipped_bit_is_noticed(exported, tmp_path):
    """E5: assets, graph, variables, metadata and the manifest itself."""
    copy = shutil.copytree(exported, tmp_path / "copy")
    verify_manifest(copy)
    rng = random.Random(0)
    files = sorted(path for path in copy.rglob("*") if path.is_file() and path.name != MANIFEST)
    for path in files:
        original = path.read_bytes()
        for _ in range(300 // len(files) + 1):
            place, bit = rng.randrange(len(original)), rng.randrange(8)
            damaged = bytearray(original)
            damaged[place] ^= 1 << bit
            path.write_bytes(damaged)
            with pytest.raises(ResourceError, match=f"{path.name}: sha256 differs"):
                verify_manifest(copy)
        path.write_bytes(original)
    verify_manifest(copy)
