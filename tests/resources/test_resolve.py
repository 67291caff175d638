import os
import re
import subprocess
import sys

import pytest

from kerasllm.errors import PresetError, ResourceError
from kerasllm.resources.keras_presets import keras_presets
from kerasllm.resources.paths import cache_directory, is_offline, leads_outside, slug
from kerasllm.resources.resolve import resolve
from kerasllm.resources.store import origin


def test_a_path_is_itself(tmp_path, monkeypatch):
    (tmp_path / "reviews.csv").write_text("text,label\n")
    assert resolve(tmp_path / "reviews.csv") == tmp_path / "reviews.csv"
    assert resolve(str(tmp_path)) == tmp_path
    assert origin(tmp_path / "reviews.csv") is None
    monkeypatch.setenv("HOME", str(tmp_path))
    assert resolve("~/reviews.csv") == tmp_path / "reviews.csv"
    monkeypatch.chdir(tmp_path)
    assert str(resolve("reviews.csv")) == "reviews.csv"


def test_a_missing_file_names_the_one_beside_it(tmp_path):
    (tmp_path / "reviews.csv").write_text("")
    message = r"The file `.*/review.csv` does not exist. Did you mean `.*/reviews.csv`\?"
    with pytest.raises(ResourceError, match=message):
        resolve(tmp_path / "review.csv")
    message = r"The training data `.*/nowhere/x.csv` does not exist. Looked in `.*/nowhere`."
    with pytest.raises(ResourceError, match=message):
        resolve(tmp_path / "nowhere" / "x.csv", what="training data")
    for empty in ("", "  "):
        with pytest.raises(
            ResourceError, match=r"The name of the training data is empty. Expected a path, `pypi"
        ):
            resolve(empty, what="training data")


def test_a_missing_preset_names_the_close_ones(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    message = (
        r"The preset `bert_tiny_uncased` does not exist, neither as a path nor as a preset name. "
        r"Did you mean `bert_tiny_en_uncased`.*\? Models of Hugging Face are written `hf://ORGANISATION/NAME`"
    )
    with pytest.raises(PresetError, match=message):
        resolve("bert_tiny_uncased", what="preset")
    message = (
        r"`google-bert/bert-base-uncased` does not.* Did you mean `hf://google-bert/bert-base-uncased`\?$"
    )
    with pytest.raises(PresetError, match=message):
        resolve("google-bert/bert-base-uncased", what="preset")
    (tmp_path / "minilm").mkdir()
    with pytest.raises(PresetError, match=r"Did you mean `minilm`\?"):
        resolve("minlm", what="preset")
    with pytest.raises(
        PresetError, match=r"`zzzzzzzz` does not exist, .* Expected a path, `pypi://NAME==VERSION"
    ):
        resolve("zzzzzzzz", what="preset")


def test_a_file_is_never_looked_up_among_the_presets(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ResourceError, match=r"The file `bert_tiny_en_uncased` does not exist. Looked in"):
        resolve("bert_tiny_en_uncased")


def test_preset_names_are_keras_hubs_own_and_cost_no_import():
    code = (
        "import sys, time\nfrom kerasllm.resources.keras_presets import keras_presets\n"
        "start = time.process_time()\npresets = keras_presets()\n"
        "print(len(presets), presets['bert_tiny_en_uncased'], presets['gpt2_base_en'])\n"
        "assert 'keras_hub' not in sys.modules and 'tensorflow' not in sys.modules\n"
        "assert time.process_time() - start < 3\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    number, bert, gpt2 = done.stdout.split()
    assert int(number) > 300
    assert re.fullmatch(r"kaggle://keras/bert/keras/bert_tiny_en_uncased/\d+", bert)
    assert re.fullmatch(r"kaggle://keras/gpt2/keras/gpt2_base_en/\d+", gpt2)


@pytest.mark.slow
def test_preset_names_are_those_that_keras_hub_lists():
    import keras_hub

    listed = {}
    for cls in vars(keras_hub.models).values():
        if isinstance(cls, type) and hasattr(cls, "presets"):
            listed.update({name: entry.get("kaggle_handle") for name, entry in cls.presets.items()})
    ours = keras_presets()
    assert {name: handle for name, handle in listed.items() if handle}.items() <= ours.items()


@pytest.mark.parametrize("scheme", ["gs", "s3", "https", "http", "ftp", "file", "gopher", "GS"])
def test_other_schemes_are_refused(scheme):
    """Row X6."""
    message = (
        rf"`{scheme.lower()}://` cannot be used for a preset. Expected a path, `pypi://NAME==VERSION/PATH"
    )
    with pytest.raises(ResourceError, match=message) as caught:
        resolve(f"{scheme}://bucket/model", what="preset")
    assert ("Download it first" in str(caught.value)) == (scheme.lower() not in {"file", "gopher"})


@pytest.mark.timeout(20)
def test_what_is_no_file_is_refused_at_once(tmp_path):
    """Row D30."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for path in (tmp_path / "pipe", "/dev/zero"):
        with pytest.raises(
            ResourceError, match=r"is a device, pipe or socket, but a regular file or a directory"
        ):
            resolve(path)
    with pytest.raises(
        ResourceError, match=r"`.*/loop` cannot be read: Too many levels of symbolic links. If"
    ):
        resolve(tmp_path / "loop")
    with pytest.raises(
        ResourceError, match=r"`.*/dangling` cannot be read: No such file or directory. If it is"
    ):
        resolve(tmp_path / "dangling")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_read_permission(tmp_path):
    (tmp_path / "secret").write_text("")
    (tmp_path / "secret").chmod(0)
    with pytest.raises(ResourceError, match=r"The file `.*/secret` cannot be read: permission denied."):
        resolve(tmp_path / "secret")


@pytest.mark.parametrize(
    "text", ["a/b", "a+b", "a%2Fb", "a%b", ".", "..", ".hidden", "x" * 300, "é", "a b", "", "A"]
)
def test_a_slug_is_one_safe_name(text):
    name = slug(text)
    assert "/" not in name
    assert not name.startswith(".")
    assert len(name.encode()) <= 120


def test_slugs_differ_wherever_the_texts_do():
    texts = [
        "a/b",
        "a+b",
        "a%2Fb",
        "a%2Bb",
        "a_b",
        ".",
        "..",
        "",
        ".a",
        "a",
        "x" * 300,
        "x" * 301,
        "a b",
        "a%20b",
    ]
    assert len({slug(text) for text in texts}) == len(texts)


@pytest.mark.parametrize(
    ("path", "outside"),
    [
        ("a/b", False),
        ("a..b/c", False),
        ("..", True),
        ("a/../b", True),
        ("/a", True),
        ("a\\b", True),
        ("a\0", True),
    ],
)
def test_a_path_that_could_leave_its_directory_is_recognised(path, outside):
    assert leads_outside(path) == outside


def test_the_environment_chooses_cache_and_offline_mode(monkeypatch, tmp_path):
    monkeypatch.setenv("KERASLLM_CACHE", str(tmp_path))
    assert cache_directory() == tmp_path
    monkeypatch.delenv("KERASLLM_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_directory() == tmp_path / "xdg" / "kerasllm"
    for value, offline in {
        "1": True,
        "true": True,
        "yes": True,
        "0": False,
        "": False,
        "False": False,
    }.items():
        monkeypatch.setenv("KERASLLM_OFFLINE", value)
        assert is_offline() == offline
