"""Where a session gets its source from: read in this process, or in others, which may be ended."""

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

__all__ = ["IN_PROCESS", "IsolatedSources", "Sources", "Taken"]

_LOST = {
    "timeout": "took over {seconds:g} s to answer; see to the disc that it lies on, or copy it to a faster one",
    "memory": "takes more memory to read than there is; use a machine with more, or give a part of it",
    "crash": "crashes its decoder; export it again, or convert it with another program",
}


class Taken(NamedTuple):
    """A source that was read.

    Attributes:
        image: see `LoadMedicalImage`.
        headers: of its DICOM files, without pixels, where they are known.
    """

    image: MetaTensor
    headers: Mapping[Path, Dataset] = MappingProxyType({})


class Sources(Protocol):
    """What touches the source of a session."""

    def take(self, source: CaseSource) -> Taken:
        """Read a source.

        Raises:
            ReadError: it cannot be read.
            SessionError: whoever reads it has ended.
        """

    def identity(self, source: CaseSource) -> str:
        """Return `input_identity` of a source.

        Raises:
            OSError: it is not there.
            SessionError: whoever looks at it has ended.
        """

    def mask(self, path: Path, image: MetaTensor, headers: Mapping[Path, Dataset]) -> Mask:
        """Return a mask from a file on the grid of a case, see `read_mask`; the headers are those of the case.

        Raises:
            ReadError: it cannot be read.
            SessionError: it is not one of the case, or whoever reads it has ended.
        """

    def pair(self, image: Path, label: Path) -> tuple[MetaTensor, MetaTensor]:
        """Read a picture and its mask, see `load_pair`.

        Raises:
            ReadError: one of them cannot be read.
            SessionError: whoever reads them has ended.
        """


class _InProcess:
    """Reads in this process."""

    def take(self, source: CaseSource) -> Taken:
        return Taken(load_case(source))

    def identity(self, source: CaseSource) -> str:
        return str(answer("input_identity", source))

    def mask(self, path: Path, image: MetaTensor, headers: Mapping[Path, Dataset]) -> Mask:
        return mask_on_grid(path, tuple(image.shape), dict(image.meta), headers)

    def pair(self, image: Path, label: Path) -> tuple[MetaTensor, MetaTensor]:
        return load_pair(image, label)


IN_PROCESS: Sources = _InProcess()
"""Reads in this process."""


def _plain(meta: Mapping[str, Any]) -> dict[str, Any]:
    """Arrays in place of tensors, which would be handed over in shared memory."""
    return {key: value.numpy() if isinstance(value, Tensor) else value for key, value in meta.items()}


class IsolatedSources:
    """Reads in processes that end with what does not answer, crashes a decoder or eats memory.

    Args:
        limits: of time and memory.
        read, look: `package.module:function` with the arguments of `read_packed` and of `answer`.
    """

    def __init__(self, limits: Limits | None = None, read: str = READ, look: str = ANSWER) -> None:
        self.limits = limits or Limits()
        self._reader = Reader(self.limits, target=read)
        self._looker = ChildProcess(look, self.limits.seconds, self.limits.bytes)

    def find(self, entry: Entry) -> CaseSource:
        """Return where the source of a case lies.

        Raises:
            ReadError: see `locate`.
            SessionError: it does not answer.
        """
        source: CaseSource = self._ask("locate", *entry.place)
        return source

    def take(self, source: CaseSource) -> Taken:
        """Read a source."""
        read = self._reader.get(source)
        if read.image is None:
            raise self._told(read.error)
        return Taken(read.image, read.headers)

    def identity(self, source: CaseSource) -> str:
        """Return `input_identity` of a source."""
        return str(self._ask("input_identity", source))

    def mask(self, path: Path, image: MetaTensor, headers: Mapping[Path, Dataset]) -> Mask:
        """Return a mask from a file on the grid of a case, see `read_mask`."""
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
        """One call in a process of its own, for files that come seldom."""
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
