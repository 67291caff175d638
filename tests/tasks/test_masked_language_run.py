"""Fitting an encoder to texts without labels, up to a classifier that is fine-tuned from the result."""

import keras
import numpy as np
import pytest

import kerasllm
from kerasllm.config.schema import TrainingConfig
from kerasllm.errors import PresetError
from kerasllm.models.presets import Preset
from kerasllm.tasks.masked_language_run import (
    build_masked_language_model,
    masked_language_problem,
    masked_language_tokens,
    masking_of,
    save_adapted,
)
from kerasllm.testing import tiny_bert, tiny_reviews
from kerasllm.testing.architectures import write_checkpoint
from kerasllm.tokenization.tokenizer import Tokenizer
from kerasllm.training.optimizers import build_optimizer
from kerasllm.training.step import TrainingStep


def test_an_encoder_learns_its_domain_and_is_fine_tuned_from_there(preset, tmp_path):
    rows = tiny_reviews(64)
    loaded = Preset.load(preset)
    keras.utils.set_random_seed(0)
    model = build_masked_language_model(loaded)
    texts = [row["text"] for row in rows]
    train, validation = (
        masked_language_tokens(loaded.tokenizer, part, sequence_length=32)
        for part in (texts[:48], texts[48:])
    )
    problem = masked_language_problem(
        train,
        validation,
        TrainingConfig(batch_size=8),
        tokenizer=loaded.tokenizer,
        masking=masking_of(loaded.tokenizer),
    )
    model.compile(
        build_optimizer(
            {"learning_rate": 0.01, "warmup": 0, "schedule": "constant"}, model.trainable_variables, 24
        )
    )
    step = TrainingStep(model, problem.objective, problem.train.element_spec)
    assert len(step.own_variables) > len(step.loss_scale.variables)  # the generator's state is kept
    before = step.evaluate(problem.validation)
    for number, batch in enumerate(problem.train.dataset()):
        step([batch])
        if number == 23:
            break
    after = step.evaluate(problem.validation)
    assert after["loss"] < 0.8 * before["loss"]
    assert after["perplexity"] == pytest.approx(np.exp(after["loss"]), rel=1e-4)
    assert after == step.evaluate(problem.validation)

    path = save_adapted(model, loaded.tokenizer, tmp_path / "domain", preset=loaded)
    again = Preset.load(path)
    assert again.head == "masked_language"
    ids = np.array([[2, 9, 4, 3]])
    expected = model({"token_ids": ids, "padding_mask": np.ones_like(ids), "segment_ids": 0 * ids})
    np.testing.assert_allclose(again.logits(ids, np.ones_like(ids)), expected, atol=1e-5)
    classifier = kerasllm.finetune(
        path, rows, output_dir=tmp_path / "run", config={"training": {"epochs": 1, "batch_size": 16}}
    )
    assert classifier.predict(texts[:1])[0].label in {row["label"] for row in rows}


def test_special_tokens_are_never_hidden_and_words_hang_together(preset):
    tokenizer = Preset.load(preset).tokenizer
    masking = masking_of(tokenizer)
    assert set(np.flatnonzero(masking.special)) == set(tokenizer.special_ids.values())
    assert masking.continues[tokenizer.token_to_id("##a")]
    assert not masking.continues[tokenizer.token_to_id("a")]
    assert masking_of(tokenizer, whole_words=False).continues is None


def test_what_cannot_guess_hidden_tokens_is_refused(tmp_path):
    (tmp_path / "llama").mkdir()
    write_checkpoint("LlamaForCausalLM", tmp_path / "llama")
    with pytest.raises(
        PresetError, match=r"is a `llama`, which has no head that guesses hidden tokens\. Take an"
    ):
        build_masked_language_model(Preset.load(tmp_path / "llama"))
    tiny_bert(tmp_path / "bert")
    text = (tmp_path / "bert" / "tokenizer.json").read_text().replace("[MASK]", "[GAP]")
    with pytest.raises(PresetError, match="The tokenizer has no mask token: expected `mask_token` in"):
        masking_of(Tokenizer.from_json(text))
