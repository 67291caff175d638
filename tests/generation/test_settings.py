"""What may be asked of generation, and what is said about the rest."""

import pytest

from kerasllm.errors import ConfigError
from kerasllm.generation.settings import check_settings, check_stops


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"max_new_tokens": 0}, "`max_new_tokens` is 0; expected a whole number from 1 up"),
        ({"max_new_tokens": -3}, "`max_new_tokens` is -3; expected a whole number from 1 up"),
        ({"max_new_tokens": 2.5}, r"`max_new_tokens` is 2.5; expected a whole number"),
        ({"temperature": -0.1}, "`temperature` is -0.1; expected a number from 0 up"),
        ({"temperature": float("nan")}, "`temperature` is nan"),
        ({"temperature": "hot"}, "`temperature` is 'hot'"),
        ({"top_p": 0}, "`top_p` is 0; expected a number above 0 and up to 1"),
        ({"top_p": 1.1}, "`top_p` is 1.1"),
        ({"min_p": 2}, "`min_p` is 2; expected a number from 0 to 1"),
        ({"repetition_penalty": 0}, "`repetition_penalty` is 0; expected a number above 0"),
        ({"top_k": True}, "`top_k` is True"),
        ({"seed": -5}, "`seed` is -5; expected a whole number from 0 up, or none"),
        ({"temprature": 1}, "there is no setting `temprature`; did you mean `temperature`"),
        ({"temperature": [0.5, 0.7, 1.0]}, "`temperature` has 3 values for 2 prompts"),
        ({"temperature": [0.5, -1]}, "`temperature` is -1"),
        ({"top_p": 0, "top_k": -1}, "`top_p` is 0.*`top_k` is -1"),
    ],
)
def test_impossible_settings_are_refused_all_at_once(given, message):
    with pytest.raises(ConfigError, match=message):
        check_settings(given, 2)


def test_each_row_gets_its_value():
    found = check_settings({"temperature": [0, 0.5], "seed": None, "top_k": 4}, 2)
    assert found == {"temperature": [0, 0.5], "seed": [-1, -1], "top_k": [4, 4]}


def test_stop_strings_of_all_rows_are_equally_many():
    assert check_stops(None, 2) == [[], []]
    assert check_stops("\n", 2) == [["\n"], ["\n"]]
    assert check_stops(["a", "b"], 1) == [["a", "b"]]
    assert check_stops([["a"], ["b", "c"]], 2) == [["a", ""], ["b", "c"]]


@pytest.mark.parametrize(
    ("stop", "message"),
    [
        (["x" * 10_000], "`stop` has a text of 10,000 bytes.*expected 256 at most"),
        ([""], "expected texts that are not empty"),
        ([1], "`stop` has 1; expected texts"),
        (["x"] * 17, "17 texts for one prompt; expected 16 at most"),
        ([["a"], ["b"], ["c"]], "3 lists for 2 prompts"),
    ],
)
def test_impossible_stop_strings_are_refused(stop, message):
    with pytest.raises(ConfigError, match=message):
        check_stops(stop, 2)
