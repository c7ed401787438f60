"""Exclusive locks that the system releases when their holder ends, however it ends.

A lock has two layers, and a process holds it once it has both:

1. A socket in Linux's abstract namespace, named after the path of the lock file. It exists in memory alone, so removing
   the folder with the lock file (`rm -rf .reprise` during a run) does not free it. It keeps out every process of this
   machine; a container with a network of its own does not see it.
2. flock(2) on the file itself, which containers see, and other machines on a shared file system.

Both end with the process, even by SIGKILL, so no lock is ever stale. Where a file system has no flock (NFS without a
lock daemon, Lustre without `-o flock`), the first layer works alone, and a line on stderr says so.

The lock file may be removed and made again, by its holder (a work folder that is done) or by others. So whoever gets
flock checks that the file of that name is still the one that it has locked, and otherwise opens the new one.
"""

from __future__ import annotations

import errno
import hashlib
import os
import socket
import struct
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from reprise.config.errors import StorageError, printable
from reprise.storage.atomic import explained_storage, flock_refusal

_POLL_SECONDS = 0.1
_NOTE_BYTES = 300  # of the lock file: process and command of the holder, for messages
_PEER = struct.Struct("3i")  # process, user, group: unix(7), SO_PEERCRED
_noted: list[Path] = []  # one note a process is enough


class FileLock:
    """An exclusive lock on a path; the file and the folders above it are made.

    Attributes:
        path: the lock file.
        this_machine_only: whether the file system has no flock, so that other machines are not kept out.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.this_machine_only = path, False
        self._socket: int | None = None  # descriptors, which live until they are closed or the process ends
        self._descriptor: int | None = None
        self._name = _socket_name(path)

    def take(self) -> bool:
        """Take the lock unless another process holds it, and return whether this process holds it now.

        Raises:
            StorageError: the lock file cannot be written, or this system has no locks at all.
        """
        if self._descriptor is not None:
            return True
        if not self._take_socket():
            return False
        try:
            taken = self._take_file()
        except BaseException:
            self.release()
            raise
        if not taken:
            self.release()
        return taken

    def release(self) -> None:
        """Give the lock back."""
        for descriptor in (self._descriptor, self._socket):
            if descriptor is not None:
                os.close(descriptor)
        self._descriptor = self._socket = None

    def is_held(self) -> bool:
        """Return whether another process holds the lock; the file is neither made nor written.

        Raises:
            OSError: the file does not exist or cannot be opened.
        """
        if not self._take_socket():
            return True
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
            try:
                return isinstance(flock_refusal(descriptor), BlockingIOError)
            finally:
                os.close(descriptor)
        finally:
            self.release()

    def holder(self) -> str:
        """Return "process 12: python -m stages.shard", as far as it is known who holds the lock."""
        try:
            with open(self.path, "rb") as file:
                note = file.read(_NOTE_BYTES).decode("utf-8", "replace").strip()
        except OSError:  # it was removed
            note = ""
        return note or self._socket_holder() or "a process that has just started, or runs on another machine"

    def _take_socket(self) -> bool:
        if self._name is None or self._socket is not None:
            return True
        # The socket listens only so that others can ask whose it is (`_socket_holder`); nobody ever answers there.
        claimed = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            claimed.bind(self._name)
            claimed.listen(64)
        except OSError as error:
            claimed.close()
            if error.errno == errno.EADDRINUSE:
                return False
            self._name = None  # a system that forbids such sockets: the file alone must do
            return True
        self._socket = claimed.detach()
        return True

    def _socket_holder(self) -> str:
        if self._name is None:
            return ""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as client:
            client.setblocking(False)
            try:
                client.connect(self._name)
                pid, _, _ = _PEER.unpack(client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
                command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
            except OSError:  # it has just ended
                return ""
        return f"process {pid}: {' '.join(command.split())}"[:_NOTE_BYTES]

    def _take_file(self) -> bool:
        while True:
            with explained_storage(self.path):
                self.path.parent.mkdir(parents=True, exist_ok=True)
                descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            self._descriptor = descriptor
            refusal = flock_refusal(descriptor)
            if isinstance(refusal, BlockingIOError):
                return False
            if refusal is not None:
                self._do_without_flock(refusal)
            if self._is_current(descriptor):
                self._write_note(descriptor)
                return True
            os.close(descriptor)
            self._descriptor = None

    def _is_current(self, descriptor: int) -> bool:
        """Return whether the locked file is still the one that new processes would open."""
        try:
            return os.path.samestat(os.fstat(descriptor), os.stat(self.path))
        except FileNotFoundError:
            return False

    def _do_without_flock(self, error: OSError) -> None:
        if self._socket is None:
            raise StorageError(
                "the file system has no locks",
                where=self.path,
                found=f"flock: {error.strerror}",
                fix="Mount it with locks (NFS: a lock daemon; Lustre: `-o flock`), or work in another folder.",
            ) from error
        self.this_machine_only = True
        if not _noted:
            _noted.append(self.path)
            what = f"note: {self.path} lies on a file system without locks (flock: {error.strerror})."
            print(
                printable(f"{what} A second run is kept out on this machine, not on others that share the folder."),
                file=sys.stderr,
                flush=True,
            )

    def _write_note(self, descriptor: int) -> None:
        command = " ".join(" ".join(["python", *sys.orig_argv[1:]]).split())
        note = f"process {os.getpid()}: {command}".encode("utf-8", "backslashreplace")[:_NOTE_BYTES]
        with explained_storage(self.path):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, note, 0)


@contextmanager
def waiting_for(path: Path) -> Iterator[None]:
    """Hold the lock on a path, after waiting for as long as another process holds it."""
    lock = FileLock(path)
    try:
        while not lock.take():
            time.sleep(_POLL_SECONDS)
        yield
    finally:
        lock.release()


def _socket_name(path: Path) -> bytes | None:
    """Return the abstract name of a lock's socket, or None where there is no such namespace.

    Links are followed, so that the same file has one name whatever way leads to it.
    """
    if sys.platform != "linux":
        return None
    digest = hashlib.sha256(os.path.realpath(path).encode("utf-8", "surrogateescape")).hexdigest()
    return f"\0reprise-{digest}".encode("ascii")
