"""The callbacks in plain `fit`s: of a hand-made Keras model, and of a classifier of ours."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import kerasllm
from kerasllm.callbacks import BatchCounts, SavedModelExport, TaskMetrics, Throughput
from kerasllm.errors import ConfigError, DataError, DependencyError, ExportError
from kerasllm.testing import tiny_bert, tiny_reviews
from kerasllm.training.tensorboard import tensorboard_callback

RANDOM = np.random.default_rng(0)
X, Y = RANDOM.normal(size=(23, 6)).astype("float32"), RANDOM.integers(0, 3, 23)
REVIEWS = tiny_reviews(24)
TEXTS, LABELS = [row["text"] for row in REVIEWS], [row["label"] for row in REVIEWS]


def make_model(outputs=3, activation=None, loss=None):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((6,)), keras.layers.Dense(8), keras.layers.Dense(outputs, activation)]
    )
    model.compile("adam", loss or keras.losses.SparseCategoricalCrossentropy(from_logits=activation is None))
    return model


@pytest.fixture
def classifier(tmp_path):
    return kerasllm.load(tiny_bert(tmp_path / "bert", texts=TEXTS, labels=["negative", "positive"]))


def padded(classifier, texts=TEXTS):
    """What a user's own `fit` of our model gets."""
    tokenizer = classifier.tokenizer
    ids = tokenizer.encode(texts)
    width = max(map(len, ids))
    token_ids = np.asarray([row + [tokenizer.pad_id] * (width - len(row)) for row in ids], np.int32)
    mask = np.asarray([[1] * len(row) + [0] * (width - len(row)) for row in ids], np.int32)
    return {"token_ids": token_ids, "padding_mask": mask, "segment_ids": np.zeros_like(token_ids)}


def batches(classifier, size=8):
    targets = np.asarray([LABELS[i] == "positive" for i in range(len(LABELS))], np.int32)
    return tf.data.Dataset.from_tensor_slices((padded(classifier), targets)).batch(size)


