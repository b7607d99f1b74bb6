"""The planes across the slices of a volume: values, letters and masks, beside nibabel's own idea of the patient."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest

from monai_tpseg.annotate import PromptModel, Session, SessionError

_SIZES = {"R": (0.8, 9), "A": (0.8, 11), "S": (0.8, 13)}
"""Patient axis -> millimetres and voxels, where the slices do not lie across it."""

_TASKS = {"axial": "lung_infection", "coronal": "brain_tumor", "sagittal": "brain_tumor"}
_STORED = {"axial": ("L", "A", "S"), "coronal": ("R", "S", "P"), "sagittal": ("P", "S", "R")}
"""How the axes of the file run, the last one across the slices."""


def write(path: Path, plane: str, values: Any = None) -> nibabel.Nifti1Image:
    """A file whose slices are 4 mm apart; `values` of RAS millimetres, random ones without."""
    axes = [{"L": "R", "P": "A", "I": "S"}.get(to, to) for to in _STORED[plane]]
    sizes = [_SIZES[axis][0] for axis in axes[:2]] + [4.0]
    shape = [_SIZES[axis][1] for axis in axes[:2]] + [6]
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis, (to, name) in enumerate(zip(_STORED[plane], axes, strict=True)):
        affine["RAS".index(name), axis] = sizes[axis] * (1 if to in "RAS" else -1)
    data = np.random.default_rng(0).integers(0, 256, shape).astype(np.int16)
    if values is not None:
        places = nibabel.affines.apply_affine(affine, np.moveaxis(np.indices(shape), 0, -1))
        data = values(places).astype(np.int16)
    image = nibabel.Nifti1Image(data, affine)
    nibabel.save(image, path)
    return image


def seen_by_radiologists(ras: Any, plane: str, index: int) -> Any:
    """A picture of an (R, A, S) volume; `index` counts as the plane's slices do: to the left, to posterior, up."""
    if plane == "axial":
        return ras[::-1, ::-1, index].T
    if plane == "coronal":
        return ras[::-1, ras.shape[1] - 1 - index, ::-1].T
    return ras[ras.shape[0] - 1 - index, ::-1, ::-1].T


@pytest.mark.parametrize("plane", ["axial", "sagittal", "coronal"])
def test_values_are_those_of_nibabel(model: PromptModel, tmp_path: Path, plane: str) -> None:
    image = write(tmp_path / "volume.nii.gz", plane)
    session = Session(tmp_path / "volume.nii.gz", model, _TASKS[plane])
    ras = np.asarray(nibabel.as_closest_canonical(image).dataobj)
    assert session.plane == plane
    assert np.array_equal(session.view(2, (0, 255))[..., 0], seen_by_radiologists(ras, plane, 2))
    assert {one.plane for one in session.reformats} == {"axial", "sagittal", "coronal"} - {plane}
    for one in session.reformats:
        for index in (0, 4, session.shape[one.across] - 1):
            # along an axis of the case the index runs to inferior where its rows do, the plane's own one to superior
            own = session.shape[one.across] - 1 - index if one.plane == "axial" else index
            picture = session.reformat(one.plane, index, (0, 255))
            expected = seen_by_radiologists(ras, one.plane, own)
            assert picture.shape == (*expected.shape, 3)
            assert np.array_equal(picture[..., 0], expected)
            assert picture.shape[:2] == one.shape


@pytest.mark.parametrize("plane", ["axial", "sagittal", "coronal"])
def test_letters_and_spacing_are_those_of_the_patient(model: PromptModel, tmp_path: Path, plane: str) -> None:
    letters: dict[str, dict[str, str]] = {}
    for axis, (more, less) in enumerate((("R", "L"), ("A", "P"), ("S", "I"))):
        # brighter by 10 for each millimetre towards R, A or S
        write(tmp_path / f"{more}.nii.gz", plane, lambda places, axis=axis: 10 * places[..., axis])
        session = Session(tmp_path / f"{more}.nii.gz", model, _TASKS[plane])
        low, high = session.value_range
        for one in session.reformats:
            grey = session.reformat(one.plane, 3, (low, high))[..., 0].astype(float)
            ends = {"up": grey[0], "down": grey[-1], "west": grey[:, 0], "east": grey[:, -1]}
            for side, other in (("up", "down"), ("west", "east")):
                apart = ends[side].mean() - ends[other].mean()
                if abs(apart) > 50:  # it runs along this side
                    found = letters.setdefault(one.plane, {})
                    found[side], found[other] = (more, less) if apart > 0 else (less, more)
                    millimetres = one.spacing[0 if side == "up" else 1]
                    steps = one.shape[0 if side == "up" else 1] - 1
                    assert millimetres * steps * 10 == pytest.approx(high - low, rel=1e-3)
    assert letters == {one.plane: dict(one.sides) for one in session.reformats}


def test_masks_follow_every_change(model: PromptModel, sources: dict[str, Path], tmp_path: Path) -> None:
    session = Session(sources["series"], model, "lung_infection", tmp_path / "work")
    session.brush([(10, 12)], 5, index=2)
    session.brush([(11, 12)], 3, index=3)

    def seen(one: Session) -> Any:
        masks = {
            plane.plane: one.reformat_mask(plane.plane, at) for plane, at in zip(one.reformats, (12, 11), strict=True)
        }
        whole = one.volume_mask()
        assert np.array_equal(masks["sagittal"], whole[:, 12, ::-1].T)  # up is superior, west anterior
        assert np.array_equal(masks["coronal"], whole[11, :, ::-1].T)
        return masks["sagittal"].sum()

    counts = [seen(session)]
    session.brush([(12, 12)], 3, mark=False, index=2)
    counts.append(seen(session))
    session.undo()
    assert seen(session) == counts[0] != counts[1]
    session.redo()
    assert seen(session) == counts[1]
    session.clear(3)
    assert seen(session) < counts[1]
    session.undo()
    session.close()
    assert seen(Session.restore(tmp_path / "work", model)) == counts[1]


def test_what_has_no_other_plane(model: PromptModel, sources: dict[str, Path]) -> None:
    places = {path: pydicom.dcmread(path).ImagePositionPatient[2] for path in sources["series"].iterdir()}
    kept = sorted(places, key=places.__getitem__)
    for source, task in (
        (sources["picture"], "skin_lesion"),
        (sources["cine"], "breast_lesion"),
        ((*kept[:2], *kept[3:]), "lung_infection"),  # a slice is missing
    ):
        session = Session(source, model, task)
        assert session.reformats == ()
        with pytest.raises(SessionError, match="There is no plane 'coronal' across the slices; this case has no other"):
            session.reformat("coronal", 0)
    session = Session(sources["series"], model, "lung_infection")
    with pytest.raises(SessionError, match=r"There is no plane 'axial' .* has sagittal or coronal"):
        session.reformat("axial", 0)
    with pytest.raises(SessionError, match="There is no coronal 32; there are 0 to 31"):
        session.reformat("coronal", 32)
