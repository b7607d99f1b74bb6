"""Which altered bytes in a JPEG are noticed: by the reader, and by a transcoder that parses every code.

    python -m benchmarks.jpeg_damage                  docs/results/jpeg_damage.json and the table of docs/dicom.md
    python -m benchmarks.jpeg_damage --intact FOLDER  and how many intact JPEGs of a folder each would refuse

Bytes of the entropy-coded data of phantoms are altered; the length of the file stays. JPEG XL's encoder stores a JPEG
without loss, for which it parses the codes strictly; the reader uses it where the decoder finds its position again
after damage, that is, in progressive pictures and between restart markers.
"""

from __future__ import annotations

import argparse
import io
import json
import re
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
from PIL import Image

from benchmarks.page_tables import renew
from benchmarks.timing import ROOT
from monai_tpseg.io import ReadError
from monai_tpseg.testing.phantoms import make_phantom
from monai_tpseg.transforms import LoadMedicalImage

FORMS: dict[str, dict[str, Any]] = {
    "baseline": {},
    "baseline, optimised codes": {"optimize": True},
    "baseline, restart marker in each row": {"restart_marker_rows": 1},
    "progressive": {"progressive": True},
}
BYTES = (1, 40)


def _places(code: bytes) -> Iterator[int]:
    """The places of the entropy-coded data."""
    for scan in re.finditer(rb"\xff\xda(..)", code, re.DOTALL):
        begin = scan.start() + 2 + int.from_bytes(scan[1], "big")
        end = re.compile(rb"\xff[^\x00\xd0-\xd7]").search(code, begin)
        yield from range(begin, end.start() if end else len(code))


def altered(code: bytes, count: int, random: np.random.Generator) -> bytes:
    """Return the codestream with `count` other bytes of data in its second half; no marker goes and none is added."""
    values = np.frombuffer(code, dtype=np.uint8).copy()
    plain = [n for n in _places(code) if n > len(code) // 2 and 0xFF not in values[n - 1 : n + 2]]
    places = random.choice(plain, size=count, replace=False)
    values[places] = (values[places] + random.integers(1, 254, size=count)) % 255  # never 255
    return values.tobytes()


def noticed_by_reader(path: Path) -> bool:
    """Whether the package's reader refuses a file."""
    try:
        LoadMedicalImage()(path)
    except ReadError:
        return True
    return False


def noticed_by_transcoder(code: bytes) -> bool:
    """Whether JPEG XL's encoder refuses a codestream."""
    try:
        imagecodecs.jpegxl_encode_jpeg(code)
    except (imagecodecs.JpegxlError, RuntimeError):
        return True
    return False


def changed(before: bytes, after: bytes) -> float:
    """Return the share of pixels that differ by more than 8 of 255 between two decoded pictures."""
    first, second = (np.asarray(Image.open(io.BytesIO(code)), dtype=np.int16) for code in (before, after))
    return float((abs(first - second).max(axis=-1) > 8).mean())


def measure_form(options: dict[str, Any], count: int, pictures: int, folder: Path) -> dict[str, Any]:
    """Alter `count` bytes in each picture of a form; return how many are noticed, and what the others lost."""
    random = np.random.default_rng(0)
    seen = {"reader": 0, "transcoder": 0, "either": 0}
    lost = []
    for seed in range(pictures):
        buffer = io.BytesIO()
        image = make_phantom("skin_lesion", seed=seed, size=256).image
        Image.fromarray(image).save(buffer, "JPEG", quality=85, **options)
        code = altered(buffer.getvalue(), count, random)
        path = folder / "altered.jpg"
        path.write_bytes(code)
        reader, transcoder = noticed_by_reader(path), noticed_by_transcoder(code)
        seen["reader"] += reader
        seen["transcoder"] += transcoder
        seen["either"] += reader or transcoder
        if not reader:
            lost.append(changed(buffer.getvalue(), code))
    return {**seen, "pictures": pictures, "changed_unnoticed": statistics.mean(lost) if lost else 0.0}


def measure_intact(folder: Path) -> dict[str, Any]:
    """Read all JPEGs below a folder; return how many each refuses, and the CPU seconds with the transcoder."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
    refused, seconds = {"reader": 0, "transcoder": 0}, {"reader": 0.0, "transcoder": 0.0}
    for path in paths:
        clock = time.process_time()
        refused["reader"] += noticed_by_reader(path)
        seconds["reader"] += time.process_time() - clock
        clock = time.process_time()
        refused["transcoder"] += noticed_by_transcoder(path.read_bytes())
        seconds["transcoder"] += time.process_time() - clock
    return {"files": len(paths), "refused": refused, "with_transcoder": 1 + seconds["transcoder"] / seconds["reader"]}


def table(result: dict[str, Any]) -> str:
    """Return the table of the page."""
    head = "| form | bytes altered | detected | by JPEG XL alone | pixels altered where nothing is detected |"
    rows = [
        f"| {form} | {count} | {of['reader']} of {of['pictures']} "
        f"| {of['transcoder']} of {of['pictures']} | {lost(of)} |"
        for form, by_count in result["forms"].items()
        for count, of in by_count.items()
    ]
    return "\n".join([head, "|---" * 5 + "|", *rows])


def lost(of: dict[str, Any]) -> str:
    """The share of altered pixels in pictures that seem whole."""
    return f"{100 * of['changed_unnoticed']:.1f} %" if of["reader"] < of["pictures"] else ""


def main() -> None:
    """Measure, write the results and renew the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=48, help="of each form and number of bytes (48)")
    parser.add_argument("--intact", type=Path, help="folder with JPEGs that are not damaged")
    parser.add_argument("--out", type=Path, help="folder of jpeg_damage.json instead of docs/results; leaves the page")
    args = parser.parse_args()
    target = args.out or ROOT / "docs" / "results"
    target.mkdir(parents=True, exist_ok=True)
    file = target / "jpeg_damage.json"
    with tempfile.TemporaryDirectory() as folder:
        forms = {
            form: {str(count): measure_form(options, count, args.pictures, Path(folder)) for count in BYTES}
            for form, options in FORMS.items()
        }
    intact = json.loads(file.read_text()).get("intact") if file.exists() else None
    result = {"forms": forms, "intact": measure_intact(args.intact) if args.intact else intact}
    file.write_text(json.dumps(result, indent=1) + "\n")
    if args.out is None:
        renew(ROOT / "docs" / "dicom.md", "jpeg damage", table(result))
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
