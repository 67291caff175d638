"""Language-model objectives against transformers, and their sums over micro-batches."""

import numpy as np
import pytest
import tensorflow as tf

from kerasllm.errors import ConfigError, TrainingError
from kerasllm.testing import tiny_bert
from kerasllm.training.objectives import CausalLanguageModel, MaskedLanguageModel, Masking

torch = pytest.importorskip("torch")

RANDOM = np.random.default_rng(0)
LENGTHS = np.array([12, 5, 9, 2, 7])
MASK = (np.arange(12) < LENGTHS[:, None]).astype(np.int32)
IDS = np.where(MASK > 0, RANDOM.integers(5, 83, MASK.shape), 0).astype(np.int32)
NEXT = np.roll(IDS, -1, axis=1)
NEXT_WEIGHTS = (np.arange(12) < LENGTHS[:, None] - 1).astype(np.float32) * RANDOM.choice(
    [0.5, 1, 2], MASK.shape
)
HIDDEN = (RANDOM.random(MASK.shape) < 0.3) & (MASK > 0)
CAUSAL = ["LlamaForCausalLM", "GPT2LMHeadModel", "Gemma2ForCausalLM", "Phi3ForCausalLM"]
MASKED = ["BertForMaskedLM", "Roberta-untied", "DebertaV2ForMaskedLM"]


def batch(rows=slice(None)):
    inputs = {"token_ids": IDS[rows], "padding_mask": MASK[rows]}
    return {name: tf.constant(value) for name, value in inputs.items()}


def value_and_gradients(objective, model, *batches):
    """Total, weight and gradients of all batches together."""
    sums, total, weight = None, 0.0, 0.0
    for inputs, targets, weights in batches:
        inputs = {"segment_ids": tf.zeros_like(inputs["token_ids"]), **inputs}
        with tf.GradientTape() as tape:
            value = objective.loss(model, inputs, tf.constant(targets), tf.constant(weights), training=True)
        found = [tf.convert_to_tensor(part) for part in tape.gradient(value.total, model.trainable_variables)]
        sums = found if sums is None else [a + b for a, b in zip(sums, found, strict=True)]
        total, weight = total + value.total, weight + value.weight
    return float(total / weight), [part / weight for part in sums], value


def reference(theirs, ids, labels, weights):
    """Mean loss and the gradient of the token embeddings, by transformers and PyTorch."""
    theirs.zero_grad()
    logits = theirs(input_ids=torch.tensor(ids).long(), attention_mask=torch.tensor(MASK)).logits
    losses = torch.nn.functional.cross_entropy(
        logits.transpose(1, 2).float(), torch.tensor(labels).long(), reduction="none"
    )
    weights = torch.tensor(weights, dtype=torch.float32)
    loss = (losses * weights).sum() / weights.sum()
    loss.backward()
    return loss.item(), theirs.get_input_embeddings().weight.grad.numpy(), logits.detach().numpy()


@pytest.mark.parametrize("case", CAUSAL)
def test_causal_loss_and_gradient_are_those_of_transformers(case, language_model):
    model, theirs = language_model(case)
    objective = CausalLanguageModel(chunk_size=8)
    loss, gradients, value = value_and_gradients(objective, model, (batch(), NEXT, NEXT_WEIGHTS))
    expected, table, logits = reference(theirs, IDS, NEXT, NEXT_WEIGHTS)
    assert loss == pytest.approx(expected, abs=2e-5)
    names = [variable.path for variable in model.trainable_variables]
    got = gradients[next(i for i, name in enumerate(names) if "token_embedding" in name)]
    np.testing.assert_allclose(got[: len(table)], table, atol=1e-4)
    metrics = {metric.name: metric for metric in objective.metrics()}
    for metric in metrics.values():
        metric.update_state(NEXT, value.outputs, sample_weight=NEXT_WEIGHTS)
    assert float(metrics["perplexity"].result()) == pytest.approx(np.exp(expected), rel=1e-4)
    right = (logits.argmax(-1) == NEXT) * NEXT_WEIGHTS
    assert float(metrics["token_accuracy"].result()) == pytest.approx(
        right.sum() / NEXT_WEIGHTS.sum(), abs=1e-6
    )


