"""How many cores this process may use, and the threads and processes that follow from it; needs the standard library.

`os.cpu_count` counts the machine. A job on a cluster may be bound to a few cores of it (affinity), a container may get
the time of a few (a quota of its control group), and threads beyond that wait for each other instead of working.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

__all__ = ["control_groups", "cores", "crowded", "fit_threads", "let_threads_sleep", "reading_processes", "threads"]

_MOST_READERS = 4
_WAITING = frozenset({"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"})
_BUSY = 1.5  # programs that want to run, for each core


def cores(root: Path = Path("/")) -> int:
    """Return how many cores this process may use, 1 or more: by affinity, and by the quota of its control groups.

    joblib and loky look at the control group of the whole container only, and miss the quota that systemd or a batch
    system gives a process in a group below it.

    Args:
        root: of the file system.
    """
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([bound, *(math.ceil(quota) for quota in _quotas(root))]))


def threads() -> int:
    """Return how many threads computing should take: `OMP_NUM_THREADS` where it is set, else `cores()`.

    Processes of one parallel training on this machine (`LOCAL_WORLD_SIZE`, as torchrun sets it) divide the cores.
    """
    wanted = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if wanted.isdecimal() and int(wanted) > 0:
        return int(wanted)
    beside = os.environ.get("LOCAL_WORLD_SIZE", "")
    return max(1, cores() // max(1, int(beside) if beside.isdecimal() else 1))


def reading_processes(most: int = _MOST_READERS) -> int:
    """Return how many processes should read ahead of a network: half of the cores, 1 to `most`; each has one thread."""
    return min(most, max(1, cores() // 2))


def fit_threads() -> int:
    """Let PyTorch compute with no more threads than `threads()`, and return how many it has; it never gets more.

    PyTorch obeys `OMP_NUM_THREADS` and the affinity by itself, but does not know of quotas.
    """
    import torch

    if torch.get_num_threads() > threads():
        torch.set_num_threads(threads())
    return torch.get_num_threads()


def let_threads_sleep() -> None:
    """Let OpenMP's threads sleep where they wait for each other, unless the environment says how they wait.

    They spin by default, which takes a core from the threads that they wait for as soon as two programs share it.
    OpenMP looks at the environment once, when PyTorch is imported: call this before.
    """
    if not _WAITING & os.environ.keys():
        os.environ["OMP_WAIT_POLICY"] = "passive"


def crowded(computing: int) -> str:
    """Return a sentence that says why `computing` threads are too many here, and what to do; "" where they are not.

    Args:
        computing: threads of this process.
    """
    usable = cores()
    if computing > usable:
        return f"{computing} threads share {_count(usable)}, and wait for each other: set OMP_NUM_THREADS={usable}."
    if computing == 1 or not hasattr(os, "getloadavg"):
        return ""
    load, machine = os.getloadavg()[0], os.cpu_count() or 1
    if load < _BUSY * machine:
        return ""
    return (
        f"Other programs keep this machine busy (load {load:.1f} on {_count(machine)}); {computing} threads may wait "
        "for each other: OMP_NUM_THREADS=1 can be faster."
    )


def _count(number: int) -> str:
    return f"{number} core{'s' * (number > 1)}"


def _quotas(root: Path) -> Iterator[float]:
    """The quotas, in cores, of the control groups that this process is in, and of those above them."""
    if not sys.platform.startswith("linux"):
        return
    for folder in control_groups("cpu", root):
        with suppress(OSError, ValueError):  # version 2; "max" where there is none
            quota, period = (folder / "cpu.max").read_text().split()
            yield int(quota) / int(period)
        with suppress(OSError, ValueError):  # version 1; -1 where there is none
            quota, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
            if int(quota) > 0:
                yield int(quota) / int(period)


def control_groups(controller: str, root: Path = Path("/")) -> Iterator[Path]:
    """Yield the folders of the control groups of this process and of those above them.

    A container may see its own as the top one, or not at all: some folders do not exist.

    Args:
        controller: `cpu` or `memory`, for version 1.
        root: of the file system.
    """
    with suppress(OSError):  # no control groups
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers and controller not in controllers.split(","):
                continue
            for name in {controllers, controller, "cpu,cpuacct"} if controllers else ("", "unified"):
                top = root / "sys/fs/cgroup" / name
                inner = Path(path.lstrip("/"))
                yield from (top / folder for folder in (inner, *inner.parents))
