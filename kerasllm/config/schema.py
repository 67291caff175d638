"""What a run config may say: one pydantic model a section, one sentence a field.

Fields whose default is `None` are derived from the data or the checkpoint by the rules in
`kerasllm.config.defaults` and written out in the run's `config.yaml`.
"""

import difflib
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from kerasllm.config.augmentation import AugmentationConfig
from kerasllm.config.section import (
    Count,
    Files,
    Fraction,
    NotNegative,
    Positive,
    Section,
    Share,
    Text,
)

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
AdapterRole = Literal["query", "key", "value", "output", "feed_forward", "all"]
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


class LoRAConfig(Section):
    """Small matrices that are trained beside the frozen backbone, instead of all its weights."""

    rank: Count = Field(default=8, description="Width of the small matrices.")
    alpha: Positive = Field(
        default=16.0, description="Their product is scaled by alpha / rank, or alpha / sqrt(rank)."
    )
    dropout: Share = Field(default=0.0, description="Dropout rate of what goes into them.")
    roles: Annotated[list[AdapterRole], Field(min_length=1)] = Field(
        default=["query", "value"],
        description="Which dense layers get them; `all` for every one.",
    )
    rank_stabilized: bool = Field(
        default=False, description="Whether the scale is alpha / sqrt(rank) (rsLoRA), which suits high ranks."
    )
    dora: bool = Field(
        default=False,
        description="Whether the length of each column of the matrices is learned by itself (DoRA).",
    )
    quantize_base: Literal["none", "int8"] = Field(
        default="none", description="Whether the frozen matrices are kept in 8 bits (QLoRA)."
    )


class ModelConfig(Section):
    """What is put on top of the pretrained backbone, and what of it is trained."""

    pooling: Literal["auto", "cls", "mean"] = Field(
        default="auto",
        description="How token vectors become one: the first, the mean, or what fits the checkpoint.",
    )
    dropout: Share | None = Field(
        default=None, description="Dropout rate in backbone and head; the checkpoint's own when left out."
    )
    lora: LoRAConfig | None = Field(
        default=None, description="Adapters to train instead of all weights; none to train all weights."
    )


class ParameterGroupConfig(Section):
    """What is different about the weights whose path a pattern is found in."""

    pattern: Text = Field(description="Regular expression, searched anywhere in the path of a weight.")
    learning_rate_multiplier: Positive | None = Field(
        default=None, description="Their learning rate is this times the run's."
    )
    weight_decay: NotNegative | None = Field(default=None, description="Their weight decay; 0 for none.")
    frozen: bool | None = Field(
        default=None, description="Whether they are not trained, and cost no memory of the optimizer."
    )


