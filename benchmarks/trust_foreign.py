"""Measures how often pictures that no task knows are refused: photographs, phantoms, other anatomy of a modality.

    python -m benchmarks.trust_foreign --weights starter-tpseg --out docs/results/trust_foreign.json

All pictures come inside of installed packages. Photographs: four crops each of china.jpg and flower.jpg (scikit-learn)
and grace_hopper.jpg (matplotlib), asked for every task. Phantoms: those of this package, each asked for the task that
it imitates. Other anatomy: CT of head and spine, MR of the abdomen, ultrasound of a lymph node and in pregnancy
(pydicom's test files), with --volumes also CT of the abdomen, asked for the tasks of their modality.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import sklearn
from PIL import Image
from pydicom.data import get_testdata_file

from monai_tpseg.studies import Model
from monai_tpseg.testing.phantoms import make_phantom
from monai_tpseg.weights import weights_path

PHOTOGRAPHS = (
    Path(sklearn.__file__).parent / "datasets" / "images" / "china.jpg",
    Path(sklearn.__file__).parent / "datasets" / "images" / "flower.jpg",
    Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg",
)
CROPS = ((0.0, 0.0), (0.0, 0.4), (0.4, 0.0), (0.4, 0.4))  # top and left, shares of the side; each is 0.6 of the side
ANATOMY = {
    "693_J2KI.dcm": ("CT, head", ("lung_infection",)),
    "J2K_pixelrep_mismatch.dcm": ("CT, head", ("lung_infection",)),
    "CT_small.dcm": ("CT, a vertebra", ("lung_infection",)),
    "examples_overlay.dcm": ("MR, abdomen", ("brain_tumor",)),
    "MR_small.dcm": ("MR, a detail of 64 pixels", ("brain_tumor",)),
    "examples_jpeg2k.dcm": ("ultrasound, lymph node", ("thyroid_nodule", "breast_lesion")),
    "examples_palette.dcm": ("ultrasound, obstetric", ("thyroid_nodule", "breast_lesion")),
}
VOLUMES = {
    "dcmqi/ct-3slice": ("CT, abdomen, three slices", ("lung_infection",)),
    "deeplesion/CT_Lesion_000001_02_01_008-023_image.nii.gz": ("CT, abdomen, a volume", ("lung_infection",)),
}
PHANTOMS = 6


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default="starter-tpseg", help="name in the catalogue, or a file (%(default)s)")
    parser.add_argument("--out", type=Path, required=True, help="JSON to write")
    parser.add_argument("--volumes", type=Path, help="folder with dcmqi/ and deeplesion/: adds CT of the abdomen")
    args = parser.parse_args()
    model = Model(weights_path(args.weights), "cpu")
    with tempfile.TemporaryDirectory() as folder:
        result = {
            "weights": args.weights,
            "weights_sha256": model.info.sha256,
            "anatomy": list(anatomy(model, args.volumes)),
            "phantoms": phantoms(model, Path(folder)),
            "photographs": photographs(model, Path(folder)),
        }
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


def refused(model: Model, path: Path, task: str) -> dict[str, Any]:
    """Score and limit of a picture that is asked for a task."""
    said = model.segment(path, task).trust.belonging
    if said is None:
        raise SystemExit("Nothing beside the weights tells which pictures are none of a task.")
    return {"score": round(said.score, 2), "limit": round(said.limit, 2), "refused": said.refused}


def share(found: list[dict[str, Any]]) -> float:
    """Percent refused."""
    return round(100 * float(np.mean([one["refused"] for one in found])), 1)


def anatomy(model: Model, volumes: Path | None) -> Iterator[dict[str, Any]]:
    """Each file asked for each task of its modality."""
    found = {name: (get_testdata_file(name, download=False), *about) for name, about in ANATOMY.items()}
    found |= {name: (volumes / name, *about) for name, about in VOLUMES.items()} if volumes else {}
    for name, (path, what, tasks) in found.items():
        if path is None:
            raise SystemExit(f"This version of pydicom does not bring {name}.")
        for task in tasks:
            yield {"file": name, "shows": what, "task": task, **refused(model, Path(str(path)), task)}


def phantoms(model: Model, folder: Path) -> dict[str, float]:
    """Percent of a task's phantoms that are refused for it."""
    table = {}
    for task in model.info.tasks:
        paths = [folder / f"{task}_{n}.png" for n in range(PHANTOMS)]
        for n, path in enumerate(paths):
            Image.fromarray(make_phantom(task, n, 192).image).save(path)
        table[task] = share([refused(model, path, task) for path in paths])
    return table


def photographs(model: Model, folder: Path) -> dict[str, float]:
    """Percent of photographs that are refused for each task."""
    paths = []
    for photograph in PHOTOGRAPHS:
        whole = Image.open(photograph).convert("RGB")
        width, height = whole.size
        for n, (top, left) in enumerate(CROPS):
            corner = round(left * width), round(top * height)
            box = (*corner, corner[0] + round(0.6 * width), corner[1] + round(0.6 * height))
            paths.append(folder / f"{photograph.stem}_{n}.png")
            whole.crop(box).save(paths[-1])
    return {task: share([refused(model, path, task) for path in paths]) for task in model.info.tasks}


if __name__ == "__main__":
    main()
