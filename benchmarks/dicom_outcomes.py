"""What becomes of every DICOM file with pixels that pydicom ships: the table of docs/dicom.md.

    python -m benchmarks.dicom_outcomes > table.md        print the table
    python -m benchmarks.dicom_outcomes docs/dicom.md     renew it between the two marks of that page

A file that is read is compared with two other paths. `arithmetic`: the stored values, decoded by pydicom without any
conversion, then palette, YBR and rescale as the standard writes them, spelled out here. `SimpleITK`: another decoder.
"""

from __future__ import annotations

import sys
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom.pixels import pixel_array
from pydicom.uid import UID

from benchmarks.page_tables import renew
from monai_tpseg.io import ReadError
from monai_tpseg.transforms import LoadMedicalImage

Array = np.ndarray[Any, np.dtype[Any]]

DATA = Path(str(pydicom.__file__)).parent / "data"
ROUNDING = 2.0  # of 255, or of the units of a file: two decoders of one lossy stream, or one rounding of YBR
_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_COLOUR = np.array([[1, 0, 1.402], [1, -0.114 * 1.772 / 0.587, -0.299 * 1.402 / 0.587], [1, 1.772, 0]])  # PS3.3 C.7.6.3


def files_with_pixels() -> list[Path]:
    """Return the installed files of pydicom that have pixel data, sorted; nothing is fetched."""
    return [path for path in sorted(DATA.rglob("*")) if path.is_file() and _has_pixels(path)]


def _has_pixels(path: Path) -> bool:
    if path.suffix in (".py", ".pyc", ".json"):
        return False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            dataset = pydicom.dcmread(path, force=True)
            return any(keyword in dataset for keyword in _PIXELS)
        except Exception:  # not DICOM at all
            return False


def by_arithmetic(path: Path) -> Array:
    """Return (F, H, W, 1 or 3): stored values turned into RGB, HU or 0 to 255 by the formulas of PS3.3."""
    dataset = pydicom.dcmread(path, force=True)
    if "TransferSyntaxUID" not in dataset.file_meta:
        dataset.file_meta.TransferSyntaxUID = UID("1.2.840.10008.1.2")
    stored = np.asarray(pixel_array(dataset, raw=True), dtype=np.float64)
    samples, bits = int(dataset.SamplesPerPixel), int(dataset.BitsStored)
    values = stored.reshape(-1, int(dataset.Rows), int(dataset.Columns), samples)
    photometric = str(dataset.PhotometricInterpretation)
    if photometric == "PALETTE COLOR":
        return _palette(values[..., 0].astype(int), dataset)
    if photometric.startswith("YBR_FULL") and dataset.file_meta.TransferSyntaxUID not in _CONVERTED:
        values = np.clip(np.round((values - [0, 128, 128]) @ _COLOUR.T), 0, 255)
    if samples == 3:
        return values * (255 / (2**bits - 1))
    slope, intercept = float(dataset.get("RescaleSlope") or 1), float(dataset.get("RescaleIntercept") or 0)
    return values * slope + intercept


_CONVERTED = ("1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91")  # JPEG 2000 undoes its own colour transform


def _palette(indices: Array, dataset: Any) -> Array:
    channels = []
    for name in ("Red", "Green", "Blue"):
        length, first, bits = (int(n) for n in dataset[f"{name}PaletteColorLookupTableDescriptor"].value)
        entries = dataset[f"{name}PaletteColorLookupTableData"].value
        wide = len(entries) >= 2 * (length or 2**16)
        table = np.frombuffer(entries, dtype="<u2" if wide else "u1").astype(int)
        table = table >> 8 if bits == 16 and table.max() > 255 else table
        channels.append(table[np.clip(indices - first, 0, len(table) - 1)])
    return np.stack(channels, axis=-1).astype(np.float64)


def by_simpleitk(path: Path) -> Array:
    """Return (F, H, W, 1 or 3) as SimpleITK reads it, scaled to 0 to 255 where it is colour of more bits."""
    image = sitk.ReadImage(str(path))
    values = sitk.GetArrayFromImage(image).astype(np.float64)
    components = image.GetNumberOfComponentsPerPixel()
    if components == 1:
        return values[..., None]
    width = image.GetSizeOfPixelComponent()
    return values * (255 / (2 ** (8 * width) - 1))


def ours(path: Path) -> Array:
    """Return what the loader reads as (F, H, W, 3)."""
    image = LoadMedicalImage(plane="stored")(path).numpy()
    return (image[..., None] if image.ndim == 3 else image).transpose(3, 1, 2, 0).astype(np.float64)


@cache
def agreement(path: Path) -> dict[str, float] | ReadError:
    """Return the largest difference from each other path that reads `path` as well, or why the loader refuses it."""
    try:
        image = ours(path)
    except ReadError as error:
        return error
    found = {}
    for name, read in (("arithmetic", by_arithmetic), ("SimpleITK", by_simpleitk)):
        try:
            other = read(path)
        except Exception:  # the other path has no answer for this file, which is what the table says
            continue
        if other.shape[:3] == image.shape[:3]:
            found[name] = float(np.abs(image - other).max())
    return found


def outcome(path: Path) -> str:
    """Return the row of `path`."""
    dataset = pydicom.dcmread(path, force=True, stop_before_pixels=True)
    syntax = UID(str(dataset.file_meta.get("TransferSyntaxUID", ""))) if "file_meta" in dataset.__dict__ else UID("")
    kind = f"{dataset.get('PhotometricInterpretation', '')} {dataset.get('BitsStored', '')}"
    read = agreement(path)
    if isinstance(read, ReadError):
        result = f"`{read.code}` | "
    else:
        shape = " x ".join(str(n) for n in LoadMedicalImage(plane="stored")(path).shape[1:])
        equal = [f"{name} (to {_steps(difference)})" for name, difference in read.items() if difference <= ROUNDING]
        result = f"{shape} | {', '.join(equal) or '-'}"
    return f"| {path.relative_to(DATA).as_posix()} | {syntax.name or 'not given'} | {kind} | {result} |"


def _steps(difference: float) -> str:
    return "the last bit" if difference < 1e-3 else "1" if difference < 1.01 else f"{ROUNDING:.0f}"


def table() -> str:
    """Return the whole table in Markdown."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sitk.ProcessObject.SetGlobalWarningDisplay(False)
        rows = [outcome(path) for path in files_with_pixels()]
    head = "| file | transfer syntax | photometric, bits | read as rows x columns, or refused | equal to |"
    return "\n".join([head, "|---|---|---|---|---|", *rows])


def main() -> None:
    """Print the table, or put it into the page that is named."""
    if len(sys.argv) < 2:
        print(table())
        return
    renew(Path(sys.argv[1]), "outcomes", table())


if __name__ == "__main__":
    main()
