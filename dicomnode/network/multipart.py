"""Bodies of several parts (RFC 2046 5.1, RFC 2387) out of pieces of any size. Pure: no socket, no HTTP.

Whatever bytes come in, `feed` gives events or raises one `Unacceptable`; what is held between two pieces is bounded by
the length of a delimiter, or of a part's head.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator, Mapping
from enum import Enum
from typing import Final, NamedTuple

from dicomnode.errors import PeerRefusal

#: RFC 2046 5.1.1: characters of a boundary; a space not at its end. Of its 70 characters at most Orthanc knows nothing.
_BOUNDARY: Final = re.compile(rb"[0-9A-Za-z'()+_,./:=? -]{0,199}[0-9A-Za-z'()+_,./:=?-]")
_HEADER: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}):([^\x00-\x08\x0a-\x1f\x7f]*)")
_LONGEST_HEAD: Final = 8192
_LONGEST_PADDING: Final = 128  # behind a delimiter, up to the end of its line
_LONGEST_ASIDE: Final = 64 * 1024  # before the first delimiter, and behind the last: nothing for us
_LINE: Final = b"\r\n"
_HEAD_END: Final = b"\r\n\r\n"


class Unacceptable(PeerRefusal):
    """A request that is not taken, with the status of HTTP that says so (RFC 9110 15); `what` is a word for its log."""

    def __init__(self, http: int, what: str, code: str = "peer-protocol") -> None:
        super().__init__(code, what=what)
        self.http = http
        self.what = what


class Begin(NamedTuple):
    """A part begins; its header, names in lower case."""

    header: Mapping[str, str]


class Piece(NamedTuple):
    """Bytes of a part, good until the next event."""

    data: memoryview


class End(NamedTuple):
    """A part ends."""


Event = Begin | Piece | End
#: Events of one state; whether another state follows in the same bytes.
Steps = Generator[Event, None, bool]


class _State(Enum):
    ASIDE = "before the first delimiter"
    DELIMITER = "behind a delimiter"
    HEAD = "in the header of a part"
    BODY = "in a part"
    OVER = "behind the last delimiter"


class Multipart:
    """One body.

    Parameters
    ----------
    boundary
        Of its Content-Type.

    Raises
    ------
    Unacceptable
        ``boundary`` where it can be none.
    """

    def __init__(self, boundary: bytes) -> None:
        if not _BOUNDARY.fullmatch(boundary):
            raise Unacceptable(400, "boundary")
        self._delimiter = _LINE + b"--" + boundary
        self._kept = _LINE  # the first delimiter may stand at the very beginning
        self._state = _State.ASIDE
        self._aside = 0
        self._at = 0

    def feed(self, data: bytes | bytearray) -> Iterator[Event]:
        """What these bytes bring.

        Raises
        ------
        Unacceptable
            ``boundary``, ``part-head`` or ``aside`` where they are no parts.
        """
        data = self._kept + data
        self._at = 0
        more = True
        while more and self._state is not _State.OVER:
            if self._state is _State.ASIDE:
                more = self._in_aside(data)
            elif self._state is _State.DELIMITER:
                more = self._behind_delimiter(data)
            elif self._state is _State.HEAD:
                more = yield from self._in_head(data)
            else:
                more = yield from self._in_body(data)
        if self._state is _State.OVER:
            self._ignore(len(data) - self._at)
            self._at = len(data)
        self._kept = data[self._at :]

    def end(self) -> tuple[Event, ...]:
        """No more bytes come; what follows from that.

        Raises
        ------
        Unacceptable
            ``body-cut`` where the last delimiter did not.
        """
        if self._state is not _State.OVER:
            raise Unacceptable(400, "body-cut")
        return ()

    def _in_aside(self, data: bytes) -> bool:
        found = data.find(self._delimiter, self._at)
        end = found if found >= 0 else max(len(data) - len(self._delimiter) + 1, self._at)
        self._ignore(end - self._at)
        self._at = end
        if found < 0:
            return False
        self._at += len(self._delimiter)
        self._state = _State.DELIMITER
        return True

    def _behind_delimiter(self, data: bytes) -> bool:
        rest = data[self._at : self._at + _LONGEST_PADDING]
        if rest[:2] == b"--":
            self._at += 2
            self._state = _State.OVER
            return True
        end = rest.find(_LINE)
        if rest[: max(end, 0)].strip(b" \t") or (end < 0 and len(rest) == _LONGEST_PADDING):
            raise Unacceptable(400, "boundary")
        if end < 0:
            return False
        self._at += end  # the end of this line is the beginning of the header
        self._state = _State.HEAD
        return True

    def _in_head(self, data: bytes) -> Steps:
        end = data.find(_HEAD_END, self._at, self._at + _LONGEST_HEAD)
        if end < 0:
            if len(data) - self._at >= _LONGEST_HEAD:
                raise Unacceptable(400, "part-head")
            return False
        header = _header(data[self._at + len(_LINE) : end])
        self._at = end + len(_HEAD_END)
        self._state = _State.BODY
        yield Begin(header)
        return True

    def _in_body(self, data: bytes) -> Steps:
        found = data.find(self._delimiter, self._at)
        end = found if found >= 0 else max(len(data) - len(self._delimiter) + 1, self._at)
        if end > self._at:
            yield Piece(memoryview(data)[self._at : end])
        self._at = end
        if found < 0:
            return False
        self._at += len(self._delimiter)
        self._state = _State.DELIMITER
        yield End()
        return True

    def _ignore(self, count: int) -> None:
        self._aside += count
        if self._aside > _LONGEST_ASIDE:
            raise Unacceptable(400, "aside")


class Single:
    """A body that is one object alone, told in the same events."""

    def __init__(self) -> None:
        self._begun = False

    def feed(self, data: bytes | bytearray) -> Iterator[Event]:
        """What these bytes bring."""
        if not self._begun:
            self._begun = True
            yield Begin({})
        if data:
            yield Piece(memoryview(data))

    def end(self) -> tuple[Event, ...]:
        """No more bytes come; what follows from that."""
        return (End(),) if self._begun else ()


def _header(block: bytes) -> dict[str, str]:
    """Header of a part; no line may be folded (RFC 9112 5.2), none stand twice."""
    found: dict[str, str] = {}
    for line in block.split(_LINE) if block else ():
        match = _HEADER.fullmatch(line)
        if match is None or (name := match[1].decode("ascii").lower()) in found:
            raise Unacceptable(400, "part-head")
        found[name] = match[2].decode("latin-1").strip(" \t")
    return found
