"""What a run shows: figures, speed, padding, and the time that is left."""

import io
import re
import time

import keras
import numpy as np
import pytest

from kerasllm.config.schema import TrainingConfig
from kerasllm.data.batching import make_source
from kerasllm.data.token_ids import EncodedTexts
from kerasllm.training import progress as module
from kerasllm.training.meter import BatchCounts, Meter
from kerasllm.training.progress import ProgressBar, ProgressLines, format_seconds, progress
from kerasllm.training.step_counts import step_counts
from kerasllm.training.timetable import Timetable

X, Y = np.random.default_rng(0).normal(size=(40, 4)).astype("float32"), np.arange(40) % 2


def count(epoch, batch):
    return BatchCounts(rows=4, tokens=90, slots=100)


def fit(bar, epochs=2, **options):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    model.fit(
        X, Y, batch_size=4, epochs=epochs, validation_data=(X, Y), verbose=0, callbacks=[bar], **options
    )


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0:00"), (67, "1:07"), (3723, "1:02:03")])
def test_durations(seconds, text):
    assert format_seconds(seconds) == text


def test_lines_show_loss_metric_speed_padding_and_time_left(caplog):
    caplog.set_level("INFO")
    bar = progress(num_epochs=2, steps_per_epoch=10, count=count, monitor="val_accuracy")
    assert isinstance(bar, ProgressLines)  # pytest's standard error is no terminal
    fit(bar)
    lines = [record.message for record in caplog.records if record.name == "kerasllm.training"]
    assert len(lines) == 10
    number = r"[\d.,e+]+"
    first = rf"^Epoch 1/2, step 4/10 \({number} steps/s · {number} tokens/s · 10 % padding, "
    first += rf"\d+:\d\d left, \d+:\d\d of the run\): loss {number} · accuracy {number}$"
    assert re.match(first, lines[1]), lines[1]
    last = lines[8]  # in the second epoch the deciding metric of the first is known
    assert "step 8/10" in last
    assert "val_accuracy" in last
    assert "of the run" not in last
    assert lines[9].startswith("Epoch 2/2 done in ")


def test_the_bar_shows_the_same(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERM", "xterm")
    bar = progress(num_epochs=2, steps_per_epoch=10, count=count, monitor="val_accuracy")
    assert isinstance(bar, ProgressBar)
    bar._bar.live.auto_refresh = False
    shown = []
    update = bar._bar.update
    monkeypatch.setattr(
        bar._bar, "update", lambda task, **fields: (shown.append(fields), update(task, **fields))
    )
    fit(bar)
    fields = shown[-2]
    assert fields["completed"] == 10
    assert "val_accuracy" in fields["figures"]
    assert "tokens/s · 10 % padding" in fields["figures"]
    assert fields["left"] == "0:00 left"
    assert "of the run" in shown[3]["left"]
    bar.show({"val_accuracy": 0.125})
    assert "val_accuracy 0.125" in shown[-1]["figures"]
    written = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", terminal.getvalue())
    assert "Epoch 1/2: val_accuracy" in written
    assert "tokens/s · 10 % padding\n" in written
    assert "0/10" in written


def test_a_run_that_goes_on_is_measured_by_its_own_steps(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr("kerasllm.training.meter.time.perf_counter", lambda: clock[0])
    bar = ProgressLines(num_epochs=3, steps_per_epoch=100)
    bar.set_params({"epochs": 3, "steps": 50})  # fit knows better
    bar.on_epoch_begin(1)
    for step in range(40, 46):
        bar.on_train_batch_begin(step)
        clock[0] += 30.0 if step == 40 else 2.0  # the first one traces the graph
        bar.on_train_batch_end(step, {"loss": 1.0})
    assert bar.speed == "0.5 steps/s"
    assert bar.seconds_left == (8.0, 108.0)
    assert bar.time_left == "0:08 left, 1:48 of the run"
    clock[0] += 10  # validation
    bar.on_epoch_end(1, {"loss": 1.0})
    bar.on_epoch_begin(2)
    assert bar.seconds_left == (100.0, 110.0)


def test_the_meter_leaves_the_traced_step_out_and_divides_steps_per_execution():
    meter = Meter()
    assert (meter.num_steps, meter.mean_seconds, meter.median_seconds) == (0, 0.0, 0.0)
    assert meter.padding_share is None
    meter.end_step()  # not begun here
    assert meter.num_steps == 0
    for counts in (BatchCounts(1, 2, 3), BatchCounts(4, 6, 8)):
        meter.begin_step()
        time.sleep(0.002)
        meter.end_step(counts, num_batches=2)
    assert meter.num_steps == 2
    assert meter.padding_share == 0.25
    assert meter.rows_per_second == pytest.approx(4 / (2 * meter.mean_seconds))
    meter.restart()
    meter.begin_step()
    meter.end_step(BatchCounts(1, 2, 4))
    assert meter.padding_share == 0.5  # the graph is traced already: this one counts


@pytest.mark.parametrize("accumulate", [1, 3])
def test_the_counts_of_a_step_are_those_of_its_micro_batches(accumulate):
    ids = [[7] * length for length in np.random.default_rng(0).integers(1, 40, 21)]
    texts = EncodedTexts.from_lists(ids, [[0] * len(row) for row in ids], np.zeros(21, np.int32))
    source = make_source(texts, TrainingConfig(batch_size=4), pad_id=0, seed=0)
    table = Timetable([source.num_batches(epoch) for epoch in range(2)], accumulate=accumulate)
    count = step_counts(source, table)
    for epoch in range(2):
        expected = np.zeros((table.steps[epoch], 3), int)
        for number in range(source.num_batches(epoch)):
            mask = source.batch(epoch, number)[0]["padding_mask"]
            expected[number // accumulate] += (len(mask), mask.sum(), mask.size)
        assert [count(epoch, place) for place in range(table.steps[epoch])] == [*map(tuple, expected)]
