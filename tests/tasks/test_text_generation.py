"""The text generator and the chat: texts in, texts out, row by row the same."""

import numpy as np
import pytest

import kerasllm
from kerasllm.errors import ConfigError, DataError, PresetError, TokenizerError
from kerasllm.models.presets import Preset
from kerasllm.testing import tiny_bert, tiny_llama
from kerasllm.testing.chat_templates import ALTERNATING, CHATML

PROMPTS = ["The sea is", "", "A joy from start to end, and a film that I would see again", "é 🙂"]
SETTINGS = {
    "max_new_tokens": [5, 20, 12, 9],
    "temperature": [0.0, 1.0, 0.8, 0.0],
    "top_k": [0, 0, 20, 0],
    "top_p": [1.0, 0.9, 1.0, 1.0],
    "repetition_penalty": [1.0, 1.2, 1.0, 1.5],
    "seed": [0, 1, 2, 3],
}


@pytest.fixture(scope="module")
def generator(tmp_path_factory):
    return kerasllm.load(tiny_llama(tmp_path_factory.mktemp("llama")))


@pytest.fixture(scope="module")
def chat(tmp_path_factory):
    return kerasllm.load(tiny_llama(tmp_path_factory.mktemp("chat"), chat_template=CHATML))


def test_load_knows_what_a_checkpoint_is(generator, chat):
    assert type(generator) is kerasllm.TextGenerator
    assert type(chat) is kerasllm.Chat
    assert repr(chat).startswith("Chat(preset=")


def test_prompts_and_settings_of_a_batch_are_each_row_s_own(generator):
    together = generator.generate(PROMPTS, **SETTINGS)
    for row, prompt in enumerate(PROMPTS):
        (alone,) = generator.generate([prompt], **{name: values[row] for name, values in SETTINGS.items()})
        assert alone == together[row]
        assert alone.num_tokens <= SETTINGS["max_new_tokens"][row]
        assert (alone.finish_reason == "length") == (alone.num_tokens == SETTINGS["max_new_tokens"][row])
    assert generator.generate(PROMPTS, batch_size=2, **SETTINGS) == together


def test_a_text_is_what_its_tokens_say(generator):
    """Greedy tokens of the plain Keras model, one at a time, read by the tokenizer."""
    (answer,) = generator.generate(PROMPTS[:1], max_new_tokens=12, log_probs=True)
    ids = generator.tokenizer.encode(PROMPTS[:1])[0]
    begin, chances = len(ids), []
    for _ in range(answer.num_tokens):
        row = np.array([ids], np.int32)
        logits = generator.keras_model({"token_ids": row, "padding_mask": np.ones_like(row)}).numpy()[0, -1]
        ids.append(int(logits.argmax()))
        chances.append(logits.max() - np.log(np.exp(logits).sum()))
    whole = generator.tokenizer.decode([ids])[0]
    assert answer.text == whole[len(PROMPTS[0]) :]
    np.testing.assert_allclose(answer.log_probs, chances, atol=1e-4)
    assert len(ids) - begin == 12


def test_a_stop_string_ends_an_answer_and_is_not_in_it(generator):
    (whole,) = generator.generate(PROMPTS[:1], max_new_tokens=30)
    stop = whole.text[4:6]
    (cut,) = generator.generate(PROMPTS[:1], max_new_tokens=30, stop=stop)
    assert cut.text == whole.text[: whole.text.index(stop)]
    assert cut.finish_reason == "stop"
    assert cut.num_tokens < whole.num_tokens
    one, other = generator.generate([PROMPTS[0]] * 2, max_new_tokens=30, stop=[[stop], ["never said"]])
    assert (one, other) == (cut, whole)


@pytest.mark.parametrize("settings", [{}, {"temperature": 1.0, "seed": 3}, {"stop": "a"}])
def test_a_stream_is_whole_characters_and_the_same_text(generator, settings):
    for prompt in PROMPTS:
        pieces = list(generator.stream(prompt, max_new_tokens=25, **settings))
        (answer,) = generator.generate([prompt], max_new_tokens=25, **settings)
        assert "".join(pieces) == answer.text
        assert all(pieces)


def test_several_answers_to_a_prompt_differ_and_each_has_its_seed(generator):
    options = {"max_new_tokens": 12, "temperature": 1.0}
    (many,) = generator.generate(PROMPTS[:1], num_return_sequences=3, seed=5, **options)
    assert len({answer.text for answer in many}) == 3
    assert [generator.generate(PROMPTS[:1], seed=seed, **options)[0] for seed in (5, 6, 7)] == many
    with pytest.raises(ConfigError, match="`num_return_sequences` is 2, but with `temperature` 0"):
        generator.generate(PROMPTS[:1], num_return_sequences=2)


