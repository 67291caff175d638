"""SentencePiece models are read as the package itself reads them."""

import pytest

from kerasllm.errors import TokenizerError
from kerasllm.testing.sentencepiece_families import train_sentencepiece
from kerasllm.testing.training import Training
from kerasllm.tokenization.sentencepiece_models import read_sentencepiece


@pytest.mark.parametrize(("model_type", "kind"), [("unigram", "Unigram"), ("bpe", "BPE"), ("char", "CHAR")])
def test_what_is_in_a_file(model_type, kind, tmp_path):
    from sentencepiece import sentencepiece_model_pb2 as messages

    content = train_sentencepiece(Training(), model_type, byte_fallback=True, user_defined_symbols="日本")
    (tmp_path / "a.model").write_bytes(content)
    proto = messages.ModelProto()
    proto.ParseFromString(content)
    read = read_sentencepiece(tmp_path / "a.model")
    assert list(read.pieces) == [(piece.piece, piece.score, piece.type) for piece in proto.pieces]
    assert (read.kind, read.character_map) == (kind, proto.normalizer_spec.precompiled_charsmap)


@pytest.mark.parametrize(
    "content", [b"", b"\x08", b"\x08\x05", b"\x0b", b"\x0a\x7f", b"\xff" * 30, b"\x0a\x02\x12\x00"]
)
def test_damaged_files_are_named(content, tmp_path):
    (tmp_path / "a.model").write_bytes(content)
    with pytest.raises(
        TokenizerError, match=r"a.model` is (damaged or )?no SentencePiece model.*Fetch it again"
    ):
        read_sentencepiece(tmp_path / "a.model")


def test_any_cut_is_noticed_or_leaves_whole_pieces(tmp_path):
    content = train_sentencepiece(Training(), "bpe")
    for size in range(1, 200):
        (tmp_path / "a.model").write_bytes(content[:size])
        try:
            read = read_sentencepiece(tmp_path / "a.model")
        except TokenizerError:
            continue
        assert read.pieces[0].text == "<unk>"
