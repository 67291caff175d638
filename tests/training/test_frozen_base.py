"""A run with adapters: no optimizer state, no gradients and no checkpoint of what is frozen."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasllm.errors import CheckpointError
from kerasllm.models.adapters import LoRASettings, add_lora
from kerasllm.models.builders import build_classifier, build_with_head
from kerasllm.models.presets import Preset
from kerasllm.models.quantization import quantize_backbone
from kerasllm.testing import tiny_bert
from kerasllm.training.checkpoints import Checkpoints, RunState
from kerasllm.training.optimizers import build_optimizer

IDS = np.random.default_rng(0).integers(5, 60, (4, 9)).astype(np.int32)
BATCH = {"token_ids": IDS, "padding_mask": np.ones_like(IDS), "segment_ids": np.zeros_like(IDS)}
LABELS = np.array([0, 1, 0, 1])


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tiny_bert(tmp_path_factory.mktemp("tiny"))


def made(path, *, seed=0, rounded=False, adapters=True, dora=False, rank=4):
    keras.utils.set_random_seed(seed)
    model = build_classifier(Preset.load(path), num_classes=2, pooling="mean")
    if rounded:
        quantize_backbone(model)
    if adapters:
        add_lora(model, LoRASettings(rank, dropout=0.2, dora=dora))
    settings = {"learning_rate": 1e-2, "warmup": 0.1, "clip_norm": None}
    optimizer = build_optimizer(settings, model.trainable_variables, 100)
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def train(model, steps):
    for _ in range(steps):
        model.train_on_batch(BATCH, LABELS)
    return model


def size(variables):
    return sum(int(np.prod(variable.shape)) for variable in variables)


@pytest.mark.parametrize("dora", [False, True])
def test_only_what_is_trained_has_optimizer_state(path, dora):
    model = made(path, dora=dora)
    trained = size(model.trainable_variables)
    assert trained < size(model.variables) / 5
    assert 2 * trained <= size(model.optimizer.variables) <= 2 * trained + 32


def _reached(graph, tensors):
    """The operations that the tensors are computed by."""
    left, found = [tensor.op for tensor in tensors], set()
    while left:
        op = left.pop()
        if op not in found:
            found.add(op)
            left += [tensor.op for tensor in op.inputs] + list(op.control_inputs)
    return found


def _gradient_ops(model, weights):
    @tf.function
    def gradients(inputs):
        with tf.GradientTape() as tape:
            total = tf.reduce_sum(tf.square(model(inputs, training=True)))
        return [
            tf.convert_to_tensor(gradient)
            for gradient in tape.gradient(total, [weight.value for weight in weights])
        ]

    inputs = {name: tf.constant(values) for name, values in BATCH.items()}
    graph = gradients.get_concrete_function(inputs).graph
    return [op.type for op in _reached(graph, graph.outputs)]


def test_no_gradient_of_what_is_frozen_is_computed(path):
    """Beside those of the forward pass: per adapter one product for each of its two matrices and one each for
    what is below it, and one for what is below each frozen matrix; none for a frozen matrix itself."""
    full = made(path, adapters=False)
    ops = _gradient_ops(full, full.trainable_weights)
    assert "UnsortedSegmentSum" in ops
    num_full = ops.count("MatMul")
    plain = _gradient_ops(full, full.head.trainable_weights)
    assert "UnsortedSegmentSum" not in plain
    model = made(path)
    ops = _gradient_ops(model, model.trainable_weights)
    assert "UnsortedSegmentSum" not in ops
    num_layers, matrices, adapters = 2, 6, 2
    # Forward and two backward for each matrix, and the head; and for each norm two means over rows, which are
    # products with a column.
    assert num_full == 3 * (num_layers * matrices + 1) + 2 * (2 * num_layers + 1)
    # Forward and one backward for each matrix, but for query, key and value of the first layer, below which
    # nothing is trained; two forward and four backward for each adapter, and of the first layer's one less.
    # The norm of the embeddings lies below all adapters.
    expected = 2 * num_layers * matrices - 3 + 3 + 6 * num_layers * adapters - adapters + 4 * num_layers
    assert ops.count("MatMul") == expected


def test_a_checkpoint_leaves_out_what_is_frozen(path, tmp_path):
    model, full = train(made(path), 1), train(made(path, adapters=False), 1)
    saved = Checkpoints(tmp_path / "lora").save(model, RunState(step=1))
    other = Checkpoints(tmp_path / "full").save(full, RunState(step=1))
    assert sorted(found.name for found in saved.iterdir()) == [
        "MANIFEST.json",
        "frozen.json",
        "metrics.safetensors",
        "model.safetensors",
        "optimizer.safetensors",
        "state.json",
    ]
    assert not (other / "frozen.json").exists()
    sizes = [sum(file.stat().st_size for file in found.iterdir()) for found in (saved, other)]
    assert sizes[0] < sizes[1] / 3
    weights = (saved / "model.safetensors").stat().st_size
    assert weights < 4 * size(model.trainable_variables) + 4000


@pytest.mark.parametrize("rounded", [False, True])
def test_a_run_with_adapters_goes_on_bit_for_bit(path, tmp_path, rounded):
    model, checkpoints = made(path, rounded=rounded, dora=True), Checkpoints(tmp_path)
    checkpoints.save(train(model, 2), RunState(step=2))
    train(model, 2)
    # Another seed: adapters, head and random generators must all come from the checkpoint.
    resumed = made(path, seed=1, rounded=rounded, dora=True)
    assert checkpoints.restore_newest(resumed).step == 2
    train(resumed, 2)
    for one, other in zip(model.variables, resumed.variables, strict=True):
        np.testing.assert_array_equal(np.array(one), np.array(other))


def test_another_base_is_refused(path, tmp_path):
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    checkpoints.save(train(made(path), 1), RunState(step=1))
    other = made(tiny_bert(tmp_path / "other", seed=7))
    before = [np.array(variable) for variable in other.variables]
    with pytest.raises(CheckpointError, match=r"The frozen weights are not those that .* was written over"):
        checkpoints.restore_newest(other)
    with pytest.raises(CheckpointError, match="Resume with the pretrained checkpoint that"):
        checkpoints.restore_weights(made(path, rounded=True), "step-00000001")
    for old, new in zip(before, other.variables, strict=True):
        np.testing.assert_array_equal(old, np.array(new))
    with pytest.raises(CheckpointError, match="trains adapters on a frozen backbone, but this one"):
        checkpoints.restore_newest(made(path, adapters=False))


def test_a_checkpoint_of_all_weights_is_refused_by_adapters(path, tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(train(made(path, adapters=False), 1), RunState(step=1))
    with pytest.raises(CheckpointError, match=r"trains all weights, but this one trains adapters .*`model\."):
        checkpoints.restore_newest(made(path))


def test_a_language_models_head_is_not_kept(tmp_path):
    transformers = pytest.importorskip("transformers", reason="it makes the checkpoint")
    sizes = {"vocab_size": 83, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = transformers.LlamaConfig(intermediate_size=40, pad_token_id=0, **sizes)
    transformers.LlamaForCausalLM(config).save_pretrained(tmp_path / "llama")
    model = build_with_head(Preset.load(tmp_path / "llama"))
    add_lora(model, LoRASettings(4))
    settings = {"learning_rate": 1e-2}
    model.compile(build_optimizer(settings, model.trainable_variables, 10), "mse")
    saved = Checkpoints(tmp_path / "checkpoints").save(model, RunState(step=1))
    frozen = json.loads((saved / "frozen.json").read_text())
    assert frozen["num_weights"] == len(model.non_trainable_weights)
