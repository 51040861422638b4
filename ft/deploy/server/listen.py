"""A port to listen on."""

import errno
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ft.errors import UserError, one_of, require

NEXT, ERROR = "next", "error"
LAST_PORT = 65_535
# Whoever has this many servers on neighbouring ports has lost count of them.
MAX_TRIES = 100


@dataclass(frozen=True)
class Address:
    """Where to listen.

    Attributes:
        host: Of this machine; ``0.0.0.0`` or ``::`` for all of its addresses.
        port: ``0`` for any that is free.
        port_taken: ``next`` tries the ports after it, ``error`` refuses.

    Raises:
        UserError: The port is none, or ``port_taken`` no choice.
    """

    host: str
    port: int
    port_taken: str

    def __post_init__(self) -> None:
        require(0 <= self.port <= LAST_PORT, "port", f"must be from 0 to {LAST_PORT}", self.port)
        one_of(self.port_taken, (NEXT, ERROR), "port_taken")

    @classmethod
    def of(cls, wishes: Mapping[str, Any]) -> "Address":
        """From the keys of ``conf/serve.yaml``."""
        return cls(str(wishes["host"]), wishes["port"], wishes["port_taken"])

    @property
    def is_public(self) -> bool:
        """Whether other machines may reach it."""
        return not (self.host == "localhost" or self.host.startswith("127.") or self.host == "::1")

    def url(self, port: int | None = None) -> str:
        """How this machine reaches it."""
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(self.host, self.host)
        host = f"[{host}]" if ":" in host and not host.startswith("[") else host
        return f"http://{host}:{self.port if port is None else port}"

    def listen(self) -> socket.socket:
        """A socket that listens from now on: whoever connects before the server is ready waits.

        Raises:
            UserError: The port is taken, not allowed, or the host not this machine's.
        """
        tries = [self.port]
        if self.port_taken == NEXT and self.port:
            tries = list(range(self.port, min(self.port + MAX_TRIES, LAST_PORT + 1)))
        for port in tries:
            try:
                return _listening(self.host, port)
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    reason = error.strerror or str(error)
                    raise UserError(f"host={self.host} port={port} cannot be listened on: {reason}.") from None
        if len(tries) == 1:
            raise UserError(
                f"port={self.port} is taken. Set another one, or port_taken={NEXT} for the next that is free."
            )
        raise UserError(f"port={self.port} is taken, and so are all up to {tries[-1]}. Set port=0 for any free one.")


def _listening(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, kind, protocol)
    try:
        # A port whose last connections are a minute old is free.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(2048)
    except OSError:
        listener.close()
        raise
    return listener
