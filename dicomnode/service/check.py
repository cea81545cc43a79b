"""`dicomnode check`: everything that could keep a node from serving, looked at in one go."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from dicomnode.config import Config
from dicomnode.deidentification.encrypted import refuse_invalid
from dicomnode.errors import NodeError, PeerError
from dicomnode.events import silent
from dicomnode.forms import choose, missed, sop_classes
from dicomnode.inference.gpu import installed
from dicomnode.inference.package import Package
from dicomnode.network.association import storage_classes
from dicomnode.network.tls import client_tls, server_tls, valid_until, web_tls
from dicomnode.network_sections import PeerRule
from dicomnode.sections import Destination
from dicomnode.service import rooms
from dicomnode.service.delivering import Requesting, requestor_of
from dicomnode.service.engines import open_engine
from dicomnode.service.exports import outlet_of
from dicomnode.service.models import examine_gpu
from dicomnode.service.originals import kept, notes_of_retention
from dicomnode.service.policies import notes_of_policies
from dicomnode.service.rooms import Layout
from dicomnode.service.routes import describe_rule, prove_rules
from dicomnode.service.services import committing_destination
from dicomnode.service.sourcing import open_door, retriever_of
from dicomnode.storage.belonging import prove_wrapping
from dicomnode.storage.ledger import Ledger
from dicomnode.storage.medium import IN_MEMORY, is_kernels, is_volatile
from dicomnode.storage.recipients import certificates
from dicomnode.storage.writer import try_modes
from dicomnode.workflow.wishes import wishes_of

_SOON_DAYS = 30


@dataclass(slots=True)
class Report:
    """What was looked at: what is well, what to know, and what is wrong."""

    lines: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


def examine(tree: Config, environment: Mapping[str, str]) -> Report:
    """Look at state folder, keys, ledger, models, listening, peers, destinations, sources and exports; nothing is created or changed."""
    examiner = _Examiner(tree, environment)
    for look in (
        examiner.state,
        examiner.keys,
        examiner.deidentification,
        examiner.models,
        examiner.listen,
        examiner.stow,
        examiner.peers,
        examiner.folders,
        examiner.rules,
        examiner.destinations,
        examiner.sources,
        examiner.exports,
    ):
        try:
            look()
        except NodeError as error:
            problems = getattr(error, "problems", (f"{error}; {error.reason.advice}",))
            examiner.report.errors.extend(problems)
    return examiner.report


class _Examiner:
    def __init__(self, tree: Config, environment: Mapping[str, str]) -> None:
        self.report = Report()
        self._tree = tree
        self._environment = environment
        self._layout = Layout.of(tree)

    def state(self) -> None:
        folder = _existing(self._layout.state)
        if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK) or is_kernels(folder):
            self.report.errors.append(f"node.state: no folder can be made or written at {self._layout.state}")
            return
        if is_volatile(folder):
            self.report.warnings.append(f"node.state: {IN_MEMORY}")
        if not self._layout.state.exists():
            self.report.lines.append(f"state folder {self._layout.state} will be made at the first start")
            return
        mode = try_modes(self._layout.state, self._tree.intake.write_mode)
        self.report.lines.append(
            f"state folder {self._layout.state}: durable writes by {mode.name}, aligned to {mode.alignment} bytes"
        )
        free = os.statvfs(self._layout.state)
        if free.f_bavail * free.f_frsize < self._tree.intake.minimum_free_bytes:
            self.report.errors.append(
                "intake.minimum_free_bytes: the disk has less free; every C-STORE would be refused"
            )
        if self._layout.ledger.exists():
            ledger = Ledger.open_read_only(self._layout.ledger)
            try:
                self.report.lines.append(f"ledger: {len(ledger.studies(limit=100_000))} studies")
            finally:
                ledger.close()

    def keys(self) -> None:
        credentials = self._environment.get("CREDENTIALS_DIRECTORY")
        elsewhere = self._tree.keys.source in ("credentials", "command")
        if not credentials and not elsewhere and not self._layout.keys.exists():
            if self._layout.ledger.exists():
                self.report.errors.append(
                    f"keys: {self._layout.keys} is gone, and what is sealed cannot be opened without it"
                )
            else:
                self.report.lines.append(f"keys will be made in {self._layout.keys} at the first start")
            return
        ring = rooms.open_key_ring(self._tree, self._layout, self._environment, create=False)
        if self._layout.ledger.exists():
            ledger = Ledger.open_read_only(self._layout.ledger)
            try:
                prove_wrapping(ledger.count_wrapped_keys(), ring)
            finally:
                ledger.close()
        self.report.lines.append("keys are there, belong to this state, and only this user can read them")

    def deidentification(self) -> None:
        """Policies, and for whom exports enclose original attributes: who cannot open them keeps every export from being made."""
        self.report.warnings += notes_of_policies(self._tree)
        setting, paths = "deidentification.recipients", self._tree.deidentification.recipients
        if self._usable(setting, partial(certificates, paths)):
            found = certificates(paths)
            left = min(((one.not_valid_after_utc - rooms.now()).days for one in found), default=0)
            if found and self._usable(setting, partial(refuse_invalid, found, rooms.now())):
                self.report.warnings += [f"{setting}: a certificate expires in {left} days"] * (left < _SOON_DAYS)
                self.report.lines.append(f"exports enclose original attributes for {len(found)} recipients")

    def models(self) -> None:
        packages = rooms.load_packages(self._tree)
        if not packages:
            self.report.errors.append("models: no model is installed or enabled")
        for package in packages:
            opened = open_engine(self._tree, package)
            info = opened.engine.info
            opened.engine.close()
            self.report.lines.append(f"{_describe(package, str(info))}, {info.threads} threads ({opened.why})")
        wanting = [one.manifest.name for one in packages if one.manifest.priors is not None]
        if wanting and not any(one.priors for one in self._tree.sources):
            self.report.warnings.append(f"sources: none for priors, which {', '.join(wanting)} would see")
        self._gpu()

    def _gpu(self) -> None:
        """The GPU, where it is asked for, or there is something to use it with."""
        wish = self._tree.models.engine
        if wish == "tensorrt" or (wish == "auto" and installed() is not None):
            problems = self.report.errors if wish == "tensorrt" else self.report.warnings
            for line in examine_gpu(self._tree):
                (self.report.lines if line.well else problems).append(f"GPU: {line.text}")

    def listen(self) -> None:
        listen = self._tree.listen
        if listen.listens_plain:
            self._port(listen.host, listen.port, "")
        if listen.tls:
            if self._usable("listen.tls", partial(server_tls, listen.tls)):
                self.report.lines.append("TLS of the listening side: certificates load")
                self._validity(listen.tls.certificate, "listen.tls")
            self._port(listen.host, listen.tls_port, " with TLS")
        known = listen.calling_ae_titles or any(rule.by_dimse for rule in self._tree.peers)
        if listen.host not in ("127.0.0.1", "::1") and listen.listens_plain and not known:
            self.report.warnings.append(
                "listen: anyone on the network may send; set [[peers]], listen.calling_ae_titles or listen.tls"
            )

    def stow(self) -> None:
        """STOW-RS: whether it can listen, and whom it can let in."""
        tree, stow = self._tree, self._tree.stow
        callers = [rule.name for rule in tree.peers if rule.by_web]
        if not stow.enabled:
            if any(rule.token_sha256 for rule in tree.peers):
                self.report.warnings.append("stow: a peer has a token, and stow.enabled is not set")
            return
        if stow.tls is not None and self._usable("stow.tls", partial(web_tls, stow.tls)):
            self.report.lines.append("TLS of STOW-RS: certificates load")
            self._validity(stow.tls.certificate, "stow.tls")
        self._port(stow.host, stow.port, f" for STOW-RS at {stow.path}/studies")
        if not callers:
            self.report.errors.append("stow: no rule of [[peers]] asks for a token or a certificate; nobody is let in")
        asking = [rule.name for rule in tree.peers if rule.token_sha256 and _asks_for_certificate(rule)]
        if asking and (stow.tls is None or stow.tls.trusted_certificates is None):
            self.report.errors.append(
                f"peers.{asking[0]}: asks for a certificate, but stow.tls.trusted_certificates is not set"
            )

    def peers(self) -> None:
        """Rules that can let nobody in, or that another one hides."""
        tree = self._tree
        for number, rule in enumerate(tree.peers):
            where = f"peers.{rule.name}"
            web = tree.stow.enabled and tree.stow.tls is not None
            if _asks_for_certificate(rule) and rule.by_dimse and tree.listen.tls is None and not web:
                self.report.errors.append(f"{where}: asks for a certificate, but listen.tls is not set")
            titles = tree.listen.calling_ae_titles
            if titles and rule.by_dimse and rule.ae_title is not None and rule.ae_title not in titles:
                self.report.errors.append(f"{where}: {rule.ae_title} is not in listen.calling_ae_titles")
            unknown = set(rule.sop_classes) - set(storage_classes(tree.intake.private_sop_classes))
            if unknown:
                self.report.errors.append(
                    f"{where}: sop_classes that the node does not store: {', '.join(sorted(unknown))}"
                )
            hiding = [one.name for one in tree.peers[:number] if rule.by_dimse and _hides(one, rule)]
            if hiding:
                self.report.warnings.append(
                    f"{where}: never reached, since {hiding[0]} before it fits whenever it does"
                )
            who = (rule.ae_title or "any AE title") if rule.by_dimse else f"by STOW-RS, as {rule.web_title}"
            if rule.report_tls is None or self._usable(f"{where}.report_tls", partial(client_tls, rule.report_tls)):
                self.report.lines.append(f"peer {rule.name}: {who}, {rule.priority}{kept(tree, rule)}")
        self.report.warnings += notes_of_retention(tree)

    def folders(self) -> None:
        """Watched folders: files are taken out of them, so they must be writable, and none of the node's own."""
        state = self._layout.state.absolute()
        for folder in self._tree.folders:
            path = folder.path.absolute()
            if not path.is_dir() or not os.access(path, os.R_OK | os.W_OK | os.X_OK):
                self.report.errors.append(
                    f"folders.{folder.name}: {path} is no folder that this user may read and write"
                )
            elif path.is_relative_to(state) or state.is_relative_to(path):
                self.report.errors.append(f"folders.{folder.name}: {path} and node.state lie within each other")
            else:
                self.report.lines.append(f"folder {folder.name}: files of {path} are taken as from {folder.ae_title}")

    def rules(self) -> None:
        """Rules of routing: models that none of them names, and modalities that no model of theirs takes."""
        if not self._tree.rules:
            self.report.lines.append("rules: none; every study goes to every model, its results to every destination")
            return
        packages = {one.manifest.name: one.manifest for one in rooms.load_packages(self._tree)}
        prove_rules(self._tree, tuple(packages))
        processing = [rule for rule in self._tree.rules if rule.action == "process"]
        for name in packages:
            if not any(rule.models is None or name in rule.models for rule in processing):
                self.report.warnings.append(f"rules: none of them names {name}; it gets no study")
        for rule in self._tree.rules:
            to = rule.models if rule.models is not None else tuple(packages)
            taken = {modality for name in to for modality in packages[name].input.modalities}
            if rule.action == "process" and rule.modalities and not taken & set(rule.modalities):
                self.report.warnings.append(
                    f"rules.{rule.name}: none of its models takes {', '.join(rule.modalities)}; they take {', '.join(sorted(taken))}"
                )
            self.report.lines.append(f"rule {describe_rule(rule)}")

    def _port(self, host: str, port: int, how: str) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((host, port))
        except OSError as error:
            self._port_taken(host, port, error)
        else:
            self.report.lines.append(f"{self._tree.node.ae_title} can listen on {host} port {port}{how}")

    def _port_taken(self, host: str, port: int, error: OSError) -> None:
        """A port that a node may hold, or that the service alone may open, is no fault of the configuration."""
        where = f"listen: {host} port {port}: {os.strerror(error.errno or 0)}"
        if error.errno == errno.EADDRINUSE:
            self.report.warnings.append(f"{where} (a running node holds it itself)")
        elif error.errno == errno.EACCES:
            self.report.warnings.append(f"{where} (a service gets it by systemd/port-104.conf)")
        else:
            problem = (
                f"listen.host: port-unavailable: {host} is no address of this host; name one of its own, or 0.0.0.0"
            )
            self.report.errors += [problem] if problem not in self.report.errors else []

    def _validity(self, certificate: Path, setting: str) -> None:
        left = valid_until(certificate) - rooms.now()
        if left.total_seconds() <= 0:
            self.report.errors.append(f"{setting}: the node's certificate has expired; every peer will refuse it")
        elif left.days < _SOON_DAYS:
            self.report.warnings.append(f"{setting}: the node's certificate expires in {left.days} days")

    def destinations(self) -> None:
        if self._tree.services.storage_commitment and self._usable(
            "services.commitment_destination", partial(committing_destination, self._tree)
        ):
            pacs = committing_destination(self._tree)
            if pacs is None:
                self.report.errors.append("services.storage_commitment: there is no destination that could commit")
            else:
                self.report.lines.append(f"storage commitment is answered with what {pacs.ae_title} commits")
        if not self._tree.destinations:
            self.report.warnings.append("destinations: none; results stay sealed in the state folder")
        for destination in self._tree.destinations:
            self._destination(destination)

    def sources(self) -> None:
        """Sources, whether they answer, and whether there can be a door for what C-MOVE sends."""
        retrieval = self._tree.retrieval
        if open_door(self._tree, silent) is not None:
            self._port(self._tree.listen.host, retrieval.port, f" as {retrieval.ae_title}, for C-MOVE")
        for one in self._tree.sources:
            if one.tls is None or self._usable(f"sources.{one.name}.tls", partial(client_tls, one.tls)):
                where = f"source {one.name} ({one.peer}; {one.way})"
                self._answers(where, retriever_of(self._tree, one, None).echo)

    def exports(self) -> None:
        for export in self._tree.exports:
            setting = f"exports.{export.name}"
            if export.into is not None:
                folder = _existing(export.into)
                if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
                    self.report.errors.append(f"{setting}.into: no folder can be made or written at {export.into}")
                else:
                    self.report.lines.append(f"export {export.name} writes into {export.into}")
            elif export.tls is None or self._usable(f"{setting}.tls", partial(client_tls, export.tls)):
                self._answers(
                    f"export {export.name} ({export.peer})", outlet_of(self._tree, export, self._environment).echo
                )

    def _answers(self, where: str, echo: Callable[[], None]) -> None:
        try:
            echo()
            self.report.lines.append(f"{where} answers")
        except PeerError as error:
            self.report.warnings.append(f"{where}: {error}; {error.reason.advice}")

    def _usable(self, setting: str, load: Callable[[], object]) -> bool:
        try:
            load()
        except NodeError as error:
            self.report.errors.append(f"{setting}: {error}; {error.reason.advice}")
            return False
        return True

    def _destination(self, destination: Destination) -> None:
        place = destination.url or f"{destination.ae_title} at {destination.host} port {destination.port}"
        where = f"destination {destination.name} ({place})"
        if destination.tls and not self._usable(
            f"destinations.{destination.name}.tls", partial(client_tls, destination.tls)
        ):
            return
        requestor = requestor_of(self._tree, destination)
        try:
            requestor.echo()
            self.report.lines.append(f"{where} answers{'' if destination.url else ' C-ECHO'}")
            self._takes(destination, requestor)
        except PeerError as error:
            self.report.warnings.append(f"{where}: {error}; {error.reason.advice}")

    def _takes(self, destination: Destination, requestor: Requesting) -> None:
        """Ask what the destination takes of what it is to get; what it does not take, and what goes instead."""
        for package in rooms.load_packages(self._tree):
            wishes = wishes_of(destination, package.manifest)
            wanted = sop_classes(wishes)
            refused = frozenset(wanted) - requestor.probe(wanted)
            chosen = choose(wishes, refused)
            said = ", ".join(f"{variant.role.value} as {variant.form.value}" for variant in chosen) or "nothing"
            self.report.lines.append(f"destination {destination.name} gets of {package.manifest.name}: {said}")
            self.report.warnings.extend(
                f"destination {destination.name} does not take {variant.role.value} as {variant.form.value}"
                for variant in missed(wishes, chosen)
            )
            self.report.warnings.extend(
                f"destination {destination.name} takes {variant.role.value} in no form; its delivery will fail"
                for variant in chosen
                if variant.sop_class_uid in refused
            )


def _asks_for_certificate(rule: PeerRule) -> bool:
    return bool(rule.certificate_sha256 or rule.certificate_subject or rule.certificate_issuer)


def _hides(first: PeerRule, later: PeerRule) -> bool:
    """Whether a rule lets in everybody that a later one would."""
    return (
        first.by_dimse
        and not _asks_for_certificate(first)
        and not first.addresses
        and first.ae_title in (None, later.ae_title)
    )


def _describe(package: Package, engine: str) -> str:
    manifest = package.manifest
    note = ", research only" if manifest.research_only else ""
    return f"model {manifest.name} {manifest.version} ({manifest.title}{note}) on {engine}"


def _existing(path: Path) -> Path:
    return path if path.exists() else _existing(path.parent)
