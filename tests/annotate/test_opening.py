"""Masks that are there already come back onto the case, whatever wrote them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from PIL import Image

from monai_tpseg.annotate import PromptModel, Session, SessionError
from monai_tpseg.io.errors import ReadError

TASKS = {"ct": "lung_infection", "series": "lung_infection", "cine": "breast_lesion", "us": "breast_lesion"}


def drawn(source: Path, model: PromptModel, task: str) -> Session:
    """A session with something on two slices, or on the one that there is."""
    session = Session(source, model, task)
    last = session.shape[2] - 1
    session.brush([(12, 8), (14, 20)], 5, True, 0)
    if last:
        session.brush([(20, 25)], 9, True, last)
    return session


@pytest.mark.parametrize(
    ("source", "kind"),
    [("ct", "mask"), ("series", "mask"), ("series", "seg"), ("cine", "seg"), ("us", "mask"), ("us", "seg")],
)
def test_what_was_saved_can_be_opened(
    source: str, kind: str, model: PromptModel, sources: dict[str, Path], tmp_path: Path
) -> None:
    before = drawn(sources[source], model, TASKS[source])
    written = before.export(tmp_path)
    after = Session(sources[source], model, TASKS[source])
    changes = after.open_mask(written[kind])
    assert np.array_equal(after.volume_mask(), before.volume_mask())
    assert len(changes) == len({0, before.shape[2] - 1})
    assert {state for state in after.states() if state != "empty"} == {"proposed"}  # nobody has looked at it yet
    assert len(after.undo()) == len(changes)  # one step
    assert not after.volume_mask().any()
    assert not after.can_undo
    after.redo()
    assert np.array_equal(after.volume_mask(), before.volume_mask())


def test_a_picture_gets_the_mask_of_a_file(model: PromptModel, sources: dict[str, Path]) -> None:
    session = Session(sources["picture"], model, "skin_lesion")
    session.brush([(2, 2)], 3, True, 0)
    session.open_mask(sources["label"])
    assert np.array_equal(session.mask() * 255, np.asarray(Image.open(sources["label"])))  # what was there is gone
    session.click(10, 10)  # and the network goes on from there


def test_an_opened_mask_survives_a_kill(model: PromptModel, sources: dict[str, Path], tmp_path: Path) -> None:
    written = drawn(sources["ct"], model, "lung_infection").export(tmp_path)
    session = Session(sources["ct"], model, "lung_infection", tmp_path / "work")
    session.open_mask(written["mask"])
    session.close()
    journal = tmp_path / "work" / "session.jsonl"
    assert len(journal.read_bytes().splitlines()) == 2  # all slices in one line: there is no half of them
    again = Session.restore(tmp_path / "work", model)
    assert np.array_equal(again.volume_mask(), session.volume_mask())
    again.undo()
    again.save()
    again.close()
    last = Session.restore(tmp_path / "work", model)
    assert not last.volume_mask().any()
    assert len(last.redo()) == 2


def test_masks_that_do_not_fit(model: PromptModel, sources: dict[str, Path], tmp_path: Path) -> None:
    session = Session(sources["ct"], model, "lung_infection")
    written = drawn(sources["series"], model, "lung_infection").export(tmp_path / "series")
    image: Any = nibabel.load(sources["ct"])
    moved = image.affine.copy()
    moved[0, 3] += 50
    nibabel.Nifti1Image(np.ones(image.shape, np.uint8), moved).to_filename(tmp_path / "moved.nii.gz")
    for path, error, message in (
        (sources["label"], ReadError, "sizes"),
        (tmp_path / "moved.nii.gz", ReadError, "50|voxels apart"),
        (written["seg"], SessionError, "the case is not DICOM"),
    ):
        with pytest.raises(error, match=message):
            session.open_mask(path)
    picture = Session(sources["us"], model, "breast_lesion")
    with pytest.raises(SessionError, match="belongs to another case"):
        picture.open_mask(written["seg"])
    assert not session.can_undo
    assert not picture.can_undo
