"""Adafactor, Lion and Muon beside PyTorch's or their published formulas."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasllm.training.optimizers import Adafactor, Lion, Muon


def run(optimizer, start, gradients, name="kernel"):
    variable = keras.Variable(start, name=name)
    optimizer.build([variable])
    for gradient in gradients:
        optimizer.apply([tf.constant(gradient)], [variable])
    return variable.numpy()


def random_run(shape, num_steps=20):
    random = np.random.default_rng(0)
    start = random.normal(size=shape).astype(np.float32)
    return start, random.normal(size=(num_steps, *shape)).astype(np.float32)


@pytest.mark.parametrize("shape", [(6, 5), (5, 9), (7,), (2, 3, 4)])
# PyTorch takes the size of the weights before their decay, we after it.
@pytest.mark.parametrize(("decay", "tolerance"), [(0.0, 2e-6), (0.1, 2e-4)])
def test_adafactor_is_that_of_pytorch(shape, decay, tolerance):
    torch = pytest.importorskip("torch")
    start, gradients = random_run(shape)
    parameter = torch.nn.Parameter(torch.tensor(start))
    reference = torch.optim.Adafactor([parameter], lr=0.01, weight_decay=decay, eps=(1e-30, 1e-3))
    for gradient in gradients:
        parameter.grad = torch.tensor(gradient)
        reference.step()
    ours = run(Adafactor(0.01, weight_decay=decay), start, gradients)
    np.testing.assert_allclose(ours, parameter.detach().numpy(), atol=tolerance)


def test_adafactor_keeps_a_row_and_a_column():
    variable = keras.Variable(np.ones((300, 200), np.float32))
    sizes = {}
    for kind in (Adafactor, keras.optimizers.Adafactor):
        optimizer = kind(0.01)
        optimizer.build([variable])
        sizes[kind] = sum(int(np.prod(v.shape)) for v in optimizer.variables)
    assert sizes[Adafactor] == 300 + 200 + 2  # and iterations and learning rate
    assert sizes[keras.optimizers.Adafactor] > 300 * 200


def test_lion_is_its_formula():
    start, gradients = random_run((6, 5))
    value, momentum = start.astype(np.float64), np.zeros((6, 5))
    for gradient in gradients:
        value *= 1 - 0.001 * 0.1
        value -= 0.001 * np.sign(0.9 * momentum + 0.1 * gradient)
        momentum = 0.99 * momentum + 0.01 * gradient
    ours = run(Lion(0.001, weight_decay=0.1), start, gradients)
    np.testing.assert_allclose(ours, value, rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("shape", [(6, 6), (8, 3), (3, 8)])
def test_muon_is_that_of_pytorch(shape, monkeypatch):
    torch = pytest.importorskip("torch")
    # PyTorch iterates in bfloat16, which hides everything behind the second digit: let it in float32.
    monkeypatch.setattr(torch.Tensor, "bfloat16", lambda self: self)
    start, gradients = random_run(shape)
    parameter = torch.nn.Parameter(torch.tensor(start))
    reference = torch.optim.Muon(
        [parameter], lr=0.01, weight_decay=0.1, momentum=0.95, adjust_lr_fn="match_rms_adamw"
    )
    for gradient in gradients:
        parameter.grad = torch.tensor(gradient)
        reference.step()
    ours = run(Muon(0.01, weight_decay=0.1), start, gradients)
    np.testing.assert_allclose(ours, parameter.detach().numpy(), atol=2e-5)


@pytest.mark.parametrize("name", ["embeddings", "bias"])
def test_muon_updates_tables_and_vectors_as_pytorchs_adamw(name):
    torch = pytest.importorskip("torch")
    start, gradients = random_run((6, 5) if name == "embeddings" else (5,))
    parameter = torch.nn.Parameter(torch.tensor(start))
    reference = torch.optim.AdamW([parameter], lr=0.01, weight_decay=0.1)
    for gradient in gradients:
        parameter.grad = torch.tensor(gradient)
        reference.step()
    ours = run(Muon(0.01, weight_decay=0.1), start, gradients, name=name)
    np.testing.assert_allclose(ours, parameter.detach().numpy(), atol=1e-6)


def test_muon_takes_hidden_matrices_only(tmp_path):
    from kerasllm.models.builders import build_classifier
    from kerasllm.models.presets import Preset
    from kerasllm.testing import tiny_bert

    model = build_classifier(Preset.load(tiny_bert(tmp_path)), num_classes=2)
    optimizer = Muon(0.01)
    optimizer.build(model.trainable_variables)
    by_muon = [v.path for v in model.trainable_variables if not optimizer.uses_adamw(v)]
    parts = ["attention/query", "attention/key", "attention/value", "attention/output"]
    parts += ["feed_forward/up", "feed_forward/down"]
    expected = [f"encoder_layer_{number}/{part}/kernel" for number in (0, 1) for part in parts]
    assert by_muon == [*expected, "pooler/kernel"]
