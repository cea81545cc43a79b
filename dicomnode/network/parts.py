"""A Data Set that lies in parts, as pynetdicom takes it: sent fragment by fragment, never joined in memory.

May live here: that one stand-in for `BytesIO`. pynetdicom asks of it what `getvalue` gives, and of that its length and
slices one after the other (`DIMSEMessage.encode_msg`, 3.0.4; held by a contract test).
"""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO

from dicomnode.encoded import Buffer


class DataSetParts(BytesIO):
    """A Data Set to send.

    Parameters
    ----------
    parts
        What follows each other in it.
    """

    def __init__(self, parts: Sequence[Buffer]) -> None:
        super().__init__()
        self._parts = _Parts(parts)

    def getvalue(self) -> _Parts:  # type: ignore[override]
        """The parts, which are sliced like `bytes`."""
        return self._parts


class _Parts:
    """Parts sliced as if they were one; cheap where slices follow each other."""

    def __init__(self, parts: Sequence[Buffer]) -> None:
        self._parts = [memoryview(part).cast("B") for part in parts]
        self._size = sum(len(part) for part in self._parts)
        self._index, self._begun = 0, 0  # the part that the last slice came to, and where that part begins

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, key: slice) -> bytes:
        at, end, _ = key.indices(self._size)
        if at < self._begun:
            self._index, self._begun = 0, 0
        found = []
        while at < end:
            part = self._parts[self._index]
            piece = part[at - self._begun : end - self._begun]
            found.append(piece)
            at += len(piece)
            if at < end:
                self._begun += len(part)
                self._index += 1
        return b"".join(found)

    def __radd__(self, before: bytes) -> bytes:
        return before + self[:]
