"""Seconds of the graph, the `tokenizers` library and KerasHub's graph, in turns in one process."""

import itertools
import json
import os
import time

import numpy as np
from inputs import FRESH, timed_inputs, tokenizer_json

ROUNDS = 7
SECONDS_A_TURN = 0.25


def measure(name: str) -> dict[str, dict[str, float]]:
    """Median seconds of every contestant on every input."""
    import tensorflow as tf

    from kerasllm.tokenization import Tokenizer

    threads = int(os.environ["RAYON_NUM_THREADS"])
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    specification = tokenizer_json(name, large=True)
    tokenizer = Tokenizer.from_json(specification)
    signature = [tf.TensorSpec([None], tf.string)]
    ours = tf.function(lambda texts: tokenizer.graph_encode(texts).values, input_signature=signature)
    contestants = {"kerasllm graph": ours, "tokenizers": tokenizer.encode}
    hub = keras_hub_graph(specification)
    if hub is not None:
        contestants["KerasHub graph"] = tf.function(
            lambda texts: hub(texts).values, input_signature=signature
        )
    seconds = {}
    for input_name, texts in timed_inputs().items():
        tensor = tf.constant(texts)
        calls = {
            contestant: (lambda run=run, given=texts if contestant == "tokenizers" else tensor: run(given))
            for contestant, run in contestants.items()
        }
        seconds[input_name] = in_turns(calls)
    for input_name, batch in FRESH.items():
        seconds[input_name] = on_fresh_texts(contestants, batch, tf)
    return seconds


def keras_hub_graph(specification: str):
    """KerasHub's tokenizer of the same vocabulary, where it has one; its BPE keeps every word it has seen."""
    import keras_hub

    model = json.loads(specification)["model"]
    document = json.loads(specification)
    if model["type"] == "WordPiece":
        vocabulary = sorted(model["vocab"], key=model["vocab"].get)
        return keras_hub.tokenizers.BertTokenizer(vocabulary=vocabulary, lowercase=True)
    if model["type"] == "BPE" and (document["pre_tokenizer"] or {}).get("type") == "ByteLevel":
        merges = [" ".join(merge) for merge in model["merges"]]
        return keras_hub.tokenizers.BytePairTokenizer(vocabulary=model["vocab"], merges=merges)
    return None


def in_turns(calls) -> dict[str, float]:
    """Medians of calls that take turns."""
    times: dict[str, list[float]] = {contestant: [] for contestant in calls}
    for _, (contestant, call) in itertools.product(range(ROUNDS), calls.items()):
        call()
        end = time.perf_counter() + SECONDS_A_TURN
        for _ in range(200):
            start = time.perf_counter()
            call()
            now = time.perf_counter()
            times[contestant].append(now - start)
            if now > end:
                break
    return {contestant: float(np.median(values)) for contestant, values in times.items()}


def on_fresh_texts(contestants, batch, tf) -> dict[str, float]:
    """Medians on batches that nobody has seen before: the same ones for every contestant."""
    times: dict[str, list[float]] = {contestant: [] for contestant in contestants}
    for number in range(12):
        texts = batch(number)
        tensor = tf.constant(texts)
        for contestant, run in contestants.items():
            start = time.perf_counter()
            run(texts if contestant == "tokenizers" else tensor)
            times[contestant].append(time.perf_counter() - start)
    return {contestant: float(np.median(values[2:])) for contestant, values in times.items()}


def memory(name: str) -> list[float]:
    """Resident megabytes after 1,000 and after 100,000 distinct texts of new words."""
    import tensorflow as tf

    from kerasllm.tokenization import Tokenizer

    tokenizer = Tokenizer.from_json(tokenizer_json(name, large=True))
    signature = [tf.TensorSpec([None], tf.string)]
    encode = tf.function(lambda texts: tokenizer.graph_encode(texts).values, input_signature=signature)
    resident = []
    for index in range(10_000):
        words = [f"{index}{letter}{index * 7919}" for letter in "abcdefghij"]
        encode(tf.constant([f"{word} {word[::-1]} x{word}" for word in words]))
        if index in (99, 9_999):
            with open("/proc/self/statm") as file:
                resident.append(int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6)
    return resident


def export(name: str, directory: str) -> dict[str, float]:
    """Seconds to make, save and load the graph of a tokenizer, its operations, and its megabytes."""
    import tensorflow as tf

    from kerasllm.tokenization import Tokenizer

    times = [time.perf_counter()]
    tokenizer = Tokenizer.from_json(tokenizer_json(name, large=True))
    module = tf.Module()
    module.tables = tokenizer.trackable
    times.append(time.perf_counter())
    signature = [tf.TensorSpec([None], tf.string)]
    module.serve = tf.function(lambda texts: {"ids": tokenizer.graph_encode(texts).values}, signature)
    tf.saved_model.save(module, directory, signatures={"serving_default": module.serve})
    times.append(time.perf_counter())
    tf.saved_model.load(directory)
    times.append(time.perf_counter())
    graph = module.serve.get_concrete_function().graph.as_graph_def()
    nodes = len(graph.node) + sum(len(function.node_def) for function in graph.library.function)
    size = sum(
        os.path.getsize(os.path.join(folder, file))
        for folder, _, files in os.walk(directory)
        for file in files
    )
    make, save, load = np.diff(times).tolist()
    return {"make": make, "save": save, "load": load, "nodes": nodes, "megabytes": size / 1e6}
