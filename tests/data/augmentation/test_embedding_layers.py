"""Cutoff and mixup: on vectors, behind a model's token embedding for one step, and not otherwise."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasllm.data.augmentation import Cutoff, Mixup, RandomDeletion, augmented
from kerasllm.errors import ConfigError
from kerasllm.models.transformer.backbone import TransformerBackbone
from kerasllm.models.transformer.settings import BackboneSettings, EmbeddingSettings, StackSettings


@pytest.fixture(scope="module")
def backbone():
    keras.utils.set_random_seed(0)
    return TransformerBackbone(
        BackboneSettings(
            embedding=EmbeddingSettings(vocabulary_size=88, dim=8, num_positions=64, num_segments=2),
            encoder=StackSettings(1, 8, num_heads=2, num_key_value_heads=2, head_dim=4, intermediate_dim=8),
        )
    )


def outputs(backbone, inputs, *, training=False):
    return backbone(inputs, training=training)["sequence_output"].numpy()


def vectors(rows=200, words=20, dim=8):
    return tf.constant(np.random.default_rng(0).normal(size=(rows, words, dim)), tf.float32)


@pytest.mark.parametrize("layer", [Cutoff(0.3, seed=1), Mixup(seed=1)], ids=["cutoff", "mixup"])
def test_without_training_vectors_are_what_they_were(layer):
    inputs = vectors()
    assert layer(inputs) is inputs or np.array_equal(layer(inputs), inputs)
    assert not np.array_equal(layer(inputs, training=True), inputs)


@pytest.mark.parametrize("kind", ["token", "span", "feature"])
def test_cutoff_erases_the_share_asked_for(kind):
    inputs = vectors()
    erased = (Cutoff(0.2, kind, seed=1)(inputs, training=True).numpy() == 0) & (inputs.numpy() != 0)
    assert erased.mean() == pytest.approx(0.2, abs=0.02)
    along = erased.any(axis=2) if kind != "feature" else erased.any(axis=1)
    assert np.array_equal(erased, along[:, :, None] & np.ones(8, bool)) or kind == "feature"
    if kind == "feature":
        assert np.array_equal(erased, along[:, None, :] & np.ones((20, 1), bool))
    if kind == "span":
        assert (along.sum(axis=1) == 4).all()
        assert all((np.diff(np.flatnonzero(row)) == 1).all() for row in along)


def test_cutoff_leaves_padding_and_one_word():
    mask = np.repeat([[1, 1, 1, 0]], 50, axis=0)
    inputs = vectors(50, 4)
    found = Cutoff(1.0, seed=0)(inputs, padding_mask=mask, training=True).numpy()
    assert ((found[:, :3] != 0).any(axis=2).sum(axis=1) == 1).all()
    assert np.array_equal(found[:, 3], inputs[:, 3])


def test_cutoff_behind_a_model_takes_whole_words_and_no_special_tokens(backbone, tokenizer, batch):
    inputs = batch(rows=30, mixed=True)
    layer = Cutoff(0.5, vocabulary=tokenizer, protected=["waa"], seed=1)
    with augmented(backbone, [layer], inputs) as changed:
        found = backbone.token_embedding(changed["token_ids"], training=True).numpy()
    erased = (found == 0).all(axis=2)
    ids, pieces = (
        inputs["token_ids"],
        np.array([tokenizer.id_to_token(i) for i in range(88)])[inputs["token_ids"]],
    )
    assert erased.sum() > 50
    assert not erased[np.isin(ids, [0, 2, 3])].any()
    assert not erased[pieces == "waa"].any()
    goes_on = pieces == "##long"
    assert np.array_equal(erased[goes_on], np.roll(erased, 1, axis=1)[goes_on])


def test_mixup_mixes_vectors_as_it_says():
    inputs = vectors(64, 6)
    mask = (np.arange(6) < np.random.default_rng(1).integers(1, 7, 64)[:, None]).astype(np.int32)
    layer = Mixup(0.5, seed=3)
    found = layer(inputs, padding_mask=mask, training=True).numpy()
    share, other = layer.mixing.share.numpy()[:, None, None], layer.mixing.permutation.numpy()
    own = inputs.numpy() * mask[..., None]
    np.testing.assert_allclose(found, share * own + (1 - share) * own[other], atol=1e-6)
    assert sorted(other) == list(range(64))
    assert 0 <= share.min() < 0.2 < 0.8 < share.max() <= 1


def test_the_shares_are_beta_distributed():
    layer = Mixup(0.5, seed=0)
    layer(vectors(4000, 1, 1), training=True)
    share = layer.mixing.share.numpy()
    assert share.mean() == pytest.approx(0.5, abs=0.02)
    assert share.var() == pytest.approx(1 / 8, abs=0.01)  # 1 / (4 (2 alpha + 1))


def test_parts_add_up_to_the_mixed_loss():
    layer = Mixup(0.5, seed=0)
    layer(vectors(16, 1, 1), training=True)
    random = np.random.default_rng(0)
    targets, weights = random.integers(0, 3, 16), random.uniform(size=16).astype(np.float32)
    logits = random.normal(size=(16, 3)).astype(np.float32)

    def loss(values):
        return keras.losses.sparse_categorical_crossentropy(values, logits, from_logits=True)

    own, other = layer.mixing.parts(targets, weights)
    total = sum(tf.reduce_sum(weight * loss(target)) for target, weight in (own, other))
    mixed = layer.mixing.mix(loss(targets) * weights, tf.gather(loss(targets), 0) * 0)  # own part alone
    expected = tf.reduce_sum(mixed) + tf.reduce_sum(
        (1 - layer.mixing.share) * layer.mixing.partners(weights) * loss(layer.mixing.partners(targets))
    )
    assert float(total) == pytest.approx(float(expected), rel=1e-6)
    summed = own[1] + other[1]
    ones = layer.mixing.parts(targets)
    np.testing.assert_allclose(ones[0][1] + ones[1][1], np.ones(16), atol=1e-6)
    assert summed.shape == (16,)


def test_a_mixed_batch_is_as_long_as_the_longer_of_two(backbone, batch):
    inputs = batch(rows=16, mixed=True)
    layer = Mixup(seed=1)
    with augmented(backbone, [layer], inputs) as changed:
        mask = changed["padding_mask"].numpy()
    other = layer.mixing.permutation.numpy()
    lengths = inputs["padding_mask"].sum(axis=1)
    assert np.array_equal(mask.sum(axis=1), np.maximum(lengths, lengths[other]))
    assert (changed["token_ids"].numpy()[mask == 1] != 0).all()


def test_outside_of_the_step_the_model_is_what_it_was(backbone, tokenizer, batch):
    """The same numbers bit for bit, with and without training (without dropout), also after an error."""
    inputs = batch(rows=4)
    before = outputs(backbone, inputs), outputs(backbone, inputs, training=True)
    layers = [RandomDeletion(tokenizer, 0.3, seed=0), Cutoff(0.3, seed=1), Mixup(seed=2)]
    with augmented(backbone, layers, inputs) as changed:
        inside = outputs(backbone, changed, training=True)
        assert np.array_equal(inside, outputs(backbone, changed, training=True))  # both passes of one step
        plain = outputs(backbone, changed)  # evaluation in between
    assert not np.allclose(inside, plain, atol=1e-3)
    with pytest.raises(ZeroDivisionError), augmented(backbone, layers, inputs):
        raise ZeroDivisionError
    after = outputs(backbone, inputs), outputs(backbone, inputs, training=True)
    assert all(np.array_equal(first, second) for first, second in zip(before, after, strict=True))
    assert backbone.token_embedding.augmentation is None


def test_a_step_in_a_function_draws_anew_each_time(backbone, batch):
    inputs = batch(rows=4)
    layers = [Cutoff(0.5, seed=1), Mixup(seed=2)]

    @tf.function(input_signature=[{name: tf.TensorSpec([None, None], tf.int32) for name in inputs}])
    def step(values):
        with augmented(backbone, layers, values) as changed:
            hidden = backbone(changed, training=True)["sequence_output"]
        return hidden, layers[1].mixing.mix(tf.ones(tf.shape(hidden)[:1]), tf.zeros(tf.shape(hidden)[:1]))

    (first, one), (second, two) = step(inputs), step(inputs)
    assert not np.allclose(first, second)
    assert not np.allclose(one, two)


def test_only_the_encoder_is_augmented():
    """An encoder-decoder embeds its targets with the same table; these are no input to be noised."""
    table = keras.layers.Embedding(10, 4)
    table.build((None, None))
    table.augmentation = None
    model = type("Model", (), {"token_embedding": table})()
    layer = Cutoff(0.9, seed=0)
    ids, others = tf.ones([8, 6], tf.int32), tf.ones([8, 3], tf.int32)
    with augmented(model, [layer], {"token_ids": ids, "padding_mask": tf.ones_like(ids)}):
        first = table.augmentation(table(ids), ids)
        assert not np.array_equal(first, table(ids))
        assert np.array_equal(table.augmentation(table(others), others), table(others))
        assert np.array_equal(table.augmentation(table(ids), ids), first)


@pytest.mark.parametrize("layer", [Cutoff(0.3, "span", seed=4), Mixup(0.3, seed=4)], ids=["cutoff", "mixup"])
def test_they_come_back_from_config_and_weights(layer, tmp_path):
    inputs = keras.Input((None, 8))
    model = keras.Model(inputs, layer(inputs))
    model(vectors(), training=True)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert np.array_equal(again(vectors(), training=True), model(vectors(), training=True))


def test_they_keep_the_precision_of_the_vectors():
    half = tf.cast(vectors(), tf.bfloat16)
    for layer in (Cutoff(0.3, dtype="mixed_bfloat16"), Mixup(dtype="mixed_bfloat16")):
        assert layer(half, training=True).dtype == tf.bfloat16


def test_what_makes_no_sense_is_refused(tokenizer, batch):
    with pytest.raises(
        ConfigError, match=r"`kind` of `Cutoff` is 'words'. Choose one of \['token', 'feature', 'span'\]"
    ):
        Cutoff(kind="words")
    with pytest.raises(ConfigError, match="`protected` of `Cutoff` needs a `vocabulary`"):
        Cutoff(protected=["not"])
    with pytest.raises(ConfigError, match="`alpha` of `Mixup` is 0, expected a number above 0"):
        Mixup(0)
    model = keras.Sequential([keras.Input((None,)), keras.layers.Embedding(9, 2)])
    with (
        pytest.raises(
            ConfigError, match=r"Mixup works on token vectors, but `Sequential` has no `backbone.token_emb"
        ),
        augmented(model, [Mixup()], batch()),
    ):
        pass
