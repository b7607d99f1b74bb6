"""Alignment of the patient spaces of two studies: a common frame of reference, or a verified rigid registration."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from monai_tpseg.io.orientation import voxel_sizes

__all__ = ["LIMITS", "Alignment", "RegistrationError", "Scan", "align"]

Matrix = NDArray[np.float64]

LIMITS = {"overlap": 0.5, "correlation": 0.6, "consistency_mm": 4.0, "rotation_degrees": 45.0}
"""A registration must have at least the first two and at most the last two; see docs/follow-up.md for the reasons."""

_LONGEST = 96  # maximum voxels per axis of the coarse copies for registration
_FINEST = 2.0  # mm, smallest voxel edge of the coarse copies
_BINS, _SHARE, _SEED = 50, 0.25, 1  # seed 0 would mean the time of day


class RegistrationError(ValueError):
    """Two studies cannot be aligned reliably.

    Attributes:
        reason: key of `monai_tpseg.follow.comparison.REASONS`.
        measured: measurements by the names of `LIMITS`.
    """

    def __init__(self, reason: str, measured: dict[str, float] | None = None) -> None:
        super().__init__(reason)
        self.reason, self.measured = reason, measured or {}


class Scan(NamedTuple):
    """A volume of one channel: values (H, W, D), and the affine (4, 4): index -> RAS mm."""

    values: NDArray[Any]
    affine: Matrix


class Alignment(NamedTuple):
    """Transformation from the patient space of the first study to that of the second.

    Attributes:
        matrix: (4, 4) rigid: RAS mm of the first study -> RAS mm of the second.
        method: `frame_of_reference` or `registration`.
        measured: measurements of the check by the names of `LIMITS`; empty without a registration.
    """

    matrix: Matrix
    method: str
    measured: dict[str, float]


def align(first: Scan, second: Scan) -> Alignment:
    """Register two scans of one patient rigidly in both directions, and verify the result.

    Raises:
        RegistrationError: `registration_failed`, with the measurements.
    """
    one, two = _coarse(first), _coarse(second)
    if min(np.ptp(one.values), np.ptp(two.values)) == 0:  # uniform values cannot be registered
        raise RegistrationError("registration_failed")
    there, back = _register(one, two), _register(two, one)
    measured = _measure(one, two, there, back)
    least = all(measured[key] >= LIMITS[key] for key in ("overlap", "correlation"))
    if not least or any(measured[key] > LIMITS[key] for key in ("consistency_mm", "rotation_degrees")):
        raise RegistrationError("registration_failed", measured)
    return Alignment(there, "registration", measured)


def _coarse(scan: Scan) -> Scan:
    """Return a smoothed isotropic copy, small enough for registration in seconds."""
    sizes = voxel_sizes(scan.affine)
    extent = sizes * scan.values.shape
    edge = max(_FINEST, float(extent.max()) / _LONGEST)
    steps = np.maximum(edge / sizes, 1e-6)
    shape = tuple(max(round(float(length) / edge), 1) for length in extent)
    smooth = ndimage.gaussian_filter(scan.values.astype(np.float32), np.maximum(steps - 1, 0) / 2, mode="nearest")
    start = (steps - 1) / 2  # the centre of the first coarse voxel
    values = ndimage.affine_transform(smooth, np.diag(steps), start, shape, order=1, mode="nearest")
    index = np.eye(4)
    index[:3, :3], index[:3, 3] = np.diag(steps), start
    return Scan(values, scan.affine @ index)


def _image(scan: Scan) -> Any:
    """Return the scan for SimpleITK, with RAS as physical space: it requires orthogonal axes, but not LPS."""
    import SimpleITK as sitk  # imported late: takes a second

    image = sitk.GetImageFromArray(np.ascontiguousarray(scan.values.transpose(2, 1, 0)))  # SimpleITK stores x fastest
    sizes = voxel_sizes(scan.affine)
    image.SetSpacing([float(size) for size in sizes])
    image.SetOrigin([float(value) for value in scan.affine[:3, 3]])
    image.SetDirection((scan.affine[:3, :3] / sizes).ravel().tolist())
    return image


def _register(moving: Scan, fixed: Scan) -> Matrix:
    """Return (4, 4): mm of `moving` -> mm of `fixed`, the better result of two initialisations."""
    found = [_optimise(_image(moving), _image(fixed), centred) for centred in (False, True)]
    return min(found, key=lambda pair: pair[0])[1]


def _optimise(moving: Any, fixed: Any, centred: bool) -> tuple[float, Matrix]:
    """Return metric (lower is better) and matrix, initialised by identity or by aligned centres."""
    import SimpleITK as sitk

    start = sitk.Euler3DTransform()
    start.SetCenter(fixed.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in fixed.GetSize()]))
    if centred:
        start = sitk.CenteredTransformInitializer(
            fixed, moving, start, sitk.CenteredTransformInitializerFilter.GEOMETRY
        )
    method = sitk.ImageRegistrationMethod()
    method.SetNumberOfWorkUnits(1)
    method.SetMetricAsMattesMutualInformation(_BINS)
    method.SetMetricSamplingStrategy(method.RANDOM)
    method.SetMetricSamplingPercentage(_SHARE, _SEED)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(2.0, 0.01, 120, relaxationFactor=0.6)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel([3, 1])
    method.SetSmoothingSigmasPerLevel([3.0, 0.0])
    method.SetSmoothingSigmasAreSpecifiedInPhysicalUnits(True)
    method.SetInitialTransform(start, inPlace=True)
    try:
        method.Execute(fixed, moving)
    except RuntimeError as error:  # the scans do not overlap
        if "samples map outside" not in str(error):
            raise
        return float("inf"), np.eye(4)
    # SimpleITK maps points of the fixed image to the moving one
    pulled = np.eye(4)
    pulled[:3, :3] = np.array(start.GetMatrix()).reshape(3, 3)
    pulled[:3, 3] = np.array(start.TransformPoint((0.0, 0.0, 0.0)))
    return float(method.GetMetricValue()), np.asarray(np.linalg.inv(pulled), dtype=np.float64)


def _measure(one: Scan, two: Scan, there: Matrix, back: Matrix) -> dict[str, float]:
    index = np.linalg.inv(one.affine) @ np.linalg.inv(there) @ two.affine  # index of `two` -> index of `one`
    moved = ndimage.affine_transform(one.values, index[:3, :3], index[:3, 3], two.values.shape, order=1, cval=np.nan)
    both = np.isfinite(moved)
    smaller = min(_volume(one), _volume(two))
    overlap = float(both.sum()) * float(abs(np.linalg.det(two.affine))) / smaller
    angle = np.degrees(np.arccos(np.clip((np.trace(there[:3, :3]) - 1) / 2, -1, 1)))
    measured = {
        "overlap": min(overlap, 1.0),
        "correlation": _correlation(moved[both], two.values[both]),
        "consistency_mm": _consistency(two, there @ back),
        "rotation_degrees": float(angle),
    }
    return {key: round(value, 4) for key, value in measured.items()}


def _volume(scan: Scan) -> float:
    return float(scan.values.size * abs(np.linalg.det(scan.affine)))


def _correlation(one: NDArray[Any], two: NDArray[Any]) -> float:
    """Return Pearson's correlation over the foreground of either scan, since surrounding air agrees in all scans."""
    shown = np.zeros(one.shape, dtype=bool)
    for values in (one, two):
        if values.size:
            shown |= values > values.min() + 0.1 * (np.percentile(values, 99) - values.min())
    if shown.sum() < 2 or not one[shown].std() or not two[shown].std():
        return 0.0
    return float(np.corrcoef(one[shown], two[shown])[0, 1])


def _consistency(scan: Scan, round_trip: Matrix) -> float:
    """Return the mean error of the round trip in mm over the corners of the central half of the volume."""
    shape = np.array(scan.values.shape)
    corners = np.array(np.meshgrid(*((0.25, 0.75),) * 3)).reshape(3, -1).T * shape
    points = np.c_[corners, np.ones(len(corners))] @ scan.affine.T
    return float(np.linalg.norm((points @ round_trip.T - points)[:, :3], axis=1).mean())
