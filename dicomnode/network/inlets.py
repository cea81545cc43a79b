"""All ways in by network as one: associations, and STOW-RS where it is enabled; both share places, and are drained together."""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping
from types import MappingProxyType

from dicomnode.config import Config
from dicomnode.encoded import Limits
from dicomnode.errors import ConfigError
from dicomnode.events import Emit
from dicomnode.network.acceptor import Acceptor, Listeners, bound
from dicomnode.network.intake import Reception
from dicomnode.network.places import Places
from dicomnode.network.session import Service
from dicomnode.network.stow_acceptor import StowAcceptor
from dicomnode.pulses import Pulse


class Inlets(Acceptor):
    """As `Acceptor`, of the whole configuration.

    Parameters
    ----------
    tree
        Configuration.
    limits, reception, services, places, emit
        As of `Acceptor`.
    """

    def __init__(
        self,
        tree: Config,
        limits: Limits,
        reception: Reception,
        *,
        emit: Emit,
        services: Mapping[tuple[str, int], Service] = MappingProxyType({}),
        places: Places | None = None,
    ) -> None:
        shared = places or Places(tree.listen.maximum_connections)
        super().__init__(
            tree.listen,
            tree.intake,
            tree.node.ae_title,
            limits,
            reception,
            peers=tree.peers,
            services=services,
            places=shared,
            emit=emit,
        )
        self._tree = tree
        self.web_address: tuple[str, int] | None = None
        self._web: StowAcceptor | None = None
        if tree.stow.enabled:
            self._web = StowAcceptor(
                tree.stow,
                tree.listen,
                tree.intake,
                ae_title=tree.node.ae_title,
                limits=limits,
                peers=tree.peers,
                reception=reception,
                places=shared,
                emit=emit,
            )

    def start(self, listeners: Listeners | None = None, web: socket.socket | None = None) -> tuple[str, int]:
        """As `Acceptor.start`; the socket of STOW-RS, too, listens already, or is opened here."""
        if self._web is not None:
            web = web or open_web_listener(self._tree)
            assert web is not None
            try:
                self._web.start(web)
            except ConfigError:
                web.close()
                raise
            self.web_address = address_of(web)
        return super().start(listeners)

    @property
    def pulses(self) -> tuple[Pulse, ...]:
        """Of the threads that accept."""
        return (*super().pulses, *(() if self._web is None else self._web.pulses))

    @property
    def accepting(self) -> bool:
        """Whether connections are taken everywhere, or a drain has begun."""
        return super().accepting and (self._web is None or self._web.accepting)

    def reload_certificates(self) -> None:
        """Read the files of TLS anew."""
        super().reload_certificates()
        if self._web is not None:
            self._web.reload_certificates()

    def drain(self, timeout: float) -> bool:
        """As `Acceptor.drain`, of both, in the same time."""
        if self._web is None:
            return super().drain(timeout)
        deadline = time.monotonic() + timeout
        self._web.stop_listening()
        clean = super().drain(timeout)
        return self._web.finish(deadline) and clean

    def abort(self) -> None:
        """As `Acceptor.abort`."""
        if self._web is not None:
            self._web.stop_listening()
            self._web.abort()
        super().abort()


def open_web_listener(tree: Config) -> socket.socket | None:
    """Bind what STOW-RS listens on; None where it is not enabled.

    Raises
    ------
    ConfigError
        ``port-unavailable``.
    """
    return bound(tree.stow.host, tree.stow.port) if tree.stow.enabled else None


def address_of(listener: socket.socket | None) -> tuple[str, int] | None:
    """Address and port that are listened on."""
    if listener is None:
        return None
    name = listener.getsockname()
    return str(name[0]), int(name[1])
