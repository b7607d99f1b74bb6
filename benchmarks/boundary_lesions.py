"""Boundary, single lesions and calibration of weights on the validation list, at the original resolution.

    python -m benchmarks.boundary_lesions --lesions DATA --out OUT
    python -m benchmarks.boundary_lesions --weights starter-kprism --lesions DATA --out OUT   # prompted by class
    python -m benchmarks.boundary_lesions --weights run/model.pt --lesions DATA --out OUT

Runs evaluate.json of the weights' bundle and prints the table of docs/weights.md; OUT holds metrics.json and the
per-image CSV. About nine minutes for the 374 pictures of starter-tpseg at one thread.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from monai_tpseg.experiments.details_table import details_cells
from monai_tpseg.experiments.tables import Table
from monai_tpseg.networks.weights_info import read_info
from monai_tpseg.parsing import read_json
from monai_tpseg.weights import weights_path

BUNDLES = Path(__file__).resolve().parents[1] / "bundles"


def main() -> None:
    """Evaluate where there is no metrics.json yet, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default="starter-tpseg", help="name in the catalogue, or a file (%(default)s)")
    parser.add_argument("--lesions", type=Path, required=True, help="folder that holds datalist.json")
    parser.add_argument("--out", type=Path, required=True, help="folder of the metrics")
    args = parser.parse_args()
    found = args.out / "metrics.json"
    if not found.is_file():
        evaluate(args.weights, args.lesions, args.out)
    print(table(found).markdown())


def evaluate(weights: str, lesions: Path, out: Path) -> None:
    """Run evaluate.json.

    Raises:
        CalledProcessError: it fails.
    """
    checkpoint = weights_path(weights)
    kprism = read_info(checkpoint).network.get("architecture") == "kprism"
    bundle = BUNDLES / ("kprism_universal_segmentation" if kprism else "tpseg_lesion_segmentation")
    words = [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(bundle / "configs/evaluate.json")]
    words += ["--dataset_dir", str(lesions.absolute()), "--output_dir", str(out.absolute())]
    words += ["--checkpoint", str(checkpoint), "--overlay_images", "False", "--num_workers", "0"]
    subprocess.run(words, check=True)


def table(metrics: Path) -> Table:
    """Return the table of one evaluation, a line for each task."""
    found = read_json(metrics)
    results = {"tasks": [task for task in found if task != "mean"], "runs": [{"row": "", "metrics": found}]}
    header, lines = details_cells(results, [{"id": ""}], lambda row: str(row["id"]))
    return Table("", tuple(header[1:]), tuple(tuple(line[1:]) for line in lines))


if __name__ == "__main__":
    main()
