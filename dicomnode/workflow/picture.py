"""The key image of an analysis, in the words of a language.

May live here: what `imaging.render` is told. Nothing is drawn here.
"""

from __future__ import annotations

from typing import Final

from dicomnode.imaging import render
from dicomnode.imaging.contour import spread_slices
from dicomnode.results.encode import KeyImage
from dicomnode.texts import Words
from dicomnode.workflow.analysis import Analysis

_AXIAL_VIEWS: Final = 3
#: Fields of `render.Texts` whose text stands under their own name.
_ON_THE_PAGE: Final = (
    *("measurements", "remarks", "distribution", "nothing_found", "not_reviewed", "lower_bound", "caveat"),
    *("window", "level", "volume", "mean"),
)


def picture_of(analysis: Analysis, words: Words) -> KeyImage:
    """Key image of an analysis."""
    texts, counted = texts_of(analysis, words), analysis.counted
    picture = render.key_image(analysis.volume, analysis.labels, analysis.findings, texts=texts, tally=counted)
    return KeyImage(rgb=picture, slices=spread_slices(counted.census, _AXIAL_VIEWS))


def texts_of(analysis: Analysis, words: Words) -> render.Texts:
    """The words of a key image."""
    algorithm = analysis.findings.algorithm
    return render.Texts(
        headline=algorithm.title,
        subtitle=words.say("model", name=algorithm.name, version=algorithm.version),
        research_only=words.say("research-only-mark"),
        planes=(words.say("axial"), words.say("coronal"), words.say("sagittal")),
        **{field: words.say(field.replace("_", "-")) for field in _ON_THE_PAGE},
    )
