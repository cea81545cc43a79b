"""`dicomnode verify`: whether all that was received is still there as it came; segments and records, never a name."""

from __future__ import annotations

import json
from collections.abc import Mapping

from rich.console import Console

from dicomnode.cli.reasons import what_and_what_to_do
from dicomnode.config import Config
from dicomnode.service.rooms import Layout
from dicomnode.service.verifying import damaged_line, verify
from dicomnode.study import RecordAddress
from dicomnode.workflow.verification import Verified


def verify_received(
    tree: Config, environment: Mapping[str, str], *, spool_is_lost: bool, as_json: bool, console: Console
) -> bool:
    """Verify and print; whether everything is whole."""
    found = verify(tree, environment, spool_is_lost=spool_is_lost)
    line = damaged_line(tree)
    if as_json:
        console.out(json.dumps({**verified_json(found), "audit_line": line}, indent=2), highlight=False)
        return not found.faults and line is None
    console.print(f"{found.whole.total()} records of {len(found.whole)} studies are whole.")
    for fault in found.faults:
        console.print(
            f"[red]{fault.reason}[/] study {fault.study_key} segment {fault.segment_id} record {fault.number}: {fault.kind}",
            soft_wrap=True,
        )
        if (whole := found.instead.get(fault)) is not None:
            console.print(
                f"  in its place: segment {whole.segment_id} record {whole.number}, the same object", soft_wrap=True
            )
    if line is not None:
        console.print(f"[red]sealed-damaged[/] audit.jsonl line {line + 1}: changed, or one before it was taken out")
    for code in sorted({fault.reason for fault in found.faults}):
        console.print(f"[bold]{code}[/]: {what_and_what_to_do(code)}", soft_wrap=True)
    return not found.faults and line is None


def lost_question(tree: Config) -> str:
    """What is asked before a spool counts as lost: its disk may only not be mounted, and what is set aside stays so."""
    return (
        f"Give up all that was received and is not in {Layout.of(tree).spool} now? It is set aside as lost for good, also "
        "where its disk is found: it would have to be sent again"
    )


def verified_json(found: Verified) -> dict[str, object]:
    """Plain values."""
    return {
        "whole": dict(sorted(found.whole.items())),
        "faults": [
            {
                "study": fault.study_key,
                "segment": fault.segment_id,
                "record": fault.number,
                "kind": fault.kind,
                "reason": fault.reason,
                "instead": _place(found.instead.get(fault)),
            }
            for fault in found.faults
        ],
    }


def _place(address: RecordAddress | None) -> dict[str, object] | None:
    return None if address is None else {"segment": address.segment_id, "record": address.number}
