"""Lengths in the headers of volumes, converted to mm; lengths that are not stated are unknown."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from monai_tpseg.io.errors import ReadError
from monai_tpseg.io.rounding import DEGREES
from monai_tpseg.io.text_headers import in_any_case, read_text_header
from monai_tpseg.suffixes import METAIMAGE_SUFFIXES

__all__ = [
    "EDGES_MM",
    "FARTHEST_MM",
    "Lengths",
    "check_directions",
    "check_edges",
    "check_position",
    "is_edge",
    "itk_lengths",
    "millimetres",
    "nifti_lengths",
    "nifti_scale",
    "sheared",
]

EDGES_MM = (1e-6, 1e4)
"""Smallest and largest plausible edge of a pixel or voxel in mm: a nanometre and ten metres."""

FARTHEST_MM = 1e6
"""Largest plausible distance from the origin in mm: a kilometre."""

_UNITS = {
    1e3: ("m", "meter", "meters", "metre", "metres"),
    10.0: ("cm", "centimeter", "centimeters", "centimetre", "centimetres"),
    1.0: ("mm", "millimeter", "millimeters", "millimetre", "millimetres"),
    1e-3: ("um", "\u00b5m", "\u03bcm", "micron", "microns", "micrometer", "micrometers", "micrometre", "micrometres"),
    1e-6: ("nm", "nanometer", "nanometers", "nanometre", "nanometres"),
    25.4: ("in", "inch", "inches"),
}
_MM = {name: scale for scale, names in _UNITS.items() for name in names} | {"": 1.0, "?": 1.0}
_NIFTI_UNITS = {0: 1.0, 1: 1e3, 2: 1.0, 3: 1e-3}  # the lowest three bits of xyzt_units; 0, none: millimetres
_WORD = re.compile(r'"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<plain>\S+)')
_VECTOR = re.compile(r"\([^)]*\)|none", re.I)
_FLAT = 1e-6  # volume of a voxel relative to that of a box with its edges
_PATIENT = frozenset(
    ["lps", "las", "ras", "left-posterior-superior", "left-anterior-superior", "right-anterior-superior"]
)  # spaces of NRRD with a known relation to the patient
_MATRICES = ("TransformMatrix", "Rotation", "Orientation")  # of MetaImage, one meaning
_POSITIONS = ("Offset", "Position", "Origin")
_LETTERS = {"L": (0, 1), "R": (0, -1), "P": (1, 1), "A": (1, -1), "S": (2, 1), "I": (2, -1)}  # axis of LPS, sign
_ALONG = 0.3  # cosine between an axis and the direction that a letter names, at least


class Lengths(NamedTuple):
    """Lengths stated by a header.

    Attributes:
        scale: (3,) millimetres per unit along x, y and z of the world.
        known: whether all three voxel edges are stated; otherwise sizes can only be given in pixels.
        doubtful: whether programs read the geometry differently.
    """

    scale: NDArray[np.float64]
    known: bool
    doubtful: bool = False


def millimetres(unit: str) -> float | None:
    """Return the length of a unit in mm, or None for an unknown unit; an empty name means mm."""
    return _MM.get(unit.strip().lower())


def is_edge(length: float) -> bool:
    """Return whether a number is a plausible edge of a pixel or voxel in mm."""
    return bool(EDGES_MM[0] <= length <= EDGES_MM[1])  # false for NaN


def check_edges(edges: NDArray[np.float64], name: object) -> None:
    """Reject voxels of implausible size.

    Args:
        edges: voxel edges in mm.
        name: name of the file in error messages.

    Raises:
        ReadError: `E_GEOMETRY`.
    """
    if not all(is_edge(float(edge)) for edge in edges):
        low, high = EDGES_MM
        raise ReadError(
            "E_GEOMETRY",
            f"{name} has voxels of {_times(edges)} mm, beyond {low:g} to {high:g}; correct its spacing or units.",
        )


def check_directions(vectors: NDArray[np.float64], name: object) -> None:
    """Reject voxel axes that do not span a space.

    Args:
        vectors: (n, n) axes, in rows or in columns, of any length.
        name: name of the file in error messages.

    Raises:
        ReadError: `E_GEOMETRY`.
    """
    with np.errstate(over="ignore"):
        edges = np.linalg.norm(vectors, axis=0)
    if not np.isfinite(edges).all() or edges.min() == 0 or abs(np.linalg.det(vectors / edges)) < _FLAT:
        raise ReadError("E_GEOMETRY", f"{name} has no usable voxel directions; repair its header or convert it again.")


def check_position(position: NDArray[np.float64], name: object) -> None:
    """Reject the position of a first voxel that is not a number, or implausibly far away.

    Args:
        position: in mm.
        name: name of the file in error messages.

    Raises:
        ReadError: `E_GEOMETRY`.
    """
    if not np.isfinite(position).all():
        raise ReadError("E_GEOMETRY", f"{name} states a position that is not a number; correct it, or leave it out.")
    if np.abs(position).max() > FARTHEST_MM:
        raise ReadError("E_GEOMETRY", f"{name} lies over {FARTHEST_MM:g} mm from its origin; correct its positions.")


def nifti_lengths(header: Any) -> Lengths:
    """Return the lengths of a NIfTI header as stored in the file.

    The sform states all edges, otherwise `pixdim`; an edge of 0, NaN or infinity is unknown. In a file with two axes,
    the slice thickness is unknown whatever its field contains.

    Args:
        header: a nibabel header, not repaired.
    """
    scale = nifti_scale(header)
    edges = np.abs(header["pixdim"][1:4].astype(np.float64))
    known = int(header["sform_code"]) > 0 or bool((np.isfinite(edges) & (edges > 0)).all())
    return Lengths(np.full(3, scale or 1.0), known and scale is not None and int(header["dim"][0]) >= 3)


def nifti_scale(header: Any) -> float | None:
    """Return the millimetres per unit of length of a NIfTI header, or None for a unit of another kind."""
    return _NIFTI_UNITS.get(int(header["xyzt_units"]) & 7)


def sheared(axes: NDArray[np.float64]) -> bool:
    """Return whether two voxel axes deviate from a right angle by more than `rounding.DEGREES`, as after gantry tilt.

    Args:
        axes: (n, n) axes, in columns, of any length but 0.
    """
    units = axes / np.linalg.norm(axes, axis=0)
    return bool(np.abs(units.T @ units - np.eye(units.shape[1])).max() > np.sin(np.radians(DEGREES)))


def itk_lengths(path: Path, name: object) -> Lengths:
    """Return the lengths stated by the text header of an NRRD or MetaImage file.

    Args:
        path: the file.
        name: name used in error messages.

    Raises:
        ReadError: `E_GEOMETRY`, an edge, a direction or a position that cannot be one. ITK rejects some without a
            reason, and replaces others by 1 or 0.
    """
    fields = read_text_header(path).fields
    return (_of_metaimage if path.name.lower().endswith(METAIMAGE_SUFFIXES) else _of_nrrd)(fields, name)


def _of_metaimage(fields: Mapping[str, str], name: object) -> Lengths:
    stated = fields.get("ElementSpacing", fields.get("ElementSize", "")).split("#")[0]
    edges = [_number(word) for word in stated.split()]
    _check_stated(edges, name)
    unit = millimetres(in_any_case(fields, "DistanceUnits"))
    check_edges(np.abs(edges) * (unit or 1.0), name)
    for key in _POSITIONS:
        if key in fields:
            check_position(np.array([0, *_numbers(fields[key])]) * (unit or 1.0), name)
    axes = np.eye(3)
    for key in _MATRICES:
        if key in fields:
            axes = _square(_numbers(fields[key]), name)
    doubtful = _deviates(axes) or sheared(axes.T) or _contradicts(fields.get("AnatomicalOrientation", ""), axes)
    return Lengths(np.full(3, unit or 1.0), unit is not None and len(edges) >= 3, doubtful)


def _square(numbers: list[float], name: object) -> NDArray[np.float64]:
    """(n, n) axes of the voxels, in rows."""
    n = round(len(numbers) ** 0.5)
    check_directions(np.array(numbers).reshape(n, n) if n and n * n == len(numbers) else np.zeros((1, 1)), name)
    return np.array(numbers).reshape(n, n)


def _deviates(axes: NDArray[np.float64]) -> bool:
    """Whether axes are no perpendicular unit vectors: some programs scale with them, others normalise them."""
    return bool(np.abs(axes @ axes.T - np.eye(len(axes))).max() > 2 * np.sin(np.radians(DEGREES)))


def _contradicts(letters: str, axes: NDArray[np.float64]) -> bool:
    """Whether letters such as RAI name other axes, be they where an axis comes from or where it leads to."""
    named = [_LETTERS.get(letter) for letter in letters.strip().upper()]
    if None in named or len(named) != 3 or axes.shape != (3, 3):
        return False
    along = [
        sign * row[axis] / np.linalg.norm(row) for (axis, sign), row in zip(filter(None, named), axes, strict=True)
    ]
    return not (min(along) > _ALONG or max(along) < -_ALONG)


def _of_nrrd(fields: Mapping[str, str], name: object) -> Lengths:
    if "spacedirections" in fields:
        vectors = _VECTOR.findall(fields["spacedirections"])
        unknown = [vector.lower() == "none" for vector in vectors]
        numbers = [_number(x) for vector in vectors if vector.lower() != "none" for x in vector.strip("()").split(",")]
        _check_stated(numbers, name, zero=True)
        units = _words(fields.get("spaceunits", ""))
        stated = unknown.count(False)
        _check_placed(numbers, stated, units, fields.get("spaceorigin", ""), name)
    else:
        spatial = _spatial(fields)
        edges = [_number(word) for word in fields.get("spacings", "").split()]
        edges = [edge for edge, keep in zip(edges, spatial, strict=False) if keep]
        _check_stated([edge for edge in edges if not np.isnan(edge)], name)  # NaN means unknown in NRRD
        units = [word for word, keep in zip(_words(fields.get("units", "")), spatial, strict=False) if keep]
        stated = sum(not np.isnan(edge) for edge in edges)
        check_edges(np.abs([e * s for e, s in zip(edges, _scales(units), strict=False) if not np.isnan(e)]), name)
    known = stated >= 3 and None not in [millimetres(unit) for unit in units[:3]]
    doubtful = False
    if "spacedirections" in fields and stated == 3:
        doubtful = fields.get("space", "").lower() not in _PATIENT
        doubtful |= len(numbers) == 9 and sheared(np.array(numbers).reshape(3, 3).T * _scales(units)[:, None])
    return Lengths(_scales(units), known, doubtful)


def _scales(units: list[str]) -> NDArray[np.float64]:
    return np.array([millimetres(unit) or 1.0 for unit in (*units, "", "", "")[:3]])


def _check_placed(numbers: list[float], count: int, units: list[str], origin: str, name: object) -> None:
    """Check `space directions`, of `count` vectors, and `space origin`."""
    if count and len(numbers) == count * count and count <= 3:
        vectors = np.array(numbers).reshape(count, count) * _scales(units)[:count]
        with np.errstate(over="ignore"):
            check_edges(np.linalg.norm(vectors, axis=1), name)
        check_directions(vectors.T, name)
    place = [_number(x) for x in origin.strip("() ").split(",") if x.strip()][:3]
    if place:
        check_position(np.array(place) * _scales(units)[: len(place)], name)


def _spatial(fields: Mapping[str, str]) -> list[bool]:
    """The spatial axes of an NRRD file; others contain e.g. the colours of a voxel."""
    count = len(fields.get("sizes", "").split())
    kinds = [kind.lower() for kind in fields.get("kinds", "").split()]
    if len(kinds) == count:
        return [kind in ("domain", "space", "???") for kind in kinds]
    return [axis >= count - 3 for axis in range(count)]


def _words(text: str) -> list[str]:
    return [found["quoted"] if found["quoted"] is not None else found["plain"] for found in _WORD.finditer(text)]


def _numbers(text: str) -> list[float]:
    return [_number(word) for word in text.split("#")[0].split()]


def _number(word: str) -> float:
    try:
        return float(word)
    except ValueError:
        return float("nan")


def _check_stated(numbers: list[float], name: object, zero: bool = False) -> None:
    wrong = [number for number in numbers if not np.isfinite(number) or (number == 0 and not zero)]
    if wrong:
        raise ReadError("E_GEOMETRY", f"{name} states a voxel edge of {wrong[0]:g}; correct it, or leave spacing out.")


def _times(edges: NDArray[np.float64]) -> str:
    return " x ".join(f"{edge:.3g}" for edge in edges)
