"""`python -m monai_tpseg.testing.phantoms OUT` writes the synthetic sample data."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from monai_tpseg.testing.phantoms.studies import STUDIES_MANIFEST, write_studies
from monai_tpseg.testing.phantoms.write import write_dataset, write_demo_cases

logger = logging.getLogger("monai_tpseg.testing.phantoms")

_DESCRIPTION = """Write synthetic sample data of all eight lesion tasks, made from a seed.

OUT/datalist.json   training and validation items: image, label, task
OUT/images, labels  PNG pictures; each holds a lesion of its task and one of another task
OUT/demo            a PNG picture, a NIfTI volume and a CT DICOM series with their labels, in neither list

With --studies N instead: OUT/study_0001 and so on, of all modalities and formats, every tenth one broken, and
OUT/manifest.csv for tpseg run."""

_EXAMPLE = "example: python -m monai_tpseg.testing.phantoms phantoms --train-per-task 48 --val-per-task 8 --size 64"


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the sample data that the command line asks for and return 0, or 1 after one line that says what is wrong.

    Args:
        arguments: what follows the program's name; the process's own by default.
    """
    parser = argparse.ArgumentParser(
        prog="python -m monai_tpseg.testing.phantoms",
        description=_DESCRIPTION,
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("out", metavar="OUT", type=Path, help="folder to write into, made if absent")
    parser.add_argument("--seed", type=int, default=0, help="equal seeds give equal data (default: 0)")
    parser.add_argument("--train-per-task", type=int, default=24, metavar="N", help="training pictures (default: 24)")
    parser.add_argument("--val-per-task", type=int, default=6, metavar="N", help="validation pictures (default: 6)")
    parser.add_argument("--size", type=int, default=96, metavar="PIXELS", help="side, 32 or more (default: 96)")
    parser.add_argument("--studies", type=int, metavar="N", help="write N small studies, and nothing else")
    args = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        if args.studies is not None:
            write_studies(args.out, args.studies, args.seed, args.size)
            logger.info("wrote %s", args.out / STUDIES_MANIFEST)
            return 0
        datalist = write_dataset(args.out, args.seed, args.train_per_task, args.val_per_task, args.size)
        write_demo_cases(args.out / "demo", args.seed)
    except (ValueError, OSError) as error:
        logger.error("error: %s", error)
        return 1
    logger.info("wrote %s and %s", datalist, args.out / "demo")
    return 0


if __name__ == "__main__":
    sys.exit(main())
