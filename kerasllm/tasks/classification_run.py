"""The steps of a classification run, from prepared records to a finished classifier."""

import logging
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from kerasllm.config.defaults import resolve
from kerasllm.config.dumping import dump_config
from kerasllm.config.loading import load_config
from kerasllm.config.schema import RunConfig
from kerasllm.data.audit import audit, token_facts
from kerasllm.data.augmentation.building import build
from kerasllm.data.findings import token_warnings
from kerasllm.data.labels import LabelMap
from kerasllm.data.pipeline import EncodedTexts
from kerasllm.data.prepare import PreparedData
from kerasllm.data.problems import plural
from kerasllm.data.records import Records
from kerasllm.errors import ConfigError, DataError, RunDirectoryError
from kerasllm.evaluation.report import write_report
from kerasllm.models.builders import build_classifier, with_dtype_policy
from kerasllm.models.heads import Classifier
from kerasllm.models.labels import PROBLEM_TYPES
from kerasllm.models.precision import resolve_dtype_policy
from kerasllm.models.presets import Preset
from kerasllm.resources.store import origin
from kerasllm.tasks.text_classification import TextClassifier
from kerasllm.tokenization.tokenizer import Tokenizer
from kerasllm.training.classification import TrainingData
from kerasllm.training.plan import Plan, make_plan
from kerasllm.training.run_directory import RunDirectory, read_run_manifest

_log = logging.getLogger("kerasllm")
_PROBES = 32
# What a resumed run may have otherwise than before. More epochs stretch a falling rate from there on.
_MAY_CHANGE = ("training.epochs", "training.checkpoint_every", "training.patience", "training.patience_steps")


@dataclass(frozen=True)
class EncodedRun:
    """A run whose texts are token ids and whose config has no open ends.

    Attributes:
        config: Fully resolved.
        tokenizer: What made the token ids.
        data: What the trainer reads.
        truncated_share: Share of the training texts that are cut.
    """

    config: RunConfig
    tokenizer: Tokenizer
    data: TrainingData
    truncated_share: float


def encode_run(
    config: RunConfig, prepared: PreparedData, preset: Preset, *, augmentation: Sequence[Any] = ()
) -> EncodedRun:
    """Tokenizes the splits once and settles what depends on their lengths.

    Args:
        config: Config of the run; `data.sequence_length` and the dtype policy may still be open.
        prepared: Clean records and labels.
        preset: The checkpoint.
        augmentation: Entries of the config, or layers, that change the training texts. Defaults to none.
    """
    tokenizer, label_map = preset.tokenizer, prepared.label_map
    if config.data.split_special_tokens:
        tokenizer = tokenizer.with_settings(split_special_tokens=True)
    tokenizer.check_graph()  # what is trained on must be what the server will see
    encoded = _encode(tokenizer, prepared.train, None)
    lengths = np.fromiter(map(len, encoded[0]), dtype=np.int64)
    config = resolve(
        config,
        token_lengths=lengths.tolist(),
        max_sequence_length=preset.max_sequence_length,
        labels=label_map.names,
        pooling=preset.default_pooling,
        dtype_policy=resolve_dtype_policy(config.training.dtype_policy),
    )
    sequence_length = config.data.sequence_length or preset.max_sequence_length
    facts = token_facts(
        prepared.train, encoded[0], sequence_length=sequence_length, special_ids=tokenizer.special_ids
    )
    for warning in token_warnings("train", facts):
        _log.warning(warning)
    if lengths.max() > sequence_length:
        encoded = _encode(tokenizer, prepared.train, sequence_length)
    targets = label_map.encode(prepared.train)
    weights = class_weights(config.training.class_weights, targets, label_map)
    validation = None
    if prepared.validation is not None:
        ids = _encode(tokenizer, prepared.validation, sequence_length)
        validation = EncodedTexts.from_lists(*ids, label_map.encode(prepared.validation))
    data = TrainingData(
        train=EncodedTexts.from_lists(*encoded, targets, class_weights=weights),
        validation=validation,
        pad_id=tokenizer.pad_id,
        num_classes=len(label_map.names),
        multi_label=label_map.multi_label,
        augmentation=_layers(augmentation, tokenizer, preset, encoded[0], config.seed),
    )
    return EncodedRun(config, tokenizer, data, facts["truncated_share"])


