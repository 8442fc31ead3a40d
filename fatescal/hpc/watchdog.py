"""A thread of every rank that notices when another is dead, hangs or cannot go on, and reports it once.

MPI itself does not tell the others of a dead rank: they wait in a collective call until the wall time ends.
And an error that all ranks meet at once would be printed by each of them. So every rank keeps a TCP
connection to root, over which both send a byte every few seconds:

- closed without notice: the other process is dead (the kernel closes for it);
- unacknowledged by the other node's kernel: the node is dead;
- nothing received for `limit` seconds: the process is stopped, or native code holds its interpreter;
- a sentence: the other cannot go on, and this is why;
- notice that it ends, and `limit` seconds later this process still works: it waits for one that has ended.

All ranks leave together (`leave`): a job aborted while one of its ranks is in MPI_Finalize leaves mpirun
(Open MPI 4.1, PMIx) in a deadlock of its own, once in 35 times, and an allocation idle until its wall time
ends.

The same connections serve a counter (`take`) where MPI has no one-sided communication to hand out tasks with.

Then root prints one message and aborts the job; when root is the dead one, the lowest surviving rank does.

Time is counted in beats of this thread, not read off a clock: neither a jump of the clock nor a suspended job
makes anyone look dead. Rejected: files touched by every rank (128 writers on a network file system whose
nodes disagree on times), MPI messages from a thread (not every MPI lets two threads call it), a ring of
neighbours (a message reaches root last).
"""

from __future__ import annotations

import contextlib
import hmac
import json
import os
import queue
import secrets
import selectors
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from fatescal.base.errors import KEPT
from fatescal.hpc.peer import Peer

LIMIT = 600.0  # s without a sign of life; native code (a compiler, a decomposition) may hold the interpreter
BEAT = 2.0  # s
NODE_DEAD = 45  # s until bytes no kernel acknowledges count as the death of a node
REPORT_DELAY = 10.0  # s that a rank leaves root to report an error, before it reports it itself
READ_WITHIN = 0.5  # s for the others to read that the job ends: with this process they would lose it
FIRST_LINE = 1000  # bytes within which a connection must show the token ...
TOKEN_WITHIN = 10.0  # ... and seconds
# this process ends as it should; all do (from root); this process has reported why the job ends
ENDING, ALL_END, REPORTED = "null", "false", "true"


@dataclass(frozen=True)
class WatchdogAddress:
    """Where root's watchdog is reached; the token keeps other programs on the network out."""

    host: str
    port: int
    token: str
    process: int


@dataclass(eq=False)
class _Unidentified:
    """A connection that has not shown the token: a rank's, for a moment, or another program's."""

    connection: socket.socket
    silent: float = 0.0  # s, in beats of this thread
    unread: bytes = b""


