"""The papers for IT say what the code says: every reason in the runbook, every status in the conformance statement."""

from __future__ import annotations

import re
from pathlib import Path

from dicomnode import __version__
from dicomnode.config import Config
from dicomnode.encoded import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from dicomnode.errors import REASONS
from dicomnode.network.association import RETIRED_STORAGE_CLASSES, storage_classes
from dicomnode.network.status import CANNOT_UNDERSTAND, DATA_SET_MISMATCH, OUT_OF_RESOURCES, PROCESSING_FAILURE

DOCS = Path(__file__).resolve().parents[2] / "deploy" / "docs"


def test_every_reason_is_in_the_runbook_once() -> None:
    text = (DOCS / "runbook.md").read_text("utf-8")
    rows = re.findall(r"^\| `([a-z0-9-]+)` \|", text, re.MULTILINE)
    assert sorted(rows) == sorted(REASONS)


def test_every_event_is_in_the_runbook() -> None:
    sources = [path.read_text("utf-8") for path in (DOCS.parents[1] / "dicomnode").rglob("*.py")]
    emitted = {name for source in sources for name in re.findall(r'emit\(\s*"([a-z]+\.[a-z-]+)"', source)}
    assert len(emitted) > 25
    text = (DOCS / "runbook.md").read_text("utf-8")
    assert sorted(name for name in emitted if f"`{name}`" not in text) == []


def test_settings_that_the_papers_name_exist() -> None:
    named: set[str] = set()
    sections = "|".join(Config.model_fields)
    for name in ("install.md", "runbook.md", "conformance.md", "settings.md"):
        text = re.sub(r"^## Events$.*?^## ", "", (DOCS / name).read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
        named |= set(re.findall(rf"`((?:{sections})\.[a-z_]+)", text))
    named -= {"node.fault", "node.hung", "delivery.begun"}  # events
    assert len(named) > 15
    for path in named:
        section, setting = path.split(".")
        assert setting in (Config.model_fields[section].annotation or type).model_fields, path


def test_conformance_statement_says_what_the_code_does() -> None:
    text = (DOCS / "conformance.md").read_text("utf-8")
    assert IMPLEMENTATION_CLASS_UID in text
    assert IMPLEMENTATION_VERSION_NAME in text
    assert f"{len(storage_classes())} storage SOP Classes" in text
    assert f"{len(RETIRED_STORAGE_CLASSES)} retired ones" in text
    for status in (OUT_OF_RESOURCES, DATA_SET_MISMATCH, CANNOT_UNDERSTAND, PROCESSING_FAILURE):
        assert f"| {status:04X} |" in text
    assert f"Maximum PDU received {Config().intake.maximum_pdu_bytes}" in text


def test_changelog_begins_with_this_version() -> None:
    first = re.search(r"^## (\S+)", (DOCS / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert first is not None
    assert first[1] == __version__
