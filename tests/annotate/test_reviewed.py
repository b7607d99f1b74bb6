"""What a person says about masks: slices are accepted together, a case is done until something changes."""

from __future__ import annotations

import errno
from pathlib import Path

import nibabel
import numpy as np
import pytest

from monai_tpseg.annotate import PromptModel, Session, SessionError
from monai_tpseg.results import StudyError
from monai_tpseg.studies.annotated import annotated_cases

from .serving import serving

TASK = "lung_infection"


@pytest.fixture
def session(sources: dict[str, Path], model: PromptModel, tmp_path: Path) -> Session:
    """A stroke on slice 3, kept on disc."""
    made = Session(sources["series"], model, TASK, tmp_path / "session")
    made.brush([(10, 8), (10, 20)], 5, True, 3)
    return made


def opened(session: Session, folder: Path) -> Session:
    """Masks of four slices come from a file, as proposals."""
    volume = nibabel.load(session.export(folder, "given")["mask"])
    session.clear(3)
    values = np.asarray(volume.dataobj).copy()
    values[..., :4] = values.max(axis=2, keepdims=True)
    nibabel.save(nibabel.Nifti1Image(values, volume.affine), folder / "given.nii.gz")
    session.open_mask(folder / "given.nii.gz")
    return session


def test_all_proposals_are_accepted_in_one_step(session: Session, tmp_path: Path) -> None:
    proposed = opened(session, tmp_path).states()
    assert proposed.count("proposed") == 4
    masks = session.volume_mask()
    assert session.accept_all()
    assert session.states() == [state.replace("proposed", "accepted") for state in proposed]
    assert np.array_equal(session.volume_mask(), masks)
    session.undo()
    assert session.states() == proposed
    session.redo()
    with pytest.raises(SessionError, match="No slice is proposed"):
        session.accept_all()


def test_a_case_is_done_until_something_changes(session: Session) -> None:
    session.set_done()
    assert session.done
    for change in (
        lambda: session.brush([(20, 20)], 3, True, 1),
        lambda: session.click(20, 20, True, 1),
        lambda: session.accept(3),
        lambda: session.set_task(None),
        lambda: session.set_done(False),
    ):
        change()
        assert not session.done
        session.undo()
        assert session.done
    session.brush([(10, 10)], 1, True, 3)  # marked already: nothing changes
    session.set_use_class(True)
    session.clear(0)
    assert session.done


def test_done_is_saved_with_the_steps(session: Session, model: PromptModel, tmp_path: Path) -> None:
    session.set_done()
    session.brush([(20, 20)], 3, True, 1)
    session.close()
    restored = Session.restore(tmp_path / "session", model)
    assert not restored.done
    restored.undo()
    assert restored.done
    restored.save()
    restored.close()
    assert Session.restore(tmp_path / "session", model).done


def test_what_cannot_be_done_yet_is_told(session: Session, tmp_path: Path) -> None:
    with pytest.raises(SessionError, match="4 masks of the case are only proposed; look at them and accept them"):
        opened(session, tmp_path).set_done()
    session.accept_all()
    session.set_task(None)
    with pytest.raises(SessionError, match="needs a task"):
        session.set_done()
    assert not session.done


def test_a_done_volume_teaches_with_all_its_slices(
    sources: dict[str, Path], model: PromptModel, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    for name in "ab":
        (tmp_path / "in" / f"{name}.nii.gz").write_bytes(sources["ct"].read_bytes())
    with serving(tmp_path / "in", model, tmp_path / "out", TASK, here=True) as viewer:
        for case in (0, 1):
            viewer.post("open", case=case, task=None)
            viewer.post("brush", case=case, index=2, points=[[10, 8]], diameter=5, mark=True)
            viewer.post("save", case=case)
        viewer.post("done", case=1, done=True)
    every, done = annotated_cases(tmp_path / "out"), annotated_cases(tmp_path / "out", done=True)
    assert [Path(entry["image"]).name for entry in every.entries] == ["a.nii.gz", "b.nii.gz"]
    assert [entry.get("slices") for entry in every.entries] == [[2], None]
    assert [Path(entry["image"]).name for entry in done.entries] == ["b.nii.gz"]
    assert [why for _, why in done.left_out] == ["it is not marked as done"]


def test_a_mark_that_the_disc_refuses_is_told_in_one_line(
    sources: dict[str, Path], model: PromptModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, *_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    with serving(sources["ct"], model, tmp_path / "out", TASK, here=True) as viewer:
        viewer.post("open", task=None)
        viewer.post("brush", index=2, points=[[10, 8]], diameter=5, mark=True)
        with monkeypatch.context() as patch:
            patch.setattr(Path, "touch", full)
            answer = viewer.ask("POST", "/api/done", {"case": 0, "done": True})
        assert answer.status == 422
        assert "cannot be written (No space left on device); free space or correct its permissions." in answer.text
        with pytest.raises(StudyError, match="it is not marked as done"):
            annotated_cases(tmp_path / "out", done=True)
        viewer.post("done", done=False)
        viewer.post("done", done=True)
    assert len(annotated_cases(tmp_path / "out", done=True).entries) == 1
