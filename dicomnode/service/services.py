"""Builds the services beside C-STORE out of the configuration: evidence of completeness, and storage commitment."""

from __future__ import annotations

from dicomnode.config import Config
from dicomnode.encoded import Limits
from dicomnode.errors import ConfigError
from dicomnode.network.commitment import CommitmentReport, commitment_services, report_services
from dicomnode.network.committing import CommitmentRequestor
from dicomnode.network.procedures import procedure_services
from dicomnode.network.session import Service
from dicomnode.sections import Destination
from dicomnode.workflow.commitment import Asker, CommitmentDesk
from dicomnode.workflow.evidence import EvidenceBook
from dicomnode.workflow.pledges import Pledges


def services(
    tree: Config, limits: Limits, book: EvidenceBook, desk: CommitmentDesk | None, pledges: Pledges | None = None
) -> dict[tuple[str, int], Service]:
    """What the acceptor answers beside C-ECHO and C-STORE, by SOP Class and Command Field."""
    chosen: dict[tuple[str, int], Service] = {}
    if tree.services.procedure_steps:
        chosen |= procedure_services(book, limits)
    asked = () if pledges is None else (pledges,)
    if desk is not None:
        chosen |= commitment_services(desk, limits, *asked)
    elif asked:
        chosen |= report_services(asked, limits)
    return chosen


def committing_destination(tree: Config) -> Destination | None:
    """The PACS that is asked to commit, which one with a `url` cannot be; None where there is no other destination.

    Raises
    ------
    ConfigError
        ``config-invalid`` if the configuration names one that there is not, or one with a `url`.
    """
    named = tree.services.commitment_destination
    able = [one for one in tree.destinations if one.url is None]
    if named is None:
        return able[0] if able else None
    for destination in able:
        if destination.name == named:
            return destination
    raise ConfigError("config-invalid", setting="services.commitment_destination")


class Askers:
    """Where those who asked for a commitment take its report: the addresses of their rules.

    Parameters
    ----------
    tree
        Configuration.
    """

    def __init__(self, tree: Config) -> None:
        self._own = tree.node.ae_title
        self._timeout = tree.services.commitment_wait_seconds
        self._rules = {rule.name: rule for rule in tree.peers}

    def tell(self, asker: Asker, report: CommitmentReport) -> bool:
        """Send a report in an association of its own; False where no address is known.

        Raises
        ------
        PeerError
            Unless it was taken.
        """
        rule = self._rules.get(asker.peer)
        if rule is None or rule.report_host is None:
            return False
        target = Destination(
            name=rule.name,
            ae_title=asker.ae_title,
            host=rule.report_host,
            port=rule.report_port,
            timeout_seconds=self._timeout,
            tls=rule.report_tls,
        )
        CommitmentRequestor(target, self._own).tell(report)
        return True
