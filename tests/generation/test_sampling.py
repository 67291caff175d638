"""Drawn tokens: the probabilities that were asked for, and each row by itself."""

import numpy as np
import pytest
import tensorflow as tf

from kerasllm.generation.parameters import Parameters
from kerasllm.generation.sampling import choose, fresh_seeds, uniform

CHANCES = np.array([0.4, 0.05, 0.25, 0.2, 0.1], np.float32)
LOGITS = np.log(CHANCES)


def shares(draws=20000, logits=LOGITS, **settings):
    """How often each token is drawn, with a seed for each row."""
    rows = tf.tile(tf.constant(logits)[None], [draws, 1])
    parameters = Parameters.of(draws, **{"temperature": 1.0, **settings})
    tokens = choose(rows, parameters, tf.range(draws, dtype=tf.int64), tf.constant(0)).numpy()
    return np.bincount(tokens, minlength=len(logits)) / draws


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, CHANCES),
        ({"temperature": 0.5}, CHANCES**2),
        ({"temperature": 2.0}, CHANCES**0.5),
        ({"top_k": 2}, [0.4, 0, 0.25, 0, 0]),
        ({"top_k": 9}, CHANCES),
        ({"top_p": 0.4}, [1, 0, 0, 0, 0]),
        ({"top_p": 0.41}, [0.4, 0, 0.25, 0, 0]),
        ({"top_p": 0.84}, [0.4, 0, 0.25, 0.2, 0]),
        ({"top_p": 1e-9}, [1, 0, 0, 0, 0]),
        ({"top_k": 3, "top_p": 0.7}, [0.4, 0, 0.25, 0, 0]),  # of the three likeliest, these are 0.65 / 0.85
        ({"min_p": 0.49}, [0.4, 0, 0.25, 0.2, 0]),
        ({"min_p": 1.0}, [1, 0, 0, 0, 0]),
        ({"temperature": 1e-6}, [1, 0, 0, 0, 0]),
    ],
)
def test_shares_are_the_probabilities_asked_for(settings, expected):
    expected = np.asarray(expected, np.float64)
    np.testing.assert_allclose(shares(**settings), expected / expected.sum(), atol=0.012)


def test_more_tokens_than_are_sorted_first_are_kept_where_it_takes_them():
    logits = np.zeros(2000, np.float32)
    logits[7] = 1.0
    found = shares(logits=logits, top_p=0.9)
    assert (found > 0).sum() > 1500  # equal tokens stay together
    assert shares(logits=logits, top_k=1)[7] == 1


def test_a_row_does_not_depend_on_its_neighbours():
    random = np.random.default_rng(0)
    logits = random.normal(size=(6, 50)).astype(np.float32)
    settings = {
        "temperature": [0.0, 1.0, 0.7, 1.3, 1.0, 0.2],
        "top_k": [0, 5, 0, 3, 0, 0],
        "top_p": [1.0, 1.0, 0.5, 1.0, 0.9, 1.0],
        "min_p": [0.0, 0.0, 0.1, 0.0, 0.0, 0.3],
    }
    seeds = tf.constant([1, 2, 3, 4, 5, 6], tf.int64)
    together = choose(tf.constant(logits), Parameters.of(6, **settings), seeds, tf.constant(3)).numpy()
    assert together[0] == logits[0].argmax()
    for row in range(6):
        own = Parameters.of(1, **{name: values[row] for name, values in settings.items()})
        alone = choose(logits[row : row + 1], own, seeds[row : row + 1], tf.constant(3)).numpy()
        assert alone[0] == together[row]


def test_draws_are_even_and_have_nothing_in_common():
    seeds = tf.range(2000, dtype=tf.int64)
    draws = np.stack([uniform(seeds, tf.constant(step)).numpy() for step in range(20)])
    assert draws.min() >= 0
    assert draws.max() < 1
    counts = np.histogram(draws, bins=20, range=(0, 1))[0] / draws.size
    np.testing.assert_allclose(counts, 0.05, atol=0.005)
    for one, other in ((draws[:, :-1], draws[:, 1:]), (draws[:-1], draws[1:])):
        assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.02
    np.testing.assert_array_equal(draws[3], uniform(seeds, tf.constant(3)))


def test_a_negative_seed_is_another_one_each_time():
    first, second = (fresh_seeds(tf.constant([-1, 5, -1], tf.int64)).numpy() for _ in range(2))
    assert first[1] == second[1] == 5
    assert len({first[0], first[2], second[0], second[2]}) == 4
    assert min(first) >= 0
