"""The object behind any viewer: a case that is worked on, saved after every change, restored and exported."""

from __future__ import annotations

from pathlib import Path

from monai_tpseg.annotate.session.drawn import Drawn
from monai_tpseg.annotate.session.journal import Journal
from monai_tpseg.annotate.session.mask_files import write_session
from monai_tpseg.annotate.session.opened import alone
from monai_tpseg.annotate.session.prompt_model import PromptModel
from monai_tpseg.annotate.session.saved import (
    begin_record,
    check_model,
    load_shown,
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


class Session(Drawn):
    """A case that is worked on, one slice after the other; a picture has the one slice 0.

    A slice is encoded once; a click costs a decoder pass. The network is asked as in training: all clicks on the
    slice, the class if `use_class`, the exemplars, and the logits of the mask that is corrected. Each change is one
    step of `undo` and `redo`. All methods may be called from any thread; one is inside at a time.

    With a `folder`, every change is on the disc before its method returns: after a kill, `restore` gives the same
    masks and the same steps. The folder holds clicks, masks and prepared exemplars, and nothing that names the source
    but `source.json`, which only its owner can read.

    Args:
        source: a file, the folder of one DICOM series, or the files of one stack; read with `load_case`.
        model: shared by sessions.
        task: name of a task of the weights, which says how values become input, what class is meant and, in exports,
            which codes; None is for clicks and exemplars alone, on sources that say their modality.
        folder: of the session, new; None keeps it in memory.
        sources: reads the source; in this process by default.

    Raises:
        ReadError: the source cannot be read.
        SessionError: an unknown task, or none where the source does not say its modality; a folder that holds a
            session already, or cannot be written.

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
        """Return the session of a folder: masks, clicks, settings and all steps that can be undone or done again.

        Args:
            folder: of the session; changes go on there.
            model: of the same weights.
            source: where the source lies now, if it was moved.
            sources: reads it; in this process by default.

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
        session._predictor.shown.update(load_shown(folder, saved))
        session._predictor.results.update(saved.results)
        session._journal = Journal(folder, saved.length)
        session._history, session._head = saved.history, saved.head
        if source is not None:
            write_source(folder, found, sources)
        return session

    @alone
    def save(self) -> None:
        """Write the session anew without what cannot be reached any more; every change is on the disc anyhow.

        Raises:
            SessionError: the session has no folder, or it cannot be written.
        """
        if self._journal is None:
            raise SessionError("The session has no folder; start it with one to save it.")
        self._journal.rewrite(whole_records(self._head, self._history, self._predictor.results))

    @alone
    def close(self) -> None:
        """Let other sessions use the folder; this one is over."""
        if self._journal is not None:
            self._journal.close()

    @alone
    def export(self, out_folder: str | Path, name: str | None = None) -> dict[str, Path]:
        """Write what a study gets: the masks on the grid of the source, in the folder `<name>_<task>`.

        NIfTI for volumes, PNG for pictures, DICOM SEG where the source is DICOM, an overlay, a table of lesions and
        `result.json`; see docs/outputs.md. Proposed masks are written as well; `result.json` says where each slice
        stands and what was asked about it. The mean probabilities of lesions are exact to 0.002.

        Args:
            out_folder: made if need be; an earlier export of the same name and task is replaced.
            name: of the case; by default that of the source.

        Returns:
            kind (`mask`, `lesions`, `overlay`, `result`, and `seg` of a DICOM source with a lesion) -> file or folder.

        Raises:
            SessionError: no task, a name that is none, or a folder that holds something else.
        """
        history, results = self._history, self._predictor.results
        with parsed_once(self._headers):
            return write_session(self._pixels, self.model, history, results, Path(out_folder), name)
