"""Traces of persons and places that a text shows by its form alone: addresses, dates, ages, record numbers, initials.

Pure. Which words are known matters nothing here; what stands within a trace goes from descriptors, makers' texts and the
names of devices alike.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

Span = tuple[int, int]

_START: Final = r"(?<![^\W_])"
_END: Final = r"(?![^\W_])"
_YEAR: Final = r"(?:1[89]|20)\d\d"
_COUNTRIES: Final = "ch|de|at|fr|uk|us|eu|it|es|nl|be|no|dk|fi|pl|cz|pt|ie|ca|au|nz|jp|cn|kr|br|in|il|tr|ru|za|mx"
_DOMAINS: Final = (
    "com|org|net|edu|gov|mil|int|info|local|lan|internal|intranet|intern|intra|localdomain|hospital|clinic|health"
)
_FILES: Final = "dcm|dicom|ima|nii|nrrd|txt|pdf|docx?|xlsx?|csv|jpe?g|png|tiff?|bmp|xml|json|html?|log|zip|bak|tmp"
#: Mail, hosts, paths, files; addresses of networks and of network cards; UIDs.
_ADDRESSES: Final = (
    r"[^\s@]{0,80}@[^\s@]*",
    r"(?:%[0-9a-f]{2}){2,}",
    r"(?<![\d_])[^\W\d_]{0,20}(?<!\d )%[4-7][0-9a-f](?=[^\W\d_])[^\W_]*",  # a letter that is escaped within a word
    r"(?<!\w)\w{1,20}://\S*",
    r"www\.\S*",
    r"(?<!\w)[a-z]:[\\/]\S*",
    r"[\\/]{2}\w\S*",
    r"(?<!\S)(?:/[\w.\-]+){2,}/?",
    rf"{_START}[\w\-]{{1,63}}(?:\.[\w\-]{{1,63}}){{0,9}}\.(?:{_DOMAINS})(?:\.[a-z]{{2}})?{_END}(?:[:/]\S*)?",
    rf"{_START}[\w\-]{{1,63}}(?:\.[\w\-]{{1,63}}){{1,9}}\.(?:{_COUNTRIES}){_END}(?:[:/]\S*)?",
    rf"{_START}[\w\-]{{1,99}}\.(?:{_FILES}){_END}",
    r"(?<![\w.])(?:10|127|2[6-9]|[3-9]\d|1\d\d|2[0-4]\d|25[0-5])(?:\.(?:25[0-5]|2[0-4]\d|1?\d?\d)){3}(?![\w.])(?::\d+)?",
    r"(?<![\w:])[0-9a-f]{1,4}(?::[0-9a-f]{0,4}){2,7}(?![\w:])",
    r"(?<![\w\-])[0-9a-f]{2}(?:-[0-9a-f]{2}){5}(?![\w\-])",
    r"[0-9a-f]{2}(?::[0-9a-f]{2}){5,7}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}",  # whatever stands beside
    r"(?<![\d.vVrR])(?=(?:\d\d?\.){0,3}\d{3})(?:10|127|2[6-9]|[3-9]\d|1\d\d|2[0-4]\d|25[0-5])(?:\.(?:25[0-5]|2[0-4]\d|1?\d?\d)){3}(?![\d.])",
    r"(?<![\w.])(?:1\.2\.\d{3}|1\.3\.(?:6|12)|2\.16|2\.25)(?:\.\d+){2,}",
)
_SAFE_MONTHS: Final = (
    "january|february|march|april|june|july|august|september|october|november|december|jan|feb|febr|apr|jun|jul|aug|sept|nov|"
    "januar|jänner|februar|märz|juni|juli|oktober|dezember|dez|okt|"
    "janvier|février|fevrier|févr|fév|mars|avril|avr|juin|juillet|juil|août|aout|septembre|octobre|novembre|décembre|decembre|déc|"
    "enero|febrero|marzo|abril|mayo|junio|julio|agosto|septiembre|setiembre|octubre|noviembre|diciembre|"
    "gennaio|febbraio|aprile|maggio|giugno|luglio|settembre|ottobre|dicembre|"
    "januari|februari|maart|augustus|janeiro|fevereiro|março|maio|junho|julho|setembro|outubro|novembro|dezembro"
)
#: Months that are techniques and words besides: a day must stand before them, or a day and a year behind.
_OTHER_MONTHS: Final = "mar|mrz|may|mai|mei|mag|sep|set|oct|ott|out|dec|dic|abr|ago|ene|gen"
_DAY: Final = r"(?:0?[1-9]|[12]\d|3[01])(?:st|nd|rd|th|\.)?"
_GAP: Final = r"[\W_]{0,3}"
_BORDER: Final = r"(?<!\d)(?<!\d[.,])"
#: Dates with the name of a month, however few of their parts are there; what says that somebody was born; ages.
_WORDED: Final = (
    rf"{_BORDER}(?:\d{{1,4}}(?:st|nd|rd|th|\.)?{_GAP})?(?<![^\W\d_])(?:{_SAFE_MONTHS})(?![^\W\d_])\.?{_GAP}"
    r"\d{1,4}(?:st|nd|rd|th)?(?!\d)(?:[\W_]{1,3}\d{2,4}(?!\d))?",
    rf"{_BORDER}\d{{1,4}}(?:st|nd|rd|th|\.)?{_GAP}(?:{_SAFE_MONTHS})(?![^\W\d_])",
    rf"{_BORDER}{_DAY}{_GAP}(?:{_OTHER_MONTHS})(?![^\W\d_])(?:\.?{_GAP}\d{{2,4}}(?![\d.,]))?",
    rf"{_START}(?:{_OTHER_MONTHS})\.?[\W_]{{0,2}}{_DAY}[\W_]{{1,3}}(?:{_YEAR}|\d\d)(?!\w)",
    rf"{_START}(?!oct\W2000)(?:{_OTHER_MONTHS})\.?[ '’/\-]{{1,2}}(?:19|20)\d\d(?!\w)",  # OCT 2000 is a machine
    rf"{_START}(?:geb\.?|geboren|born|birth|dob|d\.o\.b\.?|yob|née?|nata|nato|nacid[oa]|nac\.|geburtsdatum)[\W_]{{0,3}}"
    r"(?:am |on |in |le |el |il )?\d{1,4}(?:[\W_]{1,3}\d{1,4}){0,2}(?!\d)",
    r"(?<![\w.])\d{1,3}[ \-]?(?:years?|yrs?|yo|y/o|y\.o\.?|jahre|jährige?[rsn]?|jaehrige?[rsn]?|jaar|ans|años|anos|anni)"
    rf"{_END}(?:[ \-]old{_END})?",
    r"(?<![\w.,])\d{2,3}y(?!\w)",
)
#: What stands between the parts of a date; full stops alone are a version's.
_MARK: Final = r"(?:[^\w.]|_)[\W_]{0,3}"
_D, _M = r"(?:0?[1-9]|[12]\d|3[01])", r"(?:0?[1-9]|1[0-2])"
_CLOCK: Final = r"(?:[T _]?\d{1,2}(?::\d{2}){1,2}(?:\.\d+)?)?"
#: Dates in groups, what was born in a year, ages: all in figures. With a year of four digits letters may stand beside them.
_FIGURES: Final = (
    rf"(?<!\d)(?<!\d[.,]){_YEAR}{_MARK}(?:0?[1-9]|1[0-2]){_MARK}(?:3[01]|[12]\d|0?[1-9])(?!\d){_CLOCK}",
    rf"(?<!\d)(?<!\d[.,])(?:0?[1-9]|[12]\d|3[01]){_MARK}(?:1[0-2]|0?[1-9]){_MARK}{_YEAR}(?!\d){_CLOCK}",
    rf"(?<!\d)(?<!\d[.,])(?:0?[1-9]|1[0-2]){_MARK}(?:3[01]|[12]\d|0?[1-9]){_MARK}{_YEAR}(?!\d){_CLOCK}",
    r"(?<!\d)(?<!\d[.,])\d\d-\d\d-\d\d(?!\d)(?=[^\W_])|(?<=[^\W\d_])\d\d-\d\d-\d\d(?!\d)",  # with a letter beside it
    rf"(?<!\d)(?<!\d[.,]){_YEAR}-(?:0[1-9]|1[0-2]|[0-3]\d\d)(?![\d\-])",  # a month, a day of the year
    rf"(?<!\d)(?<!\d[.,])(?:0[1-9]|1[0-2])/{_YEAR}(?!\d)",
    rf"(?<!\d){_YEAR}-?W[0-5]\d",
    rf"(?<!\d)(?:0?[1-9]|[12]\d|3[01])[./ ]{{1,2}}(?:X?I{{1,3}}|I?[VX]|VI{{1,3}}|XII?)[./ ]{{1,2}}(?:{_YEAR}|\d\d)(?!\d)",
    rf"{_START}S[1-6]\d\.(?:1[0-2]|[1-9])\.(?:3[01]|[12]?\d)(?!\w|\.\d)",  # of Showa
    r"(?<![\w.])(?:19[2-9]\d[a-z]|[vT]19[2-9]\dZ?)(?![\w\-/_.])",
    rf"(?<![^\W_])(?<!\d[.,])(?:{_D}{_MARK}{_M}|{_M}{_MARK}{_D}){_MARK}(?:{_YEAR}|\d\d){_END}",
    rf"(?<![^\W_])(?<!\d[.,]){_YEAR}{_MARK}{_M}{_MARK}{_D}{_END}",
    r"(?<![\w./])(?:0[1-9]|1[0-2])/(?:19|20)\d\d(?![\w/])",
    r"(?<![\w./])[012]\d-\d{4,6}(?!\w)",  # a year, and a number of that year
    rf"(?<![\w.])(?:0?[1-9]|[12]\d|3[01])(?P<a>[\-/. _])(?:0?[1-9]|1[0-2])(?P=a){_YEAR}(?![\w.])",
    rf"(?<![\w.])(?:0?[1-9]|1[0-2])(?P<b>[\-/])(?:0?[1-9]|[12]\d|3[01])(?P=b)(?:{_YEAR}|\d\d)(?![\w.])",
    r"(?<![\w.])(?:0?[1-9]|[12]\d|3[01])(?P<c>[\-/])(?:0?[1-9]|1[0-2])(?P=c)(?:\d\d)(?![\w.])",
    rf"(?<![\w.]){_YEAR}(?P<d>[\-/ _])(?:0?[1-9]|1[0-2])(?P=d)(?:0?[1-9]|[12]\d|3[01])(?!\w)",
    r"(?<![\w.])19\d\d\.(?:0?[1-9]|1[0-2])\.(?:0?[1-9]|[12]\d|3[01])(?![\w.])",
    r"(?<![\w)])(?:\*|°)\s?\d{1,4}(?:[\W_]{1,2}\d{1,4}){0,2}(?!\w)",
    rf"{_START}b ?=? ?{_YEAR}(?<!\d[05]0)(?!\w)",  # of b-values all are multiples of fifty
    rf"{_START}b\. ?{_YEAR}(?!\w)",
    r"(?<![\w.])\d{2,3} [JY]\.",
    r"(?<!\w)['’]\d\d(?!\w)",  # of a century that goes without saying
    r"(?<![\w.])19\d\d(?![\w.]| ?c?gy| ?ms)",
)
_COUNTED: Final = (
    "mrn|id|pid|ssn|nhs|ahv|pat|patient|case|acc|accession|tel|phone|fax|ext|room|zimmer|raum|bed|bett|ward|apt|suite|no|nr|"
    "num|number|age|aged|alter|sn|s/n|serial"
)
_NUMBER: Final = r"\d{1,40}(?:[\W_]{1,3}\d{1,40}){0,20}(?:-?[a-ce-su-w])?"
#: Numbers of persons, rooms and telephones; places on the globe.
_COUNTS: Final = (
    rf"{_START}(?:{_COUNTED})[\W_]{{1,3}}(?P<number>{_NUMBER}){_END}",
    rf"{_START}(?:room|zimmer|raum|saal|bed|bett|ward|apt|suite)[\W_]{{1,3}}[a-z]{{1,2}}-?\d{{1,4}}[a-z]?{_END}",
    rf"{_START}(?:mrn|pid|ssn|patid|patnr|casenr)[\W_]{{0,3}}{_NUMBER}{_END}",
    r"(?<![\w.])(?:lat|latitude)[\W_]{1,2}\d[\d.]*[\W_]+(?:lon|long|lng|longitude)[\W_]{1,2}\d[\d.]*",
)
#: Telephone numbers and numbers of registries with full stops, as no version is: 3.3.4, five times two, thousands.
_REGISTERED: Final = (
    rf"{_START}[mfw], ?\d{{1,3}}(?!\w|[.,]\d)|(?<![\w.,])\d{{1,3}} ?/ ?[mf]{_END}",  # sex and age
    r"(?<!\d)(?:(?<!\d[.\-])|(?<=\D1[.\-])|(?<=^1[.\-]))\(?\d{3}\)?[\-./ ]{0,2}\d{3}[\-./ ]\d{4}x\d+",  # with an extension
    r"(?<!\d)(?<!\d[.,\-])\d{3}-\d{2}-\d{4}(?!\d|-\d)",
    r"(?<!\d)(?<!\d\.)\d{3}\.\d{3}\.\d{4}(?!\d|\.\d)",
    r"(?<!\d)(?<!\d\.)\d{3}\.\d{4}\.\d{4}\.\d{2}(?!\d|\.\d)",
    r"(?<![\w.])(?:\d{1,3}\.)?\d{3}\.\d{3}\.\d{4}(?!\w|\.\d)",
    r"(?<![\w.])\d{3}\.\d{4}(?:\.\d{4}\.\d{2})?(?!\w|\.\d)",
    r"(?<![\w.])\d{3}\.\d{7}(?!\w|\.\d)",
    r"(?<![\w.])0\d{2,4}\.\d{2,4}\.\d{3,6}(?!\w|\.\d)",
    r"(?<![\w.])\d{2}(?:\.\d{2}){4}(?!\w|\.\d)",
    r"(?<![\w.])\d{1,3}(?:\.\d{3}){2,3}(?:[/\-][\dkK]{1,4}){0,2}(?!\w|\.\d)",
    r"(?<![\w.])\d{2}\.\d{2}\.\d{2}-\d{3}\.\d{2}(?!\w|\.\d)",
)
#: What a place to be treated at is called, and up to two words before it.
_HOUSES: Final = (
    rf"{_START}(?:[^\W\d_]+\.? ){{0,2}}(?:hospitals?|klinikum|krankenhaus|spital|h[ôo]pital|ospedale|infirmary)(?![^\W_])",
    rf"{_START}mass(?:\.|achusetts)? general(?![^\W_])",
)
_STREETS: Final = (
    "street|road|avenue|boulevard|highway|parkway|terrace|straße|strasse|gasse|platz|allee|rue|calle|"
    r"(?:st|rd|ave|blvd|str)\."
)
_PLACES: Final = (
    *_REGISTERED,
    rf"{_START}\d{{1,5}}[a-z]?,? (?:[^\W\d_]+\.? ){{1,3}}(?:{_STREETS})(?![^\W_])",
    rf"{_START}\d{{1,5}},? (?:bis |ter )?(?:rue|avenue|boulevard|place|chemin|quai)(?: [^\W\d_]+){{1,4}}",
    r"\(\d{3,5}\)[ \-/]?\d{5,8}(?!\w)",
    rf"(?<![\w#])#\s?(?=\d[\W_]*\d[\W_]*\d){_NUMBER}{_END}",
    r"\+\d[\d ()./\-]{4,}\d",
    r"\(\d{2,5}\)[ \-/.]{0,2}\d{2,5}[ \-/.]\d{2,}(?!\d)",
    rf"{_START}\d{{1,3}}\.\d{{2,}}°?\s?[NS][\s,;]{{1,2}}\d{{1,3}}\.\d{{2,}}°?\s?[EWO](?!\w)",
    rf"{_START}[NS]\d{{1,2}}[°.\d'′]*[ ,;]{{1,2}}[EWO]\d{{1,3}}[°.\d'′]*(?!\w)",
    r"(?<![\w.])\d{1,3}\.\d{3,}°?[\s,;/]{1,2}-?\d{2,3}\.\d{3,}(?![\w.])",
    r"(?<![\w.])\d{2,3}\.\d{3,}°?[\s,;/]{1,2}-?\d{1,3}\.\d{3,}(?![\w.])",
    r"\d{1,3}°\s?\d{1,2}['′]\S*",
)
_AREAS: Final = (  # postcodes of the United Kingdom
    "[BEGLMNSW]|A[BL]|B[ABDHLNRST]|C[ABFHMORTVW]|D[ADEGHLNTY]|E[CHNX]|F[KY]|G[LU]|H[ADGPRSUX]|I[GPV]|K[ATWY]|L[ADELNSU]|"
    "M[EKL]|N[EGNPRW]|O[LX]|P[AEHLOR]|R[GHM]|S[AEGKLMNOPRSTWY]|T[ADFNQRSW]|UB|W[ACDFNRSV]|YO|ZE"
)
#: Where capitals count: record numbers in groups (but vertebrae), postcodes.
_WRITTEN: Final = (
    rf"{_START}\d{{1,5}}[a-zA-Z]?,? (?:[NSEW]\.? )?(?:[A-Z][^\W\d_]*[a-z]\.? ){{1,3}}(?:St|Ave|Rd|Ln|Blvd|Hwy|Pkwy|Sq|Dr|Ct|Cres|Str|Lane|Drive|Way|Court|Close|Crescent|Square){_END}",
    rf"{_START}\d{{3,5}}[A-Z]?,? (?:[A-Z]{{4,}} ){{1,2}}(?:ST|DR|LN|LANE|DRIVE|COURT|CRES){_END}",
    rf"{_START}\d{{1,5}}[A-Z]?,? (?:[A-Z]{{3,}} ){{1,2}}(?:AVE|RD|BLVD|HWY|PKWY){_END}",
    rf"{_START}Pt[ .:]{{1,2}}(?P<patient>\d+){_END}",
    rf"{_START}Rm\.? ?\d{{1,4}}[A-Z]?{_END}",
    r"(?<![\w.])\d{2,}-[A-Z]\d{2,}(?!\w)",
    rf"{_START}[A-Z]{{1,2}}\d{{2}}-\d{{3,6}}(?!\w)",  # of pathology
    rf"{_START}[A-Z]{{1,2}}\d{{3,6}}/\d{{2}}(?!\w)",
    rf"{_START}(?=[A-Z\d]{{8}})(?:[A-Z]{{1,2}}\d{{1,3}}){{3,}}[A-Z]?{_END}",  # passports
    r"(?<!\w)(?![CTLSDV]\d\d[ \-/.][CTLSDV]\d\d)[A-Z]\d{2,}[ \-/.][A-Z]\d{2,}(?!\w)",
    rf"{_START}(?:{_AREAS})\d{{1,2}}[A-Z]? (?!1ST|2ND|3RD|\dTH)\d[ABD-HJLNP-UW-Z]{{2}}{_END}",
    rf"{_START}[A-CEGHJ-NPR-TVXY]\d[A-Z] ?\d[A-Z]\d{_END}",
    rf"{_START}(?:{_AREAS})\d[A-Z]\d[ABD-HJLNP-UW-Z]{{2}}{_END}",
    rf"{_START}(?:[DFI]-\d{{5}}|(?:A|CH|NL|DK|LU|BE)-\d{{4}}){_END}",
)
_TRIGGERS: Final = frozenset(
    f"{_SAFE_MONTHS}|{_OTHER_MONTHS}|{_COUNTED}|n|patid|patnr|casenr|lat|latitude|geb|geboren|born|birth|dob|d|yob|saal|né|née|nata|nato|nacido|nacida|nac|"
    "geburtsdatum|year|years|yr|yrs|yo|y|jahre|jährig|jährige|jähriger|jährigen|jähriges|jaehrig|jaehrige|jaehriger|jaehrigen|jaar|"
    "ans|años|anos|anni".split("|")
)
_ADDRESS: Final = re.compile("|".join(_ADDRESSES), re.IGNORECASE)
_HOUSE: Final = re.compile("|".join(_HOUSES), re.IGNORECASE)
_BY_WORDS: Final = re.compile("|".join((*_WORDED, *_COUNTS)), re.IGNORECASE)
_IN_FIGURES: Final = re.compile("|".join((*_FIGURES, *_PLACES)), re.IGNORECASE)
_GROUP: Final = re.compile("|".join(_WRITTEN))
#: No trace is there without one of these.
_MAY_BE_ADDRESS: Final = re.compile(
    r"%[0-9A-Fa-f]{2}%|%[4-7][0-9A-Fa-f][^\W\d_]|-[0-9A-Fa-f]{4}-|[@\\:]|//|(?<!\S)/|\.[^\W\d]|(?:\.\d+){3}|(?:-[0-9A-Fa-f]{2}){5}"
)
_MAY_BE_FIGURES: Final = re.compile(
    r"[mfwMFW], ?\d|['’]\d|\d ?/ ?[mfMF]|\d[\W_]+\d|\d[A-Za-z]?,? [^\W\d_]|[ ,;][EWOewo]\d|19\d\d|[*°#+(]|\d[NSns]\b|\d[./ ]{1,2}[IVXivx]|[Bb][. ]{0,2}\d{4}|\d [JYjy]\.|\d-?[Ww]\d"
)
_MAY_BE_GROUP: Final = re.compile(
    r"Rm|[A-Z]\d[A-Z]\d|\d[A-Z]?[ \-./][A-Z\d]|Pt[ .:]|[A-Z]-\d{4}|(?:[A-Z]{1,2}\d{1,3}){3}"
)
_LETTERS: Final = re.compile(r"[^\W\d_]+")

#: Initials with full stops, or as capitals that stand alone.
_DOTTED: Final = re.compile(r"(?<![^\W_])(?<![^\W_]\.)[^\W\d_]\.[ _]?(?:[^\W\d_]\.[ _]?)?[^\W\d_](?:\.|(?![\w.]))")
_ALONE: Final = re.compile(r"(?<![^\W_])[^\W\d_](?:[ _][^\W\d_]){1,2}(?![^\W_])")
#: Letters that stand apart, more than directions do, are a word that somebody spelt.
_SPELT: Final = re.compile(r"(?<![^\W_])[^\W\d_](?:[ _.\-]{1,2}[^\W\d_]){3,}(?![^\W_])")
#: Letters that stand alone for directions, sides, levels and axes.
_DIRECTIONS: Final = frozenset("aplrhfsixyztnmvw")
#: What is written with full stops or in letters apart, and is nobody.
_ABBREVIATIONS: Final = frozenset(
    ["iv", "po", "ap", "pa", "dp", "im", "sc", "cc", "eg", "ie", "li", "re", "ct", "mr", "us", "pt", "lr", "rl", "si", "hf", "fh",
     "ml", "lao", "rao", "ivi", "kv", "ca", "nm", "xr", "dx", "mg", "fw", "wf", "io", "oi", "zb", "ua", "dh", "ad", "os", "od", "ou", "ge", "nv", "sa",
     "usa", "uk"]
)  # fmt: skip
#: O'Neil, D'Angelo.
_APOSTROPHE: Final = re.compile(r"(?<![^\W_])[ODL]['’´`](?=[A-ZÀ-Þ])[^\W\d_]+")


def traces(text: str) -> Iterator[Span]:
    """Where a text has an address, a date or an age of somebody, a number of somebody's or a place on the globe.

    Yields
    ------
    tuple of int
        Start and end.
    """
    yield from _traces(text)
    if "_" in text:  # a border, as a blank is
        yield from _traces(text.replace("_", " "))


def _traces(text: str) -> Iterator[Span]:
    if _MAY_BE_ADDRESS.search(text):
        yield from (match.span() for match in _ADDRESS.finditer(text))
    yield from (match.span() for match in _HOUSE.finditer(text))
    if not any(map(str.isdigit, text)):
        return
    if not _TRIGGERS.isdisjoint(_LETTERS.findall(text.casefold())):
        yield from (match.span("number" if match["number"] else 0) for match in _BY_WORDS.finditer(text))
    if _MAY_BE_FIGURES.search(text):
        yield from (match.span() for match in _IN_FIGURES.finditer(text))
    if _MAY_BE_GROUP.search(text):
        yield from (match.span("patient" if match["patient"] else 0) for match in _GROUP.finditer(text))


def initials(text: str) -> Iterator[Span]:
    """Where a text has letters that stand for a name: ``J.D.``, ``J. D.``, ``J D``; and names such as ``O'Hand``."""
    for match in _DOTTED.finditer(text):
        if _letters(match[0]) not in _ABBREVIATIONS:
            yield match.span()
    for match in _ALONE.finditer(text):
        letters = _letters(match[0])
        if match[0].isupper() and letters not in _ABBREVIATIONS and not _DIRECTIONS.issuperset(letters):
            yield match.span()
    for pattern in (_APOSTROPHE, _SPELT):
        yield from (match.span() for match in pattern.finditer(text))


def _letters(text: str) -> str:
    return "".join(filter(str.isalpha, text)).casefold()
