"""A function in a process of its own: what crashes, hangs or eats memory there costs one call and nothing else.

The process is forked from a server that has imported the function's module once, so a new one starts in a moment.
"""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing
import os
import pickle
import signal
import sys
import time
from collections.abc import Iterator
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal, NamedTuple

from monai_tpseg.cores import control_groups

__all__ = [
    "LOST",
    "Call",
    "CallLost",
    "ChildProcess",
    "LostReason",
    "NoProcessError",
    "available_memory",
    "free_memory",
    "warm_up",
]

LostReason = Literal["crash", "timeout", "memory"]

LOST: dict[LostReason, str] = {"crash": "E_CRASH", "timeout": "E_TIMEOUT", "memory": "E_MEMORY"}
"""Why a process has ended -> code."""

_METHOD = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
_GROUP_FILES = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)
"""Version 2 and 1 of control groups: file of the limit, file of what is used, cached files in `memory.stat`."""
_GIB = 2**30
_CHUNK = 2**26  # bytes of a message: nothing larger is ever held twice
_GRACE = 10.0  # seconds beyond the limit, until a process that the kernel did not end is ended from here
_START = 300.0  # seconds until a process must have imported its function


class CallLost(RuntimeError):
    """A call whose process ended before it answered.

    Attributes:
        reason: `timeout`, it took longer than allowed; `memory`, the system ended it, as it does where memory runs
            out; `crash`, anything else.
    """

    def __init__(self, reason: LostReason) -> None:
        self.reason = reason
        super().__init__(f"The process ended without an answer: {reason}.")


class NoProcessError(OSError):
    """A process that could not be started."""


class Call(NamedTuple):
    """What a call gave, and how long it took there, in seconds."""

    value: Any
    seconds: float


def available_memory(root: Path = Path("/")) -> int:
    """Return the bytes of memory that this process may use in all: those of the machine, or of its control groups.

    Args:
        root: of the file system.
    """
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 8 * _GIB
    return min([machine, *(limit for limit, _ in _group_limits(root))])


