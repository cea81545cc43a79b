"""Series of which images are lost: what would be chosen if they were there, so that no other series steps in for them.

May live here: headers in the place of lost ones, and what earlier works of a study say of a series of which nothing is left.
Opens nothing; which images are lost stands in `damage`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

import numpy as np
from pydicom import Dataset

from dicomnode.errors import StudyError
from dicomnode.imaging.frames import is_multi_frame
from dicomnode.imaging.gathering import planes_of
from dicomnode.study import InstanceRow, WorkRow
from dicomnode.workflow.routing import RULES, Share, destinations_of, series_of
from dicomnode.workflow.selection import Header

#: Image Position (Patient).
_POSITION: Final = 0x00200032
#: Two images that are not farther apart lie at one place; and how far two are where nothing says it.
_SAME_MM: Final = 0.01
_STEP_MM: Final = 5.0


def stand_ins(headers: Iterable[Header], gone: Collection[InstanceRow]) -> list[Header]:
    """Headers of lost images as they must have been, by those of their series that are left: in its gaps, then at its end.

    None of a series that says nothing of them: of which nothing is left, of multi-frame images, or without a place.
    """
    left: dict[str, list[Header]] = defaultdict(list)
    for header in headers:
        left[header.series_key].append(header)
    keys: dict[str, set[str]] = defaultdict(set)
    for row in gone:
        keys[row.series_key].add(row.instance_key)
    made: list[Header] = []
    for series_key, lost in keys.items():
        first, places = _places([one.dataset for one in left[series_key]], len(lost))
        for instance_key, place in zip(sorted(lost), places, strict=False):
            dataset = Dataset()
            dataset.update(first)
            dataset.add_new(_POSITION, "DS", [f"{value:.5f}" for value in place])  # elements are shared: a new one
            made.append(Header(series_key=series_key, instance_key=instance_key, dataset=dataset))
    return made


def _places(datasets: Sequence[Dataset], count: int) -> tuple[Dataset, list[Any]]:
    """One of a series' images, and positions (x, y, z in mm, PS3.3 C.7.6.2.1.1) of so many others."""
    if not datasets or any(is_multi_frame(one) for one in datasets):
        return Dataset(), []
    try:
        planes = planes_of(datasets)
    except StudyError:
        return Dataset(), []
    kinds = [(tuple(np.round(plane.orientation, 2)), plane.rows, plane.columns) for plane in planes]
    ((most, _),) = Counter(kinds).most_common(1)  # some scanners put the localizer into the series that it plans
    members = [number for number, kind in enumerate(kinds) if kind == most]
    row, column = np.array(planes[members[0]].orientation).reshape(2, 3)
    normal = np.cross(row, column)
    positions = sorted((np.array(planes[number].position) for number in members), key=lambda one: float(one @ normal))
    steps = [float((after - before) @ normal) for before, after in pairwise(positions)]
    apart = sorted(one for one in steps if one > _SAME_MM) or [planes[members[0]].slice_thickness or _STEP_MM]
    step = apart[(len(apart) - 1) // 2]
    found = []
    for (before, after), size in zip(pairwise(positions), steps, strict=True):
        parts = max(round(size / step), 1)
        found += [before + (after - before) * part / parts for part in range(1, parts)]
    found += [positions[-1] + normal * step * number for number in range(1, count + 1)]
    return datasets[members[0]], found[:count]


def might_be_chosen(
    series_key: str,
    gone: Collection[InstanceRow],
    earlier: Sequence[WorkRow],
    plan_of: Callable[[WorkRow], Mapping[str, Any] | None],
) -> bool:
    """Whether a model might have chosen a series of which nobody can tell what it is any more.

    It would not where an earlier work of the model had it, whole, and was not given it, or took another one.

    Parameters
    ----------
    earlier
        Works of the model, of earlier revisions.
    plan_of
        What a work was made of; None where it chose nothing.
    """
    came = max(row.received_at for row in gone if row.series_key == series_key)
    for work in sorted(earlier, key=lambda one: -one.key.revision):
        if work.created_at < came:
            continue
        given = series_of(work.facts)
        if given is not None and series_key not in given:
            return False
        if (plan := plan_of(work)) is not None:
            return bool(plan["series_key"] == series_key)
    return True


def shares_of_lost(
    shares: Mapping[str, Share], earlier: Iterable[WorkRow], series: Collection[str]
) -> dict[str, Share]:
    """Shares of a new revision, with those of models whose series are lost whole: their works say so, and do not just stay away.

    Parameters
    ----------
    earlier
        Works of the revision before.
    series
        Series of which nothing is left but what is lost.
    """
    missed = {}
    for work in earlier:
        given = series_of(work.facts)
        if work.key.model not in shares and series and (given is None or not given.isdisjoint(series)):
            named = destinations_of(work.facts)
            missed[work.key.model] = Share(
                rules=tuple(str(work.facts[RULES]).split(",")) if RULES in work.facts else (),
                series=given,
                destinations=None if named is None else tuple(sorted(named)),
            )
    return {**shares, **missed}
