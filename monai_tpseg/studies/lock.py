"""Two runs into one folder would overwrite each other's results: the second one is told at once."""

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
_GLANCE = 5.0  # seconds to wait for another shard that looks whether a whole run is under way


@contextmanager
def locked(out: str | Path, shard: str = "") -> Iterator[None]:
    """Hold the lock of an output folder, which is made for it; the system gives it back however the process ends.

    Shards `i/n` of one n may run side by side, each of them once; anything else runs alone.

    Args:
        out: output folder.
        shard: `i/n`, or "" for a run over all cases.

    Raises:
        StudyError: another run holds it, or the folder cannot be made.
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
    if shard:  # a whole run holds its lock for long, another shard only while it looks
        with _lock(folder / _WHOLE, _GLANCE):
            pass
    together = f"-of-{shard.partition('/')[2]}"
    for other in folder.glob(f"{_WHOLE}-*"):
        if other != own and not (shard and other.name.endswith(together)):
            with _lock(other):
                pass


@contextmanager
def _lock(path: Path, timeout: float = 0) -> Iterator[None]:
    """A lock whose file is gone afterwards; who waits for it notices that and makes another."""
    with FileLock(path, timeout=timeout):
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _remove_empty(folders: list[Path]) -> None:
    """What was made for the lock alone goes with it."""
    with suppress(OSError):
        for folder in folders:
            folder.rmdir()
