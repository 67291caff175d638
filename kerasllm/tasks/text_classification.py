"""The text classifier: predict, evaluate, save and export of a fine-tuned model."""

import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, cast, overload

import keras
import numpy as np
import tensorflow as tf

from kerasllm.data.labels import LabelMap, select_labels
from kerasllm.data.reading import read_records, stream_records
from kerasllm.data.records import Records
from kerasllm.errors import DataError, ExportError, PresetError
from kerasllm.evaluation.evaluator import Evaluation, evaluate_classification
from kerasllm.evaluation.seeds import SeedFigures
from kerasllm.export.hugging_face import export_hugging_face
from kerasllm.export.saved_model import export_saved_model
from kerasllm.export.signatures import ClassificationModule
from kerasllm.models.builders import build_trained_classifier, load_classifier, save_weights
from kerasllm.models.heads import Classifier
from kerasllm.models.presets import Preset
from kerasllm.models.twins import to_dtype
from kerasllm.serving.exported_model import ExportedModel
from kerasllm.serving.results import Classification
from kerasllm.tasks.model_directory import read_model_directory, write_model_directory
from kerasllm.tokenization.tokenizer import Tokenizer

_ROWS_A_CALL = 256


class TextClassifier:
    """A fine-tuned text classifier: text in, label and scores out.

    Made by `kerasllm.finetune` and `kerasllm.load`. Its answers are computed by the graph that `export`
    writes, so what Python says is what the server says.

    Args:
        keras_model: Plain Keras model from token ids to logits `float32[batch, num_classes]`.
        tokenizer: The checkpoint's tokenizer.
        label_map: Names of the classes, in the order of the logits.
        sequence_length: Tokens kept of each text.
        pair: Whether an input is two texts. Defaults to `False`.
        preset: Handle of the checkpoint that training began from.
        label_names: Class by the value that stands in the data, where training renamed them, so that
            `evaluate` understands files like the training data. Defaults to `None`.
        columns: Columns of the training data that were told, so that files like it need no telling.
            Defaults to `None`.

    Attributes:
        history: Keras' logs, one dict an epoch; empty for a loaded model.
        evaluation: Figures on the test rows, or on the validation rows where there are none; or `None`.
        run_directory: Where the run was written, or `None`.
        seeds: Figures of all seeds, where there were several; this classifier is the best of them.

    Example:
    >>> classifier = kerasllm.load("runs/sentiment")
    >>> classifier.predict(["A joy from start to end."])
    [Classification(label='positive', score=0.97)]
    """

    task = "text_classification"

    def __init__(
        self,
        keras_model: Classifier,
        tokenizer: Tokenizer,
        *,
        label_map: LabelMap,
        sequence_length: int,
        pair: bool = False,
        preset: str = "",
        label_names: Mapping[str, str] | None = None,
        columns: Mapping[str, str] | None = None,
    ):
        self.keras_model = keras_model
        self.tokenizer = tokenizer
        self.label_map = label_map
        self.sequence_length = sequence_length
        self.pair = pair
        self.preset = preset
        self.label_names = dict(label_names or {})
        self.columns = dict(columns or {})
        self.history: list[dict[str, float]] = []
        self.evaluation: Evaluation | None = None
        self.run_directory: Path | None = None
        self.exported: ExportedModel | None = None
        self.seeds: SeedFigures | None = None

    def __repr__(self) -> str:
        return f"TextClassifier(labels={list(self.labels)}, sequence_length={self.sequence_length})"

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the logits."""
        return self.label_map.names

    # Predict -------------------------------------------------------------------------------------------

    def predict(self, texts: str | Sequence[Any], *, batch_size: int = _ROWS_A_CALL) -> list[Classification]:
        """Classifies texts.

        Args:
            texts: One text or many; for a classifier of pairs, `(text, text_pair)` tuples.
            batch_size: Texts a forward pass. Defaults to 256; inside, texts are sorted by length and run
                in small chunks, so the answer does not depend on it.

        Returns:
            One result a text: `label`, `score` and `scores`, a dict of all labels. A multi-label
            classifier scores each label by itself; `label` is the likeliest.

        Raises:
            DataError: If an input is not a text (or not a pair of them).
        """
        rows = [texts] if isinstance(texts, str) else list(texts)
        scores = self.scores(rows, batch_size=batch_size)
        return [Classification.from_scores(self.labels, row) for row in scores]

    def scores(self, rows: Sequence[Any], *, batch_size: int = _ROWS_A_CALL) -> np.ndarray:
        """Scores of texts, `float32[num_texts, num_classes]`: softmax, or a sigmoid each if multi-label."""
        columns = self._columns(rows)
        found = [np.zeros((0, len(self.labels)), np.float32)]
        for start in range(0, len(rows), batch_size):
            inputs = [tf.constant(column[start : start + batch_size]) for column in columns]
            found.append(self.module.serve(*inputs)["scores"].numpy())
        return np.concatenate(found)

    def predict_file(
        self, path: str | Path, *, columns: dict[str, str] | None = None, batch_size: int = 256
    ) -> Iterator[dict[str, Any]]:
        """Classifies the rows of a file of any size, holding only one batch in memory.

        Args:
            path: CSV, TSV, JSON Lines, Parquet or plain text (one text a line), also compressed; `-` for
                standard input.
            columns: Which columns are `text` and `text_pair`; those of the training data, or found by name,
                when left out.
            batch_size: Rows held at a time. Defaults to 256.

        Yields:
            One JSON-able dict a row: the texts, `label`, `score` and `scores`.
        """
        for records in stream_records(
            path, columns=columns, usual_columns=self.columns, batch_size=batch_size
        ):
            rows = _rows(records, pair=self.pair)
            for row, result in zip(rows, self.predict(rows), strict=True):
                texts = dict(zip(("text", "text_pair"), row if self.pair else (row,), strict=False))
                yield {**texts, **result.to_dict()}

    # Evaluate ------------------------------------------------------------------------------------------

    def evaluate(
        self,
        data: Any,
        *,
        columns: dict[str, str] | None = None,
        batch_size: int = _ROWS_A_CALL,
        confidence: float = 0.95,
        num_bootstrap: int = 1000,
        seed: int = 0,
    ) -> Evaluation:
        """Measures the classifier on labelled data.

        Args:
            data: Anything that `finetune` takes as training data.
            columns: Which columns are `text`, `text_pair` and `label`; those of the training data, or found
                by name, when left out.
            batch_size: Texts a forward pass. Defaults to 256.
            confidence: Of the bootstrap intervals. Defaults to 0.95.
            num_bootstrap: Resamplings behind each interval. Defaults to 1000.
            seed: Of the bootstrap. Defaults to 0.

        Returns:
            Accuracy, F1, calibration and intervals; see `Evaluation`.

        Raises:
            DataError: If the data cannot be read, or has a label that the classifier does not know.
        """
        records = read_records(data, columns=columns, usual_columns=self.columns, task=self.task)
        if self.label_names:
            known = {**self.label_names, **{name: name for name in self.labels}}
            records = select_labels(records, known)[0]
        rows = _rows(records, pair=self.pair)
        return evaluate_classification(
            self.label_map.encode(records),
            self.scores(rows, batch_size=batch_size),
            labels=self.labels,
            multi_label=self.label_map.multi_label,
            confidence=confidence,
            num_bootstrap=num_bootstrap,
            seed=seed,
            texts=[" | ".join(row) for row in rows] if self.pair else rows,
        )

    # Save, load, export --------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Writes the model directory: weights, config, tokenizer and labels, with hashes.

        Args:
            path: Directory to make; it must not exist.

        Raises:
            ResourceError: If it exists or cannot be written; nothing half-written stays.
        """

        def write_files(folder: Path) -> None:
            save_weights(self.keras_model, folder)
            self.tokenizer.save(folder)

        metadata = {
            "kind": "task_model",
            "task": self.task,
            "preset": self.preset,
            "label_map": self.label_map.to_dict(),
            "sequence_length": self.sequence_length,
            "pair": self.pair,
            "label_names": self.label_names,
            "columns": self.columns,
            "tokenizer_fingerprint": self.tokenizer.fingerprint,
        }
        return write_model_directory(Path(os.path.abspath(path)), metadata, write_files)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "TextClassifier":
        """Loads a model directory; the answers are bit-equal to those of the model that was saved.

        Raises:
            RunDirectoryError: If a file is missing or damaged, or a newer kerasllm wrote it.
        """
        directory = Path(path)
        metadata = read_model_directory(directory)
        return cls(
            load_classifier(directory),
            Tokenizer.load(directory),
            label_map=LabelMap.from_dict(metadata["label_map"]),
            sequence_length=metadata["sequence_length"],
            pair=metadata["pair"],
            preset=metadata["preset"],
            label_names=metadata["label_names"],
            columns=metadata.get("columns"),
        )

    @classmethod
    def from_preset(cls, preset: Preset) -> "TextClassifier":
        """A classifier from a checkpoint that already has a trained head.

        Raises:
            PresetError: If the checkpoint has no classification head.
        """
        if preset.problem_type == "regression":
            raise PresetError(
                f"`{preset.handle}` was trained to give a number (its problem type is regression), not a "
                "label. Load a checkpoint that is a classifier, or fine-tune this one as one."
            )
        if preset.labels is None:
            raise PresetError(
                f"`{preset.handle}` has no classification head. Fine-tune it with "
                "`kerasllm.finetune(preset, train_data)`, or load a checkpoint that is a classifier."
            )
        multi_label = preset.problem_type == "multi_label_classification"
        label_map = LabelMap(tuple(preset.labels), multi_label=multi_label)
        preset.tokenizer.check_graph()
        return cls(
            build_trained_classifier(preset),
            preset.tokenizer,
            label_map=label_map,
            sequence_length=min(preset.max_sequence_length, preset.tokenizer.model_max_length or 512, 512),
            preset=str(preset.handle),
        )

    @overload
    def export(
        self,
        path: str | os.PathLike[str],
        *,
        version: int | None = None,
        dtype: str = "float32",
        probes: Sequence[Any] = (),
        format: Literal["saved_model"] = "saved_model",
    ) -> ExportedModel: ...

    @overload
    def export(self, path: str | os.PathLike[str], *, format: Literal["huggingface"]) -> Path: ...

    def export(
        self,
        path: str | os.PathLike[str],
        *,
        version: int | None = None,
        dtype: str = "float32",
        probes: Sequence[Any] = (),
        format: Literal["saved_model", "huggingface"] = "saved_model",
    ) -> ExportedModel | Path:
        """Writes `<path>/<version>/`, a SavedModel that a stock TF Serving serves, text in and label out.

        With `format="huggingface"` it is `<path>`, a directory that `transformers.pipeline` loads.

        The written model is read back and compared with Python's own path (the `tokenizers` library, then
        the Keras model) before it is published.

        Args:
            path: Directory of the served model, or the new Hugging Face directory.
            version: Number of the version. Defaults to one more than the newest.
            dtype: Precision of the weights: `"float32"`, `"bfloat16"` or `"float16"`. Defaults to float32.
            probes: Further inputs for the comparison, for example rows of the training data.
            format: `"saved_model"` or `"huggingface"`, for which version, dtype and probes say nothing.
                Defaults to `"saved_model"`.

        Returns:
            The exported model, or the path of the Hugging Face directory.

        Raises:
            ExportError: If the written model answers otherwise, or a server could not run it; no version
                appears. If transformers has no class that computes this model.
        """
        if format == "huggingface":
            return self._export_hugging_face(Path(os.path.abspath(path)))
        if format != "saved_model":
            raise ExportError(f"The format {format!r} is unknown. Choose 'saved_model' or 'huggingface'.")
        names = ("text", "text_pair") if self.pair else ("text",)
        columns = self._columns(list(probes))
        folder = export_saved_model(
            Path(os.path.abspath(path)),
            self._module(dtype),
            reference=self._reference_scores,
            probes=dict(zip(names, columns, strict=True)),
            version=version,
            metadata={"task": self.task, "preset": self.preset},
        )
        return ExportedModel(folder)

    def _export_hugging_face(self, path: Path) -> Path:
        facts = {} if self.evaluation is None else {"Evaluation": f"`{self.evaluation}`"}
        if self.pair:
            facts["Input"] = 'Pairs of texts: `model({"text": "…", "text_pair": "…"})`.'
        return export_hugging_face(
            self.keras_model,
            self.tokenizer,
            path,
            base_model=str(self.preset),
            sequence_length=self.sequence_length,
            facts=facts,
        )

    @cached_property
    def module(self) -> ClassificationModule:
        """The served graph, as Python calls it."""
        return self._module("float32")

    def _module(self, dtype: str) -> ClassificationModule:
        return ClassificationModule(
            self.keras_model,
            self.tokenizer,
            labels=self.labels,
            sequence_length=self.sequence_length,
            multi_label=self.label_map.multi_label,
            pair=self.pair,
            dtype=dtype,
        )

    def _reference_scores(self, *columns: Sequence[str]) -> np.ndarray:
        """Scores by the other road: eager tokenizer, one padded batch, plain Keras model in float32."""
        ids, segments = self.tokenizer.encode_for_model(*columns, sequence_length=self.sequence_length)
        width = max(map(len, ids))
        inputs = {
            "token_ids": [row + [self.tokenizer.pad_id] * (width - len(row)) for row in ids],
            "padding_mask": [[1] * len(row) + [0] * (width - len(row)) for row in ids],
            "segment_ids": [row + [0] * (width - len(row)) for row in segments],
        }
        arrays = {name: np.asarray(rows, np.int32) for name, rows in inputs.items()}
        logits = to_dtype(self.keras_model, "float32")(arrays, training=False)
        squash = keras.ops.sigmoid if self.label_map.multi_label else keras.ops.softmax
        return np.asarray(keras.ops.convert_to_numpy(squash(logits)))

    def _columns(self, rows: Sequence[Any]) -> list[list[str]]:
        wanted = "a pair of strings" if self.pair else "a string"
        for number, row in enumerate(rows):
            parts = tuple(row) if self.pair and isinstance(row, (tuple, list)) else (row,)
            if len(parts) != 1 + self.pair or not all(isinstance(part, str) for part in parts):
                raise DataError(
                    f"Input {number} is {str(row)[:40]!r} ({type(row).__name__}), but this classifier takes "
                    f"{wanted} each. Pass a list of "
                    + ("`(text, text_pair)` tuples; in the shell, two texts." if self.pair else "texts.")
                )
        if not self.pair:
            return [cast("list[str]", list(rows))]
        return [[row[0] for row in rows], [row[1] for row in rows]]


def _rows(records: Records, *, pair: bool) -> list[Any]:
    if not pair:
        return records.texts
    if records.text_pairs is None:
        raise DataError(
            f"Of `{records.source}`, one column was read as text, but this classifier takes pairs. "
            "Name both, e.g. `columns={'text': 'premise', 'text_pair': 'hypothesis'}` or "
            "`-s data.columns.text=premise -s data.columns.text_pair=hypothesis`."
        )
    return list(zip(records.texts, records.text_pairs, strict=True))
