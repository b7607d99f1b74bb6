"""Reading of sources in separate processes, ahead of the network."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple, TypeVar

from monai.data import MetaTensor

from monai_tpseg.io.cases import CaseSource
from monai_tpseg.io.dicom.object import Dataset
from monai_tpseg.results.codes import StudyError
from monai_tpseg.subprocesses import CallLost, ChildProcess, NoProcessError, available_memory
from monai_tpseg.transforms.transfer import READ, unpack

__all__ = ["Limits", "Read", "Reader"]

_Item = TypeVar("_Item")

_GIB = 2**30
_LONGEST = 7 * 86_400.0  # seconds; the system's poll takes 24 days at most
_MOST_MEMORY = 2.0**20  # GiB, which still is a size to the system
_MOST_READERS = 1024


@dataclass(frozen=True)
class Limits:
    """Limits of reading sources.

    Attributes:
        seconds: time limit per source, more than 0, up to a week.
        memory: memory limit of a reading process in GiB; 0 divides half of the machine's memory among them. Enforced
            on Linux only.
        readers: number of processes that read ahead, 1 to 1024; each holds one case.
    """

    seconds: float = 300.0
    memory: float = 0.0
    readers: int = 1

    def __post_init__(self) -> None:
        if not 0 < self.seconds <= _LONGEST:
            raise StudyError(
                "The time limit for reading a source must be more than 0 seconds and up to "
                f"{_LONGEST:g}, got {self.seconds:g}."
            )
        if not 0 <= self.memory <= _MOST_MEMORY:
            raise StudyError(
                f"The memory limit for reading a source must be 0 (automatic) to {_MOST_MEMORY:g} GiB, "
                f"got {self.memory:g}."
            )
        if not 1 <= self.readers <= _MOST_READERS:
            raise StudyError(f"The number of reader processes must be 1 to {_MOST_READERS}, got {self.readers}.")

    @property
    def bytes(self) -> int:
        """Memory limit of one process in bytes."""
        return int(self.memory * _GIB) or max(available_memory() // 2 // self.readers, _GIB)


class Read(NamedTuple):
    """Result of reading a source.

    Attributes:
        image: image from `LoadMedicalImage`; None if it could not be read.
        error: mostly `ReadError`, `ScreenshotError` or `CallLost`; None if the source was read.
        seconds: duration of reading in its process, in s.
        headers: headers of its DICOM files, without pixels.
    """

    image: MetaTensor | None
    error: Exception | None
    seconds: float = 0.0
    headers: Mapping[Path, Dataset] = MappingProxyType({})


class Reader:
    """Read sources in separate processes: a source that crashes a decoder, hangs or exhausts memory loses only itself.

    Args:
        limits: limits of time, memory and processes.
        screenshots: whether to read DICOM secondary captures.
        target: reading function as `package.module:function`, with arguments and result of `read_packed`.
    """

    def __init__(self, limits: Limits | None = None, screenshots: bool = True, target: str = READ) -> None:
        self.limits = limits or Limits()
        self.screenshots = screenshots
        self._idle = [ChildProcess(target, self.limits.seconds, self.limits.bytes) for _ in range(self.limits.readers)]
        self._busy: deque[tuple[CaseSource, ChildProcess]] = deque()  # in the order of requests

    def ask(self, source: CaseSource) -> None:
        """Start to read `source`; if no process is free, the oldest request is cancelled."""
        if not self._idle:
            _, process = self._busy.popleft()
            process.close()
            self._idle.append(process)
        process = self._idle.pop()
        process.send(source, self.screenshots)
        self._busy.append((source, process))

    def get(self, source: CaseSource) -> Read:
        """Return the result for `source`, which is read now unless `ask` has started to.

        A source that ended its process is retried once, while the network does not run; after a timeout it is not.

        Raises:
            NoProcessError: see `ChildProcess`.
        """
        read = self._get(source)
        if isinstance(read.error, CallLost) and read.error.reason != "timeout":
            read = self._get(source)
        return read

    def in_order(
        self, items: Iterable[_Item], source_of: Callable[[_Item], CaseSource | None]
    ) -> Iterator[tuple[_Item, Read | None]]:
        """Yield each item with the result of reading it, while the sources of the next items are read.

        Args:
            items: items, consumed as far ahead as there are processes.
            source_of: returns the source of an item, or None if nothing is to be read.
        """
        ahead: deque[tuple[_Item, CaseSource | None]] = deque()
        more = iter(items)
        self._look_ahead(ahead, more, source_of)
        while ahead:
            item, source = ahead.popleft()
            read = None if source is None else self.get(source)
            self._look_ahead(ahead, more, source_of)
            yield item, read

    def close(self) -> None:
        """End the processes."""
        for process in [*self._idle, *(process for _, process in self._busy)]:
            process.close()
        self._idle += [process for _, process in self._busy]
        self._busy.clear()

    def _look_ahead(
        self,
        ahead: deque[tuple[_Item, CaseSource | None]],
        more: Iterator[_Item],
        source_of: Callable[[_Item], CaseSource | None],
    ) -> None:
        while len(ahead) < self.limits.readers:
            try:
                item = next(more)
            except StopIteration:
                return
            source = source_of(item)
            if source is not None:
                self.ask(source)
            ahead.append((item, source))

    def _get(self, source: CaseSource) -> Read:
        if all(asked != source for asked, _ in self._busy):
            self.ask(source)
        asked = next(pair for pair in self._busy if pair[0] == source)
        self._busy.remove(asked)
        self._idle.append(asked[1])
        try:
            packed, seconds = asked[1].receive()
            return Read(unpack(packed), None, seconds, packed.headers)
        except NoProcessError:
            raise
        except Exception as error:  # untrusted bytes: any error belongs to the case
            return Read(None, error)