def _layers(
    augmentation: Sequence[Any], tokenizer: Tokenizer, preset: Preset, ids: Any, seed: int
) -> tuple[Any, ...]:
    if not augmentation:
        return ()

    def counts() -> np.ndarray:
        flat = np.fromiter((token for row in ids for token in row), np.int64)
        return np.bincount(flat, minlength=tokenizer.vocabulary_size)

    layers = build(augmentation, tokenizer, embeddings=embeddings_of(preset), counts=counts, seed=seed)
    return tuple(layers)


def embeddings_of(preset: Preset) -> Any:
    """A function that gives the checkpoint's token embeddings, float32 `(vocabulary, dim)`."""
    return lambda: np.asarray(preset.backbone.token_embedding.embeddings, np.float32)


def class_weights(setting: Any, targets: np.ndarray, label_map: LabelMap) -> np.ndarray | None:
    """Weight of each class in the loss.

    Args:
        setting: `None`, `"balanced"` (rows / (classes * rows of the class), as in scikit-learn) or a dict.
        targets: Class numbers, or rows of zeros and ones.
        label_map: Names of the classes.
    """
    if setting is None:
        return None
    if isinstance(setting, dict):
        return np.asarray([setting[name] for name in label_map.names], np.float32)
    num_classes = len(label_map.names)
    counts = targets.sum(axis=0) if targets.ndim == 2 else np.bincount(targets, minlength=num_classes)
    return (counts.sum() / (num_classes * np.maximum(counts, 1))).astype(np.float32)


def record_inputs(
    run: RunDirectory, config: RunConfig, prepared: PreparedData, preset: Preset, *, resume: bool
) -> RunConfig:
    """Writes what the run really uses, or refuses to go on in a run that used something else.

    Args:
        run: The run directory.
        config: Fully resolved.
        prepared: Clean records.
        preset: The checkpoint.
        resume: Whether the run goes on, so that config and data must be what they were.

    Returns:
        The config as written, with the real `output_dir`.

    Raises:
        ConfigError: If a setting that decides the weights differs; lists them.
        DataError: If the data differs.
        RunDirectoryError: If the run has finished.
    """
    config = config.model_copy(update={"output_dir": str(run.path)})
    data = data_fingerprint(prepared)
    if resume:
        _refuse_changes(run, config, data)
    run.write("config.yaml", dump_config(config))
    run.begin(
        {
            "preset": {"handle": str(preset.handle), "origin": origin(preset.path)},
            "data_sha256": data,
            "seed": config.seed,
            "dtype_policy": config.training.dtype_policy,
            "device": _device(),
        }
    )
    return config


def _device() -> str:
    import tensorflow as tf

    for device in tf.config.list_physical_devices("GPU"):
        return str(tf.config.experimental.get_device_details(device).get("device_name", device.name))
    return f"CPU ({os.cpu_count()} cores, {platform.machine()})"


def _refuse_changes(run: RunDirectory, config: RunConfig, data: dict[str, str]) -> None:
    before = load_config(run.path / "config.yaml", []).model_dump()
    now = config.model_dump()
    changed = [
        f"{section}.{key}: {before[section][key]!r} then, {value!r} now"
        for section in ("data", "model", "training")
        for key, value in now[section].items()
        if f"{section}.{key}" not in _MAY_CHANGE and before[section][key] not in (value, None, "auto")
    ] + [
        f"{key}: {before[key]!r} then, {now[key]!r} now"
        for key in ("preset", "seed", "augmentation")
        if before[key] != now[key]
    ]
    if changed:
        raise ConfigError(
            f"`{run.path}` was begun with other settings: {'; '.join(changed)}. Resume with the same, "
            "or start a new run."
        )
    known = read_run_manifest(run.path).get("data_sha256")
    if known is not None and known != data:
        differing = sorted(name for name in {*known, *data} if known.get(name) != data.get(name))
        raise DataError(
            f"The data of `{run.path}` has changed since the run began: {', '.join(differing)}. Resume with "
            "the same files, or start a new run."
        )
    longer = config.training.epochs > before["training"]["epochs"]
    if read_run_manifest(run.path).get("state") == "finished" and not longer:
        raise RunDirectoryError(
            f"`{run.path}` has finished, so there is nothing to go on with. Use it, e.g. "
            f"`kerasllm predict {run.path} TEXT`, or start a new run without `--resume`."
        )


