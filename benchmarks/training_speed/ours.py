"""Our training step: `kerasllm.training.step`, on batches of `kerasllm.data.batching`."""

import time

import inputs


class Ours:
    """Trains a slice of steps at a time, as the trainer does.

    Args:
        job: `"reviews"`, `"long"`, `"gpt2"` or `"smollm2"`.
        policy: Keras dtype policy.
        device: `"cpu"` or `"gpu"`.
    """

    def __init__(self, job, policy, device):
        import keras
        import tensorflow as tf

        if device == "gpu":
            tf.config.optimizer.set_jit("autoclustering")
        keras.utils.set_random_seed(0)
        make = _classifier if job in ("reviews", "long") else _language_model
        self.step, self.source = make(job, policy)
        self.device = device
        self.batches = iter(self.source.dataset())
        next(self.batches)  # the first one is the longest, to show at once if memory does not hold it
        self.counts = _counts(self.source)

    def run(self, steps):
        """Steps, input included: what counts of them (texts, or tokens with a target), and seconds."""
        began = time.perf_counter()
        for _ in range(steps):
            self.step([next(self.batches)])
        seconds = time.perf_counter() - began
        return sum(next(self.counts) for _ in range(steps)), seconds

    def peak(self):
        """MiB of the accelerator at most, or `None`."""
        import tensorflow as tf

        if self.device != "gpu":
            return None
        return tf.config.experimental.get_memory_info("GPU:0")["peak"] / 2**20


def counted(batch, is_language):
    """Texts of a batch, or tokens of it that have a target."""
    return int((batch[2] > 0).sum()) if is_language else len(batch[1])


def _counts(source):
    """The same of each batch after the first one."""
    for number in range(1, source.num_batches(0)):
        batch = source.batch(0, number)
        yield counted(batch, batch[1].ndim == 2)


def _compiled(model, objective, source):
    from kerasllm.training.optimizers import build_optimizer
    from kerasllm.training.step import TrainingStep

    settings = {"learning_rate": 5e-5, "weight_decay": 0.01, "clip_norm": 1.0}
    model.compile(build_optimizer(settings, model.trainable_variables, 1000), jit_compile=False)
    return TrainingStep(model, objective, source.element_spec)


def _classifier(job, policy):
    from kerasllm.models.builders import build_classifier
    from kerasllm.training.losses import classification_loss
    from kerasllm.training.objectives.classification import Classification

    source = inputs.classification(job)
    model = build_classifier(inputs.minilm()[1], num_classes=2, dropout=0.1, dtype_policy=policy)
    return _compiled(model, Classification(classification_loss(multi_label=False), 2), source), source


def _language_model(job, policy):
    from kerasllm.training.objectives.causal_language_model import CausalLanguageModel

    model = _gpt2(policy) if job == "gpt2" else _smollm2(policy)
    source = inputs.language(model.backbone.settings.embedding.vocabulary_size)
    return _compiled(model, CausalLanguageModel(), source), source


def _gpt2(policy):
    from kerasllm.models.families import FAMILIES
    from kerasllm.models.heads import ModelWithHead
    from kerasllm.models.transformer.backbone import TransformerBackbone

    family = FAMILIES["gpt2"]
    config = family.with_defaults({**inputs.GPT2, "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0})
    return ModelWithHead(
        TransformerBackbone(family.backbone(config), dtype=policy, name="backbone"),
        family.head(config, "causal_language", 0, tied=True),
        kind="causal_language",
        checkpoint_config=config,
        name="language_model",
    )


def _smollm2(policy):
    from kerasllm.models.builders import build_with_head
    from kerasllm.models.presets import Preset

    return build_with_head(Preset.load(inputs.SMOLLM2), dtype_policy=policy)