class TrainingConfig(Section):
    """How the weights are changed."""

    epochs: Count = Field(default=3, description="Passes over the training rows.")
    batch_size: Count = Field(default=32, description="Texts of a batch; packed rows where `packing` is set.")
    batch_tokens: Annotated[int, Field(ge=8)] | None = Field(
        default=None,
        description="Most tokens of a batch, padding included, in place of `batch_size`; none for that.",
    )
    num_widths: Annotated[int, Field(ge=1, le=64)] | None = Field(
        default=None,
        description="Most padded lengths that batches have: fewer are quicker to compile, more pad less; "
        "derived from the device when left out.",
    )
    packing: bool = Field(
        default=False,
        description="Whether several texts share a row without seeing each other, so that little is padding.",
    )
    packing_length: Annotated[int, Field(ge=8)] | None = Field(
        default=None,
        description="Tokens of a packed row; `data.sequence_length` when left out.",
    )
    gradient_accumulation: Count = Field(
        default=1,
        description="Batches of an optimizer step; their loss is the mean over everything in them.",
    )
    learning_rate: Positive | Literal["auto"] = Field(
        default=5.0e-5,
        description="Highest learning rate of the schedule; auto finds one in a short search before the run.",
    )
    optimizer: Literal["adamw", "adafactor", "lion", "muon"] = Field(
        default="adamw", description="What turns gradients into changes of the weights."
    )
    beta_1: Share | None = Field(
        default=None, description="Decay of the mean of the gradients; the optimizer's own when left out."
    )
    beta_2: Share | None = Field(
        default=None, description="Decay of the mean of their squares; the optimizer's own when left out."
    )
    epsilon: Positive | None = Field(
        default=None, description="Added to the divisor; the optimizer's own when left out."
    )
    weight_decay: NotNegative = Field(
        default=0.01, description="Decoupled weight decay; biases and norms are never decayed."
    )
    warmup: Share | Count = Field(
        default=0.1,
        description="Share of all steps, or number of steps, in which the learning rate rises from zero.",
    )
    schedule: Literal["linear", "cosine", "constant", "inverse_sqrt", "one_cycle"] = Field(
        default="linear", description="How the learning rate falls after the warm-up."
    )
    layer_decay: Annotated[float, Field(gt=0, le=1)] | None = Field(
        default=None,
        description="Factor of the learning rate from each layer to the one below; none for one rate.",
    )
    groups: list[ParameterGroupConfig] | None = Field(
        default=None, description="Weights with a learning rate or weight decay of their own, or frozen."
    )
    unfreeze: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)] | None = Field(
        default=None,
        description="Layers below the head that are trained in the first epoch, the second, and so on; the "
        "last number holds from there on; none to train all from the start.",
    )
    gradient_clip: Positive | None = Field(
        default=1.0, description="Largest norm of the gradient, see `clip_by`; none for no clipping."
    )
    clip_by: Literal["global_norm", "norm", "value"] = Field(
        default="global_norm",
        description="What `gradient_clip` limits: the norm of all gradients, of each, or each value.",
    )
    ema: Fraction | None = Field(
        default=None,
        description="Decay of averaged weights, such as 0.999, which are then evaluated and kept; none for "
        "the weights themselves.",
    )
    loss: Literal["auto", "crossentropy", "focal"] = Field(
        default="auto",
        description="What is minimised; focal looks away from what is right already; auto is cross-entropy.",
    )
    focal_gamma: NotNegative = Field(
        default=2.0, description="How strongly the focal loss looks away; 0 is the cross-entropy."
    )
    average_checkpoints: Annotated[int, Field(ge=2)] | None = Field(
        default=None,
        description="How many of the last epochs' checkpoints are averaged at the end; the mean is kept "
        "where it is better than the best of them; none for no average.",
    )
    label_smoothing: Share = Field(
        default=0.0, description="Share of each target that is spread over the other classes."
    )
    r_drop: NotNegative = Field(
        default=0.0,
        description="Weight of how much two passes with different dropout may differ, at the cost of the "
        "second pass; 0 for one pass.",
    )
    class_weights: Literal["balanced"] | dict[Text, Positive] | None = Field(
        default=None,
        description="Weight of each class in the loss, or `balanced` for inverse frequency; none for equal.",
    )
    monitor: Text | None = Field(
        default=None,
        description="The validation figure that decides which state is the best, such as `val_accuracy`; "
        "`val_macro_f1` of a classifier when left out.",
    )
    patience: Count | None = Field(
        default=None,
        description="Epochs without improvement after which training stops; none to run them all.",
    )
    patience_steps: Count | None = Field(
        default=None,
        description="Steps without improvement after which training stops; none to run them all.",
    )
    evaluate_every: Count | None = Field(
        default=None,
        description="Steps between two evaluations, beside the one after each epoch; none for that one only.",
    )
    checkpoint_every: Count | None = Field(
        default=None,
        description="Steps between two checkpoints, beside the one after each epoch; none for that one only.",
    )
    tensorboard: bool = Field(
        default=False, description="Whether to write `logs/` for TensorBoard, an extra to be installed."
    )
    dtype_policy: Literal["auto", "float32", "mixed_bfloat16", "mixed_float16"] = Field(
        default="auto", description="Precision of the computation; auto is what the device computes natively."
    )
    gradient_checkpointing: bool = Field(
        default=False,
        description="Whether layers are computed once more for their gradient instead of being kept: less "
        "memory, about a third slower, the same result.",
    )
    on_nonfinite: Literal["stop", "safer_policy"] = Field(
        default="stop",
        description="At a loss or gradient that is no number: stop, or go on from the last good state in "
        "the next more exact dtype policy.",
    )

    @model_validator(mode="after")
    def _packing_length_needs_packing(self) -> "TrainingConfig":
        if self.packing_length is not None and not self.packing:
            raise ValueError(
                f"`training.packing_length` is {self.packing_length}, but nothing is packed; set "
                "`training.packing` to true, or leave `training.packing_length` out"
            )
        return self

    @model_validator(mode="after")
    def _focal_loss_has_hard_targets(self) -> "TrainingConfig":
        if self.loss == "focal" and self.label_smoothing:
            raise ValueError(
                f"`training.label_smoothing` is {self.label_smoothing}, but the focal loss has none; set it "
                "to 0, or `training.loss` to crossentropy"
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
    def _monitor_exists(self) -> "RunConfig":
        monitor, known = self.training.monitor, MONITORS[self.task]
        if monitor is not None and monitor not in known:
            close = difflib.get_close_matches(monitor, known, n=1, cutoff=0.5)
            meant = f" Did you mean `{close[0]}`?" if close else ""
            raise ValueError(
                f"`training.monitor` is {monitor!r}, but `{self.task}` has the figures "
                f"{', '.join(sorted(known))}.{meant}"
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