def compiled(classifier):
    model = classifier.keras_model
    model.compile(keras.optimizers.Adam(1e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def test_the_names_are_lazy():
    code = "import sys, kerasllm.callbacks as c; assert 'tensorflow' not in sys.modules; c.TaskMetrics"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
    names = kerasllm.callbacks.__all__
    assert names == sorted(names)
    assert {"TaskMetrics", "SavedModelExport", "Throughput", "GradualUnfreezing", "ExactResume"} <= {*names}
    for name in names:
        assert getattr(kerasllm.callbacks, name).__doc__
    with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
        kerasllm.callbacks.Nonsense  # noqa: B018


# TaskMetrics -----------------------------------------------------------------------------------------------


class Seen(keras.callbacks.Callback):
    def on_train_begin(self, logs=None):
        self.batches, self.epochs = [], []

    def on_train_batch_end(self, batch, logs=None):
        self.batches.append(dict(logs))

    def on_epoch_end(self, epoch, logs=None):
        self.epochs.append(dict(logs))


def test_metrics_are_of_the_whole_set_and_later_callbacks_monitor_them():
    from sklearn import metrics as theirs

    model = make_model()
    names = [
        "accuracy",
        "macro_f1",
        "weighted_f1",
        "micro_f1",
        "log_loss",
        "brier_score",
        "calibration_error",
    ]
    ours = TaskMetrics((X, Y), metrics=names, batch_size=5)
    stop = keras.callbacks.EarlyStopping("val_macro_f1", mode="max", patience=9, restore_best_weights=True)
    history = model.fit(X, Y, epochs=3, verbose=0, callbacks=[ours, stop]).history
    best = int(np.argmax(history["val_macro_f1"]))
    probabilities = keras.ops.convert_to_numpy(keras.ops.softmax(model.predict(X, verbose=0)))
    guesses = probabilities.argmax(axis=1)
    assert history["val_accuracy"][best] == theirs.accuracy_score(Y, guesses)
    assert history["val_macro_f1"][best] == pytest.approx(theirs.f1_score(Y, guesses, average="macro"))
    assert history["val_weighted_f1"][best] == pytest.approx(theirs.f1_score(Y, guesses, average="weighted"))
    assert history["val_log_loss"][best] == pytest.approx(theirs.log_loss(Y, probabilities), rel=1e-5)
    assert {f"val_{name}" for name in names} <= set(history)
    assert [entry["step"] for entry in ours.history] == [1, 2, 3]


def test_metrics_between_two_epochs_and_of_a_dataset():
    dataset = tf.data.Dataset.from_tensor_slices((X, Y)).batch(4)
    ours, seen = TaskMetrics(dataset, every=2, metrics="accuracy"), Seen()
    make_model().fit(dataset, epochs=2, verbose=0, shuffle=False, callbacks=[ours, seen])
    measured = [number for number, logs in enumerate(seen.batches, 1) if "val_accuracy" in logs]
    assert measured == [2, 4, 6, 8, 10, 12]
    assert [entry["step"] for entry in ours.history] == measured  # step 6 and 12 were not measured twice
    assert seen.epochs[0]["val_accuracy"] == ours.history[2]["val_accuracy"]


def test_metrics_of_texts_and_labels_are_those_of_evaluate(classifier):
    metrics = TaskMetrics(
        (TEXTS, LABELS), labels=classifier.labels, tokenizer=classifier.tokenizer, batch_size=7
    )
    history = (
        compiled(classifier)
        .fit(batches(classifier), epochs=1, verbose=0, shuffle=False, callbacks=[metrics])
        .history
    )
    expected = classifier.evaluate(REVIEWS, num_bootstrap=0)
    assert history["val_accuracy"][0] == pytest.approx(expected.accuracy)
    assert history["val_macro_f1"][0] == pytest.approx(expected.macro_f1)
    assert history["val_log_loss"][0] == pytest.approx(expected.log_loss, rel=1e-4)


@pytest.mark.parametrize(
    ("outputs", "activation", "loss", "targets", "options"),
    [
        (3, "softmax", None, Y, {}),
        (3, "softmax", "categorical_crossentropy", np.eye(3)[Y], {}),
        (1, "sigmoid", "binary_crossentropy", (Y > 1).astype("float32"), {"from_logits": False}),
        (1, None, "mse", (Y > 1).astype("float32")[:, None], {"from_logits": True}),
        (3, None, "mse", np.eye(3)[Y], {"from_logits": True, "multi_label": True}),
        (3, None, "sparse_categorical_crossentropy", Y, {"metrics": {"own": lambda y, p: p.sum() / len(y)}}),
    ],
)
def test_metrics_of_every_kind_of_output(outputs, activation, loss, targets, options):
    model = make_model(outputs, activation, loss)
    history = model.fit(X, targets, verbose=0, callbacks=[TaskMetrics((X, targets), **options)]).history
    if "metrics" in options:
        assert history["val_own"] == [pytest.approx(1.0)]
        return
    out = model.predict(X, verbose=0)
    if outputs == 1 or "multi_label" in options:
        right = (out > (0 if activation is None else 0.5)) == targets.reshape(out.shape).astype(bool)
    else:
        right = (out.argmax(axis=1) == Y)[:, None]
    assert history["val_accuracy"] == [pytest.approx(right.all(axis=1).mean())]


def test_metrics_refuse_what_they_cannot_measure():
    with pytest.raises(ConfigError, match=r"There is no metric 'makro_f1'; did you mean 'macro_f1'\? Choose"):
        TaskMetrics((X, Y), metrics=["makro_f1"])
    with pytest.raises(DataError, match=r"There are \[23\] inputs for 22 targets"):
        TaskMetrics((X, Y[1:]))
    with pytest.raises(DataError, match=r"of type list; expected a pair `\(x, y\)` or a `tf.data.Dataset`"):
        TaskMetrics([X, Y])
    with pytest.raises(DataError, match=r"no end, so it cannot be measured whole; use `.take"):
        TaskMetrics(tf.data.Dataset.from_tensor_slices((X, Y)).repeat())
    for data, options, error, message in (
        ((X, np.eye(3)[Y]), {"multi_label": True}, ConfigError, r"Say which: `from_logits=True`, or `False`"),
        ((X, np.ones((23, 3))), {}, DataError, r"not exactly one 1.*pass `multi_label=True`"),
        ((X, ["a"] * 23), {"labels": ["b"]}, DataError, r"The labels \['a'\] are not among \['b'\]"),
        ((X[:0], Y[:0]), {}, DataError, r"There are no examples to measure"),
    ):
        metrics = TaskMetrics(data, **options)
        metrics.set_model(make_model())
        with pytest.raises(error, match=message):
            metrics.measure()


def test_metrics_of_broken_weights_are_no_numbers(caplog):
    model = make_model()
    model.layers[-1].bias.assign(np.full(3, np.nan))
    metrics = TaskMetrics((X, Y))
    metrics.set_model(model)
    assert np.isnan(metrics.measure()["val_accuracy"])
    assert "not finite" in caplog.text


# SavedModelExport ------------------------------------------------------------------------------------------


def test_the_best_model_so_far_is_exported_as_numbered_versions(classifier, tmp_path, caplog):
    model = compiled(classifier)
    scripted = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: logs.update(val_loss=[3.0, 4.0, 2.0][epoch])
    )
    export = SavedModelExport(tmp_path / "served", classifier, when="best", probes=TEXTS[:4])
    with caplog.at_level("INFO"):
        model.fit(batches(classifier), epochs=3, verbose=0, shuffle=False, callbacks=[scripted, export])
    assert [exported.version for exported in export.exports] == [1, 2]
    assert sorted(path.name for path in (tmp_path / "served").iterdir()) == ["1", "2"]
    scores = [exported.predict({"text": TEXTS})["scores"] for exported in export.exports]
    np.testing.assert_allclose(scores[1], classifier.scores(TEXTS), atol=1e-4)
    assert abs(np.asarray(scores[0]) - np.asarray(scores[1])).max() > 1e-4
    assert "Exported after epoch 3" in caplog.text


def test_a_failing_export_is_logged_and_training_goes_on(classifier, tmp_path, caplog):
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "1").write_text("")

    class Broken:
        def export(self, path, **options):
            return classifier.export(path, version=1, **options)

    model = compiled(classifier)
    export = SavedModelExport(tmp_path / "served", Broken(), when=1)
    history = model.fit(batches(classifier), epochs=2, verbose=0, shuffle=False, callbacks=[export])
    assert history.epoch == [0, 1]
    assert export.exports == []
    assert "The export after epoch 1 failed (Version 1" in caplog.text
    assert [path.name for path in (tmp_path / "served").iterdir()] == ["1"]
    strict = SavedModelExport(tmp_path / "served", lambda model: Broken(), stop_on_error=True)
    with pytest.raises(ExportError, match="exists already"):
        model.fit(batches(classifier), verbose=0, shuffle=False, callbacks=[strict])


