"""SIGUSR1, by which job scripts say that the wall time is nearly over. It imports nothing that takes time."""

from __future__ import annotations

import signal
import threading

_received = threading.Event()


def catch() -> None:
    """Take SIGUSR1, from now on, as the wish that this process stops cleanly; one that came before is
    forgotten. Without this it ends the process.
    """
    _received.clear()
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGUSR1, lambda *_: _received.set())


def received() -> bool:
    """Whether SIGUSR1 has come since `catch`."""
    return _received.is_set()