def free_memory(root: Path = Path("/")) -> int:
    """Return the bytes of memory that this process can still take without being ended, 0 or more.

    It is what the machine has available, what the control groups of the process leave, and what its own limit leaves
    (`ulimit -v`, and the memory of a `ChildProcess`).

    Args:
        root: of the file system.
    """
    sizes = [available_memory(root), *(limit - used for limit, used in _group_limits(root))]
    with contextlib.suppress(OSError, ValueError, IndexError):  # not Linux
        lines = (root / "proc/meminfo").read_text().splitlines()
        sizes += [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    if size := _size():
        import resource

        most = resource.getrlimit(resource.RLIMIT_AS)[0]
        sizes += [] if most == resource.RLIM_INFINITY else [most - size]
    return max(0, min(sizes))


def _group_limits(root: Path) -> Iterator[tuple[int, int]]:
    """Bytes that each control group of this process may use, where it has a limit, and bytes that it uses."""
    for folder in control_groups("memory", root) if sys.platform.startswith("linux") else ():
        for limit, used, cached in _GROUP_FILES:
            with contextlib.suppress(OSError, ValueError):  # no such version, or `max`: no limit
                yield int((folder / limit).read_text()), _used(folder, used, cached)


def _used(folder: Path, used: str, cached: str) -> int:
    """Bytes that a control group uses, except cached files, which make room; 0 where it does not tell."""
    with contextlib.suppress(OSError, ValueError):
        counts = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        return int((folder / used).read_text()) - int(counts.get(cached, 0))
    return 0


def warm_up(target: str) -> None:
    """Start the server of processes, which then imports the module of `target` while this process does other things.

    Args:
        target: `package.module:function`.
    """
    if _METHOD == "forkserver":
        multiprocessing.get_context(_METHOD).set_forkserver_preload([target.partition(":")[0]])
        with _deaf():
            forkserver.ensure_running()


@contextlib.contextmanager
def _deaf() -> Iterator[None]:
    """What is started inside never hears Ctrl-C, which the terminal sends to all: it would show where it stands."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows sends it to no process in the background
        yield
        return
    resource_tracker.ensure_running()  # now: it opens the ears of this process when it starts
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _nothing_of_the_program() -> Iterator[None]:
    """What is started inside does not run the program once more, guarded or not: it needs none of it."""
    main = vars(sys.modules["__main__"])
    hidden: dict[str, Any] = {name: main[name] for name in ("__file__", "__spec__") if name in main}
    main.update(dict.fromkeys(hidden))
    try:
        yield
    finally:
        main.update(hidden)


class ChildProcess:
    """Calls one function, one call at a time, in another process that is started again when it ends.

    What that process writes to its standard streams is dropped. Unlike elsewhere in `multiprocessing`, it does not
    import the program, which so needs no guard.

    Args:
        target: `package.module:function`; arguments, result and exceptions must be picklable. Arrays are handed over
            without a second copy.
        seconds: a call may take, more than 0. Where the system has alarms, its kernel keeps the time.
        memory: bytes that the process may grow by; only kept on Linux.
    """

    def __init__(self, target: str, seconds: float, memory: int) -> None:
        self.target, self.seconds, self.memory = target, seconds, memory
        self._process: Any = None
        self._connection: Connection | None = None
        self._ready = False
        self._sent = 0.0
        warm_up(target)

    def send(self, *arguments: Any) -> None:
        """Start a call; `receive` gives its result."""
        if self._connection is None:
            self._start()
        self._sent = time.monotonic()
        with contextlib.suppress(OSError):  # it has just ended: `receive` says so
            self._open().send(arguments)

    def receive(self) -> Call:
        """Return the result of the call that was started, or raise what it raised.

        Raises:
            CallLost: the process ended without an answer.
            NoProcessError: no process could be started.
        """
        connection = self._open()
        if not self._ready:
            self._greet(connection)
        try:
            left = self.seconds + _GRACE - (time.monotonic() - self._sent)
            if not connection.poll(max(left, 0.0)):
                raise self._lost("timeout")
            answered, value, seconds, last = _receive(connection)
        except (EOFError, OSError):
            raise self._lost() from None
        except BaseException:
            self.close()  # an answer may still be on its way
            raise
        if last:
            self.close()
        if not answered:
            raise value
        return Call(value, seconds)

    def close(self) -> None:
        """End the process; the next call starts another."""
        if self._connection is not None:
            self._connection.close()
            _end(self._process)
        self._process, self._connection, self._ready = None, None, False

    def _open(self) -> Connection:
        if self._connection is None:
            raise RuntimeError("No call was started; send one first.")
        return self._connection

    def _start(self) -> None:
        context: Any = multiprocessing.get_context(_METHOD)
        self._connection, theirs = context.Pipe()
        arguments = (theirs, self.target, self.seconds, self.memory)
        self._process = context.Process(target=_serve, args=arguments, daemon=True)
        with _deaf(), _nothing_of_the_program():  # its server starts again where it has ended
            self._process.start()
        theirs.close()

    def _greet(self, connection: Connection) -> None:
        try:
            if not connection.poll(_START):
                raise EOFError
            connection.recv_bytes()
        except (EOFError, OSError):
            self.close()
            raise NoProcessError(f"A process for {self.target} could not be started; is there memory left?") from None
        self._ready, self._sent = True, time.monotonic()

    def _lost(self, reason: LostReason | None = None) -> CallLost:
        """End what is left of the process, and say why it ended."""
        process = self._process
        if reason is None:
            process.join(_GRACE)
            code = process.exitcode
            reason = "crash"
            if code == -getattr(signal, "SIGALRM", 0):
                reason = "timeout"
            elif code == -getattr(signal, "SIGKILL", 0):
                reason = "memory"
        self.close()
        return CallLost(reason)


def _end(process: Any) -> None:
    """Kill a process with the children that it may have; one that was stopped while it was started has none."""
    if process is None or process.pid is None:
        return
    with contextlib.suppress(OSError, AttributeError):  # it is gone, or the system has no groups
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.join(_GRACE)  # the kernel ends no process that waits for a disc of some kinds: the system is left with it


def _serve(connection: Connection, target: str, seconds: float, memory: int) -> None:
    """The life of the other process: call after call, until nobody asks any more."""
    _shield()
    module, _, name = target.partition(":")
    function = getattr(importlib.import_module(module), name)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)  # the other cores are the network's, or another process's
    start = _limit(memory)
    connection.send_bytes(b"")
    with contextlib.suppress(EOFError, OSError):  # nobody waits any more
        while True:
            arguments = connection.recv()
            before = time.monotonic()
            _alarm(seconds)
            try:
                answer = (True, function(*arguments))
            except Exception as error:  # the function's business: it goes to the caller
                answer = (False, error)
            _alarm(0)
            last = memory > 0 and _size() - start > memory // 4  # what stays allocated is missing for the next call
            _send(connection, (*answer, time.monotonic() - before, last))
            del arguments, answer
            if last:
                return


def _shield() -> None:
    """Own group, so that a key stroke for the program does not end it; silence, because decoders print file names."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(os, "setsid"):
        with contextlib.suppress(OSError):
            os.setsid()
    if hasattr(signal, "SIGALRM"):
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
    silence = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(silence, stream)


def _alarm(seconds: float) -> None:
    """The kernel ends the process after `seconds`, whatever it is doing; 0 takes that back."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, seconds)


def _limit(memory: int) -> int:
    """Keep the process from growing by more than `memory` bytes, and return its size."""
    size = _size()
    if memory > 0 and size:
        import resource

        most = resource.getrlimit(resource.RLIMIT_AS)[1]  # of the user, as `ulimit -v` sets it
        wanted = size + memory if most == resource.RLIM_INFINITY else min(size + memory, most)
        resource.setrlimit(resource.RLIMIT_AS, (wanted, most))
    return size


def _size() -> int:
    """The address space in bytes; 0 where the system does not tell."""
    if not sys.platform.startswith("linux"):
        return 0
    return int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")


def _send(connection: Connection, value: Any) -> None:
    buffers: list[pickle.PickleBuffer] = []
    head = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    views = [buffer.raw() for buffer in buffers]
    connection.send((head, [view.nbytes for view in views]))
    for view in views:
        for first in range(0, view.nbytes, _CHUNK):
            connection.send_bytes(view[first : first + _CHUNK])


def _receive(connection: Connection) -> Any:
    head, sizes = connection.recv()
    buffers = [bytearray(size) for size in sizes]
    for buffer in buffers:
        view = memoryview(buffer)
        for first in range(0, len(buffer), _CHUNK):
            connection.recv_bytes_into(view[first : first + _CHUNK])
    return pickle.loads(head, buffers=buffers)
