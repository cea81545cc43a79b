"""What a setting may be: the types of the configuration's values, each with its bounds and with what is said of others.

Floor 1, below `config`. A bound is what the code behind it can bear; no setting and no default stands here. What pydantic
says of a value is put into words of the house here, too: its own speak of Python.
"""

from __future__ import annotations

import ipaddress
import os
import re
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from cryptography import x509
from pydantic import AfterValidator, BeforeValidator, Field

MEBI: Final = 1024 * 1024
GIBI: Final = 1024 * MEBI
TEBI: Final = 1024 * GIBI
EXBI: Final = 1024 * 1024 * TEBI
DAY: Final = 86_400
YEAR: Final = 365 * DAY
#: Control characters, surrogates, and separators of lines and paragraphs.
_NOT_OF_A_LINE: Final = frozenset({"Cc", "Cs", "Zl", "Zp"})
_MOST_RECEIVERS: Final = 15
#: What a value should have been: type of pydantic's error, with blanks for its context.
_SAID: Final[Mapping[str, str]] = MappingProxyType(
    {
        "missing": "is missing",
        "extra_forbidden": "no such setting",
        "unexpected_keyword_argument": "no such key",
        "bool_parsing": "true or false",
        "bool_type": "true or false",
        "finite_number": "a number that is not infinite",
        "float_parsing": "a number",
        "float_type": "a number",
        "int_from_float": "a whole number",
        "int_parsing": "a whole number",
        "int_parsing_size": "a whole number",
        "int_type": "a whole number",
        "greater_than": "more than {gt}",
        "greater_than_equal": "at least {ge}",
        "less_than_equal": "at most {le}",
        "literal_error": "{expected}",
        "dataclass_type": "a table with settings of its own",
        "model_attributes_type": "a table with settings of its own",
        "model_type": "a table with settings of its own",
        "path_type": "a path, in quotes",
        "string_pattern_mismatch": "a text that fits {pattern}",
        "string_too_long": "at most {max_length} characters",
        "string_too_short": "{min_length} or more characters",
        "string_type": "a text, in quotes",
        "string_unicode": "a text, in quotes",
        "too_long": "a list of at most {max_length}",
        "too_short": "a list of {min_length} or more",
        "tuple_type": "a list, in brackets",
    }
)


def _ae_title(value: str) -> str:
    """AE of PS3.5 6.2: 1 to 16 characters of the default repertoire, no backslash, no control, not only spaces."""
    text = value.strip(" ")
    if not 0 < len(text) <= 16 or not text.isascii() or not text.isprintable() or "\\" in text:
        raise ValueError("an AE title has 1 to 16 printable ASCII characters and no backslash")
    return text


def _name(value: str) -> str:
    if not re.fullmatch(r"[a-z][a-z0-9-]{0,31}", value):
        raise ValueError("a name has 1 to 32 lower-case letters, digits and hyphens, a letter first")
    return value


def _hours(value: str) -> str:
    found = re.fullmatch(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)", value)
    if not found or found[1] + found[2] == found[3] + found[4]:
        raise ValueError('two times of day that differ, such as "19:00-06:30"')
    return value


def _web_address(value: str) -> str:
    parts = urlsplit(value)
    plain = value.isascii() and value.isprintable() and " " not in value
    if not plain or parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("an address such as https://pacs.example.org/dicom-web")
    if parts.username is not None or parts.port == 0:
        raise ValueError("an address without a user and with a port from 1 to 65535, if any")
    return value


def _web_path(value: str) -> str:
    if not re.fullmatch(r"(/[A-Za-z0-9._~-]+)*", value) or {".", ".."} & set(value.split("/")):
        raise ValueError("a path such as /dicom-web, without a slash at its end, or empty")
    return value


