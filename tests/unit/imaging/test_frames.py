"""Planes of multi-frame images, with what each frame says of itself."""

from __future__ import annotations

import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.sequence import Sequence

from dicomnode.errors import StudyError
from dicomnode.imaging.frames import planes

NATIVE, RLE = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.5"


def enhanced(count: int = 3, syntax: str = NATIVE) -> Dataset:
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = syntax
    image.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2.1"
    image.Rows, image.Columns, image.BitsAllocated, image.SamplesPerPixel = 1, 3, 8, 1
    image.NumberOfFrames = count
    groups = []
    for number in range(count):
        position, group = Dataset(), Dataset()
        position.ImagePositionPatient = [0.0, 0.0, float(number)]
        group.PlanePositionSequence = Sequence([position])
        groups.append(group)
    image.PerFrameFunctionalGroupsSequence = Sequence(groups)
    frames = [bytes((number, number, number)) for number in range(count)]
    data = encapsulate([one + b"\0" for one in frames]) if syntax == RLE else b"".join(frames) + b"\0"
    image.add_new(0x7FE00010, "OB", data)
    return image


def test_each_frame_is_a_plane_with_its_own_pixels_and_place() -> None:
    found = planes([enhanced()])
    assert [one.ReferencedFrameNumber for one in found] == [1, 2, 3]
    assert [one.ImagePositionPatient[2] for one in found] == [0.0, 1.0, 2.0]
    assert [one.PixelData for one in found] == [bytes((n, n, n, 0)) for n in range(3)]


def test_compressed_frames_stay_as_they_are() -> None:
    found = planes([enhanced(2, RLE)])
    frames = [next(generate_frames(one.PixelData, number_of_frames=1)) for one in found]
    assert frames == [b"\0\0\0\0", b"\1\1\1\0"]


def test_without_pixels_there_are_planes_all_the_same() -> None:
    image = enhanced()
    del image.PixelData
    assert all("PixelData" not in one for one in planes([image]))


@pytest.mark.parametrize(("frames", "code"), [(2, "geometry-attribute-missing"), (0, "geometry-attribute-missing")])
def test_frames_that_do_not_fit_their_groups(frames: int, code: str) -> None:
    image = enhanced()
    image.NumberOfFrames = frames
    with pytest.raises(StudyError) as caught:
        planes([image])
    assert caught.value.code == code


def test_fewer_pixels_than_frames() -> None:
    image = enhanced()
    image.PixelData = image.PixelData[:8]
    with pytest.raises(StudyError) as caught:
        planes([image])
    assert caught.value.code == "pixel-missing"
