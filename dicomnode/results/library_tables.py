"""highdicom's tables of the standard: sixty megabytes that it reads when it first builds an object, and then keeps.

May live here: keeping them folded, module by module, and unfolding what is asked for. Reading all of them takes a third of
a second in which no other thread of Python runs: it is done once, and not while a study waits. A library that keeps
its tables elsewhere is left alone.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from threading import Lock
from typing import Any, Final

import highdicom.base
import highdicom.image
from highdicom import _standard_utils
from pydicom.dataset import Dataset
from pydicom.uid import SegmentationStorage

_TABLES: Final = "get_module_attribute_map"
_ASKED: Final = "is_attribute_in_iod"


class Folded(Mapping[str, Any]):
    """Attributes of each module, equal to the library's table; a module is unfolded when it is first asked for."""

    def __init__(self, tables: Mapping[str, Any]) -> None:
        # Of a name that was read amid the tables the whole megabyte around it would be kept.
        self._folded = {_copied(name): zlib.compress(json.dumps(module).encode(), 1) for name, module in tables.items()}
        self._unfolded: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        """Attributes of a module."""
        found = self._unfolded.get(name)
        if found is None:
            found = self._unfolded[name] = json.loads(zlib.decompress(self._folded[name]))
        return found

    def __contains__(self, name: object) -> bool:
        """Whether there is such a module."""
        return name in self._folded

    def __iter__(self) -> Iterator[str]:
        """Names of modules."""
        return iter(self._folded)

    def __len__(self) -> int:
        """How many modules there are."""
        return len(self._folded)

    def fold(self) -> None:
        """Let go of what was unfolded."""
        self._unfolded = {}


def _copied(name: str) -> str:
    return name.encode().decode()


class _Tables:
    """Stands in the place of the library's function: reads its tables once, for good."""

    def __init__(self, read: Any) -> None:
        self._read = read
        self._lock = Lock()
        self._folded: Folded | None = None

    def __call__(self) -> Folded:
        with self._lock:
            if self._folded is None:
                self._folded = Folded(self._read())
                self._read.cache_clear()
            return self._folded

    def fold(self) -> None:
        if self._folded is not None:
            self._folded.fold()


class _Answers:
    """Stands in the place of the library's function: whether its tables know an attribute of a SOP Class, asked once."""

    def __init__(self, look: Callable[..., bool]) -> None:
        self._look = look
        self._known: dict[tuple[str, str, tuple[str, ...]], bool] = {}

    def __call__(self, attribute: str, sop_class_uid: str, exclude_path_elements: Sequence[str] | None = None) -> bool:
        key = attribute, str(sop_class_uid), tuple(exclude_path_elements or ())
        if key not in self._known:
            self._known[key] = self._look(attribute, sop_class_uid, exclude_path_elements)
        return self._known[key]


def keep_folded() -> None:
    """Put these in the place of the library's own functions, wherever it has taken them; a second call does nothing."""
    tables, look = (getattr(_standard_utils, name, None) for name in (_TABLES, _ASKED))
    if hasattr(tables, "cache_clear"):
        _replace(_TABLES, tables, _Tables(tables))
    if look is not None and not isinstance(look, _Answers):
        _replace(_ASKED, look, _Answers(look))


def _replace(name: str, old: Any, new: Any) -> None:
    for module in (_standard_utils, highdicom.base, highdicom.image):
        if getattr(module, name, None) is old:
            setattr(module, name, new)


def forget_tables() -> None:
    """Give back the memory of what was unfolded."""
    tables = getattr(_standard_utils, _TABLES, None)
    if isinstance(tables, _Tables):
        tables.fold()


def ask_beforehand(sop_classes: Iterable[str]) -> None:
    """Ask of images of some SOP Classes, and of a segmentation, what the library will; one that it does not know is left."""
    for sop_class_uid in (*sop_classes, str(SegmentationStorage)):
        image = Dataset()
        image.SOPClassUID = sop_class_uid
        try:
            _standard_utils.is_multiframe_image(image)
            _standard_utils.does_iod_have_pixel_data(sop_class_uid)
        except (KeyError, AttributeError, NameError):
            continue
    forget_tables()


keep_folded()
