"""Forms of technical words: what carries meaning by its form in a cleaned descriptor, alone or over several tokens.

Pure. Thicknesses and doses with their units, kernels, echo times, b-values, levels of lymph nodes, isotopes and tracers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

_UNITS: Final = (
    "mm|cm|mm2|cm2|mm3|cm3|um|µm|ms|msec|us|kv|kvp|kev|mev|mv|ma|mas|mgy|c?gy|mbq|kbq|gbq|mci|ml|cc|mg|mgi|hu|%|mhz|hz|khz|sec|min|mins|"
    "t|s|h|w|d|ns|i|deg|ch|dir|dirs|sl|ph|pt|fps|bpm|mmhg|kg|fx|hr|hrs|mm2s|vol|vols|tr|shot|shots|avg|slices|frames|phases"
)
_TOKEN: Final = re.compile(
    rf"\d{{1,4}}([.,]\d{{1,3}})?({_UNITS})|"
    r"(sa|[bhijqudst])[rvfslun]?\d{2}[a-z]?|fc\d{2}|t[12]([wfcn]|ce|c?gd|fs|km|gad)?|b\d{1,4}|[a-z]\d{1,2}|te\d{1,3}|t[ir]\d{1,4}|fa\d{1,3}|"
    r"x\d|\d{1,2}x|\d{1,4}(x\d{1,4}){1,2}|[cp]?[tn][0-4][a-d]|[dv]\d{1,3}([.,]\d{1,2})?(cc|c?gy|%)|\d{1,2}i\d{1,2}s|([1-9]|1[0-4])[rl][si]?|"
    r"ph\d{1,2}|[1-6]v(?:ws?|iews?)?|"
    r"(ptv|ctv|gtv|itv|prv|hrctv|irctv|sib|ring|opt|z|dose|idl|iso|v|d)[pnt]?\d{0,4}([.,]\d{1,2})?(c?gy|%)?"
)
_AGE: Final = re.compile(r"0?\d{1,3}(y|yo|yr|yrs|j|jahre|ans|a)|y0?\d{1,3}")
#: Levels of lymph nodes, segments of the liver, cranial nerves.
_ROMAN: Final = re.compile(r"(?:I{1,3}|IV|VI{0,3}|IX|XII)[abcABC]?")

#: Isotopes of nuclear medicine, of brachytherapy and of sources for calibration (PS3.16 CID 18, 4020, 9300, 10042).
_MASSES: Final = {
    "F": "18", "C": "1[14]", "N": "13", "O": "1[45]", "P": "3[23]", "K": "38|4[023]", "Y": "8[67]|90", "I": "12[0345]|131",
    "Na": "2[24]", "Sc": "4[3467]", "Ti": "45", "Cr": "51", "Mn": "5[12]m?|54", "Fe": "52|59", "Co": "5[578]|60", "Cu": "6[0-47]",
    "Zn": "6[2359]", "Ga": "6[678]", "Ge": "68", "As": "7[1-47]", "Se": "7[2357]", "Br": "7[5-7]|82", "Kr": "7[79]|81m?", "Rb": "8[1-46]",
    "Sr": "8[2359]|90", "Zr": "89", "Nb": "90", "Mo": "99", "Tc": "9[469]m?", "Ru": "97|103|106", "Pd": "103", "In": "11[0134]m?",
    "Sn": "117m", "Te": "12[1359]m?", "Xe": "127|133|135", "Cs": "129|13[0-247]", "Ba": "131|133", "Ce": "139|141", "Pr": "142", "Sm": "153",
    "Eu": "15[24]", "Gd": "153|159", "Tb": "149|152|155|161", "Dy": "165", "Ho": "166", "Er": "169", "Tm": "170", "Yb": "169", "Lu": "177",
    "Re": "18[68]", "Ir": "19[02]", "Au": "19[5-9]", "Hg": "19[57]m?|203", "Tl": "20[01]", "Pb": "203|212", "Bi": "21[23]", "Po": "210",
    "At": "211", "Ra": "22[346]", "Ac": "225", "Th": "22[78]|232", "Am": "241", "Cf": "252",
}  # fmt: skip
_ISOTOPES: Final = "|".join(
    rf"(?:{masses})(?:[\-^]{'| ' if len(element) > 1 or element == 'F' else ''})?{element}|"
    rf"{element}(?:[\-^]{'| |-' if len(element) > 1 or element == 'F' else ''})?(?:{masses})"
    for element, masses in _MASSES.items()
)
#: Tracers whose names end in a number.
_TRACERS: Final = (
    r"(?:rh)?psma[\- ]?(?:11|1007|617|7(?:\.\d)?|i&t|r2)|fapi[\- ]?(?:0?[24]|21|34|46|74|2286)|av[\- ]?(?:1|45|133|1451)|mk[\- ]?(?:6240|9470)|"
    r"pi[\- ]?2620|thk[\- ]?\d{3,4}|ro[\- ]?948|azd[\- ]?\d{4}|gtp[\- ]?1|ucb[\- ]?j|pk[\- ]?11195|way[\- ]?100635|sch[\- ]?23390|"
    r"pbr[\- ]?(?:28|06|111)|dpa[\- ]?71[34]|bay[\- ]?\d{2}[\- ]?\d{4}|cpcr4[.\-]?2|ab[\- ]?5186|nav[\- ]?4694|ly[\- ]?\d{6,7}|lm3|"
    r"fdg[\- ]?6|xe[\- ]?129|he[\- ]?3|h2[\- ]?15o|h215o|15o[\- ]?h2o"
)
_MM: Final = r"\d{1,2}(?:[.,]\d{1,3})?"
#: A thickness and an interval, a slice and a pixel, kilovolts of two tubes, frames a second, a unit with its power or in brackets,
#: and what makers and houses write with a stroke or an ampersand.
_PAIRS: Final = (
    rf"(?:(?:min|c)?mip|mpr|mmpr|avg|avip|vrt|ssd|thick|slab|rad|recon|ax|axial|cor|coronal|sag|sagittal|tra|art|arterial|ven|venous|pv|late|delayed|"
    rf"lung|lungs|bone|st|std|stnd|stand|soft|brain|head|chest|abd|abdomen|nativ|native|spine|neck|helical|thin)[ _\-]{_MM}/{_MM}(?: ?mm)?|"
    r"\d{1,2}[.,]\d{1,3} ?x ?\d{1,2}(?:[.,]\d{1,3})?(?: ?x ?\d{1,2}(?:[.,]\d{1,3})?)?(?: ?mm)?|\d{1,2} ?x ?\d{1,2}[.,]\d{1,3}(?: ?mm)?|"
    r"(?:[789]0|1[0-5]0)(?: ?kv)?/(?:sn ?)?(?:[789]0|1[0-5]0)(?:sn)?(?: ?kvp?)?|\d{1,2}(?:[.,]\d)? ?(?:f|fr|fps|frames)/s(?:ec)?|f/s|"
    r"(?:10\^?-[369] ?|[x*] ?10\^?-[369] ?)?mm(?:²|\^?2)/s(?:ec)?|10\^-[369]|(?<=\[)(?:s|ms|hu|mm|1/s|sec)(?=\])|"
    r"qtc?/qtc[a-z]?(?: interval)?[ :=]{1,2}\d{2,3}/\d{2,3}(?: ?ms(?:ec)?)?|(?:p-r-t|p/qrs/t|p-qrs-t) ax[ei]s[ :=]{1,2}-?\d{1,3}[ /]-?\d{1,3}[ /]-?\d{1,3}|"
    r"\d{1,2}(?:[.,]\d{1,2})? ?- ?\d{2,3} ?hz|mm/[mµu]?v|average dc|ma mod|md (?:water|iodine|calcium|hap|fat|uric acid)|(?:cc|mlo|ml|lm) id|s&v|[sc]/c|h/n|[12]\. ?eb"
)
#: What stands over several tokens: isotopes, tracers, doses in four figures with their unit, stations of lymph nodes.
_GROUPS: Final = re.compile(
    rf"(?<![^\W_])(?:{_ISOTOPES}|{_TRACERS}|{_PAIRS}|jpeg[ \-]?(?:2000|ls)|b ?= ?\d{{1,4}}|\d{{4}}[ _]?(?:c?gy|mgy|hu|ms|ml|mbq)|"
    r"(?:node|nodes|nodal|lymph|ln|lk|lymphknoten)[ _\-]?station[ _\-]?(?:[1-9]|1[0-4])[rl]?)(?![^\W_])|"
    r"(?:ti|te|tr|td|pld|etl|esp|tsl|venc|nex)[ _=]{1,2}\d{1,4}(?:/\d{1,4}){0,5}|"
    r"^station[ _]?(?:[1-9]|1[0-4])[rl]?$|"
    r"(?<![^\W_])(?:[munkg]?(?:mm2|mm|cm|ml|m|g|gi|mol|l|bq|gy|cgy|1|10\^?-?\d|x10-?\d)/(?:s|sec|min|ml|cc|kg|g|l|h|hr|100g|fx|fr)(?:/(?:100 ?)?(?:g|ml))?)(?![^\W_])",
    re.IGNORECASE,
)


_TELLING: Final = re.compile(r"[\d/&\[]|\b(?:dc|mod|id|md)\b", re.IGNORECASE)


def is_technical_form(token: str) -> bool:
    """Whether a token carries meaning by its form: a thickness, a kernel, a dose, a level; but no age."""
    folded = token.casefold()
    if _ROMAN.fullmatch(token):
        return True
    return _TOKEN.fullmatch(folded) is not None and not _AGE.fullmatch(folded)


def groups(text: str) -> Iterator[tuple[int, int]]:
    """Where a text has something technical over several tokens.

    Yields
    ------
    tuple of int
        Start and end.
    """
    if _TELLING.search(text):
        yield from (match.span() for match in _GROUPS.finditer(text))
