"""The list of lesions is the table that is saved, and what is removed from it is gone from all slices."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from monai_tpseg.annotate import PromptModel, Session, SessionError

TASKS = {"ct": "lung_infection", "picture": "skin_lesion", "us": "breast_lesion", "cine": "breast_lesion"}


def several(source: Path, model: PromptModel, task: str) -> Session:
    """A session with three lesions, one of which lies on two slices where there are two."""
    session = Session(source, model, task)
    last = session.shape[2] - 1
    session.brush([(20, 10), (20, 16)], 7, True, 0)
    session.brush([(20, 10), (20, 16)], 5, True, min(1, last))
    session.brush([(20, 30)], 5, True, last)
    session.brush([(32, 8)], 3, True, last)
    return session


@pytest.mark.parametrize("source", sorted(TASKS))
def test_the_list_is_the_saved_table(source: str, model: PromptModel, sources: dict[str, Path], tmp_path: Path) -> None:
    session = several(sources[source], model, TASKS[source])
    listed = session.lesions()
    with session.export(tmp_path)["lesions"].open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3
    keys = "lesion", "size", "size_unit", "diameter"
    assert [tuple(row[key] for key in keys) for row in rows] == [
        (str(one.number), str(one.size), one.unit, str(one.diameter)) for one in listed
    ]
    depth = session.shape[2]
    labels = ndimage.label(session.volume_mask(), np.ones((3, 3, 3)))[0]
    for one in listed:
        index, row, column = one.place
        lies = np.flatnonzero((labels == labels[row, column, index]).any(axis=(0, 1)))
        assert labels[row, column, index] > 0
        assert one.slices == (lies[0], lies[-1])
    assert listed[0].slices == (0, min(1, depth - 1))


@pytest.mark.parametrize("source", sorted(TASKS))
def test_a_lesion_is_removed_from_all_slices_in_one_step(
    source: str, model: PromptModel, sources: dict[str, Path]
) -> None:
    session = several(sources[source], model, TASKS[source])
    before, first = session.volume_mask(), session.lesions()[0]
    labels = ndimage.label(before, np.ones((3, 3, 3)))[0]
    index, row, column = first.place
    changes = session.remove_lesion(row, column, index)
    assert [change.index for change in changes] == [*range(first.slices[0], first.slices[1] + 1)]
    assert np.array_equal(session.volume_mask(), before * (labels != labels[row, column, index]))
    assert len(session.lesions()) == 2
    with pytest.raises(SessionError, match="There is no lesion at"):
        session.remove_lesion(row, column, index)
    session.undo()
    assert np.array_equal(session.volume_mask(), before)


def test_without_a_mask_there_is_no_lesion(model: PromptModel, sources: dict[str, Path]) -> None:
    session = Session(sources["ct"], model, "lung_infection")
    assert session.lesions() == []
    with pytest.raises(SessionError, match="There is no lesion at row 3, column 4 of slice 2"):
        session.remove_lesion(3, 4, 2)
