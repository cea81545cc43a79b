"""The decoding child: real codecs, its limits, and what it may not do to its parent."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import struct
import subprocess
from typing import Any

import numpy as np
import pydicom
import pytest
from openjpeg.utils import encode_array
from pydicom.encaps import encapsulate, generate_frames
from pydicom.pixels import compress
from pydicom.uid import JPEG2000, JPEG2000Lossless, JPEGLSLossless, RLELossless

from dicomnode.errors import StudyError
from dicomnode.imaging import decode
from dicomnode.imaging.decode import Decoder, pixels, serve, transfer_syntax
from dicomnode.imaging.stored import pixel_format
from tests.unit.imaging.slices import slice_of

MEMORY = 1 << 30
RAMP = (np.arange(64 * 48, dtype=np.int16) - 1000).reshape(64, 48)


@pytest.fixture(scope="module")
def decoder() -> Any:
    with Decoder(timeout_seconds=60, memory_bytes=MEMORY) as it:
        yield it


def compressed(syntax: Any, values: Any = RAMP, **changes: Any) -> Any:
    dataset = slice_of(values, **changes)
    if syntax in (JPEG2000, JPEG2000Lossless):
        ratios = [4] if syntax == JPEG2000 else None
        stream = encode_array(values, photometric_interpretation=2, codec_format=0, compression_ratios=ratios)
        dataset.PixelData = encapsulate([stream])
        dataset["PixelData"].VR, dataset["PixelData"].is_undefined_length = "OB", True
        dataset.file_meta.TransferSyntaxUID = syntax
    else:
        compress(dataset, syntax, generate_instance_uid=False)
    return dataset


def test_native_values_need_no_child() -> None:
    with Decoder(timeout_seconds=1, memory_bytes=MEMORY) as it:
        np.testing.assert_array_equal(it.pixels(slice_of(RAMP)), RAMP)
        assert it._child is None


def test_no_file_meta_means_implicit_little_endian() -> None:
    dataset = slice_of(RAMP)
    del dataset.file_meta
    assert transfer_syntax(dataset) == "1.2.840.10008.1.2"


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEGLSLossless, RLELossless])
def test_lossless_codecs_give_the_values_back(decoder: Any, syntax: Any) -> None:
    found = decoder.pixels(compressed(syntax))
    assert found.dtype == np.int16
    np.testing.assert_array_equal(found, RAMP)


def test_one_child_serves_many_frames(decoder: Any) -> None:
    decoder.pixels(compressed(RLELossless))
    first = decoder._child.pid
    decoder.pixels(compressed(RLELossless))
    assert decoder._child.pid == first


def test_monochrome1_is_not_inverted(decoder: Any) -> None:
    dataset = compressed(RLELossless, PhotometricInterpretation="MONOCHROME1")
    np.testing.assert_array_equal(decoder.pixels(dataset), RAMP)


def test_a_lossy_codec_stays_within_bits_stored(decoder: Any) -> None:
    values = np.where(np.indices((64, 64)).sum(axis=0) % 7 < 3, 4095, 0).astype(np.uint16)
    found = decoder.pixels(compressed(JPEG2000, values, BitsStored=12, HighBit=11))
    assert 0 <= found.min() <= found.max() <= 4095
    assert abs(found.astype(int) - values).mean() < 600


def test_garbage_is_one_coded_error_and_the_next_frame_is_served(decoder: Any) -> None:
    dataset = compressed(JPEG2000Lossless)
    dataset.PixelData = encapsulate([b"\xff\x4f" + b"garbage" * 40])
    with pytest.raises(StudyError) as caught:
        decoder.pixels(dataset)
    assert caught.value.code == "pixel-undecodable"
    np.testing.assert_array_equal(decoder.pixels(compressed(JPEG2000Lossless)), RAMP)


def test_a_syntax_nobody_knows(decoder: Any) -> None:
    dataset = compressed(RLELossless)
    dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.53"
    with pytest.raises(StudyError, match="pixel-unsupported"):
        decoder.pixels(dataset)


def test_a_killed_child_costs_nothing() -> None:
    with Decoder(timeout_seconds=60, memory_bytes=MEMORY) as it:
        it.pixels(compressed(RLELossless))
        os.kill(it._child.pid, signal.SIGKILL)
        it._child.wait()
        np.testing.assert_array_equal(it.pixels(compressed(RLELossless)), RAMP)


@pytest.mark.parametrize(("death", "most"), [(signal.SIGSEGV, 2), (signal.SIGKILL, 4)])
def test_a_frame_of_which_each_child_dies_costs_itself_alone(
    monkeypatch: pytest.MonkeyPatch, death: signal.Signals, most: int
) -> None:
    """Whoever crashes twice crashes; a kill may be for the memory that another took."""
    start, started = decode._start_child, []

    def dying(*limits: Any) -> Any:
        child = start(*limits)
        started.append(child)
        if len(started) <= most:
            child.send_signal(death)
            child.wait()
        return child

    monkeypatch.setattr(decode, "_start_child", dying)
    with Decoder(timeout_seconds=60, memory_bytes=MEMORY) as it:
        with pytest.raises(StudyError) as caught:
            it.pixels(compressed(RLELossless))
        assert caught.value.facts == {"cause": "crash"}
        assert len(started) == most
        np.testing.assert_array_equal(it.pixels(compressed(RLELossless)), RAMP)


def test_a_child_that_stalls_is_killed() -> None:
    with Decoder(timeout_seconds=0.3, memory_bytes=MEMORY) as it:
        it._child = decode._start_child(60, MEMORY)
        it._child.send_signal(signal.SIGSTOP)
        with pytest.raises(StudyError) as caught:
            it.pixels(compressed(RLELossless))
        assert caught.value.code == "pixel-undecodable"
        assert caught.value.facts == {"cause": "timeout"}
        assert it._child is None


def test_memory_is_bounded() -> None:
    with Decoder(timeout_seconds=60, memory_bytes=MEMORY) as it:
        dataset = compressed(RLELossless)
        dataset.Rows = dataset.Columns = 65535
        dataset.BitsAllocated = dataset.BitsStored = 32
        dataset.HighBit = 31
        with pytest.raises(StudyError, match="pixel-undecodable"):
            it.pixels(dataset)


def test_a_child_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers of another size or type than the header says are a crash."""
    with Decoder(timeout_seconds=60, memory_bytes=MEMORY) as it:
        for answer in (struct.pack("<c2sQ", b"v", b"u2", 1 << 40), struct.pack("<c2sQ", b"v", b"O8", 8), b"v"):
            monkeypatch.setattr(decode, "_start_child", lambda *_, answer=answer: _Puppet(answer))
            with pytest.raises(StudyError) as caught:
                it.pixels(compressed(RLELossless))
            assert caught.value.facts == {"cause": "crash"}
        deaf = _Puppet(b"")
        deaf.stdin = None
        monkeypatch.setattr(decode, "_start_child", lambda *_: deaf)
        with pytest.raises(StudyError, match="pixel-undecodable"):
            it.pixels(compressed(RLELossless))


