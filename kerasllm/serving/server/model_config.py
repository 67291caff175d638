"""Which models a server serves, and which of their versions: from a path or from a `model_config_file`."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kerasllm.errors import DependencyError, ServingError

__all__ = ["INSTALL_SERVER", "ModelConfig", "VersionPolicy", "config_for_path", "read_model_configs"]

INSTALL_SERVER = "pip install 'kerasllm[server]'"
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}")


@dataclass(frozen=True)
class VersionPolicy:
    """Which of the versions on disk are served.

    Attributes:
        kind: `"latest"`, `"all"` or `"specific"`.
        num_versions: How many of the latest. Defaults to `1`.
        versions: Numbers of the specific ones.
    """

    kind: str = "latest"
    num_versions: int = 1
    versions: tuple[int, ...] = ()

    def choose(self, found: Iterable[int]) -> list[int]:
        """Returns the versions to serve of those found, newest first."""
        newest_first = sorted(found, reverse=True)
        if self.kind == "latest":
            return newest_first[: self.num_versions]
        if self.kind == "specific":
            return [version for version in newest_first if version in self.versions]
        return newest_first


@dataclass(frozen=True)
class ModelConfig:
    """One model to serve.

    Attributes:
        name: What requests call it.
        base_path: Directory with one directory a version.
        policy: Which versions are served. Defaults to the newest.
        labels: Version numbers by label, such as `{"stable": 1}`.
    """

    name: str
    base_path: Path
    policy: VersionPolicy = VersionPolicy()
    labels: Mapping[str, int] = field(default_factory=dict)


def config_for_path(path: Path, name: str | None = None) -> ModelConfig:
    """Makes the config for one model directory, or for one version of it.

    Args:
        path: Directory of a model, with versions in it, or of a version, with a SavedModel in it.
        name: Name of the model. Defaults to the name of the model's directory.

    Raises:
        ServingError: If there is no such directory, or if the name cannot be part of a URL.
    """
    absolute = path.absolute()
    if not absolute.is_dir():
        raise ServingError(
            f"There is no model directory `{path}`. Pass the directory that `export` wrote, e.g. "
            "`kerasllm serve models/reviews`."
        )
    if (absolute / "saved_model.pb").is_file():
        if not absolute.name.isascii() or not absolute.name.isdigit():
            raise ServingError(
                f"`{path}` is a SavedModel, but its directory is not named by a version number. Move it to "
                f"`{path}/1` (so that `{path}` holds versions) and serve `{path}`."
            )
        policy = VersionPolicy("specific", versions=(int(absolute.name),))
        absolute = absolute.parent
    else:
        policy = VersionPolicy()
    name = absolute.name if name is None else name
    if not _NAME.fullmatch(name):
        raise ServingError(
            f"`{name}` cannot be a model's name in a URL: it takes 1 to 128 letters, digits, `_`, `.` and "
            "`-`. Pass another with `--model_name`."
        )
    return ModelConfig(name, absolute, policy)


def read_model_configs(path: Path) -> list[ModelConfig]:
    """Reads a `--model_config_file`: a `ModelServerConfig` as protocol buffer text.

    Raises:
        ServingError: If it is missing, does not parse, or describes models that cannot be served.
        DependencyError: If the extra `server` is not installed.
    """
    try:
        from google.protobuf import text_format
        from tensorflow_serving.config import model_server_config_pb2
    except ImportError as error:
        raise DependencyError(
            f"Model configs need the package tensorflow-serving-api. Install it: {INSTALL_SERVER}"
        ) from error
    config = model_server_config_pb2.ModelServerConfig()
    try:
        text_format.Parse(path.read_text(), config)
    except FileNotFoundError as error:
        raise ServingError(f"There is no model config file `{path}`. Check the path.") from error
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise ServingError(
            f"`{path}` is not a model config: {error}. It is text like `model_config_list {{ config {{ name: "
            "'reviews' base_path: '/models/reviews' model_platform: 'tensorflow' } }`; serving/models.config "
            "is an example."
        ) from error
    if config.WhichOneof("config") != "model_config_list":
        raise ServingError(
            f"`{path}` has no `model_config_list`, the only kind of config that can be served. "
            "See serving/models.config for an example."
        )
    return [_model_config(entry, path) for entry in _distinct(config.model_config_list.config, path)]


def _distinct(listed: Iterable[Any], path: Path) -> list[Any]:
    entries = list(listed)
    names = [entry.name for entry in entries]
    for name in names:
        if names.count(name) > 1:
            raise ServingError(f"Illegal to list model {name} multiple times in config list `{path}`.")
    if not entries:
        raise ServingError(f"`{path}` lists no model. Add a `config {{ … }}` to its `model_config_list`.")
    return entries


def _model_config(entry: Any, path: Path) -> ModelConfig:
    where = f"Model `{entry.name}` in `{path}`"
    if not _NAME.fullmatch(entry.name):
        raise ServingError(f"{where} needs a name of 1 to 128 letters, digits, `_`, `.` and `-`.")
    if not entry.base_path.startswith("/"):
        raise ServingError(
            f"Expected model {entry.name} to have an absolute path or URI; got base_path()={entry.base_path} "
            f"in `{path}`. Write the whole path, from `/`."
        )
    if entry.model_platform not in ("tensorflow", "") or (not entry.model_platform and not entry.model_type):
        raise ServingError(
            f'{where} has the platform "{entry.model_platform}". Only SavedModels are served: write '
            '`model_platform: "tensorflow"`.'
        )
    return ModelConfig(entry.name, Path(entry.base_path), _policy(entry, where), dict(entry.version_labels))


def _policy(entry: Any, where: str) -> VersionPolicy:
    policy = entry.model_version_policy
    kind = policy.WhichOneof("policy_choice") or "latest"
    if kind == "specific":
        if not policy.specific.versions:
            raise ServingError(f"{where} asks for specific versions but lists none. Add `versions: 1`.")
        return VersionPolicy("specific", versions=tuple(policy.specific.versions))
    if kind == "all":
        return VersionPolicy("all")
    return VersionPolicy("latest", num_versions=policy.latest.num_versions or 1)