@pytest.mark.parametrize("case", MASKED)
def test_masked_loss_and_gradient_are_those_of_transformers(case, language_model):
    model, theirs = language_model(case)
    hidden, weights = np.where(HIDDEN, 4, IDS).astype(np.int32), HIDDEN.astype(np.float32)
    inputs = {**batch(), "token_ids": tf.constant(hidden)}
    loss, gradients, _ = value_and_gradients(MaskedLanguageModel(), model, (inputs, IDS, weights))
    expected, table, _ = reference(theirs, hidden, IDS, weights)
    assert loss == pytest.approx(expected, abs=2e-5)
    names = [variable.path for variable in model.trainable_variables]
    got = gradients[next(i for i, name in enumerate(names) if "token_embedding" in name)].numpy()
    got[0 if "Roberta" not in case else 1] = 0  # PyTorch gives the padding token no gradient
    table[0 if "Roberta" not in case else 1] = 0
    np.testing.assert_allclose(got[: len(table)], table, atol=1e-4)


@pytest.mark.parametrize("parts", [[slice(0, 1), slice(1, 5)], [slice(0, 2), slice(2, 4), slice(4, 5)]])
def test_micro_batches_of_unequal_texts_equal_one_batch(parts, language_model):
    model, _ = language_model("LlamaForCausalLM")
    whole = value_and_gradients(CausalLanguageModel(), model, (batch(), NEXT, NEXT_WEIGHTS))
    pieces = value_and_gradients(
        CausalLanguageModel(), model, *((batch(rows), NEXT[rows], NEXT_WEIGHTS[rows]) for rows in parts)
    )
    assert whole[0] == pytest.approx(pieces[0], abs=1e-6)
    scale = max(float(tf.reduce_max(tf.abs(part))) for part in whole[1])
    for one, other in zip(whole[1], pieces[1], strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-6 * max(1.0, scale))


def test_micro_batches_with_masks_in_unequal_numbers_equal_one_batch(language_model):
    model, _ = language_model("BertForMaskedLM")
    weights = HIDDEN.astype(np.float32)
    cases = [
        value_and_gradients(
            MaskedLanguageModel(),
            model,
            *((batch(rows), IDS[rows], weights[rows]) for rows in parts),
        )
        for parts in ([slice(None)], [slice(0, 3), slice(3, 5)])
    ]
    assert cases[0][0] == pytest.approx(cases[1][0], abs=1e-6)
    scale = max(float(tf.reduce_max(tf.abs(part))) for part in cases[0][1])
    for one, other in zip(cases[0][1], cases[1][1], strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-6 * max(1.0, scale))


def test_half_precision_stays_near_and_evaluation_needs_no_weights(language_model):
    exact, _ = language_model("GPT2LMHeadModel")
    half, _ = language_model("GPT2LMHeadModel", dtype_policy="mixed_bfloat16")
    values = [
        CausalLanguageModel().loss(model, batch(), tf.constant(NEXT), None, training=False)
        for model in (exact, half)
    ]
    assert float(values[0].weight) == MASK.size
    assert float(values[1].total) == pytest.approx(float(values[0].total), rel=0.02)


def test_a_model_without_a_language_head_is_refused(tmp_path):
    from kerasllm.models.builders import build_classifier
    from kerasllm.models.presets import Preset

    model = build_classifier(Preset.load(tiny_bert(tmp_path / "bert")), num_classes=2)
    with pytest.raises(TrainingError, match="needs a model with a language head, but this one is a `pooled_"):
        CausalLanguageModel().loss(model, batch(), NEXT, NEXT_WEIGHTS, training=True)


