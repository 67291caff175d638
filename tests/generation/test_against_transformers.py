"""Greedy answers, and what changes them, token by token those of `transformers.generate`."""

import numpy as np
import pytest
import tensorflow as tf

from kerasllm.generation.decoder import CachedDecoder
from kerasllm.generation.loop import DecodeLoop
from kerasllm.generation.parameters import Parameters

torch = pytest.importorskip("torch")

STOPS = (1, 7)
FAMILIES = [
    "GPT2LMHeadModel",
    "GPTNeoXForCausalLM",
    "OPTForCausalLM",
    "LlamaForCausalLM",
    "Llama-dynamic-long",
    "MistralForCausalLM",
    "MixtralForCausalLM",
    "Qwen2-window",
    "Qwen3ForCausalLM",
    "Phi3ForCausalLM",
    "GemmaForCausalLM",
    "Gemma2ForCausalLM",
    "Gemma3ForCausalLM",
    "SmolLM3ForCausalLM",
]


def ours(model, prompts, stops=STOPS, **options):
    """Tokens of the answers, as lists."""
    ids, starts = prompts
    parameters = Parameters.of(len(ids), **options)
    loop = DecodeLoop(CachedDecoder(model), stops, keep_log_probs=True)

    @tf.function(autograph=False)
    def run(ids, starts):
        return loop.go_on(loop.begin(ids, starts, parameters), parameters)

    answers = run(tf.constant(ids), tf.constant(starts))
    found = answers.token_ids[:, ids.shape[1] :].numpy()
    return [row[:length].tolist() for row, length in zip(found, answers.lengths, strict=True)], answers


def theirs(model, prompts, stops=STOPS, **options):
    ids, starts = prompts
    mask = (np.arange(ids.shape[1]) >= starts[:, None]).astype(np.int64)
    with torch.inference_mode():
        found = model.generate(
            input_ids=torch.tensor(ids).long(),
            attention_mask=torch.tensor(mask),
            do_sample=False,
            eos_token_id=list(stops),
            pad_token_id=0,
            **options,
        )
    rows = []
    for row in found[:, ids.shape[1] :].tolist():
        ends = [place for place, token in enumerate(row) if token in stops]
        rows.append(row[: ends[0] + 1] if ends else row)
    return rows


@pytest.mark.parametrize("case", FAMILIES)
def test_greedy_tokens(case, causal_model, prompts):
    model, reference = causal_model(case)
    found, answers = ours(model, prompts, max_new_tokens=24)
    assert found == theirs(reference, prompts, max_new_tokens=24)
    expected = [row[-1] in STOPS for row in found]
    assert answers.stopped.numpy().tolist() == expected


@pytest.mark.parametrize(
    "options",
    [
        {"repetition_penalty": 1.7},
        {"no_repeat_ngram_size": 1},
        {"no_repeat_ngram_size": 2},
        {"no_repeat_ngram_size": 3, "repetition_penalty": 0.6},
        {"min_new_tokens": 12},
    ],
)
def test_what_changes_greedy_tokens(options, causal_model, prompts):
    model, reference = causal_model("LlamaForCausalLM")
    # transformers penalizes the padding as well; its prompts are taken one by one.
    found, _ = ours(model, prompts, max_new_tokens=24, **options)
    for row, (ids, start) in enumerate(zip(*prompts, strict=True)):
        alone = (ids[None, start:], np.zeros(1, np.int32))
        assert [found[row]] == theirs(reference, alone, max_new_tokens=24, **options)
