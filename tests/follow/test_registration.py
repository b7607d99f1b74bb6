"""A known movement is found again, and another patient is refused."""

from __future__ import annotations

import numpy as np
import pytest
from nibabel.affines import apply_affine

from monai_tpseg.follow import RegistrationError, align
from monai_tpseg.follow.registration import LIMITS, Scan, _image, _optimise

from .scans import grid, head, rigid

POINTS = np.array([[0.0, 0, 0], [35, 10, -20], [-30, 40, 15], [10, -45, 25]])


def moved(movement: np.ndarray, seed: int = 0, shape: tuple[int, ...] = (48, 48, 40)) -> Scan:  # type: ignore[type-arg]
    """The head after a movement, on another grid with other axes."""
    affine = grid(shape, (2.5, 3.0, 3.5)) @ np.diag([-1.0, -1.0, 1.0, 1.0])
    affine[:3, 3] *= [-1, -1, 1]
    return Scan(head(np.linalg.inv(movement) @ affine, seed, shape), affine)


def test_a_known_movement_is_found() -> None:
    movement = rigid(9.0, (12.0, -7.0, 5.0))
    first = Scan(head(grid()), grid())
    found = align(first, moved(movement))
    assert found.method == "registration"
    off = np.linalg.norm(apply_affine(found.matrix, POINTS) - apply_affine(movement, POINTS), axis=1)
    assert off.max() < 1.5  # mm, half of a voxel
    np.testing.assert_allclose(found.matrix[:3, :3] @ found.matrix[:3, :3].T, np.eye(3), atol=1e-9)
    assert found.measured["rotation_degrees"] == pytest.approx(9.0, abs=1.0)
    assert found.measured["correlation"] > 0.9


def test_the_same_scans_give_the_same_matrix() -> None:
    shape, affine = (22, 26, 18), grid((22, 26, 18), (6.0, 6.0, 8.0))
    scans = [Scan(head(rigid(0.0, (shift, 0.0, 0.0)) @ affine, 0, shape), affine) for shift in (0.0, 5.0)]
    matrices = [_optimise(*map(_image, scans), False)[1] for _ in range(2)]
    np.testing.assert_allclose(*matrices, atol=1e-6)


def test_another_patient_is_refused_with_what_was_measured() -> None:
    with pytest.raises(RegistrationError) as refused:
        align(Scan(head(grid()), grid()), moved(rigid(0.0, (0.0, 0.0, 0.0)), seed=1))
    assert refused.value.reason == "registration_failed"
    assert refused.value.measured.keys() == LIMITS.keys()
    assert refused.value.measured["correlation"] < LIMITS["correlation"]


def test_nothing_to_see_is_refused() -> None:
    flat = Scan(np.zeros((20, 20, 20), np.float32), grid((20, 20, 20)))
    with pytest.raises(RegistrationError, match="registration_failed"):
        align(flat, flat)
