"""The annotation session behind any viewer: editing, saving after every change, restoring and export."""

from __future__ import annotations

from pathlib import Path

from monai_tpseg.annotate.session.drawn_session import DrawnSession
from monai_tpseg.annotate.session.journal import Journal
from monai_tpseg.annotate.session.mask_files import write_session
from monai_tpseg.annotate.session.prompt_model import PromptModel
from monai_tpseg.annotate.session.read_only_session import synchronized
from monai_tpseg.annotate.session.saved import (
    begin_record,
    check_model,
    load_exemplar_pictures,
    read_saved,
    read_source,
    whole_records,
    write_source,
)
from monai_tpseg.annotate.session.session_error import SessionError
from monai_tpseg.annotate.session.sources import IN_PROCESS, Sources
from monai_tpseg.io.cases import CaseSource
from monai_tpseg.io.dicom.object import parsed_once

__all__ = ["Session"]


class Session(DrawnSession):
    """Annotation of a case slice by slice; a picture has one slice, 0.

    A slice is encoded once; a click costs one decoder pass. Prompts are as in training: all clicks on the slice, the
    class if `use_class` is set, the exemplars, and the logits of the corrected mask. Each change is one step of `undo`
    and `redo`. Methods are thread-safe and run one at a time.

    With a `folder`, every change is on disk before its method returns: after a kill, `restore` gives the same masks
    and steps. The folder contains clicks, masks and prepared exemplars; only `source.json`, readable by its owner only,
    names the source.

    Args:
        source: a file, the folder of one DICOM series, or the files of one stack; read with `load_case`.
        model: model, shared by sessions.
        task: name of a task of the weights, which determines preprocessing, class and the codes of exports; None for
            clicks and exemplars only, on sources that state their modality.
        folder: new folder of the session; None keeps it in memory.
        sources: reader of the source; by default in this process.

    Raises:
        ReadError: the source cannot be read.
        SessionError: the task is unknown, or None although the source does not state its modality; the folder already
            contains a session, or is not writable.

    >>> session = Session(Path("scan.nii.gz"), PromptModel("kprism.pt"), "lung_infection")  # doctest: +SKIP
    >>> session.click(120, 95, index=40).box  # doctest: +SKIP
    (101, 77, 140, 118)
    """

    def __init__(
        self,
        source: CaseSource,
        model: PromptModel,
        task: str | None = None,
        folder: str | Path | None = None,
        sources: Sources = IN_PROCESS,
    ) -> None:
        super().__init__(source, model, task, sources)
        self._head = begin_record(model, self.shape, self._history.setup)
        if folder is not None:
            self._journal = Journal(Path(folder))
            try:
                write_source(self._journal.folder, source, sources)
                self._journal.append(self._head)
            except SessionError:
                self._journal.close()
                raise

    @classmethod
    def restore(
        cls, folder: str | Path, model: PromptModel, source: CaseSource | None = None, sources: Sources = IN_PROCESS
    ) -> Session:
        """Return the session of a folder: masks, clicks, settings and all steps that can be undone or redone.

        Args:
            folder: folder of the session, which receives further changes.
            model: model with the same weights.
            source: current source, if it was moved.
            sources: reader of the source; by default in this process.

        Raises:
            ReadError: the source cannot be read.
            SessionError: there is no session, it is damaged or in use, or source or weights have changed.
        """
        folder = Path(folder)
        saved = read_saved(folder)
        check_model(saved.head, model)
        found = read_source(folder, source, sources)
        session = cls(found, model, saved.history.setup.task, sources=sources)
        if saved.head["shape"] != list(session.shape):
            raise SessionError("The source of the session is now read differently; start a new session.")
        session._predictor.shown.update(load_exemplar_pictures(folder, saved))
        session._predictor.results.update(saved.results)
        session._journal = Journal(folder, saved.length)
        session._history, session._head = saved.history, saved.head
        if source is not None:
            write_source(folder, found, sources)
        return session

    @synchronized
    def save(self) -> None:
        """Rewrite the session without unreachable results; all changes are on disk in any case.

        Raises:
            SessionError: the session has no folder, or it is not writable.
        """
        if self._journal is None:
            raise SessionError("The session has no folder; start it with one to save it.")
        self._journal.rewrite(whole_records(self._head, self._history, self._predictor.results))

    @synchronized
    def close(self) -> None:
        """Close the session and release its folder."""
        if self._journal is not None:
            self._journal.close()

    @synchronized
    def export(self, out_folder: str | Path, name: str | None = None) -> dict[str, Path]:
        """Write the masks on the grid of the source into the folder `<name>_<task>`, as `tpseg run` does.

        The files are NIfTI for volumes, PNG for pictures, DICOM SEG for DICOM sources, an overlay, a table of lesions
        and `result.json`; see docs/outputs.md. Proposed masks are included; `result.json` contains the state and the
        prompts of each slice. Mean probabilities of lesions have an error of at most 0.002.

        Args:
            out_folder: parent folder, created if necessary; an earlier export of the same name and task is replaced.
            name: name of the case; by default that of the source.

        Returns:
            kind (`mask`, `lesions`, `overlay`, `result`, and `seg` of a DICOM source with a lesion) -> file or folder.

        Raises:
            SessionError: there is no task, the name is invalid, or the folder has other content.
        """
        history, results = self._history, self._predictor.results
        with parsed_once(self._headers):
            return write_session(self._pixels, self.model, history, results, Path(out_folder), name)
