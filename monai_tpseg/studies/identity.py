"""What tells the source of a case from a changed one."""

from __future__ import annotations

import hashlib
import json
from operator import itemgetter

from monai_tpseg.studies.manifest import files_of_source
from monai_tpseg.transforms.cases import CaseSource

__all__ = ["input_identity"]

_HASHED = 2**22  # bytes: sources up to here are known by content, larger ones by size and time


def input_identity(source: CaseSource) -> str:
    """Return what tells a source from a changed one: names, sizes, and contents (small ones) or times of its files.

    Args:
        source: a file, the folder of one DICOM series, or the files of one stack.
    """
    stats = sorted(((path.name, path.stat(), path) for path in files_of_source(source)), key=itemgetter(0, 2))
    small = sum(stat.st_size for _, stat, _ in stats) <= _HASHED
    parts = [
        (name, stat.st_size, hashlib.sha256(path.read_bytes()).hexdigest() if small else stat.st_mtime_ns)
        for name, stat, path in stats
    ]
    return json.dumps(parts)
