"""The steps of fitting an encoder to the texts of a domain, from texts without labels to a preset on disk."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from kerasllm.config.schema import TrainingConfig
from kerasllm.data.batching import evaluation_source, make_source
from kerasllm.data.token_ids import LanguageModelTexts
from kerasllm.errors import PresetError
from kerasllm.export.hugging_face import export_hugging_face
from kerasllm.models.builders import build_with_head, with_dtype_policy
from kerasllm.models.heads import ModelWithHead
from kerasllm.models.packing import rebuild
from kerasllm.models.presets import Preset
from kerasllm.tasks.encoding import encode_texts
from kerasllm.tokenization.tokenizer import Tokenizer
from kerasllm.training.objectives import MaskedLanguageModel, Masking
from kerasllm.training.problem import Problem

__all__ = [
    "build_masked_language_model",
    "masked_language_problem",
    "masked_language_tokens",
    "masking_of",
    "save_adapted",
]

_log = logging.getLogger("kerasllm")
_KIND = "masked_language"


def build_masked_language_model(preset: Preset, *, dtype_policy: str = "float32") -> ModelWithHead:
    """Builds the model that guesses hidden tokens: with the checkpoint's own head, else a new one.

    Args:
        preset: An encoder.
        dtype_policy: Keras dtype policy. Defaults to `"float32"`.

    Raises:
        PresetError: If the family has no such head, as decoders have none.
    """
    if preset.head == _KIND:
        model: ModelWithHead = build_with_head(preset, dtype_policy=dtype_policy)
        return model
    if _KIND not in preset.family.heads:
        raise PresetError(
            f"`{preset.handle}` is a `{preset.config['model_type']}`, which has no head that guesses hidden "
            "tokens. Take an encoder, such as BERT, RoBERTa or DeBERTa."
        )
    _log.warning(
        "`%s` comes without the head that guesses hidden tokens, so a new one is trained along with it; a "
        "checkpoint that has one learns faster.",
        preset.handle,
    )
    return ModelWithHead(
        preset.build_backbone(dtype_policy=dtype_policy, pooler=False),
        preset.family.head(preset.config, _KIND),
        kind=_KIND,
        initializer_range=float(preset.config.get(preset.family.deviation) or 0.02),
        checkpoint_config=dict(preset.config),
        name="language_model",
    )


def masking_of(tokenizer: Tokenizer, *, rate: float = 0.15, whole_words: bool = True) -> Masking:
    """Which tokens of a tokenizer may be hidden, and by what.

    Args:
        tokenizer: With a mask token.
        rate: Share of the tokens, or words, that are hidden. Defaults to 0.15.
        whole_words: Whether all pieces of a word are hidden together, which is the harder task and the better
            teacher. Defaults to `True`.

    Raises:
        PresetError: If there is no mask token.
        TokenizerError: If whole words are asked for, and the pieces do not show where words begin.
    """
    if tokenizer.mask_id is None:
        raise PresetError(
            "The tokenizer has no mask token: expected `mask_token` in `tokenizer_config.json`, or a token "
            "`[MASK]` or `<mask>`. Take a checkpoint that was trained to guess hidden tokens."
        )
    special = np.zeros(tokenizer.vocabulary_size, bool)
    special[[*tokenizer.special_ids.values(), tokenizer.pad_id, tokenizer.mask_id]] = True
    continues = tokenizer.word_table.continues if whole_words else None
    return Masking(tokenizer.mask_id, special, continues, rate=rate)


def masked_language_tokens(
    tokenizer: Tokenizer, texts: Sequence[str], *, sequence_length: int | None, cache: str | None = None
) -> LanguageModelTexts:
    """Token ids of texts, each with its special tokens and cut at `sequence_length`.

    Args:
        tokenizer: The checkpoint's.
        texts: Texts.
        sequence_length: Most tokens of a text; `None` for all of them.
        cache: As `data.cache` of a config. Defaults to `None`, the ids stay in memory.
    """

    tokens = encode_texts(tokenizer, texts, sequence_length=sequence_length, cache=cache)
    return LanguageModelTexts.from_token_ids(tokens)


def masked_language_problem(
    train: LanguageModelTexts,
    validation: LanguageModelTexts | None,
    config: TrainingConfig,
    *,
    tokenizer: Tokenizer,
    masking: Masking,
    seed: int = 0,
) -> Problem:
    """What the trainer needs to know.

    Args:
        train: What to train on.
        validation: What is evaluated, its masks the same each time; `None` for nothing.
        config: The `training` section.
        tokenizer: What made the token ids.
        masking: What is hidden.
        seed: Of the order of the batches and of the masks. Defaults to 0.
    """
    held_out = None
    if validation is not None:
        held_out = evaluation_source(validation, 2 * config.batch_size, pad_id=tokenizer.pad_id).epoch()
    return Problem(
        objective=MaskedLanguageModel(masking, seed=seed, label_smoothing=config.label_smoothing),
        train=make_source(train, config, pad_id=tokenizer.pad_id, seed=seed),
        validation=held_out,
        rebuild=rebuild,
        longest=int(train.lengths.max()),
    )


def save_adapted(model: ModelWithHead, tokenizer: Tokenizer, path: str | Path, *, preset: Preset) -> Path:
    """Writes the model as a checkpoint that `finetune` goes on from, and that transformers loads.

    Args:
        model: The model, in any dtype policy; float32 is written.
        tokenizer: Its tokenizer.
        path: A directory that does not exist yet.
        preset: The checkpoint that the model began as, for the model card.

    Raises:
        ExportError: If the path is taken.
    """
    exact = with_dtype_policy(model, "float32")
    return export_hugging_face(exact, tokenizer, Path(path), base_model=str(preset.handle))
