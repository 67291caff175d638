"""The cached decoder computes what the backbone does, whatever the family."""

import numpy as np
import pytest
import tensorflow as tf

from kerasllm.errors import PresetError
from kerasllm.generation.decoder import CachedDecoder, whole_chunks
from kerasllm.models.builders import build_with_head
from kerasllm.models.presets import Preset
from kerasllm.testing.architectures import CASES, write_checkpoint

CAUSAL = [case for case, (name, _) in CASES.items() if name.endswith(("ForCausalLM", "LMHeadModel"))]
# Beyond its trained length the frequencies of this kind follow the text, so that what is remembered of a
# shorter text is another number: transformers generates so, too, which test_against_transformers holds.
FOLLOWS_LENGTH = ["Llama-dynamic-long", "Phi3-long"]
STEPS = 4


@pytest.mark.parametrize("case", [case for case in CAUSAL if case not in FOLLOWS_LENGTH])
def test_prompts_of_unequal_lengths_and_steps_give_the_logits_of_the_backbone(case, causal_model, prompts):
    model, _ = causal_model(case)
    ids, starts = prompts
    decoder = CachedDecoder(model)
    hidden, cache = decoder.prefill(ids, starts)
    found, rows = [decoder.logits(hidden).numpy()], ids
    cache = cache.with_room(ids.shape[1] + STEPS + 2)
    for step in range(STEPS):
        newest = found[-1].argmax(-1).astype(np.int32)
        rows = np.concatenate([rows, newest[:, None]], axis=1)
        column = tf.constant(ids.shape[1] + step)
        hidden, cache = decoder.step(newest, column, starts, cache)
        found.append(decoder.logits(hidden).numpy())
    for row, start in enumerate(starts):
        alone = rows[row : row + 1, start:]
        expected = model({"token_ids": alone, "padding_mask": np.ones_like(alone)}).numpy()[0, -STEPS - 1 :]
        np.testing.assert_allclose([logits[row] for logits in found], expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("size", [3, 4, 16])
@pytest.mark.parametrize("case", ["LlamaForCausalLM", "MistralForCausalLM", "GPT2LMHeadModel"])
def test_long_prompts_are_read_in_chunks_to_the_same_end(case, size, causal_model, prompts, monkeypatch):
    monkeypatch.setattr("kerasllm.generation.decoder.CHUNK", size)
    decoder = CachedDecoder(causal_model(case)[0])
    whole, cache = decoder.read(*prompts[:1], tf.constant(0), prompts[1], decoder.prefill(*prompts)[1])
    ids, starts = whole_chunks(*map(tf.constant, prompts))
    hidden, chunked = decoder.prefill(ids, starts)
    assert ids.shape[1] % size == 0 or ids.shape[1] == prompts[0].shape[1] <= size
    np.testing.assert_allclose(hidden, whole[:, -1], atol=1e-4)
    more = ids.shape[1] - prompts[0].shape[1]
    for row, start in enumerate(prompts[1]):
        for new, old in zip(chunked, cache, strict=True):
            np.testing.assert_allclose(new[:, row, :, start + more :], old[:, row, :, start:], atol=1e-4)


def test_a_model_that_continues_no_text_is_refused(tmp_path):
    pytest.importorskip("torch")
    write_checkpoint("BertForMaskedLM", tmp_path)
    with pytest.raises(PresetError, match="head 'masked_language' cannot continue a text"):
        CachedDecoder(build_with_head(Preset.load(tmp_path)))
