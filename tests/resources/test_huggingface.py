"""A hub of one's own on 127.0.0.1, asked by the real `huggingface_hub`, which reads HF_ENDPOINT at import."""

import hashlib
import http.server
import json
import os
import random
import subprocess
import sys
import threading
from urllib.parse import urlsplit

import pytest

COMMIT = "0123456789abcdef0123456789abcdef01234567"
NEWER = "f" * 40
WEIGHTS = random.Random(0).randbytes(200_000)
FILES = {
    "config.json": b'{"model_type": "bert"}',
    "tokenizer.json": b"{}",
    "1_Pooling/config.json": b"{}",
    "model.safetensors": WEIGHTS,
    "onnx/model.safetensors": b"another format",
    "onnx/model.onnx": b"another format",
    "pytorch_model.bin": b"a pickle",
    "modeling.py": b"raise SystemExit('code was run')",
    "README.md": b"about",
}


class Hub(http.server.BaseHTTPRequestHandler):
    """What of the hub's protocol a download needs; `state` says what goes wrong."""

    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        state, path = self.server.state, urlsplit(self.path).path
        state["requests"].append(f"{self.command} {path}")
        if path.startswith("/api/models/"):
            return self.describe(path)
        if "/resolve/" in path:
            return self.serve(path.partition("/resolve/")[2])
        return self.answer(404, b"")

    def describe(self, path):
        repository, _, revision = path.removeprefix("/api/models/").partition("/revision/")
        if repository == "kitchen/gated":
            return self.answer(403, b"", {"X-Error-Code": "GatedRepo"})
        if repository != "kitchen/minilm":
            return self.answer(404, b"", {"X-Error-Code": "RepoNotFound"})
        if revision not in {"", "main", "v1", COMMIT, NEWER}:
            return self.answer(404, b"", {"X-Error-Code": "RevisionNotFound"})
        state = self.server.state
        siblings = []
        for name, content in state["files"].items():
            git = hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()
            entry = {"rfilename": name, "size": len(content), "blobId": git}
            if name.endswith((".safetensors", ".bin")):
                sha256 = hashlib.sha256(content).hexdigest()
                entry["lfs"] = {"sha256": sha256, "size": len(content), "pointerSize": 100}
            siblings.append(entry)
        commit = state["main"] if revision in {"", "main"} else COMMIT if revision == "v1" else revision
        body = {"id": repository, "sha": commit, "siblings": siblings, "private": False, "tags": []}
        return self.answer(200, json.dumps(body).encode(), {"Content-Type": "application/json"})

    def serve(self, path):
        commit, _, name = path.partition("/")
        state = self.server.state
        content = state["files"].get(name)
        if content is None:
            return self.answer(404, b"", {"X-Error-Code": "EntryNotFound"})
        sent = state["served"].get(name, content)
        status, headers = 200, {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Repo-Commit": commit}
        if "Range" in self.headers:
            start = int(self.headers["Range"].removeprefix("bytes=").partition("-")[0])
            status, headers["Content-Range"] = 206, f"bytes {start}-{len(sent) - 1}/{len(sent)}"
            sent = sent[start:]
        if self.command == "GET" and name == "model.safetensors" and state["cuts"]:
            state["cuts"] -= 1
            return self.answer(status, sent, headers, cut=state["rng"].randrange(1, max(2, len(sent))))
        return self.answer(status, sent, headers)

    def answer(self, status, body, headers=None, cut=None):
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body[:cut])
        if cut is not None:
            self.wfile.flush()
            self.close_connection = True

    def log_message(self, *args):
        pass