@dataclass
class Watchdog:
    """The watchdog of one rank.

    Parameters
    ----------
    end : callable
        Ends the whole job at once; called on the rank that has reported why.
    limit : float
        Seconds without a sign of life after which a process counts as hanging.
    n_others : int
        Ranks that root waits for before it leaves.
    """

    rank: int
    end: Callable[[], None]
    limit: float = LIMIT
    n_others: int = 0
    _peers: list[Peer] = field(default_factory=list, init=False)
    _selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector, init=False)
    _unidentified: list[_Unidentified] = field(default_factory=list, init=False)
    _listening: tuple[socket.socket, WatchdogAddress] | None = field(default=None, init=False)
    _reported: threading.Lock = field(default_factory=threading.Lock, init=False)
    _section: tuple[float, str] | None = field(default=None, init=False)  # s left, what is said then
    _closed: bool = field(default=False, init=False)
    _leaving: bool = field(default=False, init=False)
    _all_end: threading.Event = field(default_factory=threading.Event, init=False)
    _counter: tuple[int, int] = field(default=(0, 0), init=False)  # on root: batch, next number
    _counting: threading.Lock = field(default_factory=threading.Lock, init=False)
    _taken: queue.SimpleQueue[int] = field(default_factory=queue.SimpleQueue, init=False)

    @property
    def beat(self) -> float:
        return min(BEAT, self.limit / 5)

    def open(self) -> WatchdogAddress:
        """Listen for the other ranks, on root; return where."""
        listener = socket.create_server(("", 0), backlog=1024)
        listener.setblocking(False)  # who asked for a connection may have gone
        address = WatchdogAddress(
            socket.gethostname(), listener.getsockname()[1], secrets.token_hex(16), os.getpid()
        )
        self._listening = listener, address
        self._selector.register(listener, selectors.EVENT_READ, None)
        self._start()
        return address

    def join(self, address: WatchdogAddress) -> OSError | None:
        """Connect to root, on another rank; return the error if that is impossible."""
        here = socket.gethostname()
        try:
            connection = socket.create_connection(
                ("127.0.0.1" if address.host == here else address.host, address.port), 30.0
            )
        except OSError as error:
            return error
        root = Peer(0, address.host, address.process, connection)
        root.send(json.dumps([address.token, self.rank, here, os.getpid()]))
        self._watch_peer(root)
        self._start()
        return None

    def leave(self) -> None:
        """Wait until all ranks that watch each other have come here, then stop watching.

        A rank that dies or hangs meanwhile still ends the job; so does one that waits for this rank.
        """
        self._leaving = True
        for peer in self._peers:
            peer.send(ENDING)
        self._tell_all_end()
        self._all_end.wait()
        self.close()

    def close(self) -> None:
        """Stop watching at once."""
        self._closed = True

    def _tell_all_end(self) -> None:
        """On root, tell the others when all ranks are leaving."""
        n_leaving = sum(peer.leaving for peer in self._peers)
        if self.rank == 0 and self._leaving and n_leaving == self.n_others:
            for peer in self._peers:
                peer.send(ALL_END)
            self._all_end.set()

    def take(self, batch: int, first: int, step: int) -> int:
        """Return the number a batch's counter, kept by root, stands at, and raise it by `step`; it begins at
        `first`.

        One batch is under way at a time, and batches have rising numbers.
        """
        if self.rank == 0:
            return self._raise(batch, first, step)
        self._peers[0].send(json.dumps([batch, first, step]))
        return self._taken.get()  # if root is dead, the watchdog ends the job

    def _raise(self, batch: int, first: int, step: int) -> int:
        with self._counting:
            current, number = self._counter
            number = number if batch == current else first
            self._counter = batch, number + step
            return number

    @contextlib.contextmanager
    def within(self, seconds: float, text: str) -> Iterator[None]:
        """End the job with `text` if the body, of this rank's main thread, takes longer."""
        around, self._section = self._section, (seconds, text)
        try:
            yield
        finally:
            self._section = around

    def fail(self, text: str) -> None:
        """End the whole job with `text`, unless another rank has already reported why it ends."""
        if self.rank != 0 and self._peers and not self._peers[0].gone:
            self._peers[0].send(json.dumps(text))
            time.sleep(REPORT_DELAY + 0.25 * self.rank)  # root ends the job meanwhile; if it cannot:
        if self._reported.acquire(blocking=False):
            with contextlib.suppress(OSError):
                sys.stderr.flush()
                os.write(2, text.rstrip().encode() + b"\n")
            for peer in self._peers:
                peer.send(REPORTED)
            signal.alarm(int(REPORT_DELAY))  # the kernel ends this process if nothing else does
            time.sleep(READ_WITHIN)
        else:
            time.sleep(REPORT_DELAY)  # another rank has reported, and ends the job
        self.end()

    def _start(self) -> None:
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def _watch(self) -> None:
        next_beat = time.monotonic() + self.beat
        while not self._closed:
            for key, _ in self._selector.select(max(0.0, next_beat - time.monotonic())):
                if key.data is None:
                    self._accept()
                elif isinstance(key.data, _Unidentified):
                    self._identify(key.data)
                else:
                    self._receive(key.data)
            if time.monotonic() >= next_beat:
                next_beat = time.monotonic() + self.beat
                self._check_silence()

    def _accept(self) -> None:
        """Accept a connection, which is unidentified until its first line holds the token."""
        assert self._listening is not None
        with contextlib.suppress(OSError):
            connection, _ = self._listening[0].accept()
            connection.setblocking(False)
            newcomer = _Unidentified(connection)
            self._unidentified.append(newcomer)
            self._selector.register(connection, selectors.EVENT_READ, newcomer)

    def _identify(self, newcomer: _Unidentified) -> None:
        """Take a connection for a rank once its first line holds the token; close any other."""
        try:
            more = newcomer.connection.recv(FIRST_LINE)
        except BlockingIOError:
            return
        except OSError:
            more = b""
        newcomer.unread += more
        first, newline, rest = newcomer.unread.partition(b"\n")
        if more and not newline and len(first) < FIRST_LINE:
            return  # the rest of the line is still to come
        self._drop(newcomer)
        peer = self._rank(first, newcomer.connection) if newline else None
        if peer is None:
            newcomer.connection.close()
            return
        peer.unread = rest
        self._watch_peer(peer)

    def _rank(self, line: bytes, connection: socket.socket) -> Peer | None:
        """Return the rank that a first line names, None without the token."""
        assert self._listening is not None
        with contextlib.suppress(ValueError, TypeError):
            token, rank, host, process = json.loads(line)
            if hmac.compare_digest(token, self._listening[1].token):
                return Peer(rank, host, process, connection)
        return None

    def _drop(self, newcomer: _Unidentified) -> None:
        self._unidentified.remove(newcomer)
        self._selector.unregister(newcomer.connection)

    def _watch_peer(self, peer: Peer) -> None:
        peer.connection.settimeout(None)
        with contextlib.suppress(AttributeError, OSError):  # Linux alone can say this
            peer.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1000 * NODE_DEAD)
        self._peers.append(peer)
        self._selector.register(peer.connection, selectors.EVENT_READ, peer)

    def _receive(self, peer: Peer) -> None:
        lines = peer.lines()
        peer.silent = 0.0
        for line in lines or []:
            if line in (ENDING, ALL_END, REPORTED):
                peer.gone = True
                if line == ENDING:
                    peer.leaving = True
                    self._tell_all_end()
                elif line == ALL_END:
                    self._all_end.set()
                else:
                    self._reported.acquire(blocking=False)
            elif line:
                self._answer(peer, json.loads(line))
        if lines is None:
            self._selector.unregister(peer.connection)
            if not (peer.gone or self._closed):
                peer.gone = True
                self._report_dead(peer)

    def _answer(self, peer: Peer, message: str | int | list[int]) -> None:
        """Act on a message: end the job for a reason, hand out a number (root), take one (others)."""
        match message:
            case str():
                self.fail(message)
            case int():
                self._taken.put(message)
            case [batch, first, step]:
                peer.send(json.dumps(self._raise(batch, first, step)))

    def _report_dead(self, peer: Peer) -> None:
        self._wait_for_lower_ranks()
        self.fail(f"fatescal: {peer} is dead: killed, out of memory, or its node is down. {KEPT}")

    def _wait_for_lower_ranks(self) -> None:
        """Leave it to a lower rank to report that root is gone, and to end the job meanwhile."""
        if self.rank > 1:
            time.sleep(REPORT_DELAY / 2 + 0.25 * self.rank)

    def _check_silence(self) -> None:
        """Close connections without token, send a heartbeat, end the job where a rank is silent too long."""
        for newcomer in self._unidentified.copy():
            newcomer.silent += self.beat
            if newcomer.silent > TOKEN_WITHIN:
                self._drop(newcomer)
                newcomer.connection.close()
        for peer in self._peers:
            peer.send()
            peer.silent += self.beat
            peer.missed += self.beat if peer.gone else 0.0
            if peer.missed > self.limit and not self._leaving:
                self._wait_for_lower_ranks()
                self.fail(
                    f"fatescal: {peer} has ended, and rank {self.rank} still waits {self.limit:g} s later "
                    f"(--heartbeat): an error of fatescal. {KEPT}"
                )
            if peer.silent > self.limit and not peer.gone:
                peer.gone = True
                self._wait_for_lower_ranks()
                self.fail(
                    f"fatescal: {peer} hangs: no sign of life for {self.limit:g} s (--heartbeat). {KEPT}"
                )
        if self._section is not None:
            left, text = self._section
            self._section = left - self.beat, text
            if left <= 0:
                self.fail(text)
