"""When a run may go on: only with the settings, the data and the checkpoint that it began with."""

import logging
import os
from importlib import metadata
from pathlib import Path
from typing import Any

from kerasllm.config.loading import load_config
from kerasllm.config.schema import RunConfig
from kerasllm.errors import ConfigError, DataError, KerasLLMError, RunDirectoryError
from kerasllm.training.run_directory import RunDirectory, read_run_manifest

__all__ = [
    "changed_data",
    "changed_settings",
    "check_resumed",
    "is_finished",
    "open_unfinished",
    "warn_of_other_versions",
]

_log = logging.getLogger("kerasllm.training")
# What a resumed run may have otherwise than before: what does not decide the weights. More epochs stretch a
# falling rate from there on.
_MAY_CHANGE = {
    "training.gradient_checkpointing",
    "data.cache",
    "output_dir",
    "training.epochs",
    "training.checkpoint_every",
    "training.patience",
    "training.patience_steps",
    "training.tensorboard",
}
_SECTIONS_THAT_MAY_CHANGE = ("evaluation.", "export.")
# What `kerasllm.config.defaults` fills in; before that it is open.
_DERIVED = {
    "data.columns",
    "data.labels",
    "data.sequence_length",
    "model.dropout",
    "model.pooling",
    "training.dtype_policy",
    "training.learning_rate",
    "training.monitor",
    "training.num_widths",
    "training.packing_length",
}
_OPEN = (None, "auto")
# Of another version of these, the same operations may round otherwise.
_COMPUTING = ("tensorflow", "keras", "numpy")


def changed_settings(before: RunConfig, now: RunConfig) -> list[str]:
    """Names the settings that differ and decide the weights, as `key: 1 then, 2 now`.

    Args:
        before: Config that the run began with.
        now: Config to go on with; derived settings may still be open, here or there.
    """
    old, new = _flat(before.model_dump()), _flat(now.model_dump())
    changed = []
    for key in {**old, **new}:
        then, value = old.get(key), new.get(key)
        derived_later = key in _DERIVED and (then in _OPEN or value in _OPEN)
        if key in _MAY_CHANGE or key.startswith(_SECTIONS_THAT_MAY_CHANGE) or derived_later:
            continue
        if then != value:
            changed.append(f"{key}: {then!r} then, {value!r} now")
    return changed


def changed_data(run: Path, data: dict[str, str]) -> list[str]:
    """Names the splits whose rows, or their order, are not those that the run began with.

    Args:
        run: A run directory.
        data: Hash of each split.
    """
    known = read_run_manifest(run).get("data_sha256")
    if known is None:  # stopped before it knew them, so nothing was learned from them
        return []
    return sorted(name for name in {*known, *data} if known.get(name) != data.get(name))


def check_resumed(run: Path, config: RunConfig, data: dict[str, str] | None = None) -> None:
    """Refuses to go on in a run that began with something else, or that has finished.

    Args:
        run: A run directory.
        config: Config to go on with.
        data: Hash of each split, or `None` while they are not known.

    Raises:
        ConfigError: If a setting that decides the weights differs; lists them.
        DataError: If the data differs.
        RunDirectoryError: If the run has finished, and no further epochs are asked for.
    """
    before = load_config(run / "config.yaml")
    changed = changed_settings(before, config)
    if changed:
        raise ConfigError(
            f"`{run}` was begun with other settings: {'; '.join(changed)}. Resume with the same, "
            "or start a new run."
        )
    differing = changed_data(run, data) if data is not None else []
    if differing:
        raise DataError(
            f"The data of `{run}` has changed since the run began: {', '.join(differing)}. Resume with "
            "the same files, or start a new run."
        )
    longer = config.training.epochs > before.training.epochs
    if read_run_manifest(run).get("state") == "finished" and not longer:
        raise RunDirectoryError(
            f"`{run}` has finished, so there is nothing to go on with. Use it, e.g. "
            f"`kerasllm predict {run} TEXT`, or start a new run without `--resume`."
        )


def is_finished(path: Path, config: RunConfig) -> bool:
    """Whether a directory holds a finished run of this config.

    Args:
        path: A directory, which need not be there.
        config: The config, in which derived settings may be open.
    """
    if not (path / "manifest.json").is_file() or read_run_manifest(path).get("state") != "finished":
        return False
    return not changed_settings(load_config(path / "config.yaml"), config)


def open_unfinished(output_dir: str | os.PathLike[str], config: RunConfig) -> RunDirectory | None:
    """Opens the run that is in a directory, if it has not finished and goes on with this config.

    Returns:
        The run, or `None` where a new one has to be made; the log says why.
    """
    path = Path(os.path.abspath(output_dir))
    if not (path / "manifest.json").is_file():
        return None
    try:
        if read_run_manifest(path).get("state") == "finished":
            return None
        check_resumed(path, config)
        run = RunDirectory.reopen(path)
    except KerasLLMError as error:
        _log.warning("%s This is a new run beside it.", error)
        return None
    _log.info("Going on with the unfinished run `%s`. For a new one, give another `output_dir`.", path)
    return run


def warn_of_other_versions(manifest: dict[str, Any]) -> None:
    """Warns where a package that computes is not the one that the run began with.

    Args:
        manifest: The `manifest.json` of the run.
    """
    others = []
    for package in _COMPUTING:
        then, now = manifest.get("versions", {}).get(package), metadata.version(package)
        if then not in (None, now):
            others.append(f"{package} {then} then, {now} now")
    if others:
        _log.warning("The run goes on with other packages (%s): numbers may differ.", "; ".join(others))


def _flat(values: dict[str, Any]) -> dict[str, Any]:
    """One level of sections, with dotted keys."""
    flat = {}
    for name, value in values.items():
        if isinstance(value, dict):
            flat.update({f"{name}.{key}": item for key, item in value.items()})
        else:
            flat[name] = value
    return flat