def build_model(encoded: EncodedRun, labels: Sequence[str], preset: Preset) -> Classifier:
    """The classifier to train: backbone, head, dropout and precision as configured."""
    config = encoded.config
    return build_classifier(
        preset,
        num_classes=encoded.data.num_classes,
        pooling=config.model.pooling,
        dropout=config.model.dropout,
        dtype_policy=config.training.dtype_policy,
        labels=labels,
        problem_type=PROBLEM_TYPES[encoded.data.multi_label],
    )


def plan_run(encoded: EncodedRun, model: keras.Model, prepared: PreparedData, preset: Preset) -> Plan:
    """What the run would do; runs one step."""
    keys = ("num_hidden_layers", "hidden_size", "num_attention_heads")
    return make_plan(
        model,
        encoded.data,
        encoded.config.training,
        labels=prepared.label_map.names,
        sequence_length=encoded.config.data.sequence_length or 0,
        num_test=prepared.test.num_rows if prepared.test is not None else 0,
        truncated_share=encoded.truncated_share,
        layers=tuple(int(preset.config[key]) for key in keys),  # type: ignore[arg-type]
    )


def finished_classifier(
    model: Classifier, encoded: EncodedRun, prepared: PreparedData, preset: Preset
) -> TextClassifier:
    """The trained weights as a float32 task model: what predicts is what will be served."""
    labels = encoded.config.data.labels
    return TextClassifier(
        with_dtype_policy(model, "float32"),
        encoded.tokenizer,
        label_map=prepared.label_map,
        sequence_length=encoded.config.data.sequence_length or preset.max_sequence_length,
        pair=prepared.train.has_pairs,
        preset=str(preset.handle),
        label_names=labels if isinstance(labels, dict) else None,
        columns=encoded.config.data.columns,
    )


def evaluate_run(
    classifier: TextClassifier, prepared: PreparedData, config: RunConfig, run: RunDirectory
) -> None:
    """Measures the classifier on the test rows, else the validation rows, and writes the figures."""
    split = "test" if prepared.test is not None else "validation"
    records = prepared.test if prepared.test is not None else prepared.validation
    if records is None:
        _log.warning("Neither test nor validation rows: nothing was evaluated.")
        return
    _log.info("Evaluating on %s.", plural(records.num_rows, f"{split} row"))
    classifier.evaluation = classifier.evaluate(
        records,
        confidence=config.evaluation.confidence,
        num_bootstrap=config.evaluation.num_bootstrap,
        batch_size=config.evaluation.batch_size,
        seed=config.seed,
    )
    run.write_json("metrics.json", {"split": split, **classifier.evaluation.to_dict()})


def report_run(
    classifier: TextClassifier, prepared: PreparedData, config: RunConfig, run: RunDirectory
) -> None:
    """Writes `report.html`."""
    if not config.evaluation.report or classifier.evaluation is None:
        return
    tokenizer = classifier.tokenizer
    write_report(
        run.path / "report.html",
        title=run.path.name,
        evaluation=classifier.evaluation,
        history=classifier.history,
        data_report=audit(
            prepared.by_split,
            encode=tokenizer.encode,
            sequence_length=classifier.sequence_length,
            special_ids=tokenizer.special_ids,
        ).to_dict(),
        config=config.model_dump(mode="json"),
    )


def probe_rows(prepared: PreparedData, *, pair: bool) -> list[Any]:
    """Rows of the training data for the comparison at export; they are compared, never stored."""
    records = prepared.train.take(range(min(_PROBES, prepared.train.num_rows)))
    return list(zip(records.texts, records.text_pairs or [], strict=True)) if pair else records.texts


def data_fingerprint(prepared: PreparedData) -> dict[str, str]:
    """A hash of each split, so that a resumed run notices other data."""
    return {name: records.fingerprint for name, records in prepared.by_split.items()}


def _encode(
    tokenizer: Tokenizer, records: Records, sequence_length: int | None
) -> tuple[Sequence[Sequence[int]], Sequence[Sequence[int]]]:
    return tokenizer.encode_for_model(records.texts, records.text_pairs, sequence_length=sequence_length)
