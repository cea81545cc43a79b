"""Whether a real archive holds the originals of a study, asked by C-FIND."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from dicomnode.config import IntakeSection
from dicomnode.encoded import encode_part10
from dicomnode.network.requestor import Requestor
from dicomnode.sections import Destination
from dicomnode.storage.datakeys import DataKeys
from dicomnode.storage.ledger import Ledger
from dicomnode.storage.spool import Spool
from dicomnode.workflow.indexing import row_of
from dicomnode.workflow.originals import Originals
from tests import tools
from tests.neighbours import Dcmqrscp
from tests.unit.workflow.samples import EXPLICIT, KEY, Events, encoded, metadata, ring, study_key_of, tiny_series


@pytest.mark.slow
def test_dcmqrscp_is_asked_for_every_image(tmp_path: Path) -> None:
    tools.require("dcmqrscp")
    images = tiny_series(seed="asked")[:3]
    images[2].SeriesInstanceUID += ".9"
    study, seconds = study_key_of(images[0]), [0.0]
    small = {"segment_bytes": 1 << 22, "extent_bytes": 1 << 16, "chunk_bytes": 4096, "minimum_free_bytes": 0}
    intake = IntakeSection.model_validate({"write_mode": "append", **small})
    archive = Dcmqrscp(tmp_path / "archive").start()
    try:
        with Ledger.open(tmp_path / "ledger.sqlite") as ledger:
            keys = DataKeys(ledger, ring())
            with contextlib.closing(Spool(tmp_path / "spool", intake, keys)) as spool:
                for image in images:
                    data = encoded(image)
                    about = metadata(image, data)
                    ledger.record_instances([row_of(KEY, study, spool.append(study, about, data), about)])
                ledger.rank_study(study, "ct", "routine")
                ledger.mark_straight(study)
                place = Destination(name="pacs", ae_title=archive.ae_title, host="127.0.0.1", port=archive.dicom_port)
                pacs, events = Requestor(place, "TEST"), Events()
                originals = Originals(
                    ledger, spool, archive=pacs, derivation_key=KEY, monotonic=lambda: seconds[0], emit=events
                )

                def ask() -> bool:
                    originals.may_go(study)
                    originals.ask()
                    return originals.may_go(study)

                answers = []
                for number, image in enumerate(images):
                    answers.append(ask())
                    path = tmp_path / f"{number}.dcm"
                    path.write_bytes(encode_part10(image, transfer_syntax_uid=EXPLICIT))
                    (outcome,) = pacs.send_files([path])
                    assert outcome.status == 0
                    seconds[0] += 100_000
                answers.append(ask())
    finally:
        archive.stop()
    assert answers == [False, False, False, True]
    assert [one["missing"] for one in events.facts("originals.missing")] == [3, 2, 1]
