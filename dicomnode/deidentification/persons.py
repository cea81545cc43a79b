"""How persons are spoken of in free text: titles before a name, titles behind one, and words that are names too.

Pure tables.
"""

from __future__ import annotations

from typing import Final

#: What follows is a name whatever it is.
STRONG: Final = "strong"
#: What follows is a name where people are called so.
WEAK: Final = "weak"

_STRONG: Final = frozenset(
    [
        "dr",
        "dres",
        "prof",
        "professor",
        "doctor",
        "mrs",
        "miss",
        "mister",
        "messrs",
        "herr",
        "frau",
        "mme",
        "mlle",
        "monsieur",
        "madame",
        "dott",
        "dottore",
        "dottoressa",
        "dra",
        "sig",
        "signor",
        "signora",
        "senor",
        "señor",
        "senora",
        "señora",
        "dhr",
        "mevr",
        "sir",
        "lady",
        "rev",
        "schwester",
        "pfleger",
        "nurse",
        "arzt",
        "ärztin",
        "hausarzt",
        "überweiser",
        "ueberweiser",
        "zuweiser",
        "zuweisender",
        "einweiser",
        "befunder",
        "operateur",
        "docteur",
        "médecin",
        "physician",
        "radiologist",
        "radiographer",
        "technologist",
        "technician",
        "surgeon",
        "consultant",
        "referrer",
        "attending",
        "mtra",
        "mta",
        "mtr",
    ]
)
_WEAK: Final = frozenset(
    [
        "by",
        "durch",
        "par",
        "tech",
        "operator",
        "sister",
        "mother",
        "father",
        "mutter",
        "vater",
        "wife",
        "husband",
        "ehemann",
        "ehefrau",
        "son",
        "daughter",
        "sohn",
        "tochter",
        "brother",
        "bruder",
        "aunt",
        "uncle",
        "tante",
        "onkel",
        "spouse",
        "parent",
        "guardian",
        "cousin",
        "grandmother",
        "grandfather",
        "oma",
        "opa",
        "sibling",
        "partner",
        "name",
        "named",
        "patient",
        "patientin",
        "pat",
        "referred",
        "referring",
        "requested",
        "attn",
        "contact",
        "called",
        "signed",
        "witness",
        "author",
        "chaperone",
        "interpreter",
        "attended",
        "carer",
        "caregiver",
        "per",
        "via",
        "cc",
        "dictated",
        "reported",
        "reviewed",
        "verified",
        "approved",
        "performed",
    ]
)
#: Titles that are modalities too, where they are written in capitals.
_MODALITIES: Final = frozenset(["mr", "ms", "dr"])
#: What stands before is a name where people are called so.
SUFFIXES: Final = frozenset(
    [
        "md",
        "phd",
        "mph",
        "frcr",
        "frcp",
        "frcs",
        "mrcp",
        "rtr",
        "arrt",
        "dmd",
        "dds",
        "mbbs",
        "mbchb",
        "jr",
        "junior",
        "esq",
        "msc",
        "bsc",
        "mphil",
        "facr",
    ]
)


def title_at(token: str, after: str, *, first: bool) -> str:
    """Whether a token is a title: `STRONG`, `WEAK` or empty.

    Parameters
    ----------
    after
        The character behind it.
    first
        Whether the text begins with it, as with a modality.
    """
    folded = token.casefold()
    if folded in _MODALITIES:
        written = after == "." or (token[0].isupper() and token[1:].islower())
        return STRONG if written else WEAK if folded == "dr" and not first else ""
    if folded in _STRONG:
        return STRONG
    return WEAK if folded in _WEAK else ""
