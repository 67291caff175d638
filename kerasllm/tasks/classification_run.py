"""The steps of a classification run, from prepared records to a finished classifier."""

import logging
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kerasllm.config.defaults import resolve
from kerasllm.config.dumping import dump_config
from kerasllm.config.loading import load_config
from kerasllm.config.schema import RunConfig
from kerasllm.data.audit import audit, token_facts
from kerasllm.data.augmentation.building import build
from kerasllm.data.epochs import MOST_WIDTHS
from kerasllm.data.findings import token_warnings
from kerasllm.data.labels import LabelMap
from kerasllm.data.prepare import PreparedData, PreparedTexts
from kerasllm.data.problems import plural
from kerasllm.data.records import Records
from kerasllm.data.token_ids import EncodedTexts, TokenIds
from kerasllm.errors import KerasLLMError
from kerasllm.evaluation.report import write_report
from kerasllm.models.adapters import merge_lora
from kerasllm.models.builders import build_classifier
from kerasllm.models.heads import Classifier
from kerasllm.models.labels import PROBLEM_TYPES
from kerasllm.models.packing import set_packing
from kerasllm.models.precision import resolve_dtype_policy
from kerasllm.models.presets import Preset
from kerasllm.resources.store import origin
from kerasllm.tasks.adaptation import adapt
from kerasllm.tasks.encoding import encode_texts
from kerasllm.tasks.text_classification import TextClassifier
from kerasllm.tokenization.tokenizer import Tokenizer
from kerasllm.training.automatic_rate import automatic_learning_rate
from kerasllm.training.checkpoints import RunState
from kerasllm.training.classification import TrainingData, classification_problem
from kerasllm.training.plan import Plan, make_plan
from kerasllm.training.problem import Problem
from kerasllm.training.resuming import check_resumed, warn_of_other_versions
from kerasllm.training.run_directory import RunDirectory, read_run_manifest
from kerasllm.training.trainer import TrainingResult

_log = logging.getLogger("kerasllm")
_PROBES = 32


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
    train = _tokens(tokenizer, prepared.train, None, config.data.cache)
    config = resolve(
        config,
        token_lengths=train.lengths.tolist(),
        max_sequence_length=preset.max_sequence_length,
        labels=label_map.names,
        pooling=preset.default_pooling,
        dtype_policy=resolve_dtype_policy(config.training.dtype_policy),
        num_widths=8 if tf.config.list_physical_devices("GPU") else MOST_WIDTHS,
    )
    sequence_length = config.data.sequence_length or preset.max_sequence_length
    facts = token_facts(
        prepared.train,
        (train.ids(text).tolist() for text in range(train.num_texts)),
        sequence_length=sequence_length,
        special_ids=tokenizer.special_ids,
    )
    for warning in token_warnings("train", facts):
        _log.warning(warning)
    if train.lengths.max() > sequence_length:
        train = _tokens(tokenizer, prepared.train, sequence_length, config.data.cache)
    targets = label_map.encode(prepared.train)
    weights = class_weights(config.training.class_weights, targets, label_map)
    validation = None
    if prepared.validation is not None:
        found = _tokens(tokenizer, prepared.validation, sequence_length, config.data.cache)
        validation = EncodedTexts.from_token_ids(found, label_map.encode(prepared.validation))
    data = TrainingData(
        train=EncodedTexts.from_token_ids(train, targets, class_weights=weights),
        validation=validation,
        pad_id=tokenizer.pad_id,
        num_classes=len(label_map.names),
        multi_label=label_map.multi_label,
        augmentation=_layers(augmentation, tokenizer, preset, train.token_ids, config.seed),
    )
    return EncodedRun(config, tokenizer, data, facts["truncated_share"])


def _layers(
    augmentation: Sequence[Any], tokenizer: Tokenizer, preset: Preset, ids: np.ndarray, seed: int
) -> tuple[Any, ...]:
    if not augmentation:
        return ()

    def counts() -> np.ndarray:
        return np.bincount(ids, minlength=tokenizer.vocabulary_size)

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


def with_learning_rate(
    config: RunConfig, model: keras.Model, problem: Problem, run: RunDirectory
) -> RunConfig:
    """The config with a number for its learning rate: searched where it is `auto`, once in a run."""
    if config.training.learning_rate != "auto":
        return config
    if run.goes_on:
        known = load_config(run.path / "config.yaml").training.learning_rate
        if known != "auto":  # else it was stopped before one was found
            return resolve(config, learning_rate=known)
    return resolve(config, learning_rate=automatic_learning_rate(model, problem, config.training))


