"""Pictures with text burned in, in every photometric interpretation and transfer syntax that we can write."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import RLELossless

from dicomnode.deidentification.reader import Picture, Text
from tests.unit.deidentification.planted import EXPLICIT, IMPLICIT, slice_of_ct

SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
SIZE = 256


class Silent:
    """A reader that finds no text."""

    def read(self, picture: Picture) -> list[Text]:
        return []


def drawn(text: str = "DOE^JANE 19510203", *, size: int = SIZE, place: tuple[int, int] = (12, 14)) -> NDArray[np.uint8]:
    """Soft tissue, and white text."""
    y, x = np.mgrid[0:size, 0:size]
    tissue = 70 + 40 * np.sin(x / 23) * np.cos(y / 31)
    picture = Image.fromarray(tissue.astype(np.uint8))
    ImageDraw.Draw(picture).text(place, text, fill=255, font=ImageFont.load_default(18))
    return np.asarray(picture)


def capture(pictures: list[NDArray[np.uint8]], photometric: str = "MONOCHROME2", bits: int = 8) -> Dataset:
    """Secondary Capture of some frames."""
    ds = slice_of_ct()
    ds.SOPClassUID, ds.Modality, ds.ConversionType = SECONDARY_CAPTURE, "OT", "WSD"
    ds.Rows, ds.Columns = pictures[0].shape[:2]
    ds.PhotometricInterpretation = photometric
    ds.BitsAllocated = ds.BitsStored = bits
    ds.HighBit = bits - 1
    if len(pictures) > 1:
        ds.NumberOfFrames = str(len(pictures))
    frames = np.stack(pictures)
    ds.SamplesPerPixel = 1
    if photometric == "MONOCHROME1":
        frames = 255 - frames
    elif photometric == "PALETTE COLOR":
        for colour in ("Red", "Green", "Blue"):
            ramp = np.arange(256, dtype="<u2") << 8
            setattr(ds, f"{colour}PaletteColorLookupTableDescriptor", [256, 0, 16])
            setattr(ds, f"{colour}PaletteColorLookupTableData", ramp.tobytes())
    elif photometric in ("RGB", "YBR_FULL", "YBR_FULL_422"):
        ds.SamplesPerPixel, ds.PlanarConfiguration = 3, 0
        frames = np.stack([frames] * 3, axis=-1)
        if photometric != "RGB":
            frames = np.concatenate([frames[..., :1], np.full_like(frames[..., 1:], 128)], axis=-1)
    if bits == 16:
        frames = frames.astype("<u2") * 16
    data = frames.tobytes()
    if photometric == "YBR_FULL_422":
        pairs = frames.reshape(-1, 2, 3)
        data = np.stack([pairs[:, 0, 0], pairs[:, 1, 0], pairs[:, 0, 1], pairs[:, 0, 2]], axis=-1).tobytes()
    if bits == 1:
        data = np.packbits((np.stack(pictures) > 127).ravel(), bitorder="little").tobytes()
    ds.PixelData = data
    ds["PixelData"].VR = "OW" if bits == 16 else "OB"
    return ds


def jpeg(ds: Dataset) -> Dataset:
    """The same in JPEG baseline, as cameras and ultrasound machines write it."""
    shape = (int(ds.get("NumberOfFrames") or 1), ds.Rows, ds.Columns, ds.SamplesPerPixel)
    frames = []
    for frame in np.frombuffer(ds.PixelData, np.uint8)[: int(np.prod(shape))].reshape(shape):
        stream = io.BytesIO()
        picture = Image.fromarray(frame[..., 0] if shape[3] == 1 else frame)
        picture.save(stream, "JPEG", quality=92)
        frames.append(stream.getvalue())
    ds.PixelData = encapsulate(frames)
    ds["PixelData"].VR, ds["PixelData"].is_undefined_length = "OB", True
    if shape[3] == 3:
        ds.PhotometricInterpretation = "YBR_FULL_422"
    ds.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.50"
    return ds


def compressed(ds: Dataset, syntax: str) -> Dataset:
    """The same in another transfer syntax, by pydicom."""
    if syntax == "1.2.840.10008.1.2.4.50":
        return jpeg(ds)
    if syntax not in (EXPLICIT, IMPLICIT):
        ds.compress(syntax, generate_instance_uid=False)
    return ds


RLE = str(RLELossless)
JPEG_BASELINE, JPEG_LS, JPEG_2000 = (f"1.2.840.10008.1.2.4.{last}" for last in ("50", "80", "90"))
