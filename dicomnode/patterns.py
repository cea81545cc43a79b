"""Regular expressions out of a configuration, whose cost is bounded before anybody's text meets them.

Floor 1, pure. `re` backtracks: some short expressions take longer than the universe on some short texts. What an
expression may cost is reckoned from its syntax, and what could cost more is refused; texts are cut.
"""

from __future__ import annotations

import re
from math import comb
from re import _constants, _parser  # type: ignore[attr-defined]  # the syntax tree has no other door
from typing import Any, Final

#: Characters of a text that are looked at: twice what LO holds (PS3.5 6.2).
MOST_CHARACTERS: Final = 128
#: Steps that a search may take at most.
_MOST_STEPS: Final = 2 * 10**7
#: A repetition that can be of more lengths than this counts as one of any length.
_FEW: Final = 8
_ONE_WAY: Final = frozenset(
    {
        _constants.LITERAL,
        _constants.NOT_LITERAL,
        _constants.ANY,
        _constants.IN,
        _constants.AT,
    }
)


def bounded_pattern(text: str) -> str:
    """The expression itself.

    Raises
    ------
    ValueError
        Where it is none, where it could take long, or where it looks around or back.
    """
    try:
        re.compile(text, re.IGNORECASE)
        choices, repetitions = _cost(_parser.parse(text))
    except (re.error, RecursionError, OverflowError):
        raise ValueError("this is no regular expression") from None
    if choices * comb(MOST_CHARACTERS + 1, min(repetitions, _FEW) + 1) > _MOST_STEPS:
        raise ValueError(
            "this regular expression could take too long: at most three repetitions, and none within another"
        )
    return text


def found(pattern: str, text: str) -> bool:
    """Whether an expression occurs in the beginning of a text, upper and lower case being the same."""
    return re.search(pattern, text[:MOST_CHARACTERS], re.IGNORECASE) is not None


def _cost(sequence: Any) -> tuple[int, int]:
    """Of a part of an expression: in how many ways it can be tried from one place, and its repetitions of any length."""
    choices, repetitions = 1, 0
    for kind, value in sequence:
        more, longer = _cost_of_one(kind, value)
        choices, repetitions = min(choices * more, _MOST_STEPS + 1), repetitions + longer
    return choices, repetitions


def _cost_of_one(kind: Any, value: Any) -> tuple[int, int]:
    if kind in _ONE_WAY:
        return 1, 0
    if kind is _constants.SUBPATTERN:
        return _cost(value[3])
    if kind is _constants.BRANCH:
        costs = [_cost(one) for one in value[1]]
        return sum(choices for choices, _ in costs), max(repetitions for _, repetitions in costs)
    if kind in (_constants.MAX_REPEAT, _constants.MIN_REPEAT):
        return _cost_of_repetition(*value)
    raise ValueError("a regular expression that looks around or back is not taken")


def _cost_of_repetition(least: int, most: int, repeated: Any) -> tuple[int, int]:
    most = min(int(most), MOST_CHARACTERS)
    least = min(int(least), most)
    choices, repetitions = _cost(repeated)
    if choices == 1 and not repetitions:
        return (most - least + 1, 0) if most - least < _FEW else (1, 1)
    return sum(min(choices**count, _MOST_STEPS + 1) for count in range(least, most + 1)), repetitions * most