def _bucket(value: str) -> str:
    """Name of a general purpose bucket of S3."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", value) or ".." in value:
        raise ValueError("a bucket has 3 to 63 lower-case letters, digits, dots and hyphens")
    return value


def _prefix(value: str) -> str:
    if not re.fullmatch(r"([A-Za-z0-9._=-]+(/[A-Za-z0-9._=-]+)*)?", value) or {".", ".."} & set(value.split("/")):
        raise ValueError("folders such as trial-7/ct, of letters, digits and . _ = -, without a slash at an end")
    return value


def _address(value: str) -> str:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        raise ValueError("an IP address of this machine, such as 127.0.0.1, 0.0.0.0 or ::1") from None
    return value


def _one_line(value: str) -> str:
    """SH and LO of PS3.5 6.2: no backslash, which parts values, and no control character."""
    if "\\" in value or any(unicodedata.category(one) in _NOT_OF_A_LINE for one in value):
        raise ValueError("one line of text, without backslashes and control characters")
    return value


def _host(value: str) -> str:
    try:
        value.encode("idna")
    except UnicodeError:
        raise ValueError("a host name or an address") from None
    if not value.isprintable() or " " in value:
        raise ValueError("a host name or an address")
    return value


def _path(value: object) -> object:
    if isinstance(value, str | Path):
        text = str(value)
        sizes = [len(os.fsencode(part)) for part in text.split("/")]
        if not text.strip() or "\0" in text or max(sizes) > 255 or sum(sizes) + len(sizes) > 4000:
            raise ValueError("a path is not empty, has no NUL, and no name of more than 255 bytes")
    return value


def _looks(value: object) -> object:
    if value not in (True, False, "closely") or not isinstance(value, bool | str):
        raise ValueError('true or false, or "closely"')
    return value


def _receivers(value: object) -> object:
    whole = isinstance(value, int) and not isinstance(value, bool)
    if value != "auto" and not (whole and value in range(_MOST_RECEIVERS + 1)):
        raise ValueError(f'"auto", or a whole number from 0 to {_MOST_RECEIVERS}')
    return value


#: Bits before the IPv4 address of one that is mapped into IPv6 (RFC 4291 2.5.5.2).
_MAPPED_BITS: Final = 96


def _network(value: str) -> str:
    try:
        network = ipaddress.ip_network(value)
        mapped = getattr(network.network_address, "ipv4_mapped", None)  # peers by IPv4 are known by that alone
        if mapped is not None and network.prefixlen >= _MAPPED_BITS:
            return str(ipaddress.ip_network((mapped, network.prefixlen - _MAPPED_BITS)))
        return str(network)
    except ValueError:
        raise ValueError(
            "an address or a network, such as 10.1.2.3 or 10.1.0.0/16 (no bits behind its length)"
        ) from None


def _uid(value: str) -> str:
    if len(value) > 64 or not re.fullmatch(r"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))+", value):
        raise ValueError("a UID has at most 64 digits and dots, and no component begins with 0 (PS3.5 9.1)")
    return value


def _fingerprint(value: str) -> str:
    text = value.replace(":", "").lower()
    if not re.fullmatch(r"[0-9a-f]{64}", text):
        raise ValueError("SHA-256 of a certificate: 64 hexadecimal digits, colons between them or not")
    return text


def _distinguished_name(value: str) -> str:
    try:
        return x509.Name.from_rfc4514_string(re.sub(r", +", ",", value)).rfc4514_string()
    except ValueError:
        raise ValueError("a distinguished name as RFC 4514 writes it, such as CN=ct1,O=Hospital") from None


AETitle = Annotated[str, AfterValidator(_ae_title)]
Port = Annotated[int, Field(ge=1, le=65535)]
ListenPort = Annotated[int, Field(ge=0, le=65535)]
#: What is waited for at a stretch: the system's own timers count milliseconds in 31 bits, 24 days.
Seconds = Annotated[float, Field(ge=0.1, le=7 * DAY, allow_inf_nan=False)]
#: What passes between two looks at a clock.
Age = Annotated[float, Field(ge=0.1, le=YEAR, allow_inf_nan=False)]
#: Processes: each has a number of one bit in a table that they share.
Looks = Annotated[bool | Literal["closely"], BeforeValidator(_looks)]
Receivers = Annotated[Literal["auto"] | Annotated[int, Field(ge=0, le=_MOST_RECEIVERS)], BeforeValidator(_receivers)]
Name = Annotated[str, AfterValidator(_name)]
#: Local times of day from which and until which; over midnight where the second is the earlier one.
Hours = Annotated[str, AfterValidator(_hours)]
WebPath = Annotated[str, Field(max_length=200), AfterValidator(_web_path)]
WebAddress = Annotated[str, Field(max_length=1000), AfterValidator(_web_address)]
Region = Annotated[str, Field(pattern=r"^[a-z0-9-]{1,40}$")]
Bucket = Annotated[str, AfterValidator(_bucket)]
Prefix = Annotated[str, Field(max_length=200), AfterValidator(_prefix)]
Address = Annotated[str, AfterValidator(_address)]
Host = Annotated[str, AfterValidator(_host)]
ShortString = Annotated[str, Field(max_length=16), AfterValidator(_one_line)]
Word = Annotated[str, Field(pattern=r"[^\W_]")]
LongString = Annotated[str, Field(max_length=64), AfterValidator(_one_line)]
Location = Annotated[Path, BeforeValidator(_path)]
Network = Annotated[str, AfterValidator(_network)]
Uid = Annotated[str, AfterValidator(_uid)]
Fingerprint = Annotated[str, AfterValidator(_fingerprint)]
DistinguishedName = Annotated[str, AfterValidator(_distinguished_name)]


def problem_of(item: Mapping[str, Any], whole: str) -> str:
    """One of pydantic's errors as ``where: what``.

    Parameters
    ----------
    item
        As `pydantic.ValidationError.errors` gives it.
    whole
        What is said for a place where the error is of everything.
    """
    where = ".".join(str(part) for part in item["loc"]) or whole
    said = _SAID.get(str(item["type"]))
    if said is None:
        return f"{where}: {str(item['msg']).removeprefix('Value error, ')}"
    return f"{where}: {said.format_map(item.get('ctx', {}))}"
