"""Lock of an output folder: two runs would overwrite each other's results, so the second is rejected."""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from monai_tpseg.results.codes import StudyError

__all__ = ["locked"]

logger = logging.getLogger(__name__)

_WHOLE = ".lock"
_NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP})
_GLANCE = 5.0  # seconds to wait for another shard that checks for a whole run


@contextmanager
def locked(out: str | Path, shard: str = "") -> Iterator[None]:
    """Hold the lock of an output folder, which is created if needed; the system releases it when the process ends.

    Shards `i/n` of the same n may run in parallel, each of them once; any other run is exclusive.

    Args:
        out: output folder.
        shard: `i/n`, or "" for a run over all cases.

    Raises:
        StudyError: another run holds the lock, or the folder cannot be created.
    """
    folder = Path(out)
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    with ExitStack() as held:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            held.callback(_remove_empty, made)
            _hold(held, folder, shard)
        except Timeout:
            raise StudyError(
                f"Another run is writing to '{out}'; wait until it ends, or choose another --out."
            ) from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise StudyError(f"'{out}' cannot be written ({error.strerror}); choose another --out.") from error
            logger.warning("'%s' is on a file system without locks: make sure that no second run writes there.", out)
        yield


def _hold(held: ExitStack, folder: Path, shard: str) -> None:
    own = folder / (f"{_WHOLE}-{shard.replace('/', '-of-')}" if shard else _WHOLE)
    held.enter_context(_lock(own))
    if shard:  # a whole run holds its lock for long, another shard only during its check
        with _lock(folder / _WHOLE, _GLANCE):
            pass
    together = f"-of-{shard.partition('/')[2]}"
    for other in folder.glob(f"{_WHOLE}-*"):
        if other != own and not (shard and other.name.endswith(together)):
            with _lock(other):
                pass


@contextmanager
def _lock(path: Path, timeout: float = 0) -> Iterator[None]:
    """A lock whose file is removed afterwards; waiting processes notice this and create another."""
    with FileLock(path, timeout=timeout):
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _remove_empty(folders: list[Path]) -> None:
    """Remove folders that were created only for the lock."""
    with suppress(OSError):
        for folder in folders:
            folder.rmdir()
