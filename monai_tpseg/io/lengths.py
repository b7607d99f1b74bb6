"""Lengths in the headers of volumes, converted to mm; lengths that are not stated are unknown."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from monai_tpseg.io.errors import ReadError
from monai_tpseg.io.rounding import MILLIMETRES
from monai_tpseg.suffixes import METAIMAGE_SUFFIXES

__all__ = [
    "EDGES_MM",
    "FARTHEST_MM",
    "Lengths",
    "check_edges",
    "is_edge",
    "itk_lengths",
    "lengths_disagree",
    "millimetres",
    "nifti_lengths",
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
_HEADER = 2**16  # maximum size of the text header of NRRD and MetaImage, bytes
_NRRD_FIELD = re.compile(r"^(?P<name>[a-z ]+): +(?P<value>.*?) *$", re.M | re.I)
_META_FIELD = re.compile(r"^ *(?P<name>\w+) *= *(?P<value>.*?) *$", re.M)
_WORD = re.compile(r'"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<plain>\S+)')
_VECTOR = re.compile(r"\([^)]*\)|none", re.I)


class Lengths(NamedTuple):
    """Lengths stated by a header.

    Attributes:
        scale: (3,) millimetres per unit along x, y and z of the world.
        known: whether all three voxel edges are stated; otherwise sizes can only be given in pixels.
    """

    scale: NDArray[np.float64]
    known: bool


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


def nifti_lengths(header: Any) -> Lengths:
    """Return the lengths of a NIfTI header as stored in the file.

    The sform states all edges, otherwise `pixdim`; an edge of 0, NaN or infinity is unknown. In a file with two axes,
    the slice thickness is unknown whatever its field contains.

    Args:
        header: a nibabel header, not repaired.
    """
    scale = _NIFTI_UNITS.get(int(header["xyzt_units"]) & 7)
    edges = np.abs(header["pixdim"][1:4].astype(np.float64))
    known = int(header["sform_code"]) > 0 or bool((np.isfinite(edges) & (edges > 0)).all())
    return Lengths(np.full(3, scale or 1.0), known and scale is not None and int(header["dim"][0]) >= 3)


def lengths_disagree(header: Any) -> bool:
    """Return whether sform and `pixdim` of a NIfTI header state different edges, so that programs differ.

    They agree if the far edges of the volume coincide up to `rounding.MILLIMETRES`.

    Args:
        header: a nibabel header, not repaired.
    """
    if int(header["sform_code"]) <= 0:
        return False
    scale = _NIFTI_UNITS.get(int(header["xyzt_units"]) & 7) or 1.0
    placed = np.linalg.norm([header[f"srow_{axis}"][:3].astype(np.float64) for axis in "xyz"], axis=0)
    edges = np.abs(header["pixdim"][1:4].astype(np.float64))
    sizes = np.maximum(header["dim"][1:4].astype(np.float64), 1)
    stated = np.isfinite(edges) & (edges > 0) & (np.arange(3) < int(header["dim"][0]))
    return bool((np.abs(placed - edges) * sizes * scale > MILLIMETRES)[stated].any())


def itk_lengths(path: Path, name: object) -> Lengths:
    """Return the lengths stated by the text header of an NRRD or MetaImage file.

    Args:
        path: the file.
        name: name used in error messages.

    Raises:
        ReadError: `E_GEOMETRY`, an edge is 0 or not a number, which ITK rejects.
    """
    with path.open("rb") as file:
        head = file.read(_HEADER)
    text = head.decode("utf-8", errors="replace").replace("\r", "")
    if path.name.lower().endswith(METAIMAGE_SUFFIXES):
        return _of_metaimage(text, name)
    return _of_nrrd(text.split("\n\n")[0], name)


def _of_metaimage(text: str, name: object) -> Lengths:
    fields: dict[str, str] = {}
    for field in _META_FIELD.finditer(text):
        fields[field["name"].lower()] = field["value"]
        if field["name"].lower() == "elementdatafile":  # voxels follow
            break
    stated = fields.get("elementspacing", fields.get("elementsize", "")).split("#")[0]
    edges = [_number(word) for word in stated.split()]
    _check_stated(edges, name)
    unit = millimetres(fields.get("distanceunits", ""))
    return Lengths(np.full(3, unit or 1.0), unit is not None and len(edges) >= 3)


def _of_nrrd(text: str, name: object) -> Lengths:
    fields = {field["name"].strip().lower(): field["value"] for field in _NRRD_FIELD.finditer(text)}
    if "space directions" in fields:
        vectors = _VECTOR.findall(fields["space directions"])
        unknown = [vector.lower() == "none" for vector in vectors]
        numbers = [_number(x) for vector in vectors if vector.lower() != "none" for x in vector.strip("()").split(",")]
        _check_stated(numbers, name, zero=True)
        units = _words(fields.get("space units", ""))
        stated = unknown.count(False)
    else:
        spatial = _spatial(fields)
        edges = [_number(word) for word in fields.get("spacings", "").split()]
        edges = [edge for edge, keep in zip(edges, spatial, strict=False) if keep]
        _check_stated([edge for edge in edges if not np.isnan(edge)], name)  # NaN means unknown in NRRD
        units = [word for word, keep in zip(_words(fields.get("units", "")), spatial, strict=False) if keep]
        stated = sum(not np.isnan(edge) for edge in edges)
    scales = [millimetres(unit) for unit in (*units, "", "", "")[:3]]
    return Lengths(np.array([scale or 1.0 for scale in scales]), stated >= 3 and None not in scales)


def _spatial(fields: dict[str, str]) -> list[bool]:
    """The spatial axes of an NRRD file; others contain e.g. the colours of a voxel."""
    count = len(fields.get("sizes", "").split())
    kinds = [kind.lower() for kind in fields.get("kinds", "").split()]
    if len(kinds) == count:
        return [kind in ("domain", "space", "???") for kind in kinds]
    return [axis >= count - 3 for axis in range(count)]


def _words(text: str) -> list[str]:
    return [found["quoted"] if found["quoted"] is not None else found["plain"] for found in _WORD.finditer(text)]


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
