"""The files of a node: received objects and results, within a quota."""

from __future__ import annotations

import os
import shutil
import threading
import time
from pathlib import Path

from monai_tpseg.pacs.queue import STUDIES, Queue

__all__ = ["Store"]

_STALE = 3600.0  # age in s at which a partial object is abandoned


class Store:
    """Subfolders of a node, accessible to its owner only.

    Args:
        root: folder of the node, created with mode 0700.
        queue: queue that records the files.
        quota: maximum total size of objects and results in bytes.
    """

    def __init__(self, root: Path, queue: Queue, quota: int) -> None:
        self.root, self.queue, self.quota = root, queue, quota
        self.part, self.studies, self.results = root / "part", root / STUDIES, root / "results"
        for folder in (self.part, self.studies, self.results):
            folder.mkdir(mode=0o700, exist_ok=True)
        self.lock = threading.RLock()  # nothing is removed while an object is being stored

    def take(self, path: Path, study: str, series: str, key: str) -> Path:
        """Move the complete file of an object to its destination, and flush it to disk."""
        target = self.studies / study / series / f"{key}.dcm"
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        _sync(path)
        os.replace(path, target)
        for folder in (target.parent, target.parent.parent, self.studies):
            _sync(folder)
        return target

    def has_room(self, size: int) -> bool:
        """Return whether `size` bytes fit, after removing the oldest finished studies if necessary."""
        with self.lock:
            if self._fits(size):
                return True
            for study in self.queue.over():
                self._purge(study)
                if self._fits(size):
                    return True
        return False

    def sweep(self, keep: float) -> None:
        """Remove studies finished more than `keep` seconds ago, and abandoned partial objects."""
        with self.lock:
            for study in self.queue.over(time.time() - keep):
                self._purge(study)
        for path in self.part.iterdir():
            if path.is_file() and time.time() - path.stat().st_mtime > _STALE:
                path.unlink(missing_ok=True)

    def clear(self) -> None:
        """Remove partial and discarded files of a killed node; call it before receiving starts."""
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
    """Flush the content of a file, or the entries of a folder, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
