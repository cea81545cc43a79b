"""Words in letters of ASCII, as systems write them that have no others. Pure."""

from __future__ import annotations

import unicodedata
from typing import Final

_ALONE: Final = str.maketrans({"ß": "ss", "æ": "ae", "ø": "o", "ł": "l", "đ": "d", "ı": "i"})
_SPELT: Final = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "å": "aa", "ø": "oe", "ß": "ss", "æ": "ae"})


def transliterated(word: str) -> tuple[str, ...]:
    """A word in letters of ASCII: Müller, Mueller, Muller. None where it is so."""
    if word.isascii():
        return ()
    plain = unicodedata.normalize("NFKD", word.translate(_ALONE))
    forms = (word.translate(_SPELT), "".join(char for char in plain if not unicodedata.combining(char)))
    return tuple(form for form in dict.fromkeys(forms) if form.isascii() and form)
