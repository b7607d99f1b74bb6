"""Lesion measurements: against arithmetic by hand, a naive loop and the affine."""

from __future__ import annotations

import csv
import io
from itertools import product
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from monai_tpseg.catalogue import Modality
from monai_tpseg.results.codes import Status
from monai_tpseg.results.measurements import Lesion, flags_of, lesions_csv, measure_lesions, outcome_with
from monai_tpseg.segment import find_lesions

PICTURE = {"source_kind": "picture"}
SPACING = (2.0, 3.0, 5.0)
AFFINE = np.array([[0, 3.0, 0, 10], [-2.0, 0, 0, 20], [0, 0, 5.0, -30], [0, 0, 0, 1]])  # rows to posterior
VOLUME: dict[str, Any] = {"source_kind": "volume", "spacing": SPACING, "affine": AFFINE}


def measure(mask: NDArray[Any], prob: NDArray[Any], meta: dict[str, Any]) -> list[Lesion]:
    return measure_lesions(find_lesions(mask, meta), prob, meta, "skin_lesion", "c1")


def naive_diameter(mask: NDArray[Any], spacing: tuple[float, ...]) -> float:
    corners = np.unique([np.add(p, s) for p in np.argwhere(mask) for s in product((0, 1), repeat=mask.ndim)], axis=0)
    points = corners * np.array(spacing)
    return float(max(np.linalg.norm(a - b) for a in points for b in points))


def test_a_rectangle_measures_its_diagonal_in_pixels() -> None:
    mask = np.zeros((12, 20))
    mask[2:5, 3:7] = 1  # 3 x 4
    (lesion,) = measure(mask, mask * 0.75, PICTURE)
    assert (lesion.voxels, lesion.size, lesion.size_unit) == (12, 12.0, "px")
    assert (lesion.diameter, lesion.diameter_unit) == (5.0, "px")
    assert (lesion.row, lesion.column, lesion.slice) == (3.0, 4.5, None)
    assert (lesion.right_mm, lesion.anterior_mm, lesion.superior_mm) == (None, None, None)
    assert (lesion.tracking_id, lesion.mean_probability) == ("c1_skin_lesion_1", 0.75)


def test_a_volume_measures_in_millimetres_and_lies_in_the_patient() -> None:
    mask = np.zeros((6, 7, 4))
    mask[1, 2, 3] = 1
    (lesion,) = measure(mask, mask, VOLUME)
    assert (lesion.size, lesion.size_unit) == (30.0, "mm3")
    assert lesion.diameter == pytest.approx(np.sqrt(4 + 9 + 25), abs=1e-3)
    assert (lesion.right_mm, lesion.anterior_mm, lesion.superior_mm) == (16.0, 18.0, -15.0)
    assert (lesion.row, lesion.column, lesion.slice) == (1.0, 2.0, 3.0)


@pytest.mark.parametrize("shape", [(7, 9), (4, 5, 6)])
def test_diameter_equals_the_longest_of_all_distances(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    spacing = SPACING[: len(shape)]
    meta = {"source_kind": "picture", "spacing": spacing} if len(shape) == 2 else VOLUME
    for _ in range(5):
        mask = rng.random(shape) > 0.6
        for lesion in measure(mask, mask, meta)[:1]:
            whole = largest(mask)
            assert lesion.diameter == pytest.approx(naive_diameter(whole, spacing), abs=1e-3)


def largest(mask: NDArray[Any]) -> NDArray[np.bool_]:
    """The biggest component by flood fill."""
    left, best = {tuple(p) for p in np.argwhere(mask)}, set()
    while left:
        todo, part = [min(left)], set()
        left.discard(todo[0])
        while todo:
            point = todo.pop()
            part.add(point)
            near = {tuple(np.add(point, step)) for step in product((-1, 0, 1), repeat=mask.ndim)} & left
            left -= near
            todo += near
        best = max(best, part, key=len)
    result = np.zeros(mask.shape, bool)
    result[tuple(np.array(sorted(best)).T)] = True
    return result


def test_lesions_are_numbered_by_size_and_join_at_corners() -> None:
    mask = np.zeros((10, 10))
    mask[1, 1] = mask[2, 2] = 1  # one lesion
    mask[5:8, 5:8] = 1
    lesions = measure(mask, mask, PICTURE)
    assert [(one.lesion, one.voxels) for one in lesions] == [(1, 9), (2, 2)]


def test_an_empty_mask_has_a_table_of_names_only() -> None:
    mask = np.zeros((4, 4))
    assert measure(mask, mask, PICTURE) == []
    (header,) = csv.reader(io.StringIO(lesions_csv([]).decode()))
    assert header[:5] == ["lesion", "tracking_id", "voxels", "size", "size_unit"]


def test_flags_name_what_is_odd() -> None:
    empty, edge, many = np.zeros((9, 90)), np.zeros((9, 90)), np.zeros((9, 90))
    edge[0, 4:8] = 1
    many[4, 1:89:4] = 1
    found = {name: flags_of(m, measure(m, m, PICTURE), PICTURE, Modality.MRI) for name, m in
             (("empty", empty), ("edge", edge), ("many", many))}  # fmt: skip
    assert found == {"empty": ("empty",), "edge": ("touches_border",), "many": ("many_lesions",)}
    lesions = measure(many[:, :8], many[:, :8] * 0.55, PICTURE)
    assert flags_of(many[:, :8], lesions, {"non_finite": 3}, Modality.MRI) == ("repaired_values", "uncertain")


@pytest.mark.parametrize(
    ("recorded", "modality", "flagged"),
    [("CT", Modality.MRI, True), ("MR", Modality.MRI, False), ("OT", Modality.CT, False), ("", Modality.CT, False)],
)
def test_a_source_of_another_modality_is_for_review(recorded: str, modality: Modality, flagged: bool) -> None:
    mask = np.zeros((9, 9))
    mask[4, 4] = 1
    flags = flags_of(mask, measure(mask, mask, PICTURE), {"dicom_modality": recorded}, modality)
    assert flags == (("other_modality",) if flagged else ())
    assert outcome_with(flags, 1).status is (Status.REVIEW if flagged else Status.OK)


def test_every_modality_of_a_task_is_known_to_dicom() -> None:
    mask = np.zeros((9, 9))
    for modality in Modality:
        assert flags_of(mask, [], {"dicom_modality": "MG"}, modality) == ("other_modality", "empty")
