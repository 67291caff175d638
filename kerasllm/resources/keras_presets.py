"""KerasHub's preset names, such as `bert_tiny_en_uncased`, and the Kaggle handles they stand for.

The names are read from KerasHub's own source files without importing it, which takes eleven seconds.
"""

import ast
import importlib.util
from functools import cache
from pathlib import Path

__all__ = ["keras_presets"]


@cache
def keras_presets() -> dict[str, str]:
    """Returns the Kaggle handle of each preset name that the installed KerasHub knows."""
    spec = importlib.util.find_spec("keras_hub")
    handles: dict[str, str] = {}
    for location in spec.submodule_search_locations or () if spec else ():
        for path in sorted(Path(location, "src", "models").rglob("*_presets.py")):
            handles.update(_handles(path))
    return handles


def _handles(path: Path) -> dict[str, str]:
    found = {}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Dict):
            continue
        for key, value in zip(node.keys, node.values, strict=True):
            handle = _entry(value, "kaggle_handle")
            if isinstance(key, ast.Constant) and isinstance(key.value, str) and handle is not None:
                found[key.value] = handle
    return found


def _entry(node: ast.expr, name: str) -> str | None:
    """Returns the string under a name in a literal dictionary."""
    if isinstance(node, ast.Dict):
        for key, value in zip(node.keys, node.values, strict=True):
            if isinstance(key, ast.Constant) and key.value == name and isinstance(value, ast.Constant):
                return str(value.value)
    return None
