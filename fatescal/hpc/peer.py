"""The process at the other end of a watchdog's connection."""

from __future__ import annotations

import contextlib
import socket
from dataclasses import dataclass


@dataclass
class Peer:
    """A process at the other end of a connection."""

    rank: int
    host: str
    process: int
    connection: socket.socket
    silent: float = 0.0  # s, in beats of this thread
    gone: bool = False  # is no longer expected to show signs of life
    leaving: bool = False  # has said that it ends
    missed: float = 0.0  # s since then, in beats of this thread
    unread: bytes = b""

    def __str__(self) -> str:
        return f"rank {self.rank} (process {self.process} on {self.host})"

    def send(self, line: str = "") -> None:
        with contextlib.suppress(OSError):  # a broken connection is noticed when reading
            self.connection.send(line.encode() + b"\n", socket.MSG_DONTWAIT)

    def lines(self) -> list[str] | None:
        """Return what has arrived, None if the connection is closed."""
        try:
            more = self.connection.recv(65536)
        except OSError:
            return None
        *lines, self.unread = (self.unread + more).split(b"\n")
        return [line.decode() for line in lines] if more else None