def record_inputs(
    run: RunDirectory,
    config: RunConfig,
    prepared: PreparedData | PreparedTexts,
    preset: Preset,
    *,
    resume: bool,
) -> RunConfig:
    """Writes what the run really uses, or refuses to go on in a run that used something else.

    Args:
        run: The run directory.
        config: Fully resolved.
        prepared: Clean records.
        preset: The checkpoint.
        resume: Whether the user asked to go on; else a new run is made beside one that used something else.

    Returns:
        The config as written, with the real `output_dir`.

    Raises:
        ConfigError: If a setting that decides the weights differs; lists them.
        DataError: If the data differs.
        RunDirectoryError: If the run has finished.
    """
    data = data_fingerprint(prepared)
    if run.goes_on:
        try:
            check_resumed(run.path, config, data)
        except KerasLLMError as error:
            if resume:
                raise
            run.start_anew(dump_config(config))
            _log.warning("%s This is a new run, in `%s`.", error, run.path)
        else:
            warn_of_other_versions(read_run_manifest(run.path))
    config = config.model_copy(update={"output_dir": str(run.path)})
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
    for device in tf.config.list_physical_devices("GPU"):
        return str(tf.config.experimental.get_device_details(device).get("device_name", device.name))
    return f"CPU ({os.cpu_count()} cores, {platform.machine()})"


def build_model(encoded: EncodedRun, labels: Sequence[str], preset: Preset) -> Classifier:
    """The classifier to train: backbone, head, dropout, precision and adapters as configured."""
    config = encoded.config
    model = build_classifier(
        preset,
        num_classes=encoded.data.num_classes,
        pooling=config.model.pooling,
        dropout=config.model.dropout,
        dtype_policy=config.training.dtype_policy,
        labels=labels,
        problem_type=PROBLEM_TYPES[encoded.data.multi_label],
    )
    adapt(model, config.model.lora, preset)
    set_packing(model, config.training.packing)
    return model


def plan_run(encoded: EncodedRun, model: keras.Model, prepared: PreparedData) -> Plan:
    """What the run would do; runs one step."""
    return make_plan(
        model,
        classification_problem(encoded.data, encoded.config.training, seed=encoded.config.seed),
        encoded.config.training,
        labels=prepared.label_map.names,
        sequence_length=encoded.config.data.sequence_length or 0,
        num_train=prepared.train.num_rows,
        num_validation=prepared.validation.num_rows if prepared.validation is not None else 0,
        num_test=prepared.test.num_rows if prepared.test is not None else 0,
        truncated_share=encoded.truncated_share,
    )


def finished_classifier(
    model: Classifier, encoded: EncodedRun, prepared: PreparedData, preset: Preset
) -> TextClassifier:
    """The trained weights as a float32 task model, adapters merged: what predicts is what will be served."""
    labels = encoded.config.data.labels
    return TextClassifier(
        merge_lora(model),
        encoded.tokenizer,
        label_map=prepared.label_map,
        sequence_length=encoded.config.data.sequence_length or preset.max_sequence_length,
        pair=prepared.train.has_pairs,
        preset=str(preset.handle),
        label_names=labels if isinstance(labels, dict) else None,
        columns=encoded.config.data.columns,
    )


def evaluate_run(
    classifier: TextClassifier,
    prepared: PreparedData,
    config: RunConfig,
    run: RunDirectory,
    *,
    state: RunState,
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
    selection = {
        "monitor": config.training.monitor,
        "best_value": state.best_value,
        "best_loss": state.best_loss,
        "best_step": state.best_step,
        "best_epoch": state.best_epoch,
    }
    run.write_json("metrics.json", {"split": split, **selection, **classifier.evaluation.to_dict()})


def report_run(
    classifier: TextClassifier,
    prepared: PreparedData,
    config: RunConfig,
    run: RunDirectory,
    *,
    training: Mapping[str, str],
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
        training=training,
    )


def training_facts(result: TrainingResult, problem: Problem, config: RunConfig) -> dict[str, str]:
    """What the report says about the training: which state was kept, and what the batches wasted."""
    state = result.state
    value = "" if state.best_value is None else f": {config.training.monitor} {state.best_value:.4g}"
    facts = {
        "Kept state": f"step {state.best_step:,} of {state.step:,}, in epoch {state.best_epoch}{value}",
        "Padding": f"{problem.train.padding_share:.1%} of the places in the training batches",
        "Precision": state.dtype_policy,
    }
    if result.averaged:
        facts["Kept state"] = f"the mean of the last {config.training.average_checkpoints} epochs{value}"
    if state.dtype_policy != config.training.dtype_policy:
        facts["Precision"] += f", after numbers that were none in {config.training.dtype_policy}"
    return facts


def probe_rows(prepared: PreparedData, *, pair: bool) -> list[Any]:
    """Rows of the training data for the comparison at export; they are compared, never stored."""
    records = prepared.train.take(range(min(_PROBES, prepared.train.num_rows)))
    return list(zip(records.texts, records.text_pairs or [], strict=True)) if pair else records.texts


def data_fingerprint(prepared: PreparedData | PreparedTexts) -> dict[str, str]:
    """A hash of each split, so that a resumed run notices other data."""
    return {name: records.fingerprint for name, records in prepared.by_split.items()}


def _tokens(
    tokenizer: Tokenizer, records: Records, sequence_length: int | None, cache: str | None
) -> TokenIds:
    return encode_texts(
        tokenizer, records.texts, records.text_pairs, sequence_length=sequence_length, cache=cache
    )
