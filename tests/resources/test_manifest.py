import json
import os
import random
import shutil

import pytest

from kerasllm.errors import ExportError, ResourceError
from kerasllm.resources.manifest import read_manifest, sha256_file, verify_manifest, write_manifest


@pytest.fixture
def model(tmp_path):
    directory = tmp_path / "model"
    (directory / "assets").mkdir(parents=True)
    (directory / "assets" / "vocab.txt").write_text("the\na\nof\n")
    (directory / "weights.safetensors").write_bytes(random.Random(0).randbytes(3000))
    (directory / "leer").write_bytes(b"")
    write_manifest(directory)
    return directory


def test_an_intact_directory_passes_and_may_hold_more_files(model):
    verify_manifest(model)
    (model / "notes.txt").write_text("mine")
    verify_manifest(model)
    assert set(read_manifest(model)) == {"assets/vocab.txt", "weights.safetensors", "leer"}


def test_sha256_is_the_known_one_of_abc(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    # The example of FIPS 180-2, appendix B.1.
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256_file(tmp_path / "abc") == expected


def test_every_bit_flip_cut_and_zeroed_tail_is_noticed(model, tmp_path):
    """Row E5: 300 flips, 100 cuts, 100 zeroed tails, over the files and the manifest itself."""
    rng = random.Random(1)
    names = ["assets/vocab.txt", "weights.safetensors", "MANIFEST.json"]
    for trial in range(500):
        copy = tmp_path / "copy"
        shutil.copytree(model, copy)
        path = copy / rng.choice(names)
        content = bytearray(path.read_bytes())
        position = rng.randrange(len(content))
        if trial < 300:
            content[position] ^= 1 << rng.randrange(8)
        elif trial < 400:
            # A cut manifest that loses only its last line break is still whole.
            del content[min(position, len(content) - 2) :]
        else:
            content[position:] = bytes(len(content) - position)
        path.write_bytes(content)
        with pytest.raises(ResourceError, match="is damaged"):
            verify_manifest(copy)
        shutil.rmtree(copy)


def test_the_message_names_each_file_and_what_is_wrong_with_it(model):
    (model / "assets" / "vocab.txt").unlink()
    (model / "leer").write_bytes(b"x")
    weights = bytearray((model / "weights.safetensors").read_bytes())
    weights[7] ^= 1
    (model / "weights.safetensors").write_bytes(weights)
    expected = (
        r"is damaged \(assets/vocab.txt: missing; leer: 1 bytes instead of 0; weights.safetensors: sha256 "
        r"differs\). Restore it from a copy or make it anew; nothing was loaded from it."
    )
    with pytest.raises(ResourceError, match=expected):
        verify_manifest(model)


def test_the_caller_chooses_the_error(model):
    (model / "leer").unlink()
    with pytest.raises(ExportError, match="leer: missing"):
        verify_manifest(model, error=ExportError)


def test_a_directory_without_manifest_says_so(tmp_path):
    with pytest.raises(ResourceError, match=r"has no MANIFEST.json, so its files cannot be checked"):
        verify_manifest(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "null",
        '{"files": []}',
        '{"files": {"a": 1}}',
        '{"files": {"../a": {"sha256": "", "size": 0}}}',
        '{"files": {"/etc/passwd": {"sha256": "", "size": 0}}}',
        '{"files": {"a": {"sha256": "", "size": 0}, "a": {"sha256": "", "size": 0}}}',
        "[" * 100_000,
    ],
)
def test_a_manifest_that_is_not_one_is_refused(tmp_path, text):
    (tmp_path / "MANIFEST.json").write_text(text)
    with pytest.raises(ResourceError, match="it is not a manifest that kerasllm wrote"):
        verify_manifest(tmp_path)


def test_a_link_in_place_of_a_file_is_damage(model, tmp_path):
    (tmp_path / "elsewhere").write_text("the\na\nof\n")
    (model / "assets" / "vocab.txt").unlink()
    os.symlink(tmp_path / "elsewhere", model / "assets" / "vocab.txt")
    with pytest.raises(ResourceError, match=r"assets/vocab.txt: not a regular file"):
        verify_manifest(model)
    with pytest.raises(ResourceError, match="is a link or a special file"):
        write_manifest(model)


def test_a_manifest_is_the_same_whoever_writes_it(model):
    first = (model / "MANIFEST.json").read_bytes()
    assert write_manifest(model).read_bytes() == first
    assert json.loads(first)["files"]["leer"]["size"] == 0
