"""Readers of the source of a session: in this process, or in separate processes that may be ended."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

from monai.data import MetaTensor
from torch import Tensor

from monai_tpseg.annotate.session.opening import READ_MASK, Mask, mask_on_grid
from monai_tpseg.annotate.session.session_error import SessionError
from monai_tpseg.io.cases import CaseSource
from monai_tpseg.io.dicom.object import Dataset
from monai_tpseg.io.locate import ANSWER, answer
from monai_tpseg.studies.manifest import Entry
from monai_tpseg.studies.reading import Limits, Reader
from monai_tpseg.subprocesses import CallLost, ChildProcess
from monai_tpseg.transforms.transfer import READ, READ_PAIR, load_case, load_pair, unpack

__all__ = ["IN_PROCESS", "IsolatedSources", "LoadedSource", "Sources"]

_LOST = {
    "timeout": "took over {seconds:g} s to answer; check its disk, or copy it to a faster one",
    "memory": "takes more memory to read than there is; use a machine with more, or give a part of it",
    "crash": "crashes its decoder; export it again, or convert it with another program",
}


class LoadedSource(NamedTuple):
    """A source that was read.

    Attributes:
        image: see `LoadMedicalImage`.
        headers: headers of its DICOM files, without pixels, if known.
    """

    image: MetaTensor
    headers: Mapping[Path, Dataset] = MappingProxyType({})


class Sources(Protocol):
    """Access to the source of a session."""

    def take(self, source: CaseSource) -> LoadedSource:
        """Read a source.

        Raises:
            ReadError: the source or file cannot be read.
            SessionError: the reading process has ended.
        """

    def identity(self, source: CaseSource) -> str:
        """Return `input_identity` of a source.

        Raises:
            OSError: the source is missing.
            SessionError: the reading process has ended.
        """

    def mask(self, path: Path, image: MetaTensor, headers: Mapping[Path, Dataset]) -> Mask:
        """Return the mask of a file on the grid of a case, see `read_mask`, given the headers of the case.

        Raises:
            ReadError: the source or file cannot be read.
            SessionError: the mask belongs to another source, or the reading process has ended.
        """

    def pair(self, image: Path, label: Path) -> tuple[MetaTensor, MetaTensor]:
        """Read a picture and its mask, see `load_pair`.

        Raises:
            ReadError: one of them cannot be read.
            SessionError: the reading process has ended.
        """


class _InProcess:
    """Reader in this process."""

    def take(self, source: CaseSource) -> LoadedSource:
        return LoadedSource(load_case(source))

    def identity(self, source: CaseSource) -> str:
        return str(answer("input_identity", source))

    def mask(self, path: Path, image: MetaTensor, headers: Mapping[Path, Dataset]) -> Mask:
        return mask_on_grid(path, tuple(image.shape), dict(image.meta), headers)

    def pair(self, image: Path, label: Path) -> tuple[MetaTensor, MetaTensor]:
        return load_pair(image, label)


IN_PROCESS: Sources = _InProcess()
"""Reader in this process."""


def _plain(meta: Mapping[str, Any]) -> dict[str, Any]:
    """Replace tensors, which would be transferred in shared memory, by arrays."""
    return {key: value.numpy() if isinstance(value, Tensor) else value for key, value in meta.items()}


class IsolatedSources:
    """Reader in separate processes, which are ended if a source hangs, crashes a decoder or exhausts memory.

    Args:
        limits: limits of time and memory.
        read, look: functions as `package.module:function` with the arguments of `read_packed` and of `answer`.
    """

    def __init__(self, limits: Limits | None = None, read: str = READ, look: str = ANSWER) -> None:
        self.limits = limits or Limits()
        self._reader = Reader(self.limits, target=read)
        self._looker = ChildProcess(look, self.limits.seconds, self.limits.bytes)

    def find(self, entry: Entry) -> CaseSource:
        """Locate the source of a case.

        Raises:
            ReadError: see `locate`.
            SessionError: the source does not respond.
        """
        source: CaseSource = self._ask("locate", *entry.place)
        return source

    def take(self, source: CaseSource) -> LoadedSource:
        """Read a source."""
        read = self._reader.get(source)
        if read.image is None:
            raise self._told(read.error)
        return LoadedSource(read.image, read.headers)

    def identity(self, source: CaseSource) -> str:
        """Return `input_identity` of a source."""
        return str(self._ask("input_identity", source))

    def mask(self, path: Path, image: MetaTensor, headers: Mapping[Path, Dataset]) -> Mask:
        """Return the mask of a file on the grid of a case, see `read_mask`."""
        mask: Mask = self._once(READ_MASK, path, tuple(image.shape), _plain(image.meta), dict(headers))
        return mask

    def pair(self, image: Path, label: Path) -> tuple[MetaTensor, MetaTensor]:
        """Read a picture and its mask, see `load_pair`."""
        one, other = self._once(READ_PAIR, image, label)
        return unpack(one), unpack(other, channels=1)

    def close(self) -> None:
        """End the processes."""
        self._reader.close()
        self._looker.close()

    def _ask(self, what: str, *arguments: Any) -> Any:
        self._looker.send(what, *arguments)
        try:
            return self._looker.receive().value
        except CallLost as error:
            raise self._told(error) from None

    def _once(self, target: str, *arguments: Any) -> Any:
        """Run one call in a separate process, for rare requests."""
        with closing(ChildProcess(target, self.limits.seconds, self.limits.bytes)) as process:
            process.send(*arguments)
            try:
                return process.receive().value
            except CallLost as error:
                raise self._told(error, "The file") from None

    def _told(self, error: Exception | None, what: str = "The source") -> Exception:
        if isinstance(error, CallLost):
            return SessionError(f"{what} {_LOST[error.reason].format(seconds=self.limits.seconds)}.")
        return error or RuntimeError("the source was not read")
