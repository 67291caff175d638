"""The section `training` of a run config: how the weights are changed."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from kerasllm.config.section import Count, Fraction, NotNegative, Positive, Section, Share, Text

__all__ = ["ParameterGroupConfig", "TrainingConfig"]


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
        "memory, slower steps, the same result.",
    )
    jit_compile: bool = Field(
        default=False,
        description="Whether XLA compiles the training step, once for each width of the batches "
        "(`num_widths`): faster on GPUs, tens of seconds more at the start; not worth it on CPUs.",
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
    def _unfreezing_goes_on(self) -> "TrainingConfig":
        layers = self.unfreeze or []
        if layers != sorted(layers):
            raise ValueError(
                f"`training.unfreeze` is {layers}, but layers that are trained stay so; give numbers that do "
                f"not fall, such as {sorted(layers)}"
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