@pytest.fixture
def hub(tmp_path, cache):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        state = {"files": dict(FILES), "served": {}, "main": COMMIT, "cuts": 0, "rng": random.Random(0)}
        server.state = {**state, "requests": []}
        threading.Thread(target=server.serve_forever, daemon=True).start()
        environment = {
            **os.environ,
            "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
            "HF_HOME": str(tmp_path / "hf_home"),
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        }

        def ask(handle, arguments="", **variables):
            code = (
                "import logging, sys\nlogging.basicConfig(level='WARNING')\n"
                "from kerasllm.errors import ResourceError\n"
                "from kerasllm.resources import store\nstore.RETRY_DELAYS = (0.01, 0.02)\n"
                "from kerasllm.resources.resolve import resolve\n"
                f"try: path = resolve({handle!r}, {arguments})\n"
                "except ResourceError as error: sys.exit('%s: %s' % (type(error).__name__, error))\n"
                "import json\nfiles = sorted(str(p.relative_to(path)) for p in path.rglob('*') if "
                "p.is_file())\nprint(json.dumps({'path': str(path), 'files': files, 'origin': "
                "store.origin(path / 'x')}))\n"
            )
            done = subprocess.run(
                [sys.executable, "-c", code],
                env={**environment, **variables},
                capture_output=True,
                text=True,
                check=False,
                timeout=100,
            )
            assert "Traceback" not in done.stderr
            return json.loads(done.stdout) if done.returncode == 0 else None, done.stderr

        ask.state, ask.stop = server.state, server.shutdown
        yield ask
        server.shutdown()


def test_a_branch_becomes_a_commit_and_only_data_is_taken(hub, cache):
    found, _ = hub("hf://kitchen/minilm")
    assert found["files"] == ["1_Pooling/config.json", "config.json", "model.safetensors", "tokenizer.json"]
    assert found["origin"] == {
        "handle": "hf://kitchen/minilm",
        "repository": "kitchen/minilm",
        "revision": "main",
        "commit": COMMIT,
    }
    asked = [request for request in hub.state["requests"] if "resolve" in request]
    assert all(COMMIT in request for request in asked)
    assert not list(cache.rglob("*.py"))
    assert not list(cache.rglob(".partial-*"))

    # A commit that is in the cache is used without a single question.
    hub.state["requests"].clear()
    again, _ = hub(f"hf://kitchen/minilm@{COMMIT}")
    assert again["path"] == found["path"]
    assert hub.state["requests"] == []

    # A tag of the same commit is one question; a branch that moved on is a new download.
    tagged, _ = hub("hf://kitchen/minilm@v1")
    assert tagged["path"] == found["path"]
    assert not [request for request in hub.state["requests"] if "resolve" in request]
    hub.state["main"] = NEWER
    moved, _ = hub("hf://kitchen/minilm")
    assert moved["origin"]["commit"] == NEWER


def test_without_network_the_commit_of_last_time_is_used(hub):
    found, _ = hub("hf://kitchen/minilm")
    for variables in ({"KERASLLM_OFFLINE": "1"}, {"HF_HUB_OFFLINE": "1"}):
        hub.state["requests"].clear()
        again, _ = hub("hf://kitchen/minilm", **variables)
        assert again["path"] == found["path"]
        assert hub.state["requests"] == []
    again, log = hub("hf://kitchen/minilm", HF_ENDPOINT="http://127.0.0.1:9")
    assert again["path"] == found["path"]
    assert f"Using the commit {COMMIT} of last time." in log


def test_no_network_and_nothing_in_the_cache(hub):
    _, message = hub("hf://kitchen/minilm", HF_ENDPOINT="http://127.0.0.1:9")
    assert message.strip().endswith(
        "NoNetworkError: `kitchen/minilm` could not be reached. Check the network and the proxy; "
        "HF_ENDPOINT names a mirror, and what is in the cache already works without network."
    )
    assert "127.0.0.1" not in message
    _, message = hub("hf://kitchen/minilm", "offline=True")
    assert "`hf://kitchen/minilm` is not in the cache" in message
    _, message = hub(f"hf://kitchen/minilm@{COMMIT}", HF_HUB_OFFLINE="1")
    assert f"`hf://kitchen/minilm@{COMMIT}` is not in the cache" in message
    assert hub.state["requests"] == []


def test_a_connection_cut_at_random_bytes(hub, cache):
    """Row T23."""
    hub.state["cuts"] = 3
    found, _ = hub("hf://kitchen/minilm")
    assert hub.state["cuts"] == 0
    with open(found["path"] + "/model.safetensors", "rb") as file:
        assert file.read() == WEIGHTS


