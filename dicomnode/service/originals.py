"""What `dicomnode check` says of originals: whose images may exist nowhere else, and whether anybody asks before they go.

Pure. May live here: words about the configuration; who asks the PACS is `workflow.originals`.
"""

from __future__ import annotations

from collections.abc import Iterator

from dicomnode.config import Config
from dicomnode.network_sections import PeerRule
from dicomnode.workflow.retention import outlives


def kept(tree: Config, rule: PeerRule) -> str:
    """What is added to the line of a peer: until when its studies are kept."""
    if not rule.modality:
        return ""
    archive = tree.retention.archive or tree.destinations[0].name
    return f", a modality: its studies are kept until {archive} shows that it holds them"


def notes_of_retention(tree: Config) -> Iterator[str]:
    """What to know of how long studies stay, and of what is shredded unasked though it may be the only one.

    What another system sends that is a destination or a source, too, that system has. All others may be scanners, and
    somebody has to say so; to say ``modality = false`` is an answer.
    """
    if tree.destinations and (known := outlives(tree.retention.days, tree.delivery.give_up_seconds)):
        yield known
    gone = f"{tree.retention.days:g} days after its last image a study of it is shredded, and no PACS is asked for it"
    for where, answer in _unsaid(tree):
        yield f"{where} may be a scanner: {gone}; where its images may exist nowhere else: {answer}"
    for folder in tree.folders:
        if folder.after == "delete":
            yield f'folders.{folder.name}: its files are deleted, and {gone}; keep them elsewhere, or set after = "move"'
    if tree.retention.archive is not None and not any(peer.modality for peer in tree.peers):
        yield f"retention.archive: no peer has modality = true, so {tree.retention.archive} is asked about no study"


def _unsaid(tree: Config) -> Iterator[tuple[str, str]]:
    """Who may send, is no system that keeps images, and is not said to be a modality or none; and what to set."""
    systems = {
        *(one.ae_title for one in (*tree.destinations, *tree.sources)),
        *(one.move_ae_title for one in tree.sources if one.move_ae_title),
    }
    for peer in tree.peers:
        if "modality" not in peer.model_fields_set and peer.ae_title not in systems:
            yield (
                f"peers.{peer.name}: it is no destination and no source, and",
                "modality = true, else modality = false",
            )
    answer = "[[peers]] with modality = true"
    if not tree.peers:
        for title in sorted({*tree.listen.calling_ae_titles} - systems):
            yield f"listen.calling_ae_titles: {title} is no destination and no source, and", answer
        if not tree.listen.calling_ae_titles and tree.listen.host not in ("127.0.0.1", "::1"):
            yield "peers: there are none, and a sender", answer
