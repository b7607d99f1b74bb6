"""Pixels without data: declared padding, NaN, or a constant surround. None of them is tissue."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from numpy.typing import NDArray
from scipy import ndimage

from monai_tpseg.io.dicom.attributes import padding
from monai_tpseg.io.dicom.values import AIR, dicom_meta
from monai_tpseg.io.errors import ReadError
from monai_tpseg.io.loaded import Array
from monai_tpseg.io.meta_keys import INVERTED, MODALITY, NO_DATA, NON_FINITE, Intensity
from monai_tpseg.keys import IMAGE

__all__ = ["NO_DATA_MASK", "BlackenNoDatad", "HideNoDatad", "fill_no_data", "finite", "no_data_mask", "surround_mask"]

NO_DATA_MASK = "no_data_mask"
"""Batch key inside a pipeline: (H, W[, D]) bool, the pixels without data; absent where there are none."""

_BELOW = 2.0**-20  # relative distance of the no-data value from the others: distinct in float32, invisible on a screen
_DENSER_THAN_LUNG = -500.0  # HU
_MOST = 0.5  # share of the border filled by a constant surround, unless it fills a whole side
_SMALLEST = 8  # minimum edge of an image that can have a surround, pixels
_SAMPLE = 2**22  # number of values sampled to represent the distribution


def fill_no_data(
    array: Array, dataset: Any, headers: Sequence[Any], intensity: Intensity, name: object
) -> tuple[Array, dict[str, Any]]:
    """Return the values of a DICOM source without NaN, and the metadata about them.

    Args:
        array: (C, ...); NaN for padding pixels.
        dataset: the object, or the first one of a series.
        headers: headers of all frames, see `frames_of`; padding may be declared by only some of them.
        intensity: meaning of the values.
        name: name used in error messages.

    Returns:
        In display images, pixels without data are black. Otherwise their value is just below the smallest one, or
        above the largest one if low values are white, and in CT below air; CT padding no denser than air is kept.

    Raises:
        ReadError: `E_NO_PIXELS`, there are no other pixels.
    """
    meta = dicom_meta(dataset)
    declared = any(padding(header) is not None for header in headers)
    if intensity == "display":
        black = np.float32(255 if meta[INVERTED] else 0)
        _check_any(np.isfinite(array), name)
        return np.where(np.isnan(array), black, array) if declared else array, {}
    floor = AIR if meta[MODALITY] == "CT" else np.inf
    return finite(array, name, inverted=meta[INVERTED], floor=floor, declared=declared)


def finite(
    array: Array, name: object, inverted: bool = False, floor: float = np.inf, declared: bool = False
) -> tuple[Array, dict[str, Any]]:
    """Return `array` with NaN and -inf as no data and +inf as its largest finite value, and the metadata about them.

    Args:
        array: array of any shape.
        name: name used in error messages.
        inverted: low values are white: the no-data value is above the largest value instead of below the smallest.
        floor: the no-data value is also below this value.
        declared: the header declares NaN as padding; otherwise it is a fault and counted.

    Raises:
        ReadError: `E_NO_PIXELS`, there is no finite value.
    """
    good = np.isfinite(array)
    if good.all() and good.size:
        return array, {}
    _check_any(good, name)
    low, high = float(array[good].min()), float(array[good].max())
    edge = high if inverted else min(low, floor)
    empty = float(np.float32(edge + (1 if inverted else -1) * max(abs(edge), 1) * _BELOW))
    absent = np.isnan(array) | np.isneginf(array)
    repaired = int(good.size - good.sum()) - (int(np.isnan(array).sum()) if declared else 0)
    values: Array = np.where(absent, np.float32(empty), np.where(good, array, np.float32(high)))
    meta: dict[str, Any] = {NON_FINITE: repaired} if repaired else {}
    return values, meta | ({NO_DATA: empty} if absent.any() else {})


def _check_any(good: NDArray[np.bool_], name: object) -> None:
    if not good.any():
        raise ReadError("E_NO_PIXELS", f"{name} contains only padding or NaN; export it again.")


def no_data_mask(image: NDArray[Any], meta: Mapping[str, Any]) -> NDArray[np.bool_] | None:
    """Return the mask of pixels without data in an image, or None if there are none.

    Args:
        image: (H, W[, D]), one channel as read.
        meta: metadata from `LoadMedicalImage`.
    """
    if NO_DATA not in meta:
        return None
    mask: NDArray[np.bool_] = image == np.float32(meta[NO_DATA])
    return mask if mask.any() else None


def surround_mask(image: NDArray[Any], apart: bool = True) -> NDArray[np.bool_] | None:
    """Return the constant surround of an image: one exact value that fills one side, or half of the border.

    Args:
        image: (H, W[, D]); the border is that of the slices.
        apart: whether to include only parts connected to the border; not needed for the smallest value.

    Returns:
        a mask of the same shape, or None if there is no surround or the image is constant.
    """
    if min(image.shape[:2]) < _SMALLEST:
        return None
    sides = [image[0], image[-1], image[:, 0], image[:, -1]]
    border = np.concatenate([side.reshape(-1) for side in sides])
    corners = {float(side.reshape(-1)[n]) for side in sides for n in (0, -1)}
    found = np.zeros(image.shape, dtype=bool)
    for value in corners:
        if (border == value).mean() >= _MOST or any((side == value).all() for side in sides):
            same = image == value
            found |= _from_border(same) if apart or value > image.min() else same
    return found if found.any() and not found.all() else None


def _from_border(same: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The parts of a mask that touch the border of the slices."""
    parts, _ = ndimage.label(same)
    ends = np.concatenate([side.reshape(-1) for side in (parts[0], parts[-1], parts[:, 0], parts[:, -1])])
    reached: NDArray[np.bool_] = np.isin(parts, np.setdiff1d(ends, [0]))
    return reached