def test_what_arrives_damaged_is_never_in_the_cache(hub, cache):
    for name in ("config.json", "model.safetensors"):
        content = bytearray(FILES[name])
        content[3] ^= 1
        hub.state["served"] = {name: bytes(content)}
        _, message = hub("hf://kitchen/minilm")
        expected = f"`{name}` of `kitchen/minilm` arrived damaged: its hash differs."
        assert f"BrokenDownloadError: {expected}" in message
        assert message.count(f"{expected} Trying again") == 2
        assert not list(cache.rglob("MANIFEST.json"))
    hub.state["served"] = {}
    hub.state["requests"].clear()
    assert hub("hf://kitchen/minilm")[0] is not None
    # What had arrived whole before was kept for this attempt.
    assert not [
        request for request in hub.state["requests"] if request.startswith("GET") and "token" in request
    ]


def test_pickles_are_refused_unless_allowed(hub):
    """Row X3."""
    del hub.state["files"]["model.safetensors"]
    _, message = hub("hf://kitchen/minilm")
    assert (
        "ResourceError: `hf://kitchen/minilm` has its weights only as pickle (pytorch_model.bin), which "
        "can run its author's code when it is loaded; safetensors are expected. Choose a revision or "
        "repository with `model.safetensors`, or say `allow_pickle=True` if you trust the author."
    ) in message
    found, _ = hub("hf://kitchen/minilm", "allow_pickle=True")
    assert "pytorch_model.bin" in found["files"]
    assert hub("hf://kitchen/minilm")[0] is None


def test_keras_weights_are_data(hub):
    hub.state["files"] = {
        "config.json": b"{}",
        "model.weights.h5": b"h5",
        "assets/tokenizer/vocabulary.txt": b"a",
    }
    found, _ = hub("hf://kitchen/minilm")
    assert found["files"] == ["assets/tokenizer/vocabulary.txt", "config.json", "model.weights.h5"]


def test_a_file_that_leads_outside_is_refused(hub, tmp_path):
    """Row X6."""
    hub.state["files"]["../../escaped.json"] = b"{}"
    _, message = hub("hf://kitchen/minilm")
    assert "`hf://kitchen/minilm` was refused: its file '../../escaped.json' leads outside." in message
    assert not list(tmp_path.rglob("escaped.json"))


@pytest.mark.parametrize(
    ("handle", "message"),
    [
        (
            "hf://kitchen/minlm",
            "There is no model repository `kitchen/minlm`, or it is private. Check the spelling, or log in "
            "with `hf auth login` or HF_TOKEN.",
        ),
        (
            "hf://kitchen/gated",
            "`kitchen/gated` is open only to those who accepted its terms. Accept them on its page, then "
            "log in with `hf auth login` or set HF_TOKEN.",
        ),
        (
            "hf://kitchen/minilm@v9",
            "`kitchen/minilm` has no branch, tag or commit `v9`. Leave `@v9` out for the newest.",
        ),
    ],
)
def test_what_the_hub_refuses(hub, handle, message):
    found, log = hub(handle)
    assert found is None
    assert log.strip().endswith(f"ResourceError: {message}")


@pytest.mark.parametrize(
    ("handle", "fault"),
    [
        ("hf://minilm", "'minilm' is not a repository"),
        ("hf://a/b/c", "'a/b/c' is not a repository"),
        ("hf://../b", "'../b' is not a repository"),
        ("hf://", "'' is not a repository"),
        ("hf://a/b@", "'' is not a revision"),
        ("hf://a/b@../../x", "'../../x' is not a revision"),
    ],
)
def test_a_malformed_handle(cache, handle, fault):
    from kerasllm.errors import ResourceError
    from kerasllm.resources.resolve import resolve

    match = rf"`{handle}` cannot be used: {fault}. Write `hf://ORGANISATION/NAME`, with `@REVISION`"
    with pytest.raises(ResourceError, match=match):
        resolve(handle)
