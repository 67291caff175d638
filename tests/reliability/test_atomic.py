"""Whatever happens while something is written, a reader sees the old one, the new one, or none."""

import errno
import multiprocessing
import os
import random
import resource
import signal
import time

import pytest

from kerasllm.errors import ResourceError
from kerasllm.resources.atomic import (
    AlreadyExistsError,
    atomic_directory,
    atomic_remove,
    atomic_write,
    next_version,
    remove_leftovers,
)
from kerasllm.resources.manifest import verify_manifest, write_manifest

fork = multiprocessing.get_context("fork")


def names(directory):
    return sorted(path.name for path in directory.iterdir())


def test_a_directory_appears_whole(tmp_path):
    with atomic_directory(tmp_path / "models" / "1") as directory:
        (directory / "assets").mkdir()
        (directory / "assets" / "vocab.txt").write_text("the")
        assert directory.parent == tmp_path / "models"
        assert directory.name.startswith(f".tmp-1-{os.getpid()}-")
        assert not (tmp_path / "models" / "1").exists()
    assert (tmp_path / "models" / "1" / "assets" / "vocab.txt").read_text() == "the"
    assert names(tmp_path / "models") == ["1"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, RuntimeError, GeneratorExit])
def test_an_exception_leaves_nothing(tmp_path, error):
    def fail(directory):
        (directory / "half").write_text("written")
        raise error

    with pytest.raises(error), atomic_directory(tmp_path / "1") as directory:
        fail(directory)
    assert names(tmp_path) == []


@pytest.mark.parametrize("kind", ["empty directory", "full directory", "file", "dangling link"])
def test_what_exists_is_never_overwritten(tmp_path, kind):
    target = tmp_path / "1"
    if kind == "file":
        target.write_text("mine")
    elif kind == "dangling link":
        target.symlink_to(tmp_path / "nowhere")
    else:
        target.mkdir()
        if kind == "full directory":
            (target / "mine").write_text("mine")
    message = r"`.*/1` exists already and is never overwritten. Choose another name, or move it away first."
    with pytest.raises(AlreadyExistsError, match=message), atomic_directory(target):
        pytest.fail("the block must not run")
    assert names(tmp_path) == ["1"]


@pytest.mark.parametrize("kind", ["full directory", "file"])
def test_one_who_was_faster_wins(tmp_path, kind):
    def lose(directory):
        (directory / "late").write_text("late")
        if kind == "file":
            (tmp_path / "1").write_text("first")
        else:
            (tmp_path / "1").mkdir()
            (tmp_path / "1" / "first").write_text("first")

    message = "exists already and is never overwritten"
    with pytest.raises(FileExistsError, match=message), atomic_directory(tmp_path / "1") as directory:
        lose(directory)
    assert names(tmp_path) == ["1"]


def test_a_relative_name_survives_a_change_of_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    with atomic_directory("1") as directory:
        (directory / "a").write_text("a")
        os.chdir(tmp_path / "elsewhere")
    assert names(tmp_path) == ["1", "elsewhere"]


def test_a_parent_that_is_a_file_is_one_sentence(tmp_path):
    (tmp_path / "models").write_text("")
    message = (
        r"`.*/models/.*1` cannot be written: a parent is not a directory. Choose a directory that you may"
    )
    for target in (tmp_path / "models" / "1", tmp_path / "models" / "reviews" / "1"):
        with pytest.raises(ResourceError, match=message), atomic_directory(target):
            pytest.fail("the block must not run")
        with pytest.raises(ResourceError, match=message):
            atomic_write(target, "x")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_without_write_permission_is_one_sentence(tmp_path):
    (tmp_path / "models").mkdir(mode=0o500)
    message = r"`.*/models/1` cannot be written: Permission denied. Choose a directory that you may write to."
    with pytest.raises(ResourceError, match=message):
        atomic_write(tmp_path / "models" / "1", "x")


def test_a_read_only_file_system_is_one_sentence():
    message = r"`/proc/.*/1` cannot be written: "
    with pytest.raises(ResourceError, match=message), atomic_directory("/proc/kerasllm/1"):
        pytest.fail("the block must not run")


def test_a_file_is_replaced_and_text_keeps_its_line_ends(tmp_path):
    atomic_write(tmp_path / "runs" / "metrics.json", "old")
    atomic_write(tmp_path / "runs" / "metrics.json", "new\r\n\u00e9")
    assert (tmp_path / "runs" / "metrics.json").read_bytes() == b"new\r\n\xc3\xa9"
    atomic_write(tmp_path / "runs" / "metrics.json", b"\x00")
    assert (tmp_path / "runs" / "metrics.json").read_bytes() == b"\x00"
    assert names(tmp_path / "runs") == ["metrics.json"]


