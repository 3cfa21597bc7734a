"""Which encoding of single bytes a European text is in: by the alphabets of the languages."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache

# Letters beyond ASCII of each language, by where it is written.
WESTERN = {
    "Albanian": "çë",
    "Catalan": "àçèéíïòóúü",
    "Danish, Norwegian": "æøåéèêòóôü",
    "Dutch": "éëïóöüèêáíúâîô",
    "Estonian": "äõöüšž",
    "Faroese": "áðíóúýæø",
    "French": "àâæçéèêëîïôœùûüÿ",
    "German": "äöüßé",
    "Icelandic": "áðéíóúýþæö",
    "Irish": "áéíóú",
    "Italian": "àèéìíîòóùú",
    "Portuguese": "áâãàçéêíóôõúü",
    "Spanish": "áéíñóúü",
    "Swedish, Finnish": "åäöéüàšž",
}
CENTRAL = {
    "Croatian, Slovene": "čćđšž",
    "Czech": "áčďéěíňóřšťúůýž",
    "Hungarian": "áéíóöőúüű",
    "Polish": "ąćęłńóśźż",
    "Romanian": "ăâîşţ",
    "Slovak": "áäčďéíĺľňóôŕšťúýž",
}
LINE_END = re.compile(rb"[\r\n]+")
# Signs that words may hold.
IN_WORDS = "·µ"
# Encodings of single bytes, the likeliest first; their signs may stand beside the letters of any language, and inside a
# word are letters of another encoding.
PAGES = {
    "cp1252": (WESTERN, "¡¢£¤¥¦§¨©ª«¬®¯±²³¶\xb8¹º»¼½¾¿ƒˆ\u02dc"),
    "cp1250": (CENTRAL, "¤¦§¨©«¬®±¶\xb8»"),
    "iso8859-2": (CENTRAL, "¤§¨\xb8"),
}
# If more letters than that, of a hundred, are in no alphabet, the text is in another encoding.
MOST_FOREIGN = 10
# Up to that many letters, of a hundred, may be of names from elsewhere.
MOST_NAMES = 1


def code_page(blocks: Iterable[bytes]) -> str | None:
    """The one of ``PAGES`` that the letters of all lines belong to; None where that is uncertain.

    A line is of one language. Where each could be of some language of two encodings, the whole is of one language.
    """
    in_lines, in_all, seen = Counter[str](), Counter[int](), set[int]()
    for block in blocks:
        seen.update(block)
        in_all.update(block.translate(None, _NO_LETTERS))
        for letters, n_lines in Counter(line.translate(None, _NO_LETTERS) for line in LINE_END.split(block)).items():
            in_lines.update({page: n * n_lines for page, n in _fewest_foreign(letters).items()})
        in_lines.update({page: len(b"".join(signs.findall(block))) for page, signs in _SIGNS_IN_WORD.items()})
    foreign = {page: math.inf if seen & _UNUSED[page] else in_lines[page] for page in PAGES}
    first, *others = PAGES
    best = min(others, key=foreign.__getitem__)
    lead = foreign[first] - foreign[best]
    if 0 <= lead <= 1:
        whole = _fewest_foreign(bytes(in_all.elements()))
        lead = whole[first] - whole[best]
    found = first if 100 * lead <= MOST_NAMES * in_all.total() else best
    is_sure = found == first or lead > 1
    return found if is_sure and 100 * foreign[found] <= MOST_FOREIGN * in_all.total() else None


@lru_cache(2**16)
def _fewest_foreign(letters: bytes) -> dict[str, int]:
    """How many letters are not in the alphabet that has most of them, in each encoding."""
    return {page: min(len(letters.translate(None, known)) for known in some) for page, some in _KNOWN.items()}


def _meant(byte: int, page: str) -> str:
    """The character of a byte; nothing where it has none, or one that no text holds."""
    character = bytes([byte]).decode(page, "ignore")
    return "" if 0x80 <= byte < 0xA0 and not character.isprintable() else character


def _is_letter(byte: int) -> bool:
    """Whether a byte beyond ASCII is a letter in one of the encodings, or differs between them."""
    meant = {_meant(byte, page) for page in PAGES} - {""}
    return byte > 0x7F and (len(meant) > 1 or any(map(str.isalpha, meant)))


_NO_LETTERS = bytes(byte for byte in range(256) if not _is_letter(byte))
_UNUSED = {page: {byte for byte in range(256) if not _meant(byte, page)} for page in PAGES}
_KNOWN = {
    page: [(letters + letters.upper() + signs + IN_WORDS).encode(page, "ignore") for letters in alphabets.values()]
    for page, (alphabets, signs) in PAGES.items()
}
_SIGNS_IN_WORD = {
    page: re.compile(rb"(?<=[A-Za-z\xc0-\xff])[" + re.escape(signs.encode(page)) + rb"]+(?=[a-z\xe0-\xff])")
    for page, (_, signs) in PAGES.items()
}
