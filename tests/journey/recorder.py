"""A destination that writes down every object that comes, byte for byte, repetitions too."""

from __future__ import annotations

import hashlib
import threading
from types import TracebackType
from typing import Self

from pynetdicom import AE, evt
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    ComprehensiveSRStorage,
    KeyObjectSelectionDocumentStorage,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
    Verification,
)

_CLASSES = (
    ComprehensiveSRStorage,
    KeyObjectSelectionDocumentStorage,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
    Verification,
)


class Recorder:
    """Storage SCP on loopback; port 0: a free one."""

    ae_title = "RECORDER"

    def __init__(self, port: int = 0) -> None:
        self._lock = threading.Lock()
        self._digests: dict[str, list[str]] = {}
        self.studies: list[str] = []
        self.status = 0x0000
        entity = AE(self.ae_title)
        for sop_class in _CLASSES:
            entity.add_supported_context(sop_class)
        self._server = entity.start_server(
            ("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_STORE, self._stored)]
        )
        self.port = int(self._server.socket.getsockname()[1])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.shutdown()

    def _stored(self, event: evt.Event) -> int:
        uid = str(event.request.AffectedSOPInstanceUID)
        digest = hashlib.sha256(event.request.DataSet.getvalue()).hexdigest()
        if self.status:
            return self.status
        study = str(event.dataset.StudyInstanceUID)
        with self._lock:
            self.studies.append(study)
            self._digests.setdefault(uid, []).append(digest)
        return 0x0000

    def digests(self) -> dict[str, list[str]]:
        """SOP Instance UID to the digest of every Data Set that came under it."""
        with self._lock:
            return {uid: list(digests) for uid, digests in self._digests.items()}
