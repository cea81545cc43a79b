"""Stored values of any grayscale image: native ones read in process, compressed ones in a child that may be killed.

May live here: what the child is asked and what its answer means. May not: its limits (`codec_child`), rescaling, geometry.
Run as a module it is the child: ``python -m dicomnode.imaging.decode MEMORY_BYTES SECONDS``.
"""

from __future__ import annotations

import itertools
import json
import struct
import subprocess
import sys
import threading
import warnings
from types import TracebackType
from typing import IO, Any, Final, Self

import numpy as np
from pydicom.dataset import Dataset

from dicomnode.errors import StudyError
from dicomnode.imaging.codec_child import ChildGone, alarm, asked, end, parts, read, read_part, run, start, write
from dicomnode.imaging.stored import (
    EXPLICIT_BIG,
    LOSSY,
    NATIVE,
    Buffer,
    Integers,
    PixelFormat,
    clamped,
    native,
    pixel_bytes,
    pixel_format,
    stored_values,
)

_ANSWER: Final = struct.Struct("<c2sQ")  # how it went, type of the values, bytes that follow
_VALUES, _UNDECODABLE, _UNSUPPORTED = b"v", b"u", b"s"
_JPEG_LS: Final = ("1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81")
_END_OF_IMAGE: Final = b"\xff\xd9"
_TAIL: Final = 12  # the marker, a byte of padding, a sequence delimiter
_TYPES: Final = (b"u1", b"i1", b"u2", b"i2", b"u4", b"i4")


