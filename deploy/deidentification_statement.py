"""Writes the section "De-identification" of deploy/docs/conformance.md, which PS3.15 E.1.3 asks for, out of the engine's own tables.

Usage: python deploy/deidentification_statement.py
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from pydicom.datadict import dictionary_has_tag, keyword_for_tag

from dicomnode.deidentification import profile
from dicomnode.deidentification.kinds import Kind, kind_of
from dicomnode.deidentification.policy import POLICIES, Policy
from dicomnode.deidentification.rules import Rules, Treatment

PATH = Path(__file__).resolve().parent / "docs" / "conformance.md"
START = "<!-- from here on written by make statement: do not edit -->\n"
CT = "1.2.840.10008.5.1.4.1.1.2"
MEANINGS = {
    Treatment.REMOVE: "removed",
    Treatment.EMPTY: "emptied",
    Treatment.DUMMY: "dummy value",
    Treatment.KEEP: "kept (numbers)",
    Treatment.NUMBER: "kept where it is a number",
    Treatment.AGE: "kept; classed where the policy says",
    Treatment.TERM: "kept where it is a term",
    Treatment.DEVICE: "kept where it has the form of a device's name or number, else a token",
    Treatment.TABLE: "kept where it holds no text; else removed, or the object withheld where its pixels need it",
    Treatment.PROFILE: "colours kept, made anew without words",
    Treatment.VERBATIM: "kept without the source's identifiers",
    Treatment.CHARACTERISTIC: "kept as a whole where every word of it is known to say what patients are like, else not at all",
    Treatment.PLAIN: "makers' and technical words kept",
    Treatment.CLEAN: "technical words kept",
    Treatment.TOKEN: "token (keyed)",
    Treatment.STACK: "small number kept, else token",
    Treatment.LAYER: "renamed within the object",
    Treatment.ZONE: "kept where it is a zone",
    Treatment.CONTENT: "by concept (Table E.3.4-1)",
    Treatment.PSEUDONYM: "pseudonym (keyed)",
    Treatment.UID: "replaced by a keyed UID",
    Treatment.KEEP_UID: "kept",
    Treatment.CLASS_UID: "kept where well known",
    Treatment.DATE: "shifted by whole days",
    Treatment.DATETIME: "shifted by whole days",
    Treatment.TIME: "kept; a second later where it is an identifier",
    Treatment.SEQUENCE: "items treated one by one",
}
HEAD = """\
## De-identification

The statement of PS3.15 E.1.3, out of the tables that the engine works by. Formats and keys are described in [formats](formats.md).

### What is claimed

The Basic Application Level Confidentiality Profile as a De-identifier (PS3.15 E.1), edition 2024e with two rows of 2025c, by two
policies with these options (CID 7050). Each object says so in (0012,0062), (0012,0063), (0012,0064) and (0028,0303).

"""
TAIL = """
### Beyond the table

