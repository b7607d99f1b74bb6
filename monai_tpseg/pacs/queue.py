"""Received objects, pending work and sent results in an SQLite file, consistent after a kill at any moment."""

from __future__ import annotations

import errno
import hashlib
import hmac
import os
import secrets
import sqlite3
import threading
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple, cast

from monai_tpseg.results.codes import StudyError

__all__ = ["STUDIES", "Queue", "Received", "Result", "State", "Study"]

State = Literal["receiving", "segmenting", "sending", "done"]
"""Where a study is. `receiving`: it waits for the end of its quiet period."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS studies (
    key TEXT PRIMARY KEY, state TEXT NOT NULL, due REAL NOT NULL, attempts INTEGER NOT NULL DEFAULT 0,
    changed INTEGER NOT NULL DEFAULT 1, tries INTEGER NOT NULL DEFAULT 0,
    again REAL NOT NULL DEFAULT 0, ended REAL NOT NULL DEFAULT 0, bytes INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS objects (
    key TEXT PRIMARY KEY, study TEXT NOT NULL, series TEXT NOT NULL, sha256 TEXT NOT NULL, bytes INTEGER NOT NULL,
    caller TEXT NOT NULL, stored INTEGER NOT NULL DEFAULT 1);
CREATE INDEX IF NOT EXISTS objects_of ON objects (study);
CREATE TABLE IF NOT EXISTS results (
    uid TEXT PRIMARY KEY, study TEXT NOT NULL, path TEXT NOT NULL, state TEXT NOT NULL DEFAULT 'waiting');
CREATE INDEX IF NOT EXISTS results_of ON results (study);
CREATE TABLE IF NOT EXISTS counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
"""
STUDIES = "studies"
"""Name of the folder of received objects, beside the file of the queue."""

_KEY = 20  # hexadecimal digits of a keyed hash
_CAUSES = {
    "full": errno.ENOSPC,
    "readonly": errno.EROFS,
    "locked": errno.EBUSY,
    "I/O error": errno.EIO,
    "unable to open": errno.EACCES,
}
"""Words of SQLite's messages -> the system's error."""


class Study(NamedTuple):
    """A study of the queue.

    Attributes:
        key: keyed hash of its UID.
        state: see `State`.
        attempts: failed attempts of its next step.
        tries: number of segmentations with failed cases.
    """

    key: str
    state: State
    attempts: int
    tries: int


class Received(NamedTuple):
    """A received object on disk.

    Attributes:
        study, series, key: keyed hashes of its UIDs.
        sha256: SHA-256 of its file.
        bytes: size of its file.
        caller: AE title of the sender.
    """

    study: str
    series: str
    key: str
    sha256: str
    bytes: int
    caller: str


class Result(NamedTuple):
    """A result object to send.

    Attributes:
        uid: SOP Instance UID.
        path: path relative to the folder of the node.
        doubtful: whether sending was started before and its outcome is unknown.
    """

    uid: str
    path: str
    doubtful: bool = False


