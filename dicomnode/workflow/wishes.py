"""What a destination is to get of a model: the destination's settings and the manifest, joined."""

from __future__ import annotations

from dicomnode.errors import NodeError
from dicomnode.forms import Form, Wishes
from dicomnode.manifest import Manifest
from dicomnode.results.outcome import NOTHING_FOUND
from dicomnode.sections import Destination
from dicomnode.texts import REASON_TABLE


def wishes_of(destination: Destination, manifest: Manifest) -> Wishes:
    """Wishes of a destination for one model."""
    return Wishes(
        segmentation=None if destination.segmentation == "none" else Form(destination.segmentation),
        report=None if destination.report == "none" else Form(destination.report),
        key_image=destination.key_image,
        key_objects=destination.key_objects,
        document=manifest.results.document,
        parametric_map=manifest.results.parametric_map,
        fallbacks=destination.fallbacks,
    )


def default_wishes(manifest: Manifest) -> Wishes:
    """Wishes where there is no destination: what stays sealed, or goes into a folder."""
    return Wishes(document=manifest.results.document, parametric_map=manifest.results.parametric_map)


def is_told(destination: Destination, error: NodeError) -> bool:
    """Whether a destination is to be told why there are no other results.

    Only of a study that a model's rule took: codes that have nothing to do with its images are never told.
    """
    if error.code == NOTHING_FOUND:
        return destination.no_finding
    return destination.not_processed and error.code in REASON_TABLE
