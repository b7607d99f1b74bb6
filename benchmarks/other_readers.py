"""What dcmqi, pydicom-seg and dcm2niix make of our segmentations, and dcmqi of our structured reports.

Each place and each size is computed from the source and the mask, not by them.

They need an environment of their own: pip install dcmqi dcm2niix SimpleITK pydicom-seg "pydicom<3"

python -m benchmarks.other_readers --environment /opt/readers
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import nibabel
import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from monai_tpseg.io.dicom.derived_object import Algorithm
from monai_tpseg.io.dicom.segmentation import Encoding, write_segmentation
from monai_tpseg.results.measurements import measure_lesions
from monai_tpseg.results.structured_report import write_structured_report
from monai_tpseg.transforms import LoadMedicalImage
from tests.data.test_phantoms_valid import write

KINDS = ("series lung_infection", "series brain_tumor", "picture skin_lesion", "cine breast_lesion")
LPS = np.array([-1.0, -1.0, 1.0])
Found = dict[int, tuple[int, NDArray[np.float64]]]
_PYDICOM_SEG = """
import sys, warnings
warnings.simplefilter("ignore")
import numpy as np, pydicom, pydicom_seg
read = pydicom_seg.SegmentReader().read(pydicom.dcmread(sys.argv[1]))
for number in read.available_segments:
    image, data = read.segment_image(number), read.segment_data(number)
    centre = image.TransformContinuousIndexToPhysicalPoint(np.argwhere(data).mean(0)[::-1].tolist())
    print(number, int(data.sum()), *centre)
"""


def main() -> None:
    """Write the objects, have them read, say where the lesions are."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--environment", type=Path, required=True, help="virtual environment with the readers")
    programs = parser.parse_args().environment / "bin"
    encodings: tuple[Encoding, ...] = ("binary", "labelmap")
    for kind in KINDS:
        for encoding in encodings:
            with tempfile.TemporaryDirectory() as folder:
                expected = made(Path(folder), kind, encoding)
                for name, reader in (("dcmqi", dcmqi), ("pydicom-seg", pydicom_seg), ("dcm2niix", dcm2niix)):
                    print(f"{kind:24}{encoding:10}{name:12}", verdict(expected, reader, programs, Path(folder)))
                print(f"{kind:24}{encoding:10}{'report':12}", reported(expected, programs, Path(folder)))


def made(folder: Path, kind: str, encoding: Encoding) -> Found:
    """Write source and segmentation of two lesions; return voxels and centre, LPS millimetres, of each."""
    path = write(kind, folder)
    image = LoadMedicalImage()(path.parent if kind.startswith("series") else path)
    lesions = np.zeros(image.shape[1:], np.int32)
    lesions[(slice(8, 12), slice(8, 12), slice(1, 4))[: lesions.ndim]] = 1
    lesions[(slice(20, 23), slice(20, 24), slice(3, 5))[: lesions.ndim]] = 2
    (folder / "seg").mkdir()
    task, algorithm = kind.split()[1], Algorithm("1", "a" * 64, "b" * 64)
    seg = folder / "seg" / "seg.dcm"
    write_segmentation(seg, lesions, image.meta, task, "c", algorithm, encoding)
    measured = measure_lesions(lesions, np.full(lesions.shape, 0.75), image.meta, task, "c")
    write_structured_report(folder / "sr.dcm", measured, image.meta, task, "c", algorithm, seg, 0.81)
    write_structured_report(folder / "empty.dcm", [], image.meta, task, "c", algorithm, None)
    solid = lesions if lesions.ndim == 3 else lesions[..., None]
    return centres(solid, np.asarray(image.affine))


def centres(labels: NDArray[np.int32], affine: NDArray[np.float64]) -> Found:
    """Voxels and centre of each label, LPS millimetres; `affine` leads to RAS."""
    found = {}
    for number in np.unique(labels[labels > 0]):
        where = np.argwhere(labels == number)
        found[int(number)] = len(where), (affine @ [*where.mean(axis=0), 1])[:3] * LPS
    return found