class Queue:
    """The persistent state of a node. Each method is one transaction and thread-safe; one that fails changes nothing.

    Args:
        path: path of the SQLite file, created with mode 0600.
        quiet: time in s after its last object until a study counts as complete.

    Raises:
        OSError: the file cannot be written, also in each method; it names the file.
        StudyError: the file is damaged, also in each method; or it is new beside studies, all of which it would forget.
    """

    def __init__(self, path: Path, quiet: float) -> None:
        self.path, self.quiet = path, quiet
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        path.chmod(0o600)
        self._lock = threading.RLock()
        with self._telling():
            self._base = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self._base.execute("PRAGMA journal_mode=WAL")
            self._base.execute("PRAGMA synchronous=FULL")  # acknowledged objects are on disk
            self._base.executescript(_SCHEMA)
            if not self._base.execute("SELECT 1 FROM meta WHERE name = 'salt'").fetchall():
                self._begin(path.parent)
            ((self.salt,),) = self._base.execute("SELECT value FROM meta WHERE name = 'salt'").fetchall()

    def _begin(self, folder: Path) -> None:
        if any((folder / STUDIES).glob("*")):
            self._base.close()
            raise StudyError(
                f"'{folder / STUDIES}' holds studies, but '{self.path}' was missing or empty; "
                f"move '{folder}' away, start anew and send the studies again."
            )
        self._base.execute("INSERT INTO meta VALUES ('salt', ?)", (secrets.token_hex(16),))

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._base.close()

    def keyed(self, uid: str) -> str:
        """Return the keyed hash of an identifier for disk and logs; it cannot be reversed without the salt."""
        return hmac.new(bytes.fromhex(self.salt), uid.encode(), hashlib.sha256).hexdigest()[:_KEY]

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """SQLite's errors are no errors of the system and name no file."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            cause = next((number for words, number in _CAUSES.items() if words in str(error)), None)
            if cause is not None:
                raise OSError(cause, os.strerror(cause), str(self.path)) from error
            raise StudyError(
                f"'{self.path}' is damaged ({error}); move its folder away, start anew and send the studies again."
            ) from error

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._telling():
            self._base.execute("BEGIN IMMEDIATE")
            try:
                yield self._base
                self._base.execute("COMMIT")
            except BaseException:
                if self._base.in_transaction:  # SQLite itself may have ended it
                    self._base.execute("ROLLBACK")
                raise

    def _rows(self, text: str, *values: object) -> list[tuple[object, ...]]:
        with self._lock, self._telling():
            return self._base.execute(text, values).fetchall()

    def knows(self, key: str, sha256: str) -> bool:
        """Return whether an object with this content is already on disk."""
        return bool(self._rows("SELECT 1 FROM objects WHERE key = ? AND sha256 = ? AND stored", key, sha256))

    def add(self, received: Received) -> None:
        """Record an object with a complete file; its study waits for more objects, whatever its state was."""
        with self._transaction() as base:
            base.execute(
                "INSERT INTO objects (key, study, series, sha256, bytes, caller) VALUES (?, ?, ?, ?, ?, ?) "
                "ON CONFLICT (key) DO UPDATE SET study = excluded.study, series = excluded.series, "
                "sha256 = excluded.sha256, bytes = excluded.bytes, caller = excluded.caller, stored = 1",
                (received.key, received.study, received.series, received.sha256, received.bytes, received.caller),
            )
            base.execute(
                "INSERT INTO studies (key, state, due) VALUES (?, 'receiving', ?) ON CONFLICT (key) DO UPDATE SET "
                "changed = 1, attempts = 0, tries = 0, "
                "due = CASE WHEN state IN ('receiving', 'done') THEN excluded.due ELSE due END, "
                "state = CASE WHEN state = 'done' THEN 'receiving' ELSE state END",
                (received.study, time.time() + self.quiet),
            )
            _count(base, "objects_received", 1)

    def postpone(self, studies: Collection[str] | None, seconds: float) -> None:
        """Wait longer for studies whose sender was cut off (None: all waiting studies), since it will reconnect."""
        with self._transaction() as base:
            waiting = [str(row[0]) for row in base.execute("SELECT key FROM studies WHERE state = 'receiving'")]
            for key in waiting if studies is None else studies:
                base.execute(
                    "UPDATE studies SET due = max(due, ?) WHERE key = ? AND state = 'receiving'",
                    (time.time() + seconds, key),
                )

    def next(self, busy: Collection[str] = ()) -> Study | None:
        """Return the study that is overdue the longest, or None if no step is due.

        Args:
            busy: studies that are being received now.
        """
        rows = self._rows(
            "SELECT key, state, attempts, tries FROM studies WHERE state != 'done' AND due <= ? ORDER BY due",
            time.time(),
        )
        for key, state, attempts, tries in rows:
            if state != "receiving" or key not in busy:
                return Study(str(key), cast(State, state), int(str(attempts)), int(str(tries)))
        return None

    def begin(self, study: str) -> None:
        """Start segmenting a study; objects that arrive from now on mark it as changed again."""
        with self._transaction() as base:
            base.execute("UPDATE studies SET state = 'segmenting', changed = 0 WHERE key = ?", (study,))

    def segmented(self, study: str, results: Iterable[Result], size: int, again: float = 0.0) -> int:
        """Record the results of a study for sending, except results that were sent before.

        Args:
            study: key of the study.
            results: all current results; earlier results that were not sent are dropped.
            size: size of its folder of results in bytes.
            again: delay in s before it is segmented again because of failed cases; 0 for never.

        Returns:
            the number of results to send.
        """
        with self._transaction() as base:
            base.execute("DELETE FROM results WHERE study = ? AND state = 'waiting'", (study,))
            for result in results:
                base.execute(
                    "INSERT OR IGNORE INTO results (uid, study, path) VALUES (?, ?, ?)",
                    (result.uid, study, result.path),
                )
            base.execute(
                "UPDATE studies SET state = 'sending', due = ?, attempts = 0, bytes = ?, again = ? WHERE key = ?",
                (time.time(), size, again, study),
            )
            ((left,),) = base.execute(
                "SELECT count(*) FROM results WHERE study = ? AND state != 'sent'", (study,)
            ).fetchall()
        return int(left)

    def unsent(self, study: str) -> list[Result]:
        """Return the results of a study that were not sent yet."""
        rows = self._rows(
            "SELECT uid, path, state = 'sending' FROM results WHERE study = ? AND state != 'sent' ORDER BY path", study
        )
        return [Result(str(uid), str(path), bool(doubtful)) for uid, path, doubtful in rows]

    def sending(self, uid: str) -> None:
        """Record that sending a result starts."""
        with self._transaction() as base:
            base.execute("UPDATE results SET state = 'sending' WHERE uid = ?", (uid,))

    def sent(self, uid: str) -> None:
        """Record that a result has arrived."""
        with self._transaction() as base:
            base.execute("UPDATE results SET state = 'sent' WHERE uid = ?", (uid,))
            _count(base, "results_sent", 1)

    def drop(self, uid: str) -> None:
        """Drop an unsent result that was replaced by a newer one of its case."""
        with self._transaction() as base:
            base.execute("UPDATE results SET state = 'sent' WHERE uid = ?", (uid,))

    def finish(self, study: str) -> None:
        """Mark a study as done, or as waiting if objects arrived meanwhile or it is to be retried."""
        now = time.time()
        with self._transaction() as base:
            base.execute(
                "UPDATE studies SET ended = ?, attempts = 0, due = ? + CASE WHEN changed THEN ? ELSE again END, "
                "state = CASE WHEN changed OR again > 0 THEN 'receiving' ELSE 'done' END, "
                "tries = CASE WHEN changed THEN 0 WHEN again > 0 THEN tries + 1 ELSE tries END WHERE key = ?",
                (now, now, self.quiet, study),
            )
            _count(base, "studies_ended", 1)

    def failed(self, study: str, again: float) -> None:
        """Retry the current step of a study after `again` seconds."""
        with self._transaction() as base:
            base.execute(
                "UPDATE studies SET attempts = attempts + 1, due = ? WHERE key = ?", (time.time() + again, study)
            )

    def callers(self, study: str) -> dict[str, str]:
        """Return the sender's AE title for each series of a study."""
        rows = self._rows("SELECT series, min(caller) FROM objects WHERE study = ? GROUP BY series", study)
        return {str(series): str(caller) for series, caller in rows}

    def purged_series(self, study: str) -> set[str]:
        """Return the series of a study with objects removed from disk, which are incomplete."""
        return {
            str(row[0])
            for row in self._rows("SELECT DISTINCT series FROM objects WHERE study = ? AND NOT stored", study)
        }

    def used(self) -> int:
        """Return the total size of all objects and results on disk in bytes."""
        ((objects,),) = self._rows("SELECT coalesce(sum(bytes), 0) FROM objects WHERE stored")
        ((results,),) = self._rows("SELECT coalesce(sum(bytes), 0) FROM studies")
        return int(str(objects)) + int(str(results))

    def on_disc(self) -> set[str]:
        """Return the studies whose files must exist."""
        rows = self._rows(
            "SELECT study FROM objects WHERE stored UNION SELECT key FROM studies WHERE bytes > 0 OR state != 'done'"
        )
        return {str(row[0]) for row in rows}

    def over(self, before: float = float("inf")) -> list[str]:
        """Return the finished studies that are still on disk, oldest first.

        Args:
            before: latest end time, in s since the epoch.
        """
        rows = self._rows(
            "SELECT key FROM studies WHERE state = 'done' AND ended < ? AND (bytes > 0 OR EXISTS "
            "(SELECT 1 FROM objects WHERE study = studies.key AND stored)) ORDER BY ended",
            before,
        )
        return [str(row[0]) for row in rows]

    def purge(self, study: str) -> bool:
        """Record the removal of a finished study's files; return False if it is no longer finished."""
        with self._transaction() as base:
            done = base.execute("UPDATE studies SET bytes = 0 WHERE key = ? AND state = 'done'", (study,)).rowcount
            if done:
                base.execute("UPDATE objects SET stored = 0 WHERE study = ?", (study,))
        return bool(done)

    def count(self, name: str, by: int = 1) -> None:
        """Add to a persistent counter."""
        with self._transaction() as base:
            _count(base, name, by)

    def counters(self) -> dict[str, int]:
        """Return all counters."""
        return {
            str(name): int(str(value)) for name, value in self._rows("SELECT name, value FROM counters ORDER BY name")
        }

    def states(self) -> dict[str, int]:
        """Return the number of studies by state."""
        found = {
            str(state): int(str(n)) for state, n in self._rows("SELECT state, count(*) FROM studies GROUP BY state")
        }
        return {state: found.get(state, 0) for state in ("receiving", "segmenting", "sending", "done")}

    def overdue(self) -> float:
        """Return the delay of the most overdue study in s; 0 if none is overdue."""
        ((due,),) = self._rows("SELECT min(due) FROM studies WHERE state != 'done'")
        return 0.0 if due is None else max(0.0, time.time() - float(str(due)))


def _count(base: sqlite3.Connection, name: str, by: int) -> None:
    base.execute(
        "INSERT INTO counters VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = value + excluded.value", (name, by)
    )
