"""The commented configuration that `dicomnode init` writes, made out of the configuration tree itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel

from dicomnode.config import Config
from dicomnode.network_sections import PeerRule
from dicomnode.routing_rules import RoutingRule
from dicomnode.sections import BucketSection, Destination, Export, FolderSection, Tls
from dicomnode.source_sections import Source

_HEAD = """\
# Configuration of dicomnode. Every setting is written with its default behind a "#": take the "#" away to change it.
# `dicomnode check --config <this file>` tells every error at once; `dicomnode serve --config <this file>` runs it.
"""
#: Sections of which there may be any number.
BLOCKS: Final[Mapping[str, type[BaseModel]]] = {
    "peers": PeerRule,
    "folders": FolderSection,
    "rules": RoutingRule,
    "destinations": Destination,
    "exports": Export,
    "sources": Source,
}


def render() -> str:
    """Text of a configuration in which everything is a comment but the section headings."""
    parts = [_HEAD]
    for name, field in Config.model_fields.items():
        if name in BLOCKS:
            parts.append(_block(name))
            continue
        section = field.annotation
        if isinstance(section, type) and issubclass(section, BaseModel):
            doc = (section.__doc__ or "").strip().splitlines()[0]
            parts.append(f"# {doc}\n[{name}]\n" + "".join(_lines(section)))
    return "\n".join(parts)


def _lines(section: type[BaseModel]) -> list[str]:
    lines = []
    for name, field in section.model_fields.items():
        lines.append(f"# {field.description}\n")
        if isinstance(field.default, BaseModel):
            lines.append(f"#{name} = {_table(field.default)}\n")
        elif name == "s3":
            lines.append(f"#{name} = {_bucket()}\n")
        elif name in ("tls", "report_tls"):
            lines.append(f"#{name} = {_tls()}\n")
        elif field.is_required() or field.default is None:
            lines.append(f"#{name} = {_example(name)}\n")
        else:
            lines.append(f"#{name} = {_value(field.default)}\n")
    return lines


def _block(name: str) -> str:
    model = BLOCKS[name]
    doc = (model.__doc__ or "").strip().rstrip(".")
    body = "".join(f"#{line}" if not line.startswith("#") else line for line in _lines(model))
    return f"# {doc}: one block for each, as many as there are.\n#[[{name}]]\n{body}"


def _tls() -> str:
    pairs = ", ".join(f"{name} = {_example(name)}" for name in Tls.model_fields)
    return "{" + pairs + "}"


def _bucket() -> str:
    """A bucket with its settings: what has no default, and the defaults."""
    fields = BucketSection.model_fields
    shown = {name: field.default for name, field in fields.items() if field.default not in (None, "")}
    return "{" + ", ".join(f"{name} = {_value(value)}" for name, value in {**shown, "bucket": "trial-7"}.items()) + "}"


def _table(section: BaseModel) -> str:
    """A section within a section, on one line; what has no default is left out."""
    pairs = ((name, getattr(section, name)) for name in type(section).model_fields)
    return "{" + ", ".join(f"{name} = {_value(value)}" for name, value in pairs if value is not None) + "}"


def _example(name: str) -> str:
    examples: dict[str, Any] = {
        "state": "/var/lib/dicomnode",
        "folder": "/etc/dicomnode/folder",
        "engine_cache": "/var/cache/dicomnode/engines",
        "name": "pacs",
        "path": "/srv/dicom/incoming",
        "models": ["ct-lung"],
        "destinations": ["pacs"],
        "export": "pacs",
        "priority": "stat",
        "project": "trial-7",
        "into": "/srv/dicom/research",
        "ae_title": "PACS",
        "host": "pacs.example.org",
        "port": 104,
        "report_host": "ct1.example.org",
        "commitment_destination": "pacs",
        "archive": "pacs",
        "identity_source": "pacs",
        "url": "https://pacs.example.org/dicom-web",
        "authorization_file": "/etc/dicomnode/pacs.authorization",
        "calling_ae_title": "DICOMNODE",
        "move_ae_title": "PACS",
        "certificate": "/etc/dicomnode/tls/node.pem",
        "certificate_subject": "CN=ct1,O=Hospital",
        "certificate_issuer": "CN=Hospital authority",
        "private_key": "/etc/dicomnode/tls/node.key",
        "trusted_certificates": "/etc/dicomnode/tls/authorities.pem",
    }
    return _value(examples[name])


def _value(value: Any) -> str:
    if isinstance(value, tuple):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    if isinstance(value, Path):
        return json.dumps(str(value))
    return json.dumps(value)
