"""The memory estimate: activations counted by hand, real peaks in child processes, and the advice."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from kerasllm.config.schema import TrainingConfig
from kerasllm.data.limits import available_memory
from kerasllm.data.token_ids import EncodedTexts
from kerasllm.models.adapters import LoRASettings, add_lora
from kerasllm.models.heads import ModelWithHead
from kerasllm.models.transformer.backbone import TransformerBackbone
from kerasllm.models.transformer.settings import BackboneSettings, EmbeddingSettings, StackSettings
from kerasllm.training.activations import count_activations
from kerasllm.training.classification import TrainingData, classification_problem
from kerasllm.training.memory import estimate_memory
from kerasllm.training.optimizers import build_optimizer
from kerasllm.training.out_of_memory import MemoryPlan
from kerasllm.training.timetable import Timetable
from kerasllm.training.trainer import prepare_step

ROOT = Path(__file__).parent.parent.parent
MIB = 2**20


def make_model(units=2, pool="mean", *, num_layers=2, policy="float32"):
    stack = StackSettings(
        num_layers=num_layers,
        hidden_dim=16,
        num_heads=2,
        num_key_value_heads=2,
        head_dim=8,
        intermediate_dim=32,
        norm_place="post",
        dropout=0.1,
    )
    settings = BackboneSettings(EmbeddingSettings(50, 16, num_positions=64), encoder=stack)
    backbone = TransformerBackbone(settings, dtype=policy)
    return ModelWithHead(backbone, {"units": units, "pool": pool}, kind="sequence_classifier")


def test_activations_are_those_that_the_gradient_reads():
    kernel = tf.Variable(tf.ones((6, 6)))

    def function(x):
        return tf.exp(tf.matmul(tf.tanh(x), kernel))

    counted = count_activations(function, [tf.TensorSpec((10, 6), tf.float32)], [kernel])
    # The gradients of tanh and exp read their results; that of the product reads tanh's once more.
    assert counted.kept == 2 * 10 * 6 * 4
    frozen = count_activations(function, [tf.TensorSpec((10, 6), tf.float32)], [], learn_input=False)
    assert frozen.kept == 0


def test_reshaped_results_count_once_and_unknown_sizes_as_told():
    variable = tf.Variable(tf.ones(()))

    def function(x):
        squared = tf.square(tf.tanh(x))  # tanh is kept for both gradients
        return tf.reduce_sum(tf.reshape(squared, [-1]) * variable)

    spec = [tf.TensorSpec((8, 4), tf.float32)]
    assert count_activations(function, spec, [variable]).kept == 2 * 8 * 4 * 4

    def later_known(x):
        some = tf.where(tf.reshape(x, [-1]) > -9)[:, 0]
        return tf.exp(tf.reshape(tf.tanh(tf.gather(tf.reshape(x, [-1]), some)), [8, 4]))

    # Beside what tanh and exp gave there are the places, int64, as many as told.
    assert count_activations(later_known, spec, [], unknown=1).kept == 2 * 8 * 4 * 4 + 8

    def routed(x):
        return tf.tanh(tf.gather(x, tf.where(x[:, 0] > 0)[:, 0]))

    assert count_activations(routed, spec, [], unknown=5).kept == 5 * 4 * 4


def test_weights_gradients_and_moments_are_exact():
    model = make_model()
    optimizer = build_optimizer({"learning_rate": 1e-3}, model.trainable_variables, 10)
    estimate = estimate_memory(model, batch_size=4, width=8, optimizer=optimizer)
    size = 4 * model.count_params()
    assert estimate.gradients == size
    assert size <= estimate.weights <= size + 100  # and the states of random generators
    assert 2 * size <= estimate.optimizer <= 2 * size + 1000
    assert estimate_memory(model, batch_size=4, width=8).optimizer == 2 * size
    assert estimate_memory(model, batch_size=4, width=8, accumulate=2).optimizer == 3 * size


def test_activations_grow_with_the_batch_and_fall_with_checkpointing_and_precision():
    model = make_model(num_layers=6)
    one = estimate_memory(model, batch_size=4, width=8).activations
    twice = estimate_memory(model, batch_size=8, width=8).activations
    assert twice == pytest.approx(2 * one, rel=0.01)
    assert estimate_memory(model, batch_size=4, width=16).activations > 2 * one  # scores are squares
    assert estimate_memory(model, batch_size=4, width=8, recompute=True).activations < one / 2
    assert (
        estimate_memory(make_model(num_layers=6, policy="mixed_bfloat16"), batch_size=4, width=8).activations
        < one
    )
    model.backbone.recompute_layers()
    assert estimate_memory(model, batch_size=4, width=8).activations < one / 2
    assert all(layer.recompute for layer in model.backbone.stack_layers("encoder"))


def test_a_frozen_backbone_keeps_nothing():
    model = make_model(num_layers=6)
    full = estimate_memory(model, batch_size=4, width=8)
    model.backbone.trainable = False
    frozen = estimate_memory(model, batch_size=4, width=8)
    assert frozen.activations < full.activations / 6
    assert frozen.gradients == 4 * (16 * 2 + 2)


def test_adapters_in_frozen_layers_keep_what_they_need():
    model = make_model(num_layers=6)
    full = estimate_memory(model, batch_size=4, width=8)
    add_lora(model, LoRASettings(rank=2), roles=("query", "value"))
    adapted = estimate_memory(model, batch_size=4, width=8)
    assert full.activations / 2 < adapted.activations < full.activations
    assert adapted.gradients < full.gradients / 4


def test_logits_over_a_vocabulary_count_three_times():
    model = make_model(units=50, pool="none")
    assert estimate_memory(model, batch_size=4, width=8).logits == 3 * 4 * 50 * 4 * 8
    assert estimate_memory(model, batch_size=4, width=8, logits_at_once=10).logits == 3 * 4 * 50 * 10


def test_a_run_that_does_not_fit_is_told_what_does():
    plan = MemoryPlan(make_model(num_layers=6), batch_size=64, width=64)
    assert plan.warning(available=8 * 2**30) is None
    needed = plan.estimate.in_a_step + plan.estimate.runtime
    warning = plan.warning(available=needed - MIB)
    assert warning.startswith("Training with batches of 64 texts of up to 64 tokens needs about 0.3 GiB more")
    assert "Try `-s training.gradient_checkpointing=true`" in warning
    assert "`-s training.batch_size=32 -s training.gradient_accumulation=2`" in warning
    assert "batch_size=16" not in warning  # 32 is enough
    assert "`-s data.sequence_length=32`" in warning
    assert "None of the next smaller settings fits" in plan.warning(available=MIB)


def test_smaller_settings_take_less_and_keep_the_size_of_a_step():
    model = make_model(num_layers=6)
    model.backbone.recompute_layers()
    plan = MemoryPlan(model, batch_size=6, width=16, accumulate=2)
    options = [smaller.options for smaller in plan.smaller]
    assert not any("checkpointing" in option for option in options)  # it is on already
    assert "-s training.batch_size=3 -s training.gradient_accumulation=4" in options
    assert not any("sequence_length" in option for option in options)  # 8 tokens are no text
    assert all(smaller.estimate.total < plan.estimate.total for smaller in plan.smaller)


def test_the_message_after_memory_ran_out_has_the_numbers():
    message = MemoryPlan(make_model(), batch_size=1, width=64).out_of_memory()
    assert message.startswith(
        "Out of memory with batches of one text of up to 64 tokens; training needs about"
    )
    assert "0.2 GiB beside TensorFlow. Try" in message
    assert message.endswith("The last checkpoint is intact.")


def test_the_limit_of_a_container_counts(tmp_path, monkeypatch):
    for name, text in {
        "max": "3000000\n",
        "current": "2500000\n",
        "stat": "anon 1\ninactive_file 500000\n",
    }.items():
        (tmp_path / name).write_text(text)
    group = tuple(str(tmp_path / name) for name in ("max", "current", "stat"))
    monkeypatch.setattr("kerasllm.data.limits._GROUPS", (group,))
    assert available_memory() == 1_000_000
    (tmp_path / "max").write_text("max\n")
    assert available_memory() > 1_000_000


def test_one_setting_switches_checkpointing_on():
    texts = EncodedTexts.from_lists([[1, 2, 3], [4, 5]], [[0, 0, 0], [0, 0]], np.array([0, 1]))
    data = TrainingData(texts, None, pad_id=0, num_classes=2, multi_label=False)
    config = TrainingConfig(epochs=1, batch_size=2, dtype_policy="float32", gradient_checkpointing=True)
    model = make_model()
    prepare_step(model, classification_problem(data, config), config, Timetable([1], accumulate=1))
    assert [layer.recompute for layer in model.backbone.stack_layers("encoder")] == [True, True]


def measure(**case):
    """Trains in a child process, as benchmarks/memory.py does; bytes beside TensorFlow."""
    command = [sys.executable, str(ROOT / "benchmarks" / "memory.py"), "--child", json.dumps(case)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_real_peaks_are_within_a_fifth_and_checkpointing_halves_them():
    plain = measure(model="minilm", batch_size=32, width=128)
    again = measure(model="minilm", batch_size=32, width=128, recompute=True)
    for found in (plain, again):
        assert found["estimate"] == pytest.approx(found["measured"], rel=0.2)
    assert again["measured"] < 0.6 * plain["measured"]
