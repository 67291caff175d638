"""A cache of one's own, and a package index that is a folder: real pip, no network."""

import os
import zipfile

import pytest


@pytest.fixture
def cache(tmp_path, monkeypatch):
    directory = tmp_path / "cache"
    monkeypatch.setenv("KERASLLM_CACHE", str(directory))
    for name in ("KERASLLM_OFFLINE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    return directory


@pytest.fixture
def wheel_house(tmp_path, monkeypatch):
    """Builds wheels into a folder that the user's pip configuration names as the only index."""
    directory = tmp_path / "wheels"
    directory.mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(directory))
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)

    def build(name="cookbook", version="1.0", files=None, tag="py3-none-any", requires_python=None):
        """`files`: names or `zipfile.ZipInfo` to contents."""
        path = directory / f"{name}-{version}-{tag}.whl"
        info = f"{name}-{version}.dist-info"
        metadata = (
            f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nRequires-Dist: not-there-at-all\n"
        )
        metadata += f"Requires-Python: {requires_python}\n" if requires_python else ""
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for member, content in (files or RECIPES).items():
                archive.writestr(member, content)
            archive.writestr(f"{info}/METADATA", metadata)
            archive.writestr(f"{info}/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n")
            archive.writestr(f"{info}/RECORD", "")
        return path

    build.directory = directory
    return build


RECIPES = {
    "cookbook/__init__.py": "raise SystemExit('a package was imported')",
    "cookbook/data/recipes.csv": "text,label\nsoup,starter\n",
    "cookbook/data/notes.txt": "salt",
    "cookbook/model/config.json": "{}",
    "cookbook/model/assets/vocab.txt": "the\n",
}
