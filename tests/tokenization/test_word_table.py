"""Which token ids begin, go on with and end words, in every kind of tokenizer."""

import pytest

from kerasllm.testing.families import family
from kerasllm.tokenization import Tokenizer

TEXT = "The reader, isn't (bored)"
# What is one word to each kind: `|` stands before each word, `!` behind punctuation that is no part of one.
EXPECTED = {
    "bert-uncased": "[CLS]|the|reader|,|isn|'|t|(|bored|)|[SEP]",
    "openai-gpt": "the|reader|,|isn|'|t|(|bored|)",
    "clip": "<|startoftext|>|the|reader|,|isn|'t|(|bored|)|<|endoftext|>",
    "gpt2": "The| reader|,!| isn't| (bored|)!",
    "llama3": "<|begin_of_text|>|The| reader|,!| isn't| (bored|)!",
    "t5": " The| reader|,!| isn't| (bored|)!|</s>",
    "xlm-roberta": "<s>| The| reader|,!| isn't| (bored|)!|</s>",
    "gemma": "The| reader|,!| isn't| (bored|)!",
}


def cut(tokenizer, ids):
    table, words, closed = tokenizer.word_table, [], True
    for token in ids:
        piece = tokenizer.id_to_token(token).replace("▁", " ").replace("Ġ", " ").removeprefix("##")
        piece = piece.removesuffix("</w>") + ("!" if table.glued[token] else "")
        if closed or not table.continues[token]:
            words.append(piece)
        else:
            words[-1] += piece
        closed = bool(table.closes[token])
    return "|".join(words)


@pytest.mark.parametrize("name", EXPECTED)
def test_pieces_are_put_together_to_words(name):
    tokenizer = Tokenizer.from_json(family(name))
    assert cut(tokenizer, tokenizer.encode([TEXT])[0]) == EXPECTED[name]


def test_special_tokens_separate_and_the_unknown_one_does_not():
    tokenizer = Tokenizer.from_json(family("bert-uncased"))
    table = tokenizer.word_table
    separating = {tokenizer.id_to_token(token) for token in table.separates.nonzero()[0]}
    assert separating == {"[PAD]", "[CLS]", "[SEP]", "[MASK]"}
    assert not table.whole[[tokenizer.token_to_id(token) for token in ("[UNK]", ",", "##s", "[CLS]")]].any()
    assert table.whole[tokenizer.token_to_id("reader")]


def test_pieces_have_a_form_with_a_space():
    tokenizer = Tokenizer.from_json(family("gpt2"))
    spaced = tokenizer.word_table.spaced
    known = [number for number in range(len(spaced)) if spaced[number] not in (-1, number)]
    assert len(known) > 50
    for number in known:
        assert tokenizer.id_to_token(int(spaced[number])) == f"Ġ{tokenizer.id_to_token(number)}"
    marked = [number for number in range(len(spaced)) if tokenizer.id_to_token(number).startswith("Ġ")]
    assert (spaced[marked] == marked).all()


def test_words_are_encoded_as_they_stand_in_texts():
    tokenizer = Tokenizer.from_json(family("gpt2"))
    (forms,) = tokenizer.encode_words(["reader"])
    assert [tokenizer.decode([ids])[0] for ids in forms] == [" reader", "reader"]
    assert len(Tokenizer.from_json(family("bert-uncased")).encode_words(["reader"])[0]) == 1


def test_the_mask_token_is_known():
    assert Tokenizer.from_json(family("roberta")).mask_id == Tokenizer.from_json(
        family("roberta")
    ).token_to_id("<mask>")
    assert Tokenizer.from_json(family("gpt2")).mask_id is None
