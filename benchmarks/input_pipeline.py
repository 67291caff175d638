"""The input pipeline alone against what a training step of MiniLM eats; padding; tokenizing and the cache.

Two sets of texts: the training rows of Rotten Tomatoes, and as many texts of 10 to 300 words (log-normal, cut
from those rows put together). Rates are medians over interleaved rounds in one process; in each, the pipeline
makes batches that nothing trains on, and the training step (forward, backward, AdamW) trains on batches that
are there already. Padding is counted over an epoch, not measured.

    python benchmarks/input_pipeline.py [--rounds 7] [--rows 8000]
"""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from report import table, write_section

from kerasllm.config.loading import load_config
from kerasllm.data.batching import make_source
from kerasllm.data.prepare import prepare
from kerasllm.data.token_cache import prepare_tokens
from kerasllm.data.token_ids import EncodedTexts
from kerasllm.models.builders import build_classifier
from kerasllm.models.packing import set_packing
from kerasllm.models.presets import Preset
from kerasllm.training.classification import TrainingData, classification_problem
from kerasllm.training.timetable import Timetable
from kerasllm.training.trainer import prepare_step

BATCHES, STEPS = 200, 4  # of a round of the pipeline, and of one of the training step
LAYOUTS = {
    "grouped by length": {"num_widths": 64},
    "8 widths": {"num_widths": 8},
    "at most 4,096 tokens": {"batch_tokens": 4096, "num_widths": 64},
    "packed into rows of 512": {"packing": True, "packing_length": 512, "batch_size": 8},
}
LONGEST = 512


def texts_of(config, rows):
    prepared = prepare(config.data, task=config.task, seed=config.seed)
    short = prepared.train.texts[:rows]
    words = " ".join(short).split()
    random = np.random.default_rng(0)
    counts = np.clip(np.round(random.lognormal(np.log(60), 0.8, len(short))), 10, 300).astype(int)
    starts = random.integers(0, max(1, len(words) - 300), len(short))
    long = [" ".join(words[at : at + count]) for at, count in zip(starts, counts, strict=True)]
    return {"Rotten Tomatoes": short, "10 to 300 words": long}


def encoder(tokenizer):
    def encode(texts, pairs):
        return tokenizer.encode_for_model(texts, pairs, sequence_length=LONGEST)

    return encode


def tokenizing(texts, tokenizer, rounds):
    """Texts a second: tokenized by one thread and by all, put on disk, and opened again."""
    found = {"one thread": [], "all threads": [], "all threads, to the cache": [], "from the cache": []}
    for _ in range(rounds):
        for name, rates in found.items():
            os.environ["TOKENIZERS_PARALLELISM"] = "false" if name == "one thread" else "true"
            with tempfile.TemporaryDirectory() as directory:
                cache = Path(directory) if "cache" in name else None
                options = {"encode": encoder(tokenizer), "settings": {}, "cache": cache}
                if name == "from the cache":
                    prepare_tokens(texts, **options)
                began = time.perf_counter()
                prepare_tokens(texts, **options)
                rates.append(len(texts) / (time.perf_counter() - began))
    return {name: statistics.median(rates) for name, rates in found.items()}


def padding(tokens, layouts, training):
    """Share of the places that hold no token, by what is done about it."""
    lengths, size = tokens.lengths, training.batch_size
    order = np.random.default_rng(0).permutation(len(lengths))
    shuffled = [lengths[order[at : at + size]] for at in range(0, len(order), size)]
    places = {
        "every text padded to 512": len(lengths) * LONGEST,
        "to the longest of all": len(lengths) * int(lengths.max()),
        "shuffled, to the longest of the batch": sum(len(part) * int(part.max()) for part in shuffled),
    }
    found = {name: 1 - lengths.sum() / count for name, count in places.items()}
    return found | {name: source.padding_share for name, source in layouts.items()}


class Pipeline:
    """Batches of a layout that nothing trains on."""

    def __init__(self, source):
        self.source = source

    def run(self):
        texts = tokens = 0
        batches = iter(self.source.dataset())
        next(batches)
        began = time.perf_counter()
        for _ in range(BATCHES):
            inputs, targets, _ = next(batches)
            texts, tokens = texts + len(targets), tokens + int(np.count_nonzero(inputs["padding_mask"]))
        seconds = time.perf_counter() - began
        return texts / seconds, tokens / seconds


