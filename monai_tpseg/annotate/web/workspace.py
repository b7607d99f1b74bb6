"""The cases of one input, the open one, and their stored sessions."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from threading import RLock
from types import MappingProxyType
from typing import Any

from monai_tpseg.annotate.session import Session
from monai_tpseg.annotate.session.journal import holds_journal
from monai_tpseg.annotate.session.masks import Change
from monai_tpseg.annotate.session.prompt_model import PromptModel
from monai_tpseg.annotate.session.session_error import SessionError, no_writing
from monai_tpseg.annotate.session.sources import IsolatedSources
from monai_tpseg.annotate.web.run_masks import RunMask, place_of
from monai_tpseg.annotate.web.wire import opened, patches, status
from monai_tpseg.catalogue import get_task
from monai_tpseg.results.codes import StudyError
from monai_tpseg.results.measurements import fits_modality
from monai_tpseg.studies.annotated import DONE, write_annotated
from monai_tpseg.studies.case import CASES
from monai_tpseg.studies.manifest import Entry
from monai_tpseg.suffixes import DRAWN_SUFFIXES

__all__ = ["SESSIONS", "NotOpen", "Workspace", "check_sessions"]

SESSIONS = "sessions"
"""The folder of an output folder that sessions are kept in, each in a folder with the name of its case."""

DATALIST = "done.json"
"""The datalist of the cases that are done, in the output folder."""
"""Endings of the files that a mask can be opened from: those with their pixels in them."""


class NotOpen(SessionError):
    """Request for a case that is not open, or no longer open."""


class Workspace:
    """Open one case at a time and store each change on disk at once.

    Args:
        cases: name and entry of each case.
        model: the model, loaded once.
        out: output folder; `sessions/NAME` contains a session, `cases/NAME` saved results.
        task: task of all cases; by default that of the entry, if any.
        sources: reader of the cases in separate processes.
        masks: initial masks of new sessions, see `masks_of_run`.
    """

    def __init__(
        self,
        cases: Sequence[tuple[str, Entry]],
        model: PromptModel,
        out: Path,
        task: str | None = None,
        sources: IsolatedSources | None = None,
        masks: Mapping[tuple[Path, str], RunMask] = MappingProxyType({}),
    ) -> None:
        self._masks = masks
        self.cases, self.model, self.out, self.task = list(cases), model, out, task
        self._sources = sources or IsolatedSources()
        self._lock = RLock()
        self._open: tuple[int, Session] | None = None
        self._revision = 0

    def state(self) -> dict[str, Any]:
        """Return the list of cases and the data of the open one, if any."""
        known = self.model.info.tasks
        cases = self._about_cases()
        with self._lock:
            if self._open is None:
                return {"cases": cases, "tasks": known, "opened": None, "status": None}
            number, session = self._open
            about = opened(session, number, _label(self.cases[number][1]))
            return {"cases": cases, "tasks": known, "opened": about, "status": status(session, self._revision)}

    def open(self, number: int, task: str | None) -> dict[str, Any]:
        """Open a case, restoring its session, if any, and return `state`.

        Args:
            number: number of the case, from 0.
            task: task of a new case: a name, "" for none, None for the proposed one.

        Raises:
            SessionError: there is no such case, or the session no longer matches the source.
            ReadError: the source cannot be read.
        """
        if not 0 <= number < len(self.cases):
            raise SessionError(f"There is no case {number + 1}; there are 1 to {len(self.cases)}.")
        name, entry = self.cases[number]
        with self._lock:
            if self._open is None or self._open[0] != number:
                session = self._session(name, entry, self._task(entry) if task is None else task or None)
                self._close_case()
                self._open = number, session
                self._revision += 1
                self._keep_done(number, session)
            return self.state()

    def close(self) -> None:
        """Close the open case, and end the reading processes."""
        with self._lock:
            self._close_case()
            self._sources.close()

    def _close_case(self) -> None:
        if self._open is not None:
            self._open[1].close()
        self._open = None

    def session(self, number: int) -> Session:
        """Return the session of the open case.

        Raises:
            NotOpen: case `number` is not open.
        """
        found = self._open
        if found is None or found[0] != number:
            raise NotOpen("Another case is open; load the page again.")
        return found[1]

    def change(self, number: int, work: Callable[[Session], Change | Iterable[Change]]) -> dict[str, Any]:
        """Apply `work` to the open case, and return the patches of its masks and its state.

        Raises:
            NotOpen: see `session`.
            SessionError: raised by `work`.
        """
        with self._lock:
            session = self.session(number)
            found = work(session)
            changes = [found] if isinstance(found, Change) else list(found)
            self._revision += 1
            self._keep_done(number, session)
            return {"changes": patches(changes), "status": status(session, self._revision)}

    def mark_done(self, number: int, done: bool, empty: bool = False) -> dict[str, Any]:
        """Mark the open case as done, saving its masks, or as not done; see `change`.

        Args:
            number: number of the case, from 0.
            done: whether the case is done.
            empty: whether an empty mask is the intended result.

        Raises:
            NotOpen: see `session`.
            SessionError: see `Session.set_done` and `save`.
        """
        with self._lock:
            session = self.session(number)
            saved = None
            if done:
                session.check_done()
                saved = self.save(number, empty)
            return {**self.change(number, lambda s: s.set_done(done)), "saved": saved}

    def export_done(self) -> dict[str, Any]:
        """Write the finished cases as a datalist, and return its path and the number of cases.

        Raises:
            StudyError: no case is done.
        """
        found = write_annotated(self.out, self.out / DATALIST, done=True)
        return {"path": str((self.out / DATALIST).absolute()), "cases": len(found.entries)}

    def _keep_done(self, number: int, session: Session) -> None:
        """Record in the folder of a session whether it is done, and save the current masks of a finished one."""
        mark = self.out / SESSIONS / self.cases[number][0] / DONE
        if session.done == mark.is_file():
            return
        if session.done:
            self.save(number, empty=True)
        try:
            if session.done:
                mark.touch()
            else:
                mark.unlink()
        except OSError as error:
            raise no_writing(mark.parent, error) from error

    def add_exemplar(self, session: Session, image: bytes, label: bytes) -> Change:
        """Add a picture and its mask, both PNG, to the exemplars of a session.

        Raises:
            ReadError: one of them cannot be read, or their sizes differ.
            SessionError: the mask is empty.
        """
        with tempfile.TemporaryDirectory() as folder:
            paths = Path(folder, "picture.png"), Path(folder, "mask.png")
            for path, data in zip(paths, (image, label), strict=True):
                path.write_bytes(data)
            return session.add_exemplar(*paths)

    def open_mask(self, session: Session, name: str, data: bytes) -> list[Change]:
        """Replace the masks by those of an uploaded file.

        Args:
            session: session of the open case.
            name: name of the file; only its suffix counts.
            data: content of the file.

        Raises:
            ReadError: see `Session.open_mask`.
            SessionError: see `Session.open_mask`; the suffix is not supported.
        """
        ending = next((one for one in DRAWN_SUFFIXES if name.lower().endswith(one)), None)
        if ending is None:
            raise SessionError(f"A mask is a file of {', '.join(DRAWN_SUFFIXES)}; save it as one of them.")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, f"mask{ending}")
            path.write_bytes(data)
            return session.open_mask(path)

    def save(self, number: int, empty: bool = False) -> dict[str, Any]:
        """Write the masks of the open case, and return the kinds and the folder of the files.

        Args:
            number: number of the case, from 0.
            empty: whether an empty mask is the intended result.

        Raises:
            NotOpen: see `session`.
            SessionError: the case has no task yet, or the mask is empty and `empty` is not set.
        """
        session = self.session(number)
        if session.is_empty and not empty:
            raise SessionError("Nothing is marked; mark a lesion, or save the case as one without a lesion.")
        files = session.export(self.out / CASES, self.cases[number][0])
        folder = files["result"].parent
        return {
            "kinds": list(files),
            "folder": folder.relative_to(self.out).as_posix(),
            "path": str(folder.absolute()),
            "cases": self._about_cases(),
        }

    def _session(self, name: str, entry: Entry, task: str | None) -> Session:
        folder = self.out / SESSIONS / name
        if holds_journal(folder):
            return Session.restore(folder, self.model, self._sources.find(entry), self._sources)
        session = Session(self._sources.find(entry), self.model, task, folder, self._sources)
        given = self._masks.get(place_of(entry))
        if given is not None:
            try:
                session.open_mask(given.path)
            except BaseException:  # otherwise the session would continue without its mask
                session.close()
                shutil.rmtree(folder)
                raise
        return session

    def _about_cases(self) -> list[dict[str, Any]]:
        """Return the list for choosing a case; `misfits` are the tasks trained for another modality."""
        known, folder = self.model.info, self.out / CASES
        modalities = {task: get_task(task, known.modalities).modality for task in known.tasks}
        saved = {path.name.partition("_")[0] for path in folder.iterdir()} if folder.is_dir() else set()
        about = []
        for name, entry in self.cases:
            begun = holds_journal(self.out / SESSIONS / name)
            misfits = [task for task, one in modalities.items() if not fits_modality(entry.modality, one)]
            one = {"name": _label(entry), "note": entry.note, "task": self._task(entry), "modality": entry.modality}
            done = (self.out / SESSIONS / name / DONE).is_file()
            kept = "done" if done else "saved" if name in saved else "begun" if begun else ""
            about.append({**one, "misfits": misfits, "begun": begun, "kept": kept})
        return about

    def _task(self, entry: Entry) -> str | None:
        given = self._masks.get(place_of(entry))
        task = self.task or (given.task if given else entry.task)
        return task if task in self.model.info.tasks else None


def check_sessions(out: Path, names: Iterable[str], resume: bool) -> None:
    """Check that the sessions of an output folder may be continued.

    Raises:
        StudyError: there are sessions and `resume` is not set, or they belong to another input.
    """
    folder = out / SESSIONS
    kept = {path.name for path in folder.iterdir() if path.is_dir()} if folder.is_dir() else set()
    if kept and not resume:
        raise StudyError(f"'{out}' holds sessions; add --resume to continue them, or choose another --out.")
    if kept - set(names):
        raise StudyError(f"'{out}' holds the sessions of another input; choose another --out.")


def _label(entry: Entry) -> str:
    return f"{entry.path} ({entry.part})" if entry.part else entry.path
