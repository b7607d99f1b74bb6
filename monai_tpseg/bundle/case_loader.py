"""The sources of an inference are read in processes that may be ended; one that cannot be read costs itself."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from monai.data import Dataset, MetaTensor, list_data_collate

from monai_tpseg.bundle.inference_inputs import Image, SourceLost
from monai_tpseg.io.cases import CaseSource
from monai_tpseg.io.dicom.object import Dataset as Header
from monai_tpseg.io.display import source_of
from monai_tpseg.io.safety import base_name
from monai_tpseg.keys import IMAGE, LABEL
from monai_tpseg.studies.reading import Limits, Read, Reader
from monai_tpseg.subprocesses import CallLost, ChildProcess
from monai_tpseg.transforms.transfer import READ_NAMED, READ_PAIR, unpack

__all__ = ["CaseLoader", "Sources"]

logger = logging.getLogger(__name__)


class Sources:
    """Reads sources in processes apart, as `tpseg run` does, and keeps the one that is being segmented.

    Args:
        read_timeout: seconds for one source, more than 0.
        num_workers: processes that read ahead; 0 is one, too.

    Attributes:
        lost: a line for each source that could not be read.
    """

    def __init__(self, read_timeout: float = 300.0, num_workers: int = 0) -> None:
        self.lost: list[str] = []
        self._limits = Limits(read_timeout, readers=max(num_workers, 1))
        self._now: tuple[CaseSource, Read] | None = None

    def cases(self, cases: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Yield each case with its image as it was read; what cannot be read is left out, and said."""
        self.lost = []
        with closing(Reader(self._limits, target=READ_NAMED)) as reader:
            for case, read in reader.in_order(cases, lambda case: _source(case[IMAGE])):
                source = _source(case[IMAGE])
                if read is None or read.image is None:
                    self._lose(source, read and read.error)
                    continue
                self._now = source_of(read.image.meta), read
                yield {**case, IMAGE: read.image}
                self._now = None  # before the next one takes its memory

    def again(self, meta: Mapping[str, Any]) -> tuple[MetaTensor, Mapping[Path, Header]]:
        """Return the image that `meta` came with as it was read, and the headers of its DICOM files.

        Raises:
            ReadError: it is not the one that is being segmented, and cannot be read any more.
            SourceLost: likewise; it does not answer, or ends the process that reads it.
        """
        source = source_of(meta)
        if self._now is None or self._now[0] != source:
            with closing(Reader(Limits(self._limits.seconds), target=READ_NAMED)) as reader:
                self._now = source, reader.get(source)
        read = self._now[1]
        if read.image is None:
            raise _error(source, read.error, self._limits.seconds)
        return read.image, read.headers

    def before(self, transform: Callable[[dict[Any, Any]], Any]) -> Callable[[Mapping[Hashable, Any]], Any]:
        """Return `transform` of a case whose image and label were read in a process apart.

        Args:
            transform: begins with `LoadMedicalImaged`, which leaves alone what was read.
        """

        def of(case: Mapping[Hashable, Any]) -> Any:
            image, label = Path(str(case[IMAGE])), Path(str(case[LABEL]))
            with closing(ChildProcess(READ_PAIR, self._limits.seconds, self._limits.bytes)) as process:
                process.send(image, label)
                try:
                    one, other = process.receive().value
                except CallLost as error:
                    raise _error(image, error, self._limits.seconds) from None
            return transform({**case, IMAGE: unpack(one), LABEL: unpack(other, channels=1)})

        return of

    def _lose(self, source: CaseSource, error: Exception | None) -> None:
        self.lost.append(" ".join(str(_error(source, error, self._limits.seconds)).split()))
        logger.error("%s", self.lost[-1])


class CaseLoader:
    """Batches of one case each; how many there will be is not known, as a source that cannot be read costs itself.

    Args:
        dataset: its cases, and a transform that begins with `LoadMedicalImaged`.
        sources: reads them.

    Attributes:
        at_most: maximum number of batches.
    """

    def __init__(self, dataset: Dataset, sources: Sources) -> None:
        self.dataset, self.sources = dataset, sources
        self.at_most = len(dataset.data)

    def __iter__(self) -> Iterator[Any]:
        """Yield batches, as MONAI's `DataLoader` gives them."""
        for case in self.sources.cases(list(self.dataset.data)):
            yield list_data_collate([self.dataset.transform(case)])


def _source(image: Image) -> CaseSource:
    return Path(image) if isinstance(image, str) else tuple(map(Path, image))


def _name(source: CaseSource) -> str:
    return base_name(source if isinstance(source, Path) else source[0])


def _error(source: CaseSource, error: Exception | None, seconds: float) -> Exception:
    if isinstance(error, CallLost):
        return SourceLost(_name(source), error, seconds)
    return error or RuntimeError("the source was not read")
