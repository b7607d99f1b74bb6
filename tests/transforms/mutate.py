"""Damaged copies of real files, read one after the other in a process whose memory is watched.

    python tests/transforms/mutate.py --count 200 --seed 0

Prints one line per file (CPU seconds, MiB above the start, outcome) and ends with status 1 if one of them was neither
read nor refused with a code, took more than 10 s or more than 1 GiB.
"""

from __future__ import annotations

import argparse
import io
import os
import resource
import sys
import tempfile
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import SimpleITK as sitk
from PIL import Image

from monai_tpseg.io import READ_CODES, ReadError
from monai_tpseg.transforms import LoadMedicalImage

MAX_SECONDS, MAX_MEBIBYTES = 10.0, 1024
_LARGEST = 700_000  # bytes of a file that is mutated
_NUMBERS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)
# implicit or explicit elements whose value decides how much memory is taken: samples, frames, rows, columns, bits
_DECIDING = [bytes.fromhex(tag) for tag in ("28000200", "28000800", "28001000", "28001100", "28000001", "28000101")]
_DECIDING += [b"\xff\x51", b"\xff\xc0", b"\xff\xc3", b"\xff\xf7", b"IHDR", b"dim", b"sizes:", b"DimSize"]


def seeds(folder: Path) -> list[tuple[str, bytes]]:
    """Return names and contents of what is mutated: the files of pydicom with pixels, and one of each other format."""
    data = Path(str(pydicom.__file__)).parent / "data" / "test_files"
    found = [p for p in sorted(data.rglob("*.dcm")) if p.stat().st_size < _LARGEST and _has_pixels(p)]
    array = np.random.default_rng(0).integers(0, 900, (12, 10, 8)).astype(np.int16)
    nib.save(nib.Nifti1Image(array, np.diag([1.0, 2, 3, 1])), folder / "a.nii")
    nib.save(nib.Nifti2Image(array, np.diag([1.0, 2, 3, 1])), folder / "b.nii.gz")
    for name in ("a.nrrd", "a.mha"):
        sitk.WriteImage(sitk.GetImageFromArray(array), str(folder / name), name == "a.nrrd")
    picture = Image.fromarray((array[..., :3] % 256).astype(np.uint8).repeat(5, 0).repeat(5, 1))
    for suffix in ("png", "jpg", "tif", "bmp"):
        picture.save(folder / f"a.{suffix}")
    return [(p.name, p.read_bytes()) for p in (*found, *sorted(folder.iterdir()) * 4)]


def _has_pixels(path: Path) -> bool:
    return "BitsAllocated" in pydicom.dcmread(path, force=True, stop_before_pixels=True)


def mutated(content: bytes, rng: np.random.Generator) -> tuple[str, bytes]:
    """Return what was done to `content`, and the result."""
    data = bytearray(content)
    kind = str(rng.choice(["cut", "flip", "length", "number", "both"]))
    if kind in ("cut", "both"):
        data = data[: int(rng.integers(1, len(data)))]
    if kind in ("flip", "both"):
        reach = min(len(data), 4096) if rng.random() < 0.7 else len(data)
        for place in rng.integers(0, reach, int(rng.integers(1, 40))):
            data[place] ^= 1 << int(rng.integers(8))
    if kind in ("length", "number"):
        places = [int(rng.integers(0, len(data)))]
        if kind == "number":
            places = [at for tag in _DECIDING if (at := data.find(tag)) >= 0 and rng.random() < 0.6] or places
        for place in places:
            start = place + (int(rng.integers(4, 12)) if kind == "number" else 0)
            width = int(rng.choice([2, 4]))
            number = int(rng.choice(_NUMBERS)) % 256**width
            data[start : start + width] = number.to_bytes(width, "little" if rng.random() < 0.5 else "big")
    return kind, bytes(data)


def cpu_seconds() -> float:
    """Return the seconds that this process and its children have computed: a busy machine is no fault of a file."""
    return sum(os.times()[:4])


def peak() -> float:
    """Return the largest resident memory of this process so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def read(path: Path) -> str:
    """Return `read` or the code of the refusal.

    Raises:
        Exception: the fault that the run is looking for.
    """
    try:
        image = LoadMedicalImage()(path)
    except ReadError as error:
        if error.code not in READ_CODES or error.__cause__ is not None or error.__context__ is not None:
            raise RuntimeError("a refusal without a known code, or with the exception behind it") from error
        return error.code
    if not bool(np.isfinite(image.numpy()).all()):
        raise RuntimeError("values that are not finite")
    return "read"


def main(arguments: list[str] | None = None) -> int:
    """Mutate, read, and return the number of faults."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for the files at fault")
    options = parser.parse_args(arguments)
    rng = np.random.default_rng(options.seed)
    faults, out = 0, io.TextIOWrapper(sys.stdout.buffer, write_through=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        originals = seeds(folder)
        read(folder / "a.nii")  # imports and pools are not the file's cost
        for number in range(options.count):
            source, content = originals[int(rng.integers(len(originals)))]
            kind, data = mutated(content, rng)
            path = folder / f"{number}_{source}"
            path.write_bytes(data)
            before, start = peak(), cpu_seconds()
            try:
                outcome: Any = read(path)
            except BaseException as error:  # the fault itself; a panic in Rust is no Exception
                outcome = f"FAULT {type(error).__name__}: {error}"
            seconds, grown = cpu_seconds() - start, peak() - before
            bad = str(outcome).startswith("FAULT") or seconds > MAX_SECONDS or grown > MAX_MEBIBYTES
            faults += bad
            if bad and options.keep is not None:
                options.keep.mkdir(parents=True, exist_ok=True)
                (options.keep / path.name).write_bytes(data)
            out.write(f"{seconds:6.2f} s {grown:7.1f} MiB {kind:6} {source}: {outcome}{' <- FAULT' if bad else ''}\n")
            path.unlink()
    return faults


if __name__ == "__main__":
    sys.exit(min(main(), 1))
