"""The configs that come with the package: `text_classification/sentiment_minilm` and its neighbours."""

import importlib.resources
from pathlib import Path

from kerasllm.config.fields import close_match
from kerasllm.errors import ConfigError

__all__ = ["copy_config", "find_config", "packaged_configs", "summary"]


def packaged_configs() -> dict[str, Path]:
    """Lists the packaged configs.

    Returns:
        Name (`text_classification/sentiment_minilm`) to file, sorted by name.
    """
    folder = _folder()
    files = sorted(folder.glob("*/*.yaml"))
    return {file.relative_to(folder).with_suffix("").as_posix(): file for file in files}


def find_config(name: str | Path) -> Path:
    """Finds the file of a config.

    Args:
        name: A YAML file, a run directory (its `config.yaml`), or the name of a packaged config.

    Returns:
        The file.

    Raises:
        ConfigError: If there is none; names the packaged configs that are close.
    """
    path = Path(name)
    if path.is_file():
        return path
    if (path / "config.yaml").is_file():
        return path / "config.yaml"
    packaged = packaged_configs()
    text = str(name).removesuffix(".yaml").removesuffix(".yml")
    if text in packaged:
        return packaged[text]
    raise ConfigError(_not_found(str(name), text, packaged))


def summary(file: Path) -> str:
    """Returns the first comment line of a config: what it is for."""
    first = file.read_text(encoding="utf-8").partition("\n")[0]
    return first.removeprefix("#").strip() if first.startswith("#") else ""


def copy_config(name: str, destination: str | Path = ".") -> Path:
    """Copies a packaged config, to be edited.

    Args:
        name: Name of a packaged config, or a file.
        destination: File to write, or a directory to put it in. Defaults to `"."`.

    Returns:
        The file that was written.

    Raises:
        ConfigError: If the name is unknown, or the destination exists or cannot be written.
    """
    source = find_config(name)
    target = Path(destination)
    if target.is_dir():
        target = target / source.name
    try:
        with target.open("x", encoding="utf-8") as file:
            file.write(source.read_text(encoding="utf-8"))
    except FileExistsError:
        raise ConfigError(f"`{target}` exists already. Give another file name, or remove it first.") from None
    except OSError as error:
        raise ConfigError(f"`{target}` cannot be written: {error.strerror}.") from error
    return target


def _folder() -> Path:
    installed = Path(str(importlib.resources.files("kerasllm"))) / "configs"
    return installed if installed.is_dir() else installed.parent.parent / "configs"


def _not_found(name: str, text: str, packaged: dict[str, Path]) -> str:
    leaves = {packaged_name.rpartition("/")[2]: packaged_name for packaged_name in packaged}
    match = close_match(text, packaged) or leaves.get(close_match(text.rpartition("/")[2], leaves) or "")
    remedy = (
        f"Did you mean `{match}`?"
        if match
        else f"The packaged configs are {', '.join(packaged)}; your own is named by its path."
    )
    return f"There is no file and no packaged config `{name}`. {remedy}"