class _Puppet:
    def wait(self, timeout: float) -> int:
        raise subprocess.TimeoutExpired("", timeout)

    def __init__(self, answer: Any) -> None:
        self.stdin, self.stdout = io.BytesIO(), io.BytesIO(answer)

    def kill(self) -> None:
        self.killed = True

    def communicate(self) -> None:
        assert self.killed


@pytest.mark.parametrize("syntax", [RLELossless, "1.2.3", "1.2.840.10008.1.2.4.100"])
def test_the_childs_loop(syntax: Any) -> None:
    dataset = compressed(RLELossless)
    header = json.dumps({"syntax": syntax, "format": pixel_format(dataset).to_json()}).encode()
    data = bytes(dataset.PixelData)
    ask = struct.pack("<Q", len(header)) + header + struct.pack("<Q", len(data)) + data
    answers = io.BytesIO()
    serve(io.BytesIO(ask * 2), answers)
    content = answers.getvalue()
    state, kind, size = struct.unpack_from("<c2sQ", content)
    if syntax == RLELossless:
        assert (state, kind, size) == (b"v", b"i2", RAMP.nbytes)
        assert content[11 : 11 + size] == RAMP.tobytes()
        assert len(content) == 2 * (11 + size)
    else:
        assert (state, size) == (b"s", 0)


