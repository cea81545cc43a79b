"""What the demo shows of a study: its stages, what the PACS holds of it, the numbers and the picture."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from pydicom import Dataset
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from dicomnode.cli.demo_pacs import Orthanc, ShippedArchive
from dicomnode.cli.listing import stages_in_order
from dicomnode.cli.reasons import what_and_what_to_do
from dicomnode.imaging.render import png
from dicomnode.network.requestor import Requestor
from dicomnode.sections import Destination
from dicomnode.study import WorkRow

#: Concept names of TID 1500 and 1410 (PS3.16).
_MEASUREMENT_GROUP, _TRACKING_IDENTIFIER, _AREA = "125007", "112039", "42798000"


def show_stages(work: WorkRow, console: Console) -> None:
    """Seconds of each stage, and what the PACS answered to each result."""
    times = " · ".join(f"{name} {seconds:.1f} s" for name, seconds in stages_in_order(work.stages).items())
    console.print(f"Stages  {times}", soft_wrap=True)
    for delivery in work.deliveries:
        status = "no answer" if delivery.status is None else f"0x{delivery.status:04X}"
        console.print(f"Result  {delivery.role.value} → {delivery.destination}: {delivery.state.value} ({status})")


def explain(reason: str, console: Console) -> None:
    """Why there is no result."""
    console.print(f"[yellow]No result[/] {reason}: {what_and_what_to_do(reason)}", soft_wrap=True)


def show_results(pacs: Orthanc | ShippedArchive, uid: str, picture: Path, console: Console) -> None:
    """What the PACS holds of a study; its key images are written, the first to `picture`."""
    peer = Requestor(Destination(name="pacs", ae_title=pacs.ae_title, host="127.0.0.1", port=pacs.port), "DEMO")
    series = peer.find(
        "SERIES", {"StudyInstanceUID": uid, "Modality": "", "SeriesDescription": "", "SeriesInstanceUID": ""}
    )
    console.print(f"\nThe PACS now holds, found by C-FIND in {pacs.name}:", soft_wrap=True)
    for item in series:
        console.print(f"  {item.get('Modality', ''):4} {escape(item.get('SeriesDescription', ''))}", soft_wrap=True)
    for report in pacs.objects(uid, "SR"):
        console.print(_measurements(report))
    for number, image in enumerate(pacs.objects(uid, "OT"), start=1):
        path = picture if number == 1 else picture.with_stem(f"{picture.stem}-{number}")
        shape = (image.Rows, image.Columns, 3)
        path.write_bytes(png(np.frombuffer(image.PixelData, np.uint8)[: shape[0] * shape[1] * 3].reshape(shape)))
        console.print(f"\nThe picture: [bold]{escape(str(path))}[/]", soft_wrap=True)


def _measurements(report: Dataset) -> Table:
    """Numbers of a TID 1500 report, as they stand in the PACS: a row for each region."""
    regions: dict[str, dict[str, str]] = {}
    for group in _nodes(report.ContentSequence, _MEASUREMENT_GROUP):
        region = next((str(item.TextValue) for item in group if _code(item) == _TRACKING_IDENTIFIER), "")
        for item in group:
            if item.ValueType == "NUM" and _code(item) != _AREA:
                measured = item.MeasuredValueSequence[0]
                unit = _readable(str(measured.MeasurementUnitsCodeSequence[0].CodeValue))
                name = str(item.ConceptNameCodeSequence[0].CodeMeaning)
                regions.setdefault(region, {})[name] = f"{float(measured.NumericValue):.1f} {unit}"
    names = list(dict.fromkeys(name for values in regions.values() for name in values))
    table = Table("", *names, title="\nWhat was found (AI result, not reviewed)", title_justify="left")
    for region, values in regions.items():
        table.add_row(escape(region), *(escape(values.get(name, "")) for name in names))
    for column in table.columns[1:]:
        column.justify = "right"
    return table


def _readable(unit: str) -> str:
    return {"[hnsf'U]": "HU"}.get(unit, unit)


def _nodes(items: list[Dataset], code: str) -> Iterator[list[Dataset]]:
    for item in items:
        children = list(item.get("ContentSequence") or ())
        if _code(item) == code:
            yield children
        yield from _nodes(children, code)


def _code(item: Dataset) -> str:
    names = item.get("ConceptNameCodeSequence")
    return str(names[0].CodeValue) if names else ""
