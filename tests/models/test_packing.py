"""Packed rows: each text gets the numbers, the loss and the gradient that it has alone."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasllm.config.schema import TrainingConfig
from kerasllm.data.batching import make_source
from kerasllm.data.token_ids import EncodedTexts, LanguageModelTexts, TokenIds
from kerasllm.errors import ConfigError
from kerasllm.models.builders import build_classifier, build_with_head, with_dtype_policy
from kerasllm.models.packing import check_packing, is_packed, rebuild, set_packing
from kerasllm.models.presets import Preset
from kerasllm.testing.architectures import write_checkpoint

pytest.importorskip("transformers", reason="transformers writes the checkpoints")

ROW = 40
LENGTHS = np.array([17, 9, 23, 3, 1])
CLASSIFIERS = ("BertModel", "RobertaModel", "GPT2ForSequenceClassification")
MORE_CLASSIFIERS = (
    "DistilBertForSequenceClassification",
    "AlbertForSequenceClassification",
    "ElectraForSequenceClassification",
    "DebertaV2ForSequenceClassification",
    "DebertaV2-own-projections",
    "Llama-3.1",
    "MistralForSequenceClassification",
    "Gemma3TextForSequenceClassification",
    "T5EncoderModel",
)
LANGUAGE_MODELS = ("GPT2LMHeadModel", "LlamaForCausalLM", "MistralForCausalLM", "RobertaForMaskedLM")
MORE_LANGUAGE_MODELS = (
    "BertForMaskedLM",
    "DebertaV2ForMaskedLM",
    "GPTNeoXForCausalLM",
    "OPTForCausalLM",
    "Llama-yarn",
    "Llama-dynamic",
    "MixtralForCausalLM",
    "Qwen2-window",
    "Qwen3ForCausalLM",
    "Phi3-partial",
    "GemmaForCausalLM",
    "Gemma2ForCausalLM",
    "Gemma3ForCausalLM",
    "SmolLM3-window",
)


def with_slow(cases, more):
    return [*cases, *(pytest.param(case, marks=pytest.mark.slow) for case in more)]


def tokens():
    offsets = np.concatenate([[0], np.cumsum(LENGTHS)])
    random = np.random.default_rng(3)
    segments = (random.random(offsets[-1]) < 0.3).astype(np.uint8)
    return TokenIds(random.integers(5, 83, offsets[-1]).astype(np.int32), segments, offsets)


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    def load(case):
        path = tmp_path_factory.mktemp("checkpoint")
        write_checkpoint(case, path)
        return Preset.load(path)

    return load


def batches(texts, *, packed):
    """All texts in one packed batch, or each in a batch of its own, without any padding."""
    if packed:
        source = make_source(
            texts, TrainingConfig(batch_size=8, packing=True), pad_id=0, seed=1, sequence_length=ROW
        )
        assert source.num_batches(0) == 1
        yield source.rows(0, 0), source.batch(0, 0)
        return
    for text in range(len(LENGTHS)):
        ids = texts.ids(text)[None]
        segments = texts.segment_ids[texts.offsets[text] : texts.offsets[text + 1]]
        inputs = {
            "token_ids": ids,
            "padding_mask": np.ones_like(ids),
            "segment_ids": segments[None].astype(np.int32),
        }
        if isinstance(texts, EncodedTexts):
            yield [text], (inputs, texts.targets[[text]], texts.weights[[text]])
        else:
            targets, weights = np.roll(ids, -1, axis=1), np.ones(ids.shape, np.float32)
            weights[:, -1] = 0
            yield [text], (inputs, targets, weights)


def summed(model, texts, *, packed):
    """Loss summed over all texts, its gradients, and the logits by text."""
    total, gradients, logits = 0.0, None, {}
    for rows, (inputs, targets, weights) in batches(texts, packed=packed):
        with tf.GradientTape() as tape:
            found = model(inputs, training=True)
            loss = tf.nn.sparse_softmax_cross_entropy_with_logits(targets, found)
            loss = tf.reduce_sum(loss * weights)
        total += float(loss)
        new = [tf.convert_to_tensor(part) for part in tape.gradient(loss, model.trainable_variables)]
        gradients = new if gradients is None else [a + b for a, b in zip(gradients, new, strict=True)]
        if found.shape.rank == 2:
            logits |= dict(zip(map(int, rows), found.numpy(), strict=True))
    return total / float(np.sum(LENGTHS)), gradients, logits


def assert_packing_changes_nothing(model, texts):
    alone, gradients, logits = summed(model, texts, packed=False)
    set_packing(model)
    together, gradients_2, logits_2 = summed(model, texts, packed=True)
    assert together == pytest.approx(alone, abs=1e-5)
    for variable, ours, theirs in zip(model.trainable_variables, gradients_2, gradients, strict=True):
        scale = max(1.0, float(tf.reduce_max(tf.abs(theirs))))
        np.testing.assert_allclose(ours, theirs, atol=2e-5 * scale, err_msg=variable.path)
    for text, row in logits.items():
        np.testing.assert_allclose(logits_2[text], row, atol=2e-5 * max(1, np.abs(row).max()))


@pytest.mark.parametrize("pooling", ["cls", "mean"])
@pytest.mark.parametrize("case", with_slow(CLASSIFIERS, MORE_CLASSIFIERS))
def test_a_classifier_answers_for_each_text_of_a_row_as_if_it_were_alone(case, pooling, preset):
    loaded = preset(case)
    if pooling == "cls" and loaded.lacks_decoder:
        pytest.skip("only the mean is there")
    keras.utils.set_random_seed(0)
    model = build_classifier(loaded, num_classes=3, pooling=pooling, dropout=0.0)
    targets = np.arange(len(LENGTHS), dtype=np.int32) % 3
    weights = np.linspace(0.5, 1.5, len(LENGTHS), dtype=np.float32)
    found = tokens()
    texts = EncodedTexts(found.token_ids, found.segment_ids, found.offsets, targets, weights)
    assert_packing_changes_nothing(model, texts)


@pytest.mark.parametrize("case", with_slow(LANGUAGE_MODELS, MORE_LANGUAGE_MODELS))
def test_a_language_model_has_the_same_loss_for_packed_texts(case, preset):
    model = build_with_head(preset(case))
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0
    assert_packing_changes_nothing(model, LanguageModelTexts.from_token_ids(tokens()))


def test_a_packed_model_reads_single_texts_too_and_back(preset):
    model = build_classifier(preset("BertModel"), num_classes=3, pooling="cls", dropout=0.0)
    ids = np.random.default_rng(0).integers(5, 83, (3, ROW)).astype(np.int32)
    mask = (np.arange(ROW) < np.array([[40], [17], [3]])).astype(np.int32)
    inputs = {"token_ids": ids, "padding_mask": mask, "segment_ids": np.zeros_like(ids)}
    alone = model(inputs).numpy()
    set_packing(model)
    np.testing.assert_allclose(model(inputs), alone, atol=1e-6)
    set_packing(model, False)
    np.testing.assert_array_equal(model(inputs), alone)


def test_copies_are_unpacked_unless_they_go_on_with_training(preset):
    model = build_classifier(preset("RobertaModel"), num_classes=3)
    assert not is_packed(model)
    set_packing(model)
    assert is_packed(model)
    assert not is_packed(with_dtype_policy(model, "float32"))
    assert is_packed(rebuild(model, "mixed_bfloat16"))


@pytest.mark.parametrize("case", ["T5ForSequenceClassification", "BartForConditionalGeneration"])
def test_models_with_encoder_and_decoder_are_refused(case, preset):
    model = build_with_head(preset(case))
    with pytest.raises(
        ConfigError, match=r"cannot be packed for a model with an encoder and a decoder.*batch_tok"
    ):
        check_packing(model)
    with pytest.raises(ConfigError, match="cannot be packed"):
        set_packing(model)
    assert not is_packed(model)
