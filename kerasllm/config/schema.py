"""What a run config may say: one pydantic model a section, one sentence a field.

Fields whose default is `None` are derived from the data or the checkpoint by the rules in
`kerasllm.config.defaults` and written out in the run's `config.yaml`.
"""

import difflib
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from kerasllm.config.augmentation import AugmentationConfig
from kerasllm.config.model import LoRAConfig, ModelConfig
from kerasllm.config.section import (
    Count,
    Files,
    Fraction,
    Section,
    Text,
)
from kerasllm.config.training import ParameterGroupConfig, TrainingConfig

__all__ = [
    "CLEANING_STEPS",
    "MONITORS",
    "DataConfig",
    "EvaluationConfig",
    "ExportConfig",
    "LoRAConfig",
    "ModelConfig",
    "ParameterGroupConfig",
    "RunConfig",
    "TrainingConfig",
]

Task = Literal["text_classification", "masked_language_modeling"]
if TYPE_CHECKING:  # a mapping with such keys is then a mapping of text, too
    Role = str
else:
    Role = Literal["text", "text_pair", "label"]
CleaningStep = Literal[
    "strip", "unicode_nfc", "html_entities", "control_characters", "drop_empty", "drop_duplicates"
]
CLEANING_STEPS: tuple[str, ...] = CleaningStep.__args__  # type: ignore[attr-defined]

# What is measured on the validation rows of each task; the first is what decides where nothing is said.
MONITORS: dict[str, tuple[str, ...]] = {
    "text_classification": (
        "val_macro_f1",
        "val_weighted_f1",
        "val_micro_f1",
        "val_accuracy",
        "val_loss",
        "val_log_loss",
        "val_brier_score",
        "val_calibration_error",
    ),
    "masked_language_modeling": ("val_loss", "val_perplexity", "val_token_accuracy"),
}


class DataConfig(Section):
    """Which rows to learn from, and how they become texts and labels."""

    train: Files | None = Field(
        default=None, description="File or files to train on; left out only where Python passes the data."
    )
    validation: Fraction | Files | None = Field(
        default=0.1,
        description="Share of the training rows held out to choose the best epoch, or files; none for none.",
    )
    test: Fraction | Files | None = Field(
        default=None,
        description="Share of the training rows held out for the final figures, or files; none for none.",
    )
    split_seed: Annotated[int, Field(ge=0, le=2**32 - 1)] | None = Field(
        default=None, description="Seed of the splits and of `max_rows`; `seed` when left out."
    )
    columns: dict[Role, Text] | None = Field(
        default=None,
        description="Which column is `text`, `text_pair` and `label`; found by their names when left out.",
    )
    labels: (
        Annotated[list[Text], Field(min_length=2)] | Annotated[dict[Text, Text], Field(min_length=2)] | None
    ) = Field(
        default=None,
        description="Classes in order, or a map from the file's values to classes; found when left out.",
    )
    other_labels: Literal["error", "drop"] = Field(
        default="error", description="What happens to rows whose label is not among `labels`."
    )
    encoding: Text = Field(default="utf-8", description="Character encoding of text files.")
    sequence_length: Annotated[int, Field(ge=8)] | None = Field(
        default=None,
        description="Tokens kept of each text; derived from the lengths in the training data when left out.",
    )
    split_special_tokens: bool = Field(
        default=False,
        description="Whether special tokens that users wrote into a text, such as `[SEP]`, are read as text, "
        "in training, in `predict` and on the server.",
    )
    cache: Text | None = Field(
        default="auto",
        description="Directory in which token ids are kept from run to run; auto for one in the user's cache "
        "directory, none to keep them in memory.",
    )
    cleaning: list[CleaningStep] = Field(
        default=["strip", "drop_duplicates"], description="Cleaning steps, run in this order."
    )
    remove_leaks: bool = Field(
        default=True,
        description="Whether training rows whose text is also in validation or test (case and white space "
        "aside) are left out.",
    )
    max_bad_rows: Annotated[int, Field(ge=0)] = Field(
        default=0, description="How many unreadable rows may be dropped before that is an error."
    )
    cast_text: bool = Field(
        default=False,
        description="Whether numbers in a text column are read as text instead of being an error.",
    )
    fix_unicode: bool = Field(
        default=False,
        description="Whether halves of characters (lone surrogates) become U+FFFD instead of being an error.",
    )
    max_rows: Count | None = Field(
        default=None,
        description="At most this many rows of each split, drawn by the seed; none for all.",
    )

    @model_validator(mode="after")
    def _labels_once(self) -> "DataConfig":
        if isinstance(self.labels, list) and len(set(self.labels)) < len(self.labels):
            twice = sorted({label for label in self.labels if self.labels.count(label) > 1})
            raise ValueError(f"`data.labels` names {twice} more than once; name each class once")
        return self

    @model_validator(mode="after")
    def _rows_left_to_train_on(self) -> "DataConfig":
        fractions = [part for part in (self.validation, self.test) if isinstance(part, float)]
        if sum(fractions) >= 1:
            raise ValueError(
                f"`data.validation` and `data.test` together take {sum(fractions):.0%} of the training rows; "
                "leave some to train on"
            )
        return self


class EvaluationConfig(Section):
    """How the final figures are made."""

    batch_size: Count = Field(default=64, description="Rows a forward pass.")
    confidence: Fraction = Field(default=0.95, description="Confidence level of the bootstrap intervals.")
    num_bootstrap: Annotated[int, Field(ge=100)] = Field(
        default=1000, description="Resamplings behind each interval."
    )
    report: bool = Field(default=True, description="Whether `report.html` is written.")


