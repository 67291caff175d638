"""The byte alphabet of `ByteLevel`: a printable character for each byte."""

__all__ = ["ALPHABET", "to_bytes", "utf8_bytes_of_letters"]


def _alphabet() -> str:
    # Bytes that are printable in Latin-1 stand for themselves, the others for U+0100 and on in their order.
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in printable]
    return "".join(chr(byte) if byte in printable else chr(0x100 + others.index(byte)) for byte in range(256))


ALPHABET = _alphabet()
_BYTES = {letter: byte for byte, letter in enumerate(ALPHABET)}


def to_bytes(token: str, *, byte_level: bool) -> bytes | None:
    """The bytes of the text that a token stands for; `None` if it has letters that no byte has."""
    if not byte_level:
        return token.encode("utf-8")
    if any(letter not in _BYTES for letter in token):
        return None
    return bytes(_BYTES[letter] for letter in token)


def utf8_bytes_of_letters() -> list[int]:
    """How many bytes the letter of each byte has in UTF-8."""
    return [len(letter.encode("utf-8")) for letter in ALPHABET]