def test_the_childs_loop_with_an_undecodable_frame() -> None:
    dataset = compressed(RLELossless)
    header = json.dumps({"syntax": RLELossless, "format": pixel_format(dataset).to_json()}).encode()
    answers = io.BytesIO()
    serve(io.BytesIO(struct.pack("<Q", len(header)) + header + struct.pack("<Q", 3) + b"abc"), answers)
    assert answers.getvalue()[:1] == b"u"


def test_one_frame_without_a_decoder_at_hand() -> None:
    found = pixels(compressed(RLELossless), timeout_seconds=60, memory_bytes=MEMORY)
    np.testing.assert_array_equal(found, RAMP)


@pytest.mark.parametrize(("seconds", "memory"), [(0, 1), (1, 0)])
def test_limits_are_positive(seconds: Any, memory: Any) -> None:
    with pytest.raises(ValueError, match="greater than 0"):
        Decoder(timeout_seconds=seconds, memory_bytes=memory)


def test_real_files_in_every_syntax(shared_data: Any, decoder: Any) -> None:
    """The same GE slice in many syntaxes; two that nothing decodes are refused."""
    found, refused = {}, {}
    for path in sorted(shared_data("codecs_cornerstone").rglob("CTImage.dcm*")):
        dataset = pydicom.dcmread(path)
        syntax = str(dataset.file_meta.TransferSyntaxUID)
        try:
            found[syntax] = decoder.pixels(dataset)
        except StudyError as error:
            refused[syntax] = error.code
    reference = found["1.2.840.10008.1.2.1"]
    lossless = [f"1.2.840.10008.1.2{end}" for end in ("", ".2", ".1.99", ".4.90", ".4.80", ".4.70", ".4.57", ".5")]
    for syntax in lossless:
        np.testing.assert_array_equal(found[syntax], reference)
    for syntax in ("1.2.840.10008.1.2.4.91", "1.2.840.10008.1.2.4.81"):
        assert np.abs(found[syntax].astype(int) - reference).max() < 60
    assert refused["1.2.840.10008.1.2.4.53"] == refused["1.2.840.10008.1.2.4.55"] == "pixel-unsupported"


def test_a_codec_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    from pydicom.pixels.decoders.base import RLELosslessDecoder

    monkeypatch.setattr(type(RLELosslessDecoder), "is_available", property(lambda _: False))
    assert decode._decoded(b"", RLELossless, pixel_format(slice_of(RAMP)))[0] == b"s"


@pytest.mark.parametrize("seed", range(12))
def test_damaged_frames_end_in_values_or_one_coded_error(decoder: Decoder, seed: int) -> None:
    random = np.random.default_rng(seed)
    dataset = compressed((JPEG2000Lossless, JPEGLSLossless, RLELossless)[seed % 3])
    data = bytearray(dataset.PixelData)
    data[int(random.integers(20, len(data)))] ^= int(random.integers(1, 256))
    dataset.PixelData = bytes(data[: int(random.integers(len(data) // 2, len(data)))])
    found = None
    with contextlib.suppress(StudyError):
        found = decoder.pixels(dataset)
    assert found is None or found.shape == RAMP.shape


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEGLSLossless, RLELossless])
def test_a_frame_that_was_cut_off_is_refused(decoder: Decoder, syntax: Any) -> None:
    dataset = compressed(syntax)
    frame = next(generate_frames(dataset.PixelData, number_of_frames=1))
    dataset.PixelData = encapsulate([frame[: len(frame) * 3 // 4]])
    with pytest.raises(StudyError) as caught:
        decoder.pixels(dataset)
    assert caught.value.facts == {"cause": "codec"}
