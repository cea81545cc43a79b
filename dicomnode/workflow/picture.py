"""The key image of an analysis, in the words of a language.

May live here: what `imaging.render` is told. Nothing is drawn here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from dicomnode.coding import MEAN_LUNG_DENSITY
from dicomnode.imaging import render
from dicomnode.imaging.views import LUNG_WINDOW, Planes
from dicomnode.imaging.windows import window_of
from dicomnode.results.encode import KeyImage
from dicomnode.texts import Words
from dicomnode.workflow.analysis import Analysis

#: Fields of `render.Texts` whose text stands under their own name.
_ON_THE_PAGE: Final = (
    *("measurements", "remarks", "distribution", "nothing_found", "not_reviewed", "lower_bound", "caveat"),
    *("window", "level", "volume", "mean", "findings", "unseen"),
)


def picture_of(analysis: Analysis, words: Words) -> KeyImage:
    """Key image of an analysis."""
    texts, counted = texts_of(analysis, words), analysis.counted
    planes = Planes(analysis.volume, analysis.labels, axials=render.AXIALS, names=texts.planes, census=counted.census)
    picture = render.key_image(
        analysis.volume,
        analysis.labels,
        analysis.findings,
        texts=texts,
        window=_window(analysis, planes.source_slices),
        tally=counted,
        planes=planes,
    )
    return KeyImage(rgb=picture, slices=planes.source_slices)


def _window(analysis: Analysis, slices: Sequence[int]) -> tuple[float, float]:
    """The lung window where lungs were measured; else that of the slice in the middle of those shown."""
    measured = {item.concept for region in analysis.findings.regions for item in region.measurements}
    if MEAN_LUNG_DENSITY in measured or not analysis.sources:
        return LUNG_WINDOW
    index = slices[len(slices) // 2]
    return window_of(analysis.sources[index], analysis.volume.values[index])


def texts_of(analysis: Analysis, words: Words) -> render.Texts:
    """The words of a key image."""
    algorithm = analysis.findings.algorithm
    return render.Texts(
        headline=algorithm.title,
        subtitle=words.say("model", name=algorithm.name, version=algorithm.version),
        research_only=words.say("research-only-mark"),
        more=words.say("more", count="{count}"),
        planes=(words.say("axial"), words.say("coronal"), words.say("sagittal")),
        **{field: words.say(field.replace("_", "-")) for field in _ON_THE_PAGE},
    )