SPECIAL = np.arange(83) < 5
MANY = {
    "token_ids": tf.constant(RANDOM.integers(5, 83, (200, 40)).astype(np.int32)),
    "padding_mask": tf.constant((np.arange(40) < RANDOM.integers(5, 41, (200, 1))).astype(np.int32)),
}


def hide(objective, inputs=MANY, weights=None, training=True):
    changed, _, chosen = objective.hidden(inputs, weights, training=training)
    return np.asarray(changed["token_ids"]), np.asarray(chosen) > 0


def test_fifteen_percent_are_chosen_and_eight_in_ten_of_them_masked():
    ids, real = MANY["token_ids"].numpy(), MANY["padding_mask"].numpy() > 0
    changed, chosen = hide(MaskedLanguageModel(Masking(4, SPECIAL), seed=1))
    assert chosen[real].mean() == pytest.approx(0.15, abs=0.02)
    assert not chosen[~real].any()
    np.testing.assert_array_equal(changed[~chosen], ids[~chosen])
    assert (changed[chosen] == 4).mean() == pytest.approx(0.8, abs=0.05)
    others = chosen & (changed != 4)
    assert (changed[others] == ids[others]).mean() == pytest.approx(0.5, abs=0.12)
    assert not SPECIAL[changed[others]].any()


def test_special_tokens_and_those_of_weight_zero_are_never_chosen():
    inputs = {**MANY, "token_ids": MANY["token_ids"] % 10}
    _, chosen = hide(MaskedLanguageModel(Masking(4, SPECIAL, rate=0.9)), inputs)
    assert not chosen[inputs["token_ids"].numpy() < 5].any()
    weights = np.zeros((200, 40), np.float32)
    weights[:, 2] = 1.0  # of the token at place 3, which comes next
    _, chosen = hide(MaskedLanguageModel(Masking(4, SPECIAL, rate=0.9)), weights=weights)
    assert chosen[:, 3].any()
    assert not np.delete(chosen, 3, axis=1).any()


def test_whole_words_are_chosen_together_and_texts_that_are_packed_apart():
    continues = np.arange(83) >= 60
    ids = np.tile([10, 60, 61, 11, 62, 12], (300, 1)).astype(np.int32)
    texts = np.tile([1, 1, 1, 1, 2, 2], (300, 1)).astype(np.int32)
    inputs = {"token_ids": tf.constant(ids), "padding_mask": tf.constant(texts)}
    _, chosen = hide(MaskedLanguageModel(Masking(4, SPECIAL, continues, rate=0.5)), inputs)
    assert (chosen[:, 0] == chosen[:, 1]).all()
    assert (chosen[:, 0] == chosen[:, 2]).all()
    for first, second in ((2, 3), (3, 4), (4, 5)):
        assert 0.3 < (chosen[:, first] == chosen[:, second]).mean() < 0.7


def test_each_draw_is_another_until_the_generator_is_set_back_and_evaluation_always_the_same():
    objective = MaskedLanguageModel(Masking(4, SPECIAL), seed=3)
    (state,) = objective.variables
    before = np.asarray(state)
    run = tf.function(lambda: objective.hidden(MANY, None, training=True)[0]["token_ids"])
    first, second = run(), run()
    assert (first != second).numpy().any()
    state.assign(before)
    np.testing.assert_array_equal(run(), first)
    np.testing.assert_array_equal(hide(objective, training=False)[0], hide(objective, training=False)[0])


def test_impossible_masking_is_refused():
    with pytest.raises(ConfigError, match=r"`rate` of masking is 1.5, but must lie between 0 and 1"):
        Masking(4, SPECIAL, rate=1.5)
    with pytest.raises(ConfigError, match=r"`masked` is 0.8 and `replaced` 0.4, but they are shares"):
        Masking(4, SPECIAL, replaced=0.4)
    with pytest.raises(ConfigError, match="`continues` speaks of 2 ids and `special` of 83; give both"):
        Masking(4, SPECIAL, np.zeros(2, bool))