class ExportConfig(Section):
    """Where the SavedModel goes when training is done."""

    path: Text | None = Field(
        default=None, description="Directory that gets a numbered version; none to skip the export."
    )
    dtype: Literal["float32", "bfloat16", "float16"] = Field(
        default="float32", description="Precision of the exported weights."
    )
    version: Count | None = Field(
        default=None, description="Number of the version; one more than the newest when left out."
    )


class RunConfig(Section):
    """Everything that decides a run."""

    task: Task = Field(description="What the model learns to do.")
    preset: Text = Field(
        description="Checkpoint: a directory, `hf://`, `kaggle://` or `pypi://` handle, or KerasHub name."
    )
    output_dir: Text | None = Field(
        default=None,
        description="Run directory; an unfinished run of this config in it goes on, else a time is appended "
        "when it exists; derived when left out.",
    )
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] = Field(
        default=0, description="Seed of the splits, the order, the new weights and the dropout."
    )
    seeds: Annotated[list[Annotated[int, Field(ge=0, le=2**32 - 1)]], Field(min_length=2)] | None = Field(
        default=None,
        description="Seeds of several runs with the same splits, in directories of their own below "
        "`output_dir`, whose best is kept, with mean and deviation of the figures; none for one run.",
    )
    data: DataConfig = Field(default_factory=DataConfig, description=DataConfig.__doc__)
    augmentation: list[AugmentationConfig] = Field(
        default=[],
        description="What is done to the training texts, each epoch otherwise, in this order: a list of "
        "`{name: random_deletion, rate: 0.1}` and the like.",
    )
    model: ModelConfig = Field(default_factory=ModelConfig, description=ModelConfig.__doc__)
    training: TrainingConfig = Field(default_factory=TrainingConfig, description=TrainingConfig.__doc__)
    evaluation: EvaluationConfig = Field(
        default_factory=EvaluationConfig, description=EvaluationConfig.__doc__
    )
    export: ExportConfig = Field(default_factory=ExportConfig, description=ExportConfig.__doc__)

    @model_validator(mode="after")
    def _patience_has_something_to_watch(self) -> "RunConfig":
        for name in ("patience", "patience_steps", "evaluate_every", "average_checkpoints"):
            if getattr(self.training, name) is not None and self.data.validation is None:
                raise ValueError(
                    f"`training.{name}` needs validation rows to watch, but `data.validation` is none; "
                    f"set `data.validation` to a fraction such as 0.1, or leave `training.{name}` out"
                )
        return self

    @model_validator(mode="after")
    def _packed_rows_hold_a_text(self) -> "RunConfig":
        longest, row = self.data.sequence_length, self.training.packing_length
        if longest is not None and row is not None and row < longest:
            raise ValueError(
                f"`training.packing_length` is {row}, but texts have up to {longest} tokens "
                "(`data.sequence_length`) and are never split; set `training.packing_length` to "
                f"{longest} or more"
            )
        return self

    @model_validator(mode="after")
    def _seeds_differ(self) -> "RunConfig":
        if self.seeds is not None and len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"`seeds` is {self.seeds}, which names one twice; name each seed once")
        return self

    @model_validator(mode="after")
    def _adapters_leave_the_backbone_frozen(self) -> "RunConfig":
        if self.model.lora is not None and self.training.unfreeze is not None:
            raise ValueError(
                "`training.unfreeze` trains layers of the backbone, which `model.lora` leaves frozen; set "
                "one of the two"
            )
        return self

    @model_validator(mode="after")
    def _one_mixup(self) -> "RunConfig":
        names = [entry.name for entry in self.augmentation]
        if names.count("mixup") > 1:
            raise ValueError("`augmentation` has `mixup` more than once; leave one, as each mixes all texts")
        if "mixup" in names and self.training.r_drop:
            raise ValueError(
                "`augmentation` has `mixup`, and `training.r_drop` compares two passes over each text, which "
                "mixed texts do not have; leave one of the two out"
            )
        return self

    @model_validator(mode="after")
    def _synonyms_are_there(self) -> "RunConfig":
        for number, entry in enumerate(self.augmentation):
            wants = getattr(entry, "source", None) == "synonyms"
            if wants and entry.synonyms is None:  # type: ignore[union-attr]
                raise ValueError(
                    f"`augmentation[{number}]` has the source 'synonyms', but no `synonyms`; give a mapping "
                    "such as `{good: [fine, nice]}`, or a JSON file of one"
                )
        return self

    @model_validator(mode="after")
    def _one_average(self) -> "RunConfig":
        if self.training.ema is not None and self.training.average_checkpoints is not None:
            raise ValueError(
                "`training.ema` and `training.average_checkpoints` both average the weights, and only one of "
                "them can be what is measured and kept; leave one out"
            )
        return self

    @model_validator(mode="after")
    def _monitor_exists(self) -> "RunConfig":
        monitor, known = self.training.monitor, MONITORS[self.task]
        if monitor is not None and monitor not in known:
            close = difflib.get_close_matches(monitor, known, n=1, cutoff=0.5)
            meant = f"; did you mean `{close[0]}`" if close else ""
            raise ValueError(
                f"`training.monitor` is {monitor!r}, but `{self.task}` has the figures "
                f"{', '.join(sorted(known))}{meant}"
            )
        return self

    @model_validator(mode="after")
    def _class_weights_name_classes(self) -> "RunConfig":
        weights, labels = self.training.class_weights, self.data.labels
        if isinstance(weights, dict) and labels is not None:
            names = set(labels.values() if isinstance(labels, dict) else labels)
            if set(weights) != names:
                raise ValueError(
                    f"`training.class_weights` has {sorted(weights)}, but the classes are {sorted(names)}; "
                    f"give each class a weight"
                )
        return self
