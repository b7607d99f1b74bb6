from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest
import SimpleITK
from numpy.typing import NDArray
from scipy import ndimage

from monai_tpseg.catalogue import TASK_NAMES, Modality, get_task
from monai_tpseg.testing.phantoms import LUNG_WINDOW, PARTNERS, Phantom, display, make_phantom, make_volume

COLOUR_TASKS = ("adenocarcinoma", "colon_polyp", "skin_lesion")
GREY_TASKS = tuple(name for name in TASK_NAMES if name not in COLOUR_TASKS)


def dice(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    return float(2 * (first & second).sum() / max(first.sum() + second.sum(), 1))


def otsu_dice(image: NDArray[np.uint8], label: NDArray[np.bool_]) -> float:
    """The better of the two sides of Otsu's threshold, chosen with the label in hand."""
    grey = image.mean(axis=2) if image.ndim == 3 else image.astype(float)
    bright = SimpleITK.GetArrayFromImage(SimpleITK.OtsuThreshold(SimpleITK.GetImageFromArray(grey), 0, 1)) > 0
    return max(dice(bright, label), dice(~bright, label))


def unseen(number: int = 6, size: int = 64) -> Iterable[Phantom]:
    return (make_phantom(task, 100_000 + seed, size) for task in TASK_NAMES for seed in range(number))


@pytest.mark.parametrize("task", TASK_NAMES)
def test_equal_seeds_give_equal_pictures_whatever_the_global_state(task: str) -> None:
    first = make_phantom(task, 7, 48)
    np.random.seed(3)
    np.random.random(5)
    again, other = make_phantom(task, 7, 48), make_phantom(task, 8, 48)
    assert np.array_equal(first.image, again.image)
    assert np.array_equal(first.label, again.label)
    assert not np.array_equal(first.image, other.image)
    assert not np.array_equal(first.label, other.label)


@pytest.mark.parametrize("task", TASK_NAMES)
def test_two_lesions_lie_apart_inside_the_frame(task: str) -> None:
    for seed in range(12):
        phantom = make_phantom(task, seed, 48)
        assert phantom.other_task == PARTNERS[task] != task
        for mask in (phantom.label, phantom.other_label):
            assert mask.dtype == np.bool_
            assert 0.004 < mask.mean() < 0.6
            assert ndimage.label(mask)[1] == 1
            assert not mask[[0, -1]].any()
            assert not mask[:, [0, -1]].any()
        assert not (ndimage.binary_dilation(phantom.label) & phantom.other_label).any()


@pytest.mark.parametrize("task", TASK_NAMES)
@pytest.mark.parametrize("size", [(40, 72), (65, 33)])
def test_pictures_need_not_be_square(task: str, size: tuple[int, int]) -> None:
    phantom = make_phantom(task, 2, size)
    assert phantom.image.shape == (*size, 3) if task in COLOUR_TASKS else phantom.image.shape == size
    assert phantom.image.dtype == np.uint8
    assert phantom.label.shape == phantom.other_label.shape == size
    assert phantom.label.any()
    assert phantom.other_label.any()


def test_every_task_is_a_distractor_once() -> None:
    assert sorted(PARTNERS) == sorted(PARTNERS.values()) == sorted(TASK_NAMES)


def test_a_threshold_does_not_find_the_lesions() -> None:
    scores = [otsu_dice(phantom.image, label) for phantom in unseen() for label in (phantom.label, phantom.other_label)]
    assert np.mean(scores) < 0.35


def test_grey_values_of_a_lesion_overlap_with_the_rest() -> None:
    """Even the best of all thresholds of a picture, either side of it, misses most lesions."""
    best = []
    for phantom in unseen(3, 48):
        grey = phantom.image.mean(axis=2) if phantom.image.ndim == 3 else phantom.image
        sides = (side for level in range(10, 250, 10) for side in (grey > level, grey <= level))
        best.append(max(dice(side, phantom.label) for side in sides))
    assert np.mean(best) < 0.5


def test_the_wrong_task_is_the_wrong_lesion() -> None:
    assert all(dice(phantom.label, phantom.other_label) == 0 for phantom in unseen(2, 48))


def test_stain_and_skin_have_colour() -> None:
    pathology, endoscopy, skin = (make_phantom(task, 1, 48).image.reshape(-1, 3).astype(float) for task in COLOUR_TASKS)
    assert np.median(pathology[:, 1]) < np.median(pathology[:, 2])  # pink and violet: least green
    assert np.median(endoscopy[:, 0]) > 1.4 * np.median(endoscopy[:, 2])  # red
    assert (np.diff(np.median(skin, axis=0)) < 0).all()  # red over green over blue


def test_an_unknown_task_is_named_with_the_choices() -> None:
    with pytest.raises(ValueError, match=r"Unknown task 'lung'; choose one of .*lung_infection"):
        make_phantom("lung", 0)


@pytest.mark.parametrize(
    ("seed", "size", "message"),
    [(-1, 48, "seed must be 0 or more, got -1"), (0, 16, "at least 32 x 32 pixels, got 16 x 16")],
)
def test_bad_arguments_are_named(seed: int, size: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_phantom("wet_amd", seed, size)


@pytest.mark.parametrize("task", GREY_TASKS)
def test_a_lesion_of_a_volume_is_one_body_over_several_slices(task: str) -> None:
    volume = make_volume(task, 5, (40, 48, 10))
    for mask in (volume.label, volume.other_label):
        slices = np.flatnonzero(mask.any(axis=(0, 1)))
        assert ndimage.label(mask, np.ones((3, 3, 3)))[1] == 1
        assert 2 <= len(slices) <= 9
        assert not mask[:, :, [0, -1]].any()
    assert not (volume.label & volume.other_label).any()
    assert volume.values.shape == volume.label.shape == (40, 48, 10)
    assert volume.values.dtype == np.float32
    assert np.array_equal(volume.values, make_volume(task, 5, (40, 48, 10)).values)


@pytest.mark.parametrize("task", GREY_TASKS)
def test_slices_of_volumes_look_like_the_pictures(task: str) -> None:
    modality = get_task(task).modality
    volume = make_volume(task, 1, (48, 48, 8))
    shown = display(volume.values, modality)
    pictures = np.stack([make_phantom(task, seed, 48).image for seed in range(4)]) / 255
    assert abs(shown.mean() - pictures.mean()) < 0.08
    assert abs(shown.std() - pictures.std()) < 0.08


def test_ct_values_are_hounsfield_units() -> None:
    volume = make_volume("lung_infection", 3, (64, 64, 8))
    values = volume.values
    assert -1024 <= values.min() < -950  # air
    assert 300 < values.max() < 1500  # bone
    chest = values[:, :, 0]
    assert -1050 < np.median(chest[:4, :4]) < -950  # outside the patient
    assert -200 < np.median(chest[30:34, 30:36]) < 150  # heart
    assert -850 < np.median(values[volume.label]) < -300  # ground glass
    assert np.median(values[volume.other_label]) < -900  # a dark pocket
    assert LUNG_WINDOW == (-1350.0, 150.0)


def test_mr_has_no_fixed_scale() -> None:
    whites = [np.percentile(make_volume("brain_tumor", seed, (48, 48, 6)).values, 99.5) for seed in range(6)]
    assert max(whites) > 1.2 * min(whites)
    assert display(make_volume("brain_tumor", 0, (48, 48, 6)).values, Modality.MRI).max() == 1


@pytest.mark.parametrize(
    ("task", "shape", "spacing", "message"),
    [
        ("skin_lesion", (48, 48, 8), None, "'skin_lesion' has colour pictures and no volumes; choose one of wet_amd"),
        ("brain_tumor", (48, 48, 4), None, "at least 6 slices, got 4"),
        ("brain_tumor", (16, 48, 8), None, "at least 32 x 32 pixels, got 16 x 48"),
        ("brain_tumor", (48, 48, 8), (1.0, 0.0, 1.0), "Spacing must be positive"),
    ],
)
def test_bad_volumes_are_named(
    task: str, shape: tuple[int, int, int], spacing: tuple[float, float, float] | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        make_volume(task, 0, shape, spacing)
