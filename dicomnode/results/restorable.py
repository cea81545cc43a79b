"""Whether the identity of a source can stand in a result at all: tried on an object that holds nothing else.

May live here: that one trial. What fails it is the source's matter, not the node's (decision 23); `checks` proves
afterwards that each result has what passed.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from dicomnode.encoded import encode_dataset
from dicomnode.errors import StudyError
from dicomnode.forms import SOP_CLASSES, Form
from dicomnode.identity import FURTHER_KEYWORDS, IDENTITY_KEYWORDS, SourceIdentity
from dicomnode.results import checks
from dicomnode.results.identity import restore, source_attributes

_CHARACTER_SET: Final = "00080005"
_SYNTAX: Final = str(ExplicitVRLittleEndian)


def proved(identity: SourceIdentity) -> tuple[SourceIdentity, Dataset]:
    """What of an identity a reader of a result will find as it is, and its attributes as a Data Set.

    Returns
    -------
    tuple
        The same identity, without those of `FURTHER_KEYWORDS` that come back otherwise.

    Raises
    ------
    StudyError
        ``identity-unwritable`` with the first attribute that comes back otherwise out of the bytes of a Data Set;
        ``result-identity-differs`` if the vault's entry cannot be read.
    """
    source = source_attributes(identity)
    if not _lost(identity, source, *IDENTITY_KEYWORDS):
        return identity, source
    lost = [keyword for keyword in IDENTITY_KEYWORDS if keyword in source and _lost(identity, source, keyword)]
    for keyword in lost:
        if keyword in FURTHER_KEYWORDS:
            del source[keyword]
    rest = replace(identity, attributes={tag: identity.attributes[tag] for tag in identity.attributes if tag in source})
    if _lost(rest, source, *IDENTITY_KEYWORDS):
        culprits = [keyword for keyword in lost if keyword in source]
        raise StudyError("identity-unwritable", attribute=(culprits or ["SpecificCharacterSet"])[0])
    return rest, source


def _lost(identity: SourceIdentity, source: Dataset, *keywords: str) -> bool:
    """Whether one of these attributes, written by themselves, comes back otherwise."""
    tags = {_CHARACTER_SET, *(f"{int(source[keyword].tag):08X}" for keyword in keywords if keyword in source)}
    part = SourceIdentity(
        attributes={tag: model for tag, model in identity.attributes.items() if tag in tags}, uids=identity.uids
    )
    bare = Dataset()
    bare.SOPClassUID, bare.StudyInstanceUID = SOP_CLASSES[Form.BINARY], ""
    try:
        found = checks.decode(encode_dataset(restore(bare, part), _SYNTAX))
    except StudyError:
        return True
    return not all(
        checks.says_the_same(found, source, keyword) for keyword in keywords if keyword != "SpecificCharacterSet"
    )