def verdict(expected: Found, reader: object, programs: Path, folder: Path) -> str:
    """Say whether a reader finds the same lesions in the same places."""
    assert callable(reader)
    try:
        got = reader(programs, folder)
    except (subprocess.CalledProcessError, FileNotFoundError, RuntimeError) as error:
        said = getattr(error, "stderr", "") or str(error)
        return f"refuses it: {said.strip().splitlines()[-1][:80]}"
    right = got.keys() == expected.keys() and all(
        got[n][0] == expected[n][0] and np.allclose(got[n][1], expected[n][1], atol=0.01) for n in expected
    )
    return "right place, lesion by lesion" if right else "wrong: " + "; ".join(listed(got))


def reported(expected: Found, programs: Path, folder: Path) -> str:
    """Say whether dcmqi's reader of TID 1500 finds the same lesions, that nothing was found, and the expected Dice."""
    try:
        groups, nothing = (tid1500(programs, folder / name) for name in ("sr.dcm", "empty.dcm"))
    except (subprocess.CalledProcessError, FileNotFoundError) as error:
        return f"refuses it: {(getattr(error, 'stderr', '') or str(error)).strip().splitlines()[-1][:80]}"
    whole, *lesions = groups
    sizes = [next(value for name, value in one.items() if name in ("Area", "Volume")) for one in lesions]
    shares = [size / sum(sizes) for size in sizes]
    voxels = [expected[n][0] for n in sorted(expected)]
    right = len(nothing) == 1 and whole == {"Expected Dice coefficient of the mask": 0.81}
    right &= np.allclose(shares, [count / sum(voxels) for count in voxels], atol=1e-3)
    right &= all(one["Probability"] == 0.75 for one in lesions)
    return "all numbers, lesion by lesion" if right else f"wrong: {groups}, {nothing}"


def tid1500(programs: Path, report: Path) -> list[dict[str, float]]:
    """Read a report with `tid1500reader`: what each group measures."""
    out = report.with_suffix(".json")
    command = [programs / "tid1500reader", "--inputDICOM", report, "--outputMetadata", out]
    subprocess.run([str(word) for word in command], check=True, capture_output=True, text=True)
    groups = json.loads(out.read_text())["Measurements"]
    items = [one.get("measurementItems", []) for one in groups]
    return [{item["quantity"]["CodeMeaning"]: float(item["value"]) for item in group} for group in items]


def listed(found: Found) -> Iterator[str]:
    """What was found, in words."""
    for number, (voxels, centre) in found.items():
        yield f"{number}: {voxels} voxels around {np.round(centre, 1).tolist()}"


def dcmqi(programs: Path, folder: Path) -> Found:
    """Read with `segimage2itkimage`."""
    command = [programs / "segimage2itkimage", "--inputDICOM", folder / "seg" / "seg.dcm"]
    command += ["--outputDirectory", folder, "-t", "nrrd", "--mergeSegments"]
    subprocess.run([str(word) for word in command], check=True, capture_output=True, text=True)
    image = sitk.ReadImage(str(folder / "1.nrrd"))
    labels, found = sitk.GetArrayFromImage(image), {}
    for number in np.unique(labels[labels > 0]):
        where = np.argwhere(labels == number)
        centre = image.TransformContinuousIndexToPhysicalPoint(where.mean(axis=0)[::-1].tolist())
        found[int(number)] = len(where), np.array(centre)
    return found


def pydicom_seg(programs: Path, folder: Path) -> Found:
    """Read with the Python package."""
    command = [str(programs / "python"), "-c", _PYDICOM_SEG, str(folder / "seg" / "seg.dcm")]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    rows = [line.split() for line in said.splitlines()]
    return {int(row[0]): (int(row[1]), np.array([float(x) for x in row[2:]])) for row in rows}


def dcm2niix(programs: Path, folder: Path) -> Found:
    """Convert to NIfTI."""
    command = [str(programs / "dcm2niix"), "-o", str(folder), "-f", "converted", str(folder / "seg")]
    subprocess.run(command, check=True, capture_output=True, text=True)
    image = nibabel.load(next(folder.glob("converted*.nii")))
    labels = np.asarray(image.dataobj).astype(np.int32)
    return centres(labels[..., 0] if labels.ndim == 4 else labels, image.affine)


if __name__ == "__main__":
    main()
