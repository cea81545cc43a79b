"""Decoding ahead: compressed images are decoded while others of their series still come, several at once.

May live here: who decodes what, and when. The children, their limits and what they may not do stand in `decode`.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from queue import LifoQueue
from types import TracebackType
from typing import Self

from pydicom.dataset import Dataset

from dicomnode.imaging.decode import Decoder, transfer_syntax
from dicomnode.imaging.stored import NATIVE, Integers


class DecodingAhead:
    """Reads stored values; compressed images that it was told of are decoded meanwhile.

    Parameters
    ----------
    children
        Processes that decode at once; each is started with the first image that finds no other one idle.
    timeout_seconds, memory_bytes
        Of one image, and of each child; see `Decoder`.

    Notes
    -----
    What damaged data does to a codec ends one child and costs one image: `pixels` raises for that one, and the others
    go on. What was decoded is kept until it is asked for: at most as much as the volume that it is for.
    """

    def __init__(self, *, children: int, timeout_seconds: float, memory_bytes: int) -> None:
        if children < 1:
            raise ValueError("at least one child decodes")
        decoders = [Decoder(timeout_seconds=timeout_seconds, memory_bytes=memory_bytes) for _ in range(children)]
        self._decoders = decoders
        self._idle: LifoQueue[Decoder] = LifoQueue()  # the one that worked last is asked first
        for decoder in decoders:
            self._idle.put(decoder)
        self._threads = ThreadPoolExecutor(children, thread_name_prefix="decode")
        self._begun: dict[int, tuple[Dataset, Future[Integers]]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def begin(self, dataset: Dataset) -> None:
        """Begin to decode an image that will be asked for; one that is not compressed needs no time."""
        if transfer_syntax(dataset) not in NATIVE:
            self._begun[id(dataset)] = (dataset, self._threads.submit(self._decode, dataset))

    def pixels(self, dataset: Dataset) -> Integers:
        """Stored values of an image, once; see `Decoder.pixels`."""
        begun = self._begun.pop(id(dataset), None)
        return self._decode(dataset) if begun is None else begun[1].result()

    def close(self) -> None:
        """Leave what nobody asked for, and end the children; what is being decoded ends first."""
        self._threads.shutdown(cancel_futures=True)
        self._begun.clear()
        for decoder in self._decoders:
            decoder.close()

    def _decode(self, dataset: Dataset) -> Integers:
        if transfer_syntax(dataset) in NATIVE:
            return self._decoders[0].pixels(dataset)
        decoder = self._idle.get()
        try:
            return decoder.pixels(dataset)
        finally:
            self._idle.put(decoder)
