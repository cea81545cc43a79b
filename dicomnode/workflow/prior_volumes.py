"""The volumes of a work's priors, out of their pseudonymous copies: what the engine gets beside the study.

May live here: what of the pseudonym world says of priors. May not: whose they are, and where they came from.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dicomnode.config import Config
from dicomnode.encoded import Limits, SeriesReader
from dicomnode.errors import StudyError
from dicomnode.events import Emit
from dicomnode.inference.segment import PriorVolume
from dicomnode.study import Purpose, WorkKey, World
from dicomnode.workflow.analysis import Analyst
from dicomnode.workflow.handover import Handover, cut, name
from dicomnode.workflow.reading import Coming, read_volume


def open_priors(
    handover: Handover, key: WorkKey, plan: Mapping[str, Any], *, analyst: Analyst, tree: Config, emit: Emit
) -> tuple[PriorVolume, ...]:
    """Priors of a work, the newest first; without those that make no volume, or are too many for half of the memory."""
    volumes: list[PriorVolume] = []
    left = tree.models.maximum_memory_bytes // 2
    excluded = analyst.package.manifest.input.excluded_image_types
    for number, one in enumerate(plan.get("priors", ())):
        pieces = handover.stream(key, World.PSEUDONYM, copies_of(key, number), Purpose.COPY)
        images = map(SeriesReader(Limits()).read, cut(pieces))
        try:
            volume, _ = read_volume(Coming(images, one["images"]), tree.reading, excluded)
            if volume.values.nbytes > left:
                raise StudyError("memory-too-large", needed=volume.values.nbytes, maximum=left)  # noqa: TRY301 (told as the others are)
        except StudyError as error:
            emit("priors.dropped", level="warning", work=key.workflow_id, reason=error.code)
            continue
        left -= volume.values.nbytes
        volumes.append(PriorVolume(volume=volume, days_before=one["days_before"]))
    return tuple(volumes)


def copies_of(key: WorkKey, number: int) -> str:
    """Name of the pseudonymous copies of a prior."""
    return name(key, f"prior-copies-{number}")