def test_a_score_is_the_sum_over_the_tokens_that_a_completion_adds(generator):
    completions = [" wide and deep.", "Once", "", " 🙂 é"]
    scores = generator.score(PROMPTS, completions)
    for prompt, completion, score in zip(PROMPTS, completions, scores, strict=True):
        before = generator.tokenizer.encode([prompt])[0] or [generator.start_id]
        ids = generator.tokenizer.encode([prompt + completion])[0]
        ids = ids if prompt else [generator.start_id, *ids]
        row = np.array([ids], np.int32)
        logits = generator.keras_model({"token_ids": row, "padding_mask": np.ones_like(row)}).numpy()[0]
        chances = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        expected = sum(chances[place - 1, ids[place]] for place in range(len(before), len(ids)))
        assert score.num_tokens == len(ids) - len(before)
        assert score.log_prob == pytest.approx(expected, abs=1e-3)
        (alone,) = generator.score(prompt, completion)
        assert (alone.log_prob, alone.num_tokens) == (
            pytest.approx(score.log_prob, abs=1e-4),
            score.num_tokens,
        )
    long = generator.score("many words " * 500, " and more")[0]
    assert long.num_tokens < generator.max_length
    with pytest.raises(DataError, match="There are 1 prompts and 2 completions"):
        generator.score(["a"], ["b", "c"])


def test_a_long_prompt_loses_its_beginning_and_says_so(generator):
    text = " ".join(f"word {number}" for number in range(200_000))  # about 2 MB
    (answer,) = generator.generate([text], max_new_tokens=8)
    assert answer.prompt_cut
    ids = generator.tokenizer.encode([text])[0][-(generator.max_length - 8) :]
    (expected,) = generator.generate([generator.tokenizer.decode([ids])[0]], max_new_tokens=8)
    assert answer.text == expected.text
    assert not expected.prompt_cut
    # A prompt keeps half of the context, whatever the answer may take.
    (answer,) = generator.generate([text], max_new_tokens=10_000)
    assert answer.num_tokens <= generator.max_length // 2


def test_bad_prompts_are_refused(generator):
    with pytest.raises(DataError, match=r"Prompt 1 is '3' \(int\), but a prompt is a text"):
        generator.generate(["fine", 3])
    with pytest.raises(DataError, match="Prompt 0 has a lone surrogate at character 1"):
        generator.generate(["a\ud800"])
    assert generator.generate([]) == []


def test_bfloat16_answers_too(tmp_path):
    generator = kerasllm.TextGenerator.from_preset(Preset.load(tiny_llama(tmp_path)), dtype="bfloat16")
    assert generator.generate(PROMPTS, max_new_tokens=4)[0].num_tokens


def test_an_encoder_is_no_generator(tmp_path):
    with pytest.raises(PresetError, match="cannot continue a text"):
        kerasllm.TextGenerator.from_preset(Preset.load(tiny_bert(tmp_path)))


def test_a_reply_is_the_answer_to_the_rendered_conversation(chat, generator):
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]
    prompt = chat.prompt(messages)
    assert prompt == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"
    )
    answer = chat.reply(messages, max_new_tokens=10)
    assert answer == generator.generate([prompt], max_new_tokens=10)[0]
    assert "".join(chat.stream_reply(messages, max_new_tokens=10)) == answer.text
    assert chat.reply("Hello", max_new_tokens=3) == chat.reply(
        [{"role": "user", "content": "Hello"}], max_new_tokens=3
    )


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([], "`messages` is .*expected a list"),
        ([{"role": "user"}], r"`messages\[0\]` is .*expected"),
        (
            [{"role": "robot", "content": "x"}],
            r"`messages\[0\].role` is 'robot'; expected one of system, user",
        ),
        ([{"role": "user", "content": " "}], r"`messages\[0\].content` is ' ' \(user\); expected a text"),
        (
            [{"role": "system", "content": "a"}, {"role": "system", "content": "b"}],
            r"`messages\[1\].role` is 'system', but there is one already",
        ),
        (
            [{"role": "user", "content": "a"}, {"role": "system", "content": "b"}],
            r"`messages\[1\].role` is 'system', but it must come first",
        ),
    ],
)
def test_bad_conversations_are_refused(chat, messages, message):
    with pytest.raises(DataError, match=message):
        chat.reply(messages)


def test_what_the_template_refuses_is_said(tmp_path):
    chat = kerasllm.load(tiny_llama(tmp_path, chat_template=ALTERNATING))
    with pytest.raises(TokenizerError, match="Roles must alternate"):
        chat.reply([{"role": "assistant", "content": "First"}])
