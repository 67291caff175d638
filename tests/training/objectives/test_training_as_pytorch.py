"""A whole training run, loss by loss, against transformers, PyTorch's AdamW, its clipping and a warm-up."""

import copy

import numpy as np
import pytest
import tensorflow as tf

from kerasllm.training.objectives import CausalLanguageModel
from kerasllm.training.optimizers import build_optimizer
from kerasllm.training.step import TrainingStep

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

STEPS, RATE, WARMUP, DECAY, CLIP = 24, 3e-3, 4, 0.05, 0.5
RANDOM = np.random.default_rng(3)
LENGTHS = RANDOM.integers(3, 13, (STEPS, 4, 1))
MASKS = (np.arange(12) < LENGTHS).astype(np.int32)
# The next token can be learned: tokens count, from anywhere.
COUNTING = 5 + (RANDOM.integers(0, 20, LENGTHS.shape) + np.arange(12)) % 20
IDS = np.where(MASKS > 0, COUNTING, 0).astype(np.int32)
NEXT = np.roll(IDS, -1, axis=2)
WEIGHTS = (np.arange(12) < LENGTHS - 1).astype(np.float32)


def ours(model):
    settings = {"learning_rate": RATE, "warmup": WARMUP, "weight_decay": DECAY, "clip_norm": CLIP}
    model.compile(build_optimizer(settings, model.trainable_variables, STEPS))
    rows = zip(IDS, MASKS, NEXT, WEIGHTS, strict=True)
    batches = [({"token_ids": ids, "padding_mask": mask}, goal, weights) for ids, mask, goal, weights in rows]
    batches = tf.nest.map_structure(tf.constant, batches)
    spec = tf.nest.map_structure(tf.TensorSpec.from_tensor, batches[0])
    step = TrainingStep(model, CausalLanguageModel(), spec)
    losses = []
    for batch in batches:
        step.reset_metrics()
        losses.append(step([batch])["loss"])
    return losses


def theirs(model):
    groups = [[], []]
    for weight in model.parameters():
        groups[weight.ndim < 2].append(weight)
    optimizer = torch.optim.AdamW(
        [{"params": groups[0]}, {"params": groups[1], "weight_decay": 0.0}], lr=RATE, weight_decay=DECAY
    )
    schedule = transformers.get_linear_schedule_with_warmup(optimizer, WARMUP, STEPS)
    losses = []
    for ids, mask, goal, weights in zip(IDS, MASKS, NEXT, WEIGHTS, strict=True):
        logits = model(input_ids=torch.tensor(ids).long(), attention_mask=torch.tensor(mask)).logits
        each = torch.nn.functional.cross_entropy(
            logits.transpose(1, 2).float(), torch.tensor(goal).long(), reduction="none"
        )
        weights = torch.tensor(weights)
        loss = (each * weights).sum() / weights.sum()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("case", ["LlamaForCausalLM", "GPT2LMHeadModel"])
def test_each_loss_of_a_run_is_that_of_pytorch(case, language_model):
    model, reference = language_model(case)
    found, expected = ours(model), theirs(copy.deepcopy(reference).train())
    # Adam divides by the root of a gradient's square: what is rounding in the first step grows with each.
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)
    np.testing.assert_allclose(found[:4], expected[:4], rtol=0, atol=2e-5)
    assert np.mean(found[-4:]) < np.mean(found[:4]) - 0.3  # it has learned something