def test_a_directory_is_removed_at_once_or_not_at_all(tmp_path, monkeypatch):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").write_text("x")

    def killed(path):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("kerasllm.resources.atomic.shutil.rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            atomic_remove(tmp_path / "model")
    assert [name.startswith(".tmp-model-") for name in names(tmp_path)] == [True]
    assert len(remove_leftovers(tmp_path)) == 1
    with pytest.raises(FileNotFoundError):
        atomic_remove(tmp_path / "model")


@pytest.mark.parametrize("library", [False, True])
def test_an_error_of_a_library_about_a_full_disk_is_recognised(tmp_path, library):
    error = (
        RuntimeError("I/O error: No space left on device (os error 28)")
        if library
        else OSError(errno.ENOSPC, "x")
    )
    message = (
        r"The disk is full: `.*/1` could not be written \([\d,.]+ MiB free\). Nothing half-written was left"
    )
    with pytest.raises(ResourceError, match=message), atomic_directory(tmp_path / "1"):
        raise error
    assert names(tmp_path) == []


def _write_under_a_limit(target, limit, queue):
    """In a child: every file over `limit` bytes fails as on a full disk."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        with atomic_directory(target) as directory:
            (directory / "weights").write_bytes(bytes(4000))
        atomic_write(target / "more", bytes(4000))
        queue.put("written")
    except ResourceError as error:
        queue.put(str(error))


def test_a_full_disk_leaves_the_old_and_nothing_half_written(tmp_path):
    """Row T7, E8: 40 limits below and above the size of the file."""
    atomic_write(tmp_path / "old", "kept")
    for limit in range(0, 8000, 200):
        queue = fork.SimpleQueue()
        process = fork.Process(target=_write_under_a_limit, args=(tmp_path / "new", limit, queue))
        process.start()
        answer = queue.get()
        process.join()
        if limit < 4000:
            assert "The disk is full" in answer, limit
            assert "Nothing half-written was left." in answer
            assert names(tmp_path) == ["old"], limit
        else:
            assert answer == "written", limit
            assert names(tmp_path) == ["new", "old"]
            for file in (tmp_path / "new").iterdir():
                file.unlink()
            (tmp_path / "new").rmdir()
    assert (tmp_path / "old").read_text() == "kept"


def _publish(parent):
    version = next_version(parent)
    with atomic_directory(parent / str(version)) as directory:
        for name in ("a", "b", "c"):
            (directory / name).write_bytes(bytes(2000 + version))
        write_manifest(directory)
    atomic_write(parent / "latest.json", f'{{"version": {version:>8}}}')


def _publish_for_ever(parent, begun):
    begun.set()
    while True:
        _publish(parent)


def test_killed_at_any_moment_every_published_version_is_whole(tmp_path):
    """Row E1, T3: 100 SIGKILLs at random moments of a loop that does nothing but publish."""
    (tmp_path / "measured").mkdir()
    start = time.perf_counter()
    for _ in range(10):
        _publish(tmp_path / "measured")
    duration = (time.perf_counter() - start) / 10
    parent = tmp_path / "models"
    parent.mkdir()
    rng = random.Random(0)
    checked, leftovers = set(), 0
    for _ in range(100):
        begun = fork.Event()
        process = fork.Process(target=_publish_for_ever, args=(parent, begun))
        process.start()
        begun.wait()
        time.sleep(rng.uniform(0, 4 * duration))
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        removed = remove_leftovers(parent)
        leftovers += len(removed)
        assert not any(path.exists() for path in removed)
        published = {path.name for path in parent.iterdir() if path.is_dir()}
        assert checked <= published
        for name in published - checked:
            verify_manifest(parent / name)
        checked = published
        if (parent / "latest.json").exists():
            assert len((parent / "latest.json").read_text()) == len('{"version": 00000001}')
    assert sorted(map(int, checked)) == list(range(1, len(checked) + 1))
    assert len(checked) >= 20
    assert leftovers >= 20  # the kills did fall into the writing


def _publish_some(parent, count):
    made = 0
    while made < count:
        remove_leftovers(parent)
        try:
            with atomic_directory(parent / str(next_version(parent))) as directory:
                (directory / "who").write_text(str(os.getpid()))
            made += 1
        except AlreadyExistsError:
            pass


def test_many_publishers_at_once_get_different_numbers_and_no_cleaner_takes_a_living_one(tmp_path):
    """Row E2: 8 processes making 20 versions each, and cleaning up while the others write."""
    processes = [fork.Process(target=_publish_some, args=(tmp_path, 20)) for _ in range(8)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * 8
    assert sorted(map(int, names(tmp_path))) == list(range(1, 161))


def test_only_what_the_dead_left_is_removed(tmp_path):
    (tmp_path / ".tmp-1-1-00000000").mkdir()  # process 1 lives, yet does not hold it
    (tmp_path / ".tmp-1-1-00000000" / "half").write_text("half")
    (tmp_path / ".tmp-metrics.json-999999-0123abcd").write_text("half")
    (tmp_path / ".tmp-mine").mkdir()
    (tmp_path / ".tmp-link-1-00000000").symlink_to(tmp_path)
    with atomic_directory(tmp_path / "1") as directory:
        removed = remove_leftovers(tmp_path)
        assert directory.exists()
    assert [path.name for path in removed] == [".tmp-1-1-00000000", ".tmp-metrics.json-999999-0123abcd"]
    assert names(tmp_path) == [".tmp-link-1-00000000", ".tmp-mine", "1"]
    assert remove_leftovers(tmp_path / "nowhere") == []


@pytest.mark.parametrize(
    ("present", "expected"),
    [([], 1), (["1", "3"], 4), (["007"], 8), (["12.txt", "v3", "\u0663", ".tmp-9-1-00000000"], 1)],
)
def test_the_next_version_is_one_more_than_the_highest(tmp_path, present, expected):
    for name in present:
        (tmp_path / name).mkdir()
    assert next_version(tmp_path) == expected
    assert next_version(tmp_path / "nowhere") == 1