class Decoder:
    """Reads stored values; keeps one child process for the compressed frames of its life.

    Parameters
    ----------
    timeout_seconds
        Time for one compressed frame, the start of the child included; then the child is killed.
    memory_bytes
        Address space of the child (RLIMIT_AS).

    Notes
    -----
    May be used from several threads; compressed frames take turns. A child that dies or is killed gets its frame once
    more, as a new child: it may have been killed for memory that another took. Then it costs its frame alone.
    """

    def __init__(self, *, timeout_seconds: float, memory_bytes: int) -> None:
        if timeout_seconds <= 0 or memory_bytes <= 0:
            raise ValueError("time and memory are greater than 0")
        self._timeout = timeout_seconds
        self._memory = memory_bytes
        self._turn = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the child."""
        with self._turn:
            self._end_child()

    def pixels(self, dataset: Dataset) -> Integers:
        """Stored values of a single-frame grayscale Data Set; MONOCHROME1 is not inverted.

        Parameters
        ----------
        dataset
            With ``file_meta.TransferSyntaxUID``; without, Implicit VR Little Endian is assumed.

        Returns
        -------
        ndarray
            Integers (rows, columns); perhaps read-only.

        Raises
        ------
        StudyError
            ``pixel-missing``, ``pixel-unsupported`` or ``pixel-undecodable``.
        """
        syntax = transfer_syntax(dataset)
        form = pixel_format(dataset)
        if syntax in NATIVE:
            return native_pixels(dataset, form)
        data = pixel_bytes(dataset)
        with self._turn:
            values = self._decode(data, syntax, form)
        return clamped(values, form) if syntax in LOSSY else stored_values(values, form)

    def _decode(self, data: Buffer, syntax: str, form: PixelFormat) -> Integers:
        for tries in itertools.count(1):
            child = self._child = self._child or _start_child(self._timeout, self._memory)
            try:
                return _ask(child, data, syntax, form, self._timeout)
            except ChildGone as gone:
                self._child = None
                if not gone.is_to_be_asked_again(tries):
                    raise StudyError("pixel-undecodable", cause="timeout" if gone.late else "crash") from None
        raise AssertionError

    def _end_child(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            end(child)


def pixels(dataset: Dataset, *, timeout_seconds: float, memory_bytes: int) -> Integers:
    """Stored values of one Data Set; see `Decoder.pixels`, which serves many."""
    with Decoder(timeout_seconds=timeout_seconds, memory_bytes=memory_bytes) as decoder:
        return decoder.pixels(dataset)


def native_pixels(dataset: Dataset, form: PixelFormat) -> Integers:
    """Stored values of a Data Set whose pixel data is native, and whose format is known; errors as `native`."""
    data = pixel_bytes(dataset)
    words = dataset.get_item("PixelData").VR != "OB"
    return native(data, form, big_endian=transfer_syntax(dataset) == EXPLICIT_BIG, words=words)


def transfer_syntax(dataset: Dataset) -> str:
    """Transfer Syntax UID of a Data Set."""
    meta = getattr(dataset, "file_meta", None)
    return str((meta.get("TransferSyntaxUID") if meta is not None else None) or "1.2.840.10008.1.2")


def _start_child(timeout_seconds: float, memory_bytes: int) -> subprocess.Popen[bytes]:
    return start("dicomnode.imaging.decode", memory_bytes=memory_bytes, seconds=timeout_seconds)


def _ask(child: subprocess.Popen[bytes], data: Buffer, syntax: str, form: PixelFormat, seconds: float) -> Integers:
    """Send a frame and take its values; the child runs foreign code on foreign data, so nothing it says is believed."""
    header = json.dumps({"syntax": syntax, "format": form.to_json()}).encode()
    with asked(child, seconds) as (question, answer):
        write(question, header, data)
        state, kind, size = _ANSWER.unpack(read(answer, _ANSWER.size))
        if state == _VALUES and not _fits(kind, size, form):
            raise EOFError
        content = read(answer, size) if state == _VALUES else b""
    if state == _UNSUPPORTED:
        raise StudyError("pixel-unsupported", cause="transfer-syntax")
    if state != _VALUES:
        raise StudyError("pixel-undecodable", cause="codec")
    values = np.frombuffer(content, dtype=kind.decode()).reshape(form.rows, form.columns)
    return values.astype(f"{kind[:1].decode()}{form.bits_allocated // 8}", copy=False)


def _fits(kind: bytes, size: int, form: PixelFormat) -> bool:
    return kind in _TYPES and size == form.pixels * int(kind[1:]) and int(kind[1:]) * 8 <= form.bits_allocated


# ---- the child ----


def serve(source: IO[bytes], sink: IO[bytes], *, seconds: float = 0.0) -> None:
    """Answer frames until the input ends.

    Parameters
    ----------
    seconds
        An alarm ends the process that takes longer over a frame, in case nobody is left to kill it; 0: none.
    """
    for header in parts(source):
        about, data = json.loads(header), read_part(source)
        with alarm(seconds):
            state, values = _decoded(data, about["syntax"], PixelFormat(**about["format"]))
        content = values.tobytes()
        sink.write(_ANSWER.pack(state, values.dtype.str[1:].encode(), len(content)))
        sink.write(content)
        sink.flush()


def _decoded(data: bytes, syntax: str, form: PixelFormat) -> tuple[bytes, Integers]:
    """How it went, and the values; the codecs are pydicom's plugins."""
    from pydicom.pixels.decoders.base import get_decoder

    nothing = np.zeros(0, np.uint8)
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        return _UNSUPPORTED, nothing
    if not decoder.is_available:
        return _UNSUPPORTED, nothing
    if syntax in _JPEG_LS and _END_OF_IMAGE not in data[-_TAIL:]:  # its codec waits for ever for what was cut off
        return _UNDECODABLE, nothing
    options: dict[str, Any] = {
        "rows": form.rows,
        "columns": form.columns,
        "samples_per_pixel": 1,
        "bits_allocated": form.bits_allocated,
        "bits_stored": form.bits_stored,
        "pixel_representation": int(form.signed),
        "photometric_interpretation": form.photometric_interpretation,
        "number_of_frames": 1,
        "pixel_keyword": "PixelData",
    }
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            values, _ = decoder.as_array(data, index=0, raw=True, **options)
    except Exception:  # noqa: BLE001 - a codec may raise anything; the caller makes it a StudyError
        return _UNDECODABLE, nothing
    return _VALUES, np.ascontiguousarray(values)


if __name__ == "__main__":  # pragma: no cover - runs in the child
    run(serve, sys.argv[1:])