class Training:
    """Steps of a layout on batches that are there already."""

    def __init__(self, preset, data, config, layout, policy):
        training = config.training.model_copy(update={**layout, "dtype_policy": policy})
        keras.utils.set_random_seed(0)
        model = build_classifier(preset, num_classes=2, dtype_policy=policy)
        set_packing(model, training.packing)
        problem = classification_problem(data, training)
        self.step = prepare_step(model, problem, training, Timetable([problem.train.num_batches(0)]))
        self.batches = list(problem.train.dataset(1).take(STEPS))
        self.run()  # traces

    def run(self):
        began = time.perf_counter()
        for batch in self.batches:
            self.step([batch])
        seconds = time.perf_counter() - began
        texts = sum(len(targets) for _, targets, _ in self.batches)
        tokens = sum(int(np.count_nonzero(inputs["padding_mask"])) for inputs, _, _ in self.batches)
        return texts / seconds, tokens / seconds


def interleaved(contestants, rounds):
    found = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, contestant in contestants.items():
            found[name].append(contestant.run())
            print(f"{name}: {found[name][-1][1]:,.0f} tokens/s", flush=True)
    return {name: np.median(values, axis=0) for name, values in found.items()}


def of_one_set(name, texts, preset, config, rounds):
    tokens = prepare_tokens(texts, encode=encoder(preset.tokenizer), settings={})
    data = EncodedTexts.from_token_ids(tokens, np.arange(len(texts), dtype=np.int32) % 2)
    training_data = TrainingData(data, None, preset.tokenizer.pad_id, 2, False)
    layouts = {
        layout: make_source(data, config.training.model_copy(update=options), pad_id=0, seed=0)
        for layout, options in LAYOUTS.items()
    }
    steps = {
        (layout, policy): Training(preset, training_data, config, LAYOUTS[layout], policy)
        for layout in ("grouped by length", "packed into rows of 512")
        for policy in ("float32", "mixed_bfloat16")
    }
    made = interleaved({**{name: Pipeline(source) for name, source in layouts.items()}, **steps}, rounds)
    demand = max(made[step][1] for step in steps)
    rows = [
        [layout, f"{made[layout][0]:,.0f}", f"{made[layout][1]:,.0f}", f"{made[layout][1] / demand:.0f} ×"]
        for layout in layouts
    ]
    rows += [
        [f"training step, {layout}, {policy}", *(f"{rate:,.0f}" for rate in made[layout, policy]), ""]
        for layout, policy in steps
    ]
    header = [name, "texts/s", "tokens/s", "against the fastest step"]
    return table(header, rows), padding(tokens, layouts, config.training)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--rows", type=int, default=8000)
    parser.add_argument("--no-report", action="store_true", help="print only")
    arguments = parser.parse_args()
    config = load_config("text_classification/sentiment_minilm", [])
    preset = Preset.load(config.preset)
    sets = texts_of(config, arguments.rows)
    speed, shares, tokenized = [], {}, {}
    for name, texts in sets.items():
        tokenized[name] = tokenizing(texts, preset.tokenizer, max(3, arguments.rounds // 2))
        print(f"{name}, texts/s: {tokenized[name]}", flush=True)
        text, shares[name] = of_one_set(name, texts, preset, config, arguments.rounds)
        speed.append(text)
    waste = table(
        ["share of places that are padding", *sets],
        [[way, *(f"{shares[name][way]:.1%}" for name in sets)] for way in shares["Rotten Tomatoes"]],
    )
    ways = table(
        ["texts/s", *sets],
        [[way, *(f"{tokenized[name][way]:,.0f}" for name in sets)] for way in tokenized["Rotten Tomatoes"]],
    )
    count = len(sets["Rotten Tomatoes"])
    text = (
        f"{count:,} texts of each kind. Medians of {arguments.rounds} interleaved rounds of {BATCHES} "
        f"batches of the pipeline alone (two workers) and {STEPS} training steps of MiniLM, batches of "
        f"{config.training.batch_size}, of 8 where packed.\n\n" + "\n\n".join([*speed, waste, ways])
    )
    if arguments.no_report:
        print(text)
    else:
        write_section("Input pipeline", text)


if __name__ == "__main__":
    main()
