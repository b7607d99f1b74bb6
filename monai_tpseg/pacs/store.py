"""The files of a node: received objects, results, and how much of the disc they may take."""

from __future__ import annotations

import os
import shutil
import threading
import time
from pathlib import Path

from monai_tpseg.pacs.queue import Queue

__all__ = ["Store"]

_STALE = 3600.0  # seconds after which half an object belongs to nobody any more


class Store:
    """Folders below that of the node, which only its owner may open.

    Args:
        root: the folder of the node; made with mode 0700.
        queue: knows what lies there.
        quota: bytes that objects and results may take.
    """

    def __init__(self, root: Path, queue: Queue, quota: int) -> None:
        self.root, self.queue, self.quota = root, queue, quota
        self.part, self.studies, self.results = root / "part", root / "studies", root / "results"
        for folder in (self.part, self.studies, self.results):
            folder.mkdir(mode=0o700, exist_ok=True)
        self.lock = threading.RLock()  # nothing is removed while an object comes to stay

    def take(self, path: Path, study: str, series: str, key: str) -> Path:
        """Move the complete file of an object to where it stays, and see to it that it is on the disc."""
        target = self.studies / study / series / f"{key}.dcm"
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        _sync(path)
        os.replace(path, target)
        for folder in (target.parent, target.parent.parent, self.studies):
            _sync(folder)
        return target

    def has_room(self, size: int) -> bool:
        """Say whether so many bytes fit, after the oldest studies that are done have been removed if need be."""
        with self.lock:
            if self._fits(size):
                return True
            for study in self.queue.over():
                self._purge(study)
                if self._fits(size):
                    return True
        return False

    def sweep(self, keep: float) -> None:
        """Remove studies that were done so many seconds ago, and halves of objects that nobody writes any more."""
        with self.lock:
            for study in self.queue.over(time.time() - keep):
                self._purge(study)
        for path in self.part.iterdir():
            if path.is_file() and time.time() - path.stat().st_mtime > _STALE:
                path.unlink(missing_ok=True)

    def clear(self) -> None:
        """Remove what a killed node had half received, and what it was removing; nobody may receive yet."""
        for path in self.part.iterdir():
            path.unlink()
        kept = self.queue.on_disc()
        for path in [*self.studies.iterdir(), *self.results.iterdir()]:
            if path.name not in kept:
                shutil.rmtree(path)

    def _fits(self, size: int) -> bool:
        return self.queue.used() + size <= self.quota

    def _purge(self, study: str) -> None:
        if self.queue.purge(study):
            for folder in (self.studies / study, self.results / study):
                shutil.rmtree(folder, ignore_errors=True)


def _sync(path: Path) -> None:
    """See to it that a file's content, or a folder's list of files, is on the disc."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