class HideNoDatad(MapTransform):
    """Give pixels without data the distribution of all others, so that they do not affect statistics.

    Percentiles, means and histograms of later transforms are then those of the tissue. `BlackenNoDatad` ends it.

    Args:
        keys: key of the image.
        absolute: whether values are HU: a constant surround then counts only if it is denser than lung and air.
    """

    def __init__(self, keys: KeysCollection = IMAGE, absolute: bool = False) -> None:
        super().__init__(keys)
        self.absolute = absolute

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return `data` with the mask under `NO_DATA_MASK`, if there is one."""
        case = dict(data)
        for key in self.keys:
            meta, values = getattr(case[key], "meta", {}), np.array(torch.as_tensor(case[key]).detach().cpu())
            unseen = self._unseen(values[0], meta)
            if unseen is None:
                continue
            for channel in values:
                channel[unseen] = _spread(channel[~unseen], int(unseen.sum()))
            case[NO_DATA_MASK] = unseen
            case[key] = _like(values, case[key])
        return case

    def _unseen(self, image: NDArray[Any], meta: Mapping[str, Any]) -> NDArray[np.bool_] | None:
        declared = no_data_mask(image, meta)
        if declared is not None and declared.all():
            return None
        rest = image if declared is None else np.where(declared, image[~declared].min(), image)
        around = surround_mask(rest, apart=self.absolute or bool(meta.get(INVERTED, False)))
        if around is not None and self.absolute:
            around &= image > _DENSER_THAN_LUNG
        if around is not None and np.ptp(rest[~around]) == 0:  # an image of two values: neither is a surround
            around = None
        found = [mask for mask in (declared, around) if mask is not None and mask.any()]
        return np.logical_or.reduce(found) if found else None


class BlackenNoDatad(MapTransform):
    """Set the pixels hidden by `HideNoDatad` to 0, black.

    Args:
        keys: key of the image, in 0..1.
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return `data` without the mask.

        Raises:
            ValueError: the pipeline has changed the shape of the image.
        """
        case = dict(data)
        mask = case.pop(NO_DATA_MASK, None)
        if mask is None:
            return case
        for key in self.keys:
            if tuple(case[key].shape[1:]) != mask.shape:
                raise ValueError(f"A modality pipeline must keep the shape, got {tuple(case[key].shape[1:])}.")
            case[key] = case[key].masked_fill(torch.from_numpy(mask).to(case[key].device), 0.0)
        return case


def _spread(values: NDArray[Any], count: int) -> NDArray[Any]:
    """`count` values with the distribution of `values`."""
    sample = np.sort(values[:: max(1, values.size // _SAMPLE)])
    spread: NDArray[Any] = sample[((np.arange(count) + 0.5) / count * sample.size).astype(np.int64)]
    return spread


def _like(values: NDArray[Any], image: torch.Tensor) -> torch.Tensor:
    """As a new image, without the no-data value in its metadata."""
    found: torch.Tensor = torch.from_numpy(values)
    if not isinstance(image, MetaTensor):
        return found
    fresh = MetaTensor(found).copy_meta_from(image)  # with the operations that Invertd inverts
    fresh.meta.pop(NO_DATA, None)
    whole: torch.Tensor = fresh
    return whole
