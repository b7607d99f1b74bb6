"""Where a session gets its source from: read in this process, or in others, which may be ended."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

from monai.data import MetaTensor

from monai_tpseg.annotate.session.errors import SessionError
from monai_tpseg.io.cases import CaseSource
from monai_tpseg.io.dicom.object import Dataset
from monai_tpseg.io.locate import ANSWER, answer
from monai_tpseg.studies.manifest import Entry
from monai_tpseg.studies.reading import Limits, Reader
from monai_tpseg.subprocesses import Apart, CallLost
from monai_tpseg.transforms.transfer import READ, load_case

__all__ = ["HERE", "Sources", "SourcesApart", "Taken"]

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


class _Here:
    """Reads in this process."""

    def take(self, source: CaseSource) -> Taken:
        return Taken(load_case(source))

    def identity(self, source: CaseSource) -> str:
        return str(answer("input_identity", source))


HERE: Sources = _Here()
"""Reads in this process."""


class SourcesApart:
    """Reads in processes that end with what does not answer, crashes a decoder or eats memory.

    Args:
        limits: of time and memory.
        read, look: `package.module:function` with the arguments of `read_packed` and of `answer`.
    """

    def __init__(self, limits: Limits | None = None, read: str = READ, look: str = ANSWER) -> None:
        self.limits = limits or Limits()
        self._reader = Reader(self.limits, target=read)
        self._looker = Apart(look, self.limits.seconds, self.limits.bytes)

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

    def _told(self, error: Exception | None) -> Exception:
        if isinstance(error, CallLost):
            return SessionError(f"The source {_LOST[error.reason].format(seconds=self.limits.seconds)}.")
        return error or RuntimeError("the source was not read")
