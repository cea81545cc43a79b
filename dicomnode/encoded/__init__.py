"""Encoded Data Sets (PS3.5 7, PS3.10 7): a bounded header scan, a complexity budget, safe reading, plain writing.

Floor 1. What strangers encoded passes here before anything else may look at it: the result is a Data Set or one coded
`StudyError`, in time and memory that the limits bound. No values are judged here, only their encoding.
"""

from dicomnode.encoded.alike import series_of
from dicomnode.encoded.implicit import implicit_parts
from dicomnode.encoded.reading import (
    FileHead,
    Header,
    file_head,
    is_cut_part10,
    read_dataset,
    read_file,
    read_head,
    read_part10,
    read_part10_raw,
    scan_header,
    split_part10,
)
from dicomnode.encoded.series import SeriesReader
from dicomnode.encoded.walk import Buffer, Limits, check_budget
from dicomnode.encoded.writing import (
    IMPLEMENTATION_CLASS_UID,
    IMPLEMENTATION_VERSION_NAME,
    encode_dataset,
    encode_part10,
    wrap_part10,
)

__all__ = [
    "IMPLEMENTATION_CLASS_UID",
    "IMPLEMENTATION_VERSION_NAME",
    "Buffer",
    "FileHead",
    "Header",
    "Limits",
    "SeriesReader",
    "check_budget",
    "encode_dataset",
    "encode_part10",
    "file_head",
    "implicit_parts",
    "is_cut_part10",
    "read_dataset",
    "read_file",
    "read_head",
    "read_part10",
    "read_part10_raw",
    "scan_header",
    "series_of",
    "split_part10",
    "wrap_part10",
]
