"""Learning-rate schedules beside those of transformers and PyTorch, at every step."""

import keras
import numpy as np
import pytest

from kerasllm.errors import ConfigError
from kerasllm.training.schedules import SCHEDULES, make_schedule, warmup_steps_of

PEAK = 3e-4


def rates_of(optimizer_schedule, num_steps):
    return np.array([float(optimizer_schedule(step)) for step in range(num_steps)])


def transformers_rates(name, warmup_steps, total_steps):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=PEAK)
    make = {
        "linear": lambda: transformers.get_linear_schedule_with_warmup(optimizer, warmup_steps, total_steps),
        "cosine": lambda: transformers.get_cosine_schedule_with_warmup(optimizer, warmup_steps, total_steps),
        "constant": lambda: transformers.get_constant_schedule_with_warmup(optimizer, warmup_steps),
        "inverse_sqrt": lambda: transformers.get_inverse_sqrt_schedule(optimizer, warmup_steps),
        "one_cycle": lambda: torch.optim.lr_scheduler.OneCycleLR(
            optimizer, PEAK, total_steps=total_steps, pct_start=warmup_steps / total_steps
        ),
    }
    schedule = make[name]()
    rates = []
    for step in range(total_steps):
        rates.append(schedule.get_last_lr()[0])
        if step < total_steps - 1:
            optimizer.step()
            schedule.step()
    return np.array(rates)


@pytest.mark.parametrize("warmup_steps", [0, 1, 7, 30, 100])
@pytest.mark.parametrize("name", ["linear", "cosine", "constant", "inverse_sqrt"])
def test_every_step_is_that_of_transformers(name, warmup_steps):
    ours = rates_of(make_schedule(name, PEAK, 100, warmup_steps), 100)
    np.testing.assert_allclose(ours, transformers_rates(name, warmup_steps, 100), rtol=1e-7, atol=0)


@pytest.mark.parametrize("warmup_steps", [2, 30, 99])
def test_one_cycle_is_that_of_pytorch(warmup_steps):
    ours = rates_of(make_schedule("one_cycle", PEAK, 100, warmup_steps), 100)
    np.testing.assert_allclose(ours, transformers_rates("one_cycle", warmup_steps, 100), rtol=1e-7, atol=0)


@pytest.mark.parametrize("name", sorted(SCHEDULES))
def test_nothing_rises_after_the_run(name):
    schedule = make_schedule(name, PEAK, 100, 10)
    assert float(schedule(150)) <= float(schedule(99))
    assert float(schedule(150)) >= 0


@pytest.mark.parametrize("name", sorted(SCHEDULES))
def test_schedules_survive_serialisation(name):
    schedule = make_schedule(name, PEAK, 50, 5)
    again = keras.optimizers.schedules.deserialize(keras.optimizers.schedules.serialize(schedule))
    np.testing.assert_array_equal(rates_of(schedule, 60), rates_of(again, 60))


def test_a_late_step_is_not_rounded_to_its_neighbour():
    late = 2**24 + 1  # the first integer that float32 lacks
    schedule = make_schedule("linear", 1.0, 2**25, 0)
    assert float(schedule(late)) == np.float32(1 - late / 2**25)


def test_a_share_is_rounded_up_as_in_transformers():
    assert warmup_steps_of(0.06, 2000) == 120
    assert warmup_steps_of(0.1, 15) == 2
    assert warmup_steps_of(0.0, 15) == 0
    assert warmup_steps_of(15, 15) == 15


@pytest.mark.parametrize(
    ("warmup", "message"),
    [
        (101, r"`warmup` is 101 steps, the whole run has 100; expected 0 to 100\. Give a share such as 0\.1"),
        (-1, r"`warmup` is -1 steps, the whole run has 100"),
        (1.0, r"`warmup` is 1\.0; expected a share .* below 1\.0, or an integer number of them, such as 10"),
        (-0.1, r"`warmup` is -0\.1; expected a share"),
    ],
)
def test_a_warmup_that_does_not_fit_is_an_error_with_numbers(warmup, message):
    with pytest.raises(ConfigError, match=message):
        make_schedule("linear", PEAK, 100, warmup)


def test_a_schedule_checks_its_own_steps():
    with pytest.raises(ConfigError, match="The warm-up has 11 steps, the whole run 10; expected 0 to 10"):
        SCHEDULES["cosine"](PEAK, 10, 11)
    with pytest.raises(ConfigError, match="has 0 optimizer steps; a schedule needs at least 1"):
        SCHEDULES["cosine"](PEAK, 0)
    with pytest.raises(ConfigError, match=r"`one_cycle` has a warm-up of 0 of 10 steps"):
        make_schedule("one_cycle", PEAK, 10)
    with pytest.raises(ConfigError, match=r"no schedule `cosin`; expected one of \['constant', 'cosine'"):
        make_schedule("cosin", PEAK, 10)