def test_a_monitor_that_is_not_there_is_named(tmp_path, caplog):
    export = SavedModelExport(tmp_path, None, when="best", monitor="los")
    make_model().fit(X, Y, verbose=0, callbacks=[export])
    assert "no `los` to tell the best model by" in caplog.text
    assert "Did you mean `loss`?" in caplog.text
    with pytest.raises(ConfigError, match=r"`when` is 'often', but must be 'end', 'best' or a number"):
        SavedModelExport(tmp_path, None, when="often")
    with pytest.raises(ConfigError, match=r"`mode` is 'least', but must be 'auto', 'min' or 'max'"):
        SavedModelExport(tmp_path, None, mode="least")


# Throughput ------------------------------------------------------------------------------------------------


def test_throughput_counts_a_watched_dataset(classifier):
    throughput, seen = Throughput(), Seen()
    watched = throughput.watch(batches(classifier).prefetch(2))
    assert watched.cardinality() == 3
    model = compiled(classifier)
    logs = model.fit(watched, epochs=2, verbose=0, shuffle=False, callbacks=[throughput, seen]).history
    mask = padded(classifier)["padding_mask"]
    # The first step, in which the graph is traced, is left out; in the second epoch none is.
    assert logs["padding_share"] == [pytest.approx(1 - mask[8:].mean()), pytest.approx(1 - mask.mean())]
    ratio = np.divide(logs["tokens_per_second"], logs["examples_per_second"])
    assert ratio == pytest.approx([mask[8:].sum() / 16, mask.sum() / 24])
    assert all(value > 0 for value in logs["step_seconds"])
    assert seen.epochs[0].keys() == logs.keys()


def test_throughput_of_token_ids_alone_of_counts_and_of_nothing():
    ids = np.asarray([[5, 6, 0, 0], [7, 0, 0, 0]])
    throughput = Throughput()
    list(throughput.watch(tf.data.Dataset.from_tensors(ids), pad_id=0))
    assert list(throughput._watched) == [BatchCounts(2, 3, 8)]
    with pytest.raises(DataError, match=r"no token ids to find it in: the inputs are \['a'\]"):
        throughput.watch(tf.data.Dataset.from_tensors({"a": ids}), pad_id=0)
    counted = Throughput(lambda epoch, batch: BatchCounts(rows=10 * (epoch + 1), tokens=30, slots=40))
    logs = (
        make_model().fit(X, Y, epochs=2, batch_size=8, verbose=0, callbacks=[counted, Throughput()]).history
    )
    assert logs["padding_share"] == [0.25, 0.25]
    ratio = np.divide(logs["tokens_per_second"], logs["examples_per_second"])
    assert ratio == pytest.approx([3, 1.5])
    logs = make_model().fit(X, Y, verbose=0, callbacks=[Throughput()]).history
    assert set(logs) == {"loss", "step_seconds"}


# TensorBoard -----------------------------------------------------------------------------------------------


def test_tensorboard_gets_the_logs_of_other_callbacks(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    callbacks = [TaskMetrics((X, Y)), Throughput(), tensorboard_callback(tmp_path / "logs")]
    history = make_model().fit(X, Y, epochs=2, batch_size=8, verbose=0, callbacks=callbacks).history
    points = {}
    for part in ("train", "validation"):
        events = EventAccumulator(str(tmp_path / "logs" / part), size_guidance={"tensors": 0})
        events.Reload()
        for tag in events.Tags()["tensors"]:
            points[part, tag] = [tf.make_ndarray(event.tensor_proto).item() for event in events.Tensors(tag)]
    assert points["train", "epoch_loss"] == pytest.approx(history["loss"])
    assert points["train", "epoch_step_seconds"] == pytest.approx(history["step_seconds"])
    assert points["validation", "epoch_macro_f1"] == pytest.approx(history["val_macro_f1"])


def test_tensorboard_that_is_missing_is_one_sentence(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(DependencyError, match=r"not installed. Run `pip install 'kerasllm\[tensorboard\]'`"):
        tensorboard_callback("logs")
