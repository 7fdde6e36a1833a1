"""A command in a process of its own, which JAX may end from one moment to the next.

When one process of several is lost, or does not come, JAX aborts the others and prints pages. The process that the user
started therefore waits for another that computes, keeps what native code prints, and says in one line how it ended.
The two are connected: neither outlives the other.
"""

from __future__ import annotations

import os
import signal as signals
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TextIO

# Tells a process that it is supervised: descriptors of its connection, and of the file for what native code prints.
VARIABLE = "BAYESUNMIX_SUPERVISED"
# The signal by which JAX ends a process.
ABORTED = signals.SIGABRT
# That by which a person or a queue does.
STOPPED = signals.SIGTERM
_JOINED = b"joined"
# A shell's status of a command that a signal ended.
_BY_SIGNAL = 128
_ORPHANED = 1

_connection: list[socket.socket] = []


@dataclass(frozen=True)
class Ended:
    """How the process that computes ended.

    Attributes
    ----------
    status
        Exit status, as a shell gives it.
    signal
        Signal that ended it; None if none did.
    joined
        Whether it had found the others.
    native
        What native code printed.
    """

    status: int
    signal: signals.Signals | None
    joined: bool
    native: str


def can_supervise() -> bool:
    """Whether this system hands open descriptors on, and this process is not supervised itself."""
    return os.name == "posix" and VARIABLE not in os.environ and not _connection


def supervise(arguments: Sequence[str]) -> Ended:
    """Run ``bayesunmix`` with these arguments in a process of its own, and wait for its end."""
    here, there = socket.socketpair()
    with here, there, tempfile.TemporaryFile() as native:
        descriptors = (there.fileno(), native.fileno())
        paths = os.pathsep.join(os.path.abspath(entry) for entry in sys.path if entry)
        given = {VARIABLE: ",".join(map(str, descriptors)), "PYTHONPATH": paths}
        # All processes of a run iterate over sets in the same order.
        environment = {"PYTHONHASHSEED": "0", **os.environ, **given}
        command = [sys.executable, "-P", "-m", "bayesunmix", *arguments]
        with subprocess.Popen(command, env=environment, pass_fds=descriptors) as process:
            there.close()
            with _passed_on(process):
                code = process.wait()
        here.setblocking(False)
        try:
            joined = here.recv(len(_JOINED)) == _JOINED
        except (BlockingIOError, ConnectionError):
            joined = False
        native.seek(0)
        said = native.read().decode("utf-8", "replace")
    if code < 0:
        return Ended(_BY_SIGNAL - code, signals.Signals(-code), joined, said)
    return Ended(code, None, joined, said)


def be_supervised() -> None:
    """In the process that computes: keep native output apart from Python's, and end with the one that supervises."""
    if VARIABLE not in os.environ or _connection:
        return
    link, native = map(int, os.environ.pop(VARIABLE).split(","))
    _connection.append(socket.socket(fileno=link))
    sys.stdout.flush()
    sys.stdout, sys.stderr = (_kept_open(stream) for stream in (sys.stdout, sys.stderr))
    for number in (1, 2):
        os.dup2(native, number)
    threading.Thread(target=_end_with_supervisor, daemon=True).start()


def note_joined() -> None:
    """Tell the process that supervises, if one does, that this one has found the others."""
    for connection in _connection:
        connection.sendall(_JOINED)


def _kept_open(stream: TextIO) -> TextIO:
    return os.fdopen(os.dup(stream.fileno()), "w", 1, encoding=stream.encoding, errors=stream.errors)


def _end_with_supervisor() -> None:
    # A connection whose other end was killed is reset if something lay unread there.
    with suppress(ConnectionError):
        _connection[0].recv(1)
    os._exit(_ORPHANED)


@contextmanager
def _passed_on(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Pass on what asks for an end; Ctrl-C in a terminal reaches both processes by itself."""
    former = {
        signals.SIGTERM: signals.signal(signals.SIGTERM, lambda *_: process.terminate()),
        signals.SIGINT: signals.signal(signals.SIGINT, signals.SIG_IGN),
    }
    try:
        yield
    finally:
        for kind, handler in former.items():
            signals.signal(kind, handler)
