"""The real `kagglehub` against a server of one's own; its test environment is `localhost:7777`, always."""

import base64
import hashlib
import http.server
import json
import os
import random
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from kerasllm.errors import ResourceError
from kerasllm.resources.resolve import resolve

HANDLE = "kaggle://keras/bert/keras/bert_tiny_en_uncased/3"
WEIGHTS = random.Random(0).randbytes(200_000)
FILES = {"config.json": b"{}", "model.weights.h5": WEIGHTS, "assets/tokenizer/vocabulary.txt": b"the\n"}


class Kaggle(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        state = self.server.state
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        state["requests"].append(self.path.rsplit("/", 1)[-1])
        if request["modelSlug"] != "bert":
            return self.answer(404, b'{"message": "not here"}', {"Content-Type": "application/json"})
        if self.path.endswith("ListModelInstanceVersionFiles"):
            body = {"files": [{"name": name} for name in FILES], "nextPageToken": ""}
            return self.answer(200, json.dumps(body).encode(), {"Content-Type": "application/json"})
        content = FILES[request["path"]]
        digest = base64.b64encode(hashlib.md5(content).digest()).decode()
        headers = {"Content-Type": "application/octet-stream", "x-goog-hash": f"md5={digest}"}
        if request["path"] == "model.weights.h5" and state["cuts"]:
            state["cuts"] -= 1
            return self.answer(200, content, headers, cut=state["rng"].randrange(len(content)))
        return self.answer(200, content, headers)

    def answer(self, status, body, headers, cut=None):
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[:cut])

    def log_message(self, *args):
        pass


@pytest.fixture
def kaggle(cache, tmp_path):
    try:
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 7777), Kaggle)
    except OSError as error:
        pytest.skip(f"port 7777, the only one that kagglehub's test environment knows, is taken: {error}")
    server.state = {"requests": [], "cuts": 0, "rng": random.Random(0)}
    threading.Thread(target=server.serve_forever, daemon=True).start()
    environment = {key: value for key, value in os.environ.items() if not key.startswith("KAGGLE_")}
    environment |= {"KAGGLE_API_ENVIRONMENT": "TEST", "HOME": str(tmp_path)}

    def ask(handle, arguments=""):
        code = (
            "import sys\nfrom kerasllm.errors import ResourceError\n"
            "from kerasllm.resources import store\nstore.RETRY_DELAYS = (0.01, 0.02)\n"
            "from kerasllm.resources.resolve import resolve\n"
            f"try: path = resolve({handle!r}, {arguments})\n"
            "except ResourceError as error: sys.exit('%s: %s' % (type(error).__name__, error))\n"
            "import json\nfiles = sorted(str(p.relative_to(path)) for p in path.rglob('*') if p.is_file())\n"
            "print(json.dumps({'path': str(path), 'files': files, 'origin': store.origin(path / 'x')}))\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
        )
        return json.loads(done.stdout) if done.returncode == 0 else None, done.stderr

    ask.state = server.state
    yield ask
    server.shutdown()
    server.server_close()


def test_a_preset_name_becomes_a_directory(kaggle):
    found, log = kaggle("bert_tiny_en_uncased", "what='preset'")
    assert found is not None, log
    assert found["files"] == sorted(FILES)
    assert found["origin"] == {"handle": HANDLE, "model": HANDLE.removeprefix("kaggle://")}
    assert Path(found["path"], "model.weights.h5").read_bytes() == WEIGHTS
    kaggle.state["requests"].clear()
    again, _ = kaggle(HANDLE, "offline=True")
    assert again["path"] == found["path"]
    assert kaggle.state["requests"] == []


def test_a_connection_cut_at_random_bytes(kaggle, cache):
    """Row T23."""
    kaggle.state["cuts"] = 100
    found, log = kaggle(HANDLE)
    assert found is None
    assert (
        f"BrokenDownloadError: The download of `{HANDLE.removeprefix('kaggle://')}` from Kaggle broke off."
        in log
    )
    assert kaggle.state["cuts"] == 97
    assert not list(cache.rglob("*.h5"))
    kaggle.state["cuts"] = 2
    found, _ = kaggle(HANDLE)
    assert Path(found["path"], "model.weights.h5").read_bytes() == WEIGHTS


def test_an_unknown_model(kaggle):
    found, log = kaggle("kaggle://keras/bart/keras/bart_base_en/1")
    assert found is None
    assert log.strip().endswith(
        "ResourceError: Kaggle has no model `keras/bart/keras/bart_base_en/1`, or you may not have it "
        "(status 404). Check the spelling and the version, accept its terms on its page, or log in: "
        "KAGGLE_USERNAME and KAGGLE_KEY, or `~/.kaggle/kaggle.json`."
    )


def test_no_network(kaggle, cache, monkeypatch, tmp_path):
    """The server of the fixture is left alone: staging's other environment has nobody on port 80."""
    code = f"from kerasllm.resources.resolve import resolve\nresolve({HANDLE!r})\n"
    environment = {**os.environ, "KAGGLE_API_ENVIRONMENT": "LOCALHOST", "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert (
        "NoNetworkError: Kaggle could not be reached for `keras/bert/keras/bert_tiny_en_uncased/3`. Check "
        "the network and the proxy; what is in the cache already works without network."
    ) in done.stderr


@pytest.mark.parametrize(
    ("handle", "fault"),
    [
        ("kaggle://keras/bert", "it is not a model of Kaggle"),
        ("kaggle://keras/../keras/bert/3", "it is not a model of Kaggle"),
        ("kaggle://", "it is not a model of Kaggle"),
        (
            "kaggle://keras/bert/keras/bert_tiny",
            "it names no version, and the newest may be another tomorrow",
        ),
        (
            "kaggle://keras/bert/keras/bert_tiny/newest",
            "it names no version, and the newest may be another tomorrow",
        ),
    ],
)
def test_a_malformed_handle(cache, handle, fault):
    match = rf"`{handle}` cannot be used: {fault}. Write `kaggle://OWNER/MODEL/FRAMEWORK/"
    with pytest.raises(ResourceError, match=match):
        resolve(handle)