- **Default-deny**: any element that can carry text and stands in no table survives only on an allow-list; Code Strings only where they are terms or made of the standard's own words (numbers of two figures and more beside such a word alone, none of a place); unknown, private and retired group 50xx and 60xx elements, icons, and bytes behind the Data Set are dropped: where a file cannot be read to its end, its Data Set ends behind its pixels with what reads as elements of rising tags. What is cut before or within its pixels is withheld (`object-malformed`), and so is an object without pixels with eight bytes or more behind it that read as no element. Preamble and File Meta Information are written anew.
- **Private attributes**: those of Table E.3.10-1 with their creator, group and place, except opaque bytes (OB, OW).
- **Structured reports**: by concept (Table E.3.4-1), in trees and wherever else content items stand: text and names one by one; dates, numbers (no measured value), codes (Unknown) and containers (empty) that no option retains say nothing; UIDs and references become pseudonyms and resolve. No item is taken out of its place, which others refer to.
- **Codes**: a code's meaning is its scheme's, or another of the standard's in technical words alone; codes of unknown schemes become tokens. Versions of context groups, which are dates, go with the context groups that need them.
- **Pseudonyms**: UIDs (2.25), Patient ID and name, tokens and date shifts are HMAC-SHA256 under a key of the identity world and the project's name: the same over instances, series, studies and years. A patient is a Patient ID with its issuer: (0010,0021), else Universal Entity ID and type of (0010,0024), else `default_issuer`. Dates move back by 1 to `maximum_date_shift_days` whole days, the same for all of a patient; times, intervals and decay times stay.
- **Character sets**: ISO_IR and ISO 2022 sets, GB18030, GBK and UTF-8 are decoded. Where any text that stays is not ASCII, the object is written in UTF-8 (ISO_IR 192); else the source's Specific Character Set stays as it is.
- **Free text** that is cleaned: a word survives for being known and for what stands beside it; names of third persons go after their titles and beside unknown words ([decision 24](decisions/0024-words-beside-one-another.md)). Addresses, dates, ages, record numbers, initials and places on the globe go by their form, from makers' texts and devices' names as well ([decision 31](decisions/0031-families-of-words.md)).
- **Devices** under `ai`: names and numbers stay where they have the form of one, else a keyed token stands for them.
- **Numbers, lookup tables, ICC profiles**: no words, no identifier of the source as a number, no counter (…Number) of nine figures and more, no Integer String beyond 32 bits; profiles are made anew of their colours; a lookup table with words in it goes, or withholds the object where its pixels need it.
- **Frames**: of many, those are read that are spread over all and those that may show text of their own (at most 30).
- **Pixels**: Secondary Capture, visible light, Burned In Annotation YES, colour where machines measure, screens and, under `export`, projections and images that look written on are searched for text by OCR (extra `ocr`), blanked on every frame, and searched again; ultrasound keeps its regions alone, and these are searched, too. Without the extra, and where pixels cannot be decoded, they are withheld; projections then only where they look written on. What looks written on is told by the brightest value (the darkest of MONOCHROME1) in thin sharp strokes, in pixels of every form that a codec here decodes (others are withheld, JPEG Extended of 12 bits among them); slices of CT, MR and PET that are ORIGINAL and PRIMARY, localizers left out, are also searched for upright and turned lines of letters of six rows and more, and of any one value, bright, dim or dark: smooth ones below some 14 pixels, such as are mixed with what is behind them, and slanted ones are not found there, of hard ones five of six where they are brighter than what is around and one of four where they are darker ([decision 13](decisions/0013-texts-and-pixels-of-exports.md)). All other images, and whatever is searched by OCR, are searched for these and for lines of letters of any strength and angle, too, and masks for three letters and more. What may show text and has 5 to 7 rows or columns, too few to be read and not to be written on, is withheld, as are scanned paper, slide labels, encapsulated documents and videos. Bits above High Bit are cleared. (0028,0301) is NO where text was looked for by OCR on every frame (of more than 12 only some are read), blanked and no doubtful box stays; a source's own NO stays where the search confirms it (of at most 12 frames) or the class requires the flag, its YES where nobody looked; else the flag is left out. (0028,0302) NO stays only where a whole series was looked at for a head.
- **Devices that write into images** (`deidentification.devices`): rectangles that a site names for a device (by any attributes of the object, Rows and Columns among them) are blanked on every frame before anything else is done to the pixels, or its images are withheld; there are no rules but the site's own. All other checks go on with what is left. Where the site vouches for the rest, an image that may show text passes without OCR if a search of it for strokes, letters and codes finds nothing; (0028,0301) is never NO for that, unless the class requires the flag and the source says so. 113101 stands in (0012,0064) where the rest was looked at or vouched for.
- **Faces** (`faces`, [decision 28](decisions/0028-faces.md)): heads in CT, MR, PET, X-Ray 3D and surface scans (by Modality or SOP Class), photographs and captures of them, and photographs and surface scans of a region that nobody names, are flagged with (0028,0302) YES under `export`. A site may have them withheld, or the faces of whole CT and MR series taken off: face and ears become air, the brain stays byte for byte, (0028,0302) is NO, and 113102 stands in (0012,0064); whatever else may show a face (scouts, projections, PET, photographs, surface scans, parts of heads, contours and dose of their studies) is withheld then.
- **Leak check** of every output: the source's names, identifiers, dates and UIDs, in decoded values and in encoded bytes outside pixel data. Under `export` a hit withholds; under `ai` an allow-listed copy is made instead. False holds: 0 of 828 identities made of short ids and names that are words (`tests/unit/deidentification/test_false_holds.py`).
- **Re-identification**: Encrypted Attributes Sequence (0400,0500) with CMS EnvelopedData, AES-256-CBC, RSA key transport (PKCS #1 v1.5), where `deidentification.recipients` names certificates (RSA of 2048 bits or more); `dicomnode reidentify` opens it. Behind Modified Attributes Sequence a private block (0401,"DICOMNODE ENCLOSED") binds the content to the object: its SOP Instance UID and a SHA-256.
- **A site's own rules** (`deidentification.ai`, `deidentification.export`) go before the tables; the leak check knows of what they keep, and does not look for it. Private attributes are named with their creator and, for Implicit VR, their VR: `(0019,"ACME 1.0",10,DS)`. What is said here of looking at pixels, faces, ages and hits of the leak check is what the policies do by themselves; a site may set each for each policy ([settings](settings.md)). `dicomnode deidentify --explain FILE` tells the settings that hold, and for every attribute who decided.

"""


def render(page: str) -> str:
    """The page with the section written anew, at its end."""
    return (
        page.partition(START)[0]
        + START
        + HEAD
        + "".join(_options())
        + TAIL
        + "".join(_attributes())
        + "".join(_kinds())
    )


def _options() -> Iterator[str]:
    yield (
        "| code (DCM) | option | "
        + " | ".join(f"`{name}`" for name in POLICIES)
        + " |\n|-|-|"
        + "-|" * len(POLICIES)
        + "\n"
    )
    concepts = dict.fromkeys(concept for policy in POLICIES.values() for concept in policy.concepts)
    for concept in sorted(concepts, key=lambda concept: concept.value):
        marks = " | ".join("yes" if concept in policy.concepts else "no" for policy in POLICIES.values())
        yield f"| {concept.value} | {concept.meaning} | {marks} |\n"
    yield "| 113101 | Clean Pixel Data Option | " + " | ".join("where pixels were cleaned" for _ in POLICIES) + " |\n"
    yield '| 113102 | Clean Recognizable Visual Features Option | no | where faces were taken off (`faces = "deface"`) |\n'


def _rule(policy: Policy, tag: int) -> str:
    return MEANINGS[Rules(policy, CT).rule("", tag).treatment]


def _attributes() -> Iterator[str]:
    yield "### Attributes of Table E.1-1\n\nAs in a CT image (types decide over removing, emptying and dummies; they differ by SOP Class).\n\n"
    yield (
        "| tag | attribute | "
        + " | ".join(f"`{name}`" for name in POLICIES)
        + " |\n|-|-|"
        + "-|" * len(POLICIES)
        + "\n"
    )
    counts: Counter[tuple[str, str]] = Counter()
    for tag in sorted(profile.attributes()):
        name = keyword_for_tag(tag) if dictionary_has_tag(tag) else ""
        actions = {policy: _rule(rules, tag) for policy, rules in POLICIES.items()}
        counts.update(actions.items())
        yield f"| ({tag >> 16:04X},{tag & 0xFFFF:04X}) | {name} | {' | '.join(actions.values())} |\n"
    for policy in POLICIES:
        listed = ", ".join(f"{count} {action}" for (name, action), count in sorted(counts.items()) if name == policy)
        yield f"\n`{policy}`: {listed}.\n"


def _kinds() -> Iterator[str]:
    from pydicom._uid_dict import UID_dictionary

    yield "\n### Kinds of objects\n\n"
    names = {Kind.TEXT_PRONE: "searched for text, else withheld", Kind.ULTRASOUND: "regions kept and searched for text, else withheld", Kind.SLIDE: "labels withheld", Kind.DOCUMENT: "withheld"}  # fmt: skip
    for kind, what in names.items():
        found = sorted(
            entry[0] for uid, entry in UID_dictionary.items() if "Storage" in entry[0] and kind_of(uid) is kind
        )
        yield f"- **{what}**: {', '.join(found)}.\n"
    yield "- Every other storage SOP Class of the standard is de-identified; raw data, audio, private and unknown classes are withheld.\n"


if __name__ == "__main__":
    PATH.write_text(render(PATH.read_text("utf-8")), "utf-8")
