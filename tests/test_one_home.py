"""A fact has one home: no second definition of it in the package."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from monai_tpseg import suffixes
from monai_tpseg.defaults import MIN_LESION_AREA, THRESHOLD

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "monai_tpseg"

FACTS: dict[str, tuple[str, set[str]]] = {
    "probability from which a pixel is lesion": (
        rf"(?i)threshold[\w: ,|\"']*(=|\.\.\.|default=) ?{THRESHOLD}\b|prob\w*(\[\w+\])? ?>=? ?{THRESHOLD}\b",
        {"defaults.py"},
    ),
    "connected lesions": (
        r"ndimage\.label\(|cc3d|connected_components\(",
        {
            "lesions.py",
            "clicks.py",  # regions of error, of a batch of maps together
            "follow/matching.py",  # lesions of two dates that belong together, not pixels
            "engines/targets.py",  # lesions of a label to train on, drawn in the order of rows
            "io/no_data.py",  # a surround of one value, connected by sides alone
            "results/measurements.py",  # parts of an outer contour, which belong to numbered lesions
            "results/run_length.py",  # runs of a slide's mask, not pixels
            "testing/phantoms/lesion_shapes.py",
            "transforms/overlay.py",  # marks of a tile that is drawn
            "trust/features.py",  # what expected Dice was fitted on
        },
    ),
    "LPS to RAS": (r"diag\(\[?\(?-1(\.0)?, -1(\.0)?, 1", {"io/orientation.py"}),
    "Dice": (r"2 \* tp\b|2 \* \(?\w+ & \w+\)?\.sum", {"metrics.py"}),
    "colour of lesions in pictures": (r"\(0, 255, 255\)", {"defaults.py"}),
    "mean probability below which a mask is uncertain": (r"\b0\.65\b", {"results/measurements.py"}),
}


def holding(pattern: str) -> Iterator[str]:
    for path in sorted(PACKAGE.rglob("*.py")):
        if re.search(pattern, path.read_text()):
            yield path.relative_to(PACKAGE).as_posix()


@pytest.mark.parametrize("fact", sorted(FACTS))
def test_a_fact_has_one_home(fact: str) -> None:
    pattern, homes = FACTS[fact]
    assert set(holding(pattern)) == homes


SUFFIX = re.compile(
    r"\.(png|jpe?g?|jfif|tiff?|bmp|gif|nii|nii\.gz|nrrd|nhdr|mha|mhd|svs|ndpi|mrxs|scn|bif|dcm|dicom|ima|npy)"
)
LISTS: dict[str, str] = {
    "suffixes.py": "the home",
    "testing/phantoms/write.py": "what a phantom is written as",
}


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_lists_of_suffixes_have_one_home(path: Path) -> None:
    """A list of two suffixes or more, written anywhere else, is a second home; a single suffix says what is meant."""
    lists = [
        node
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Tuple | ast.List | ast.Set)
        and sum(isinstance(e, ast.Constant) and SUFFIX.fullmatch(str(e.value)) is not None for e in node.elts) > 1
    ]
    assert bool(lists) == (path.relative_to(PACKAGE).as_posix() in LISTS), [ast.unparse(node) for node in lists]


def test_suffixes_do_not_contradict_each_other() -> None:
    kinds = [suffixes.PICTURE_SUFFIXES, suffixes.VOLUME_SUFFIXES, suffixes.SLIDE_SUFFIXES, suffixes.DICOM_SUFFIXES]
    flat = [suffix for kind in kinds for suffix in kind]
    assert len(set(flat)) == len(flat)
    assert set(suffixes.READABLE_SUFFIXES) == {*flat} - {*suffixes.DICOM_SUFFIXES}
    assert not {*suffixes.UNWRITTEN_SUFFIXES} & {*suffixes.MASK_SUFFIXES.values()}
    assert {*suffixes.DRAWN_SUFFIXES} <= {*flat}


def test_bundles_take_the_defaults_of_the_package() -> None:
    names = {"threshold": ("THRESHOLD", THRESHOLD), "min_lesion_area": ("MIN_LESION_AREA", MIN_LESION_AREA)}
    found = 0
    for path in ROOT.glob("bundles/*/configs/*.json"):
        config = json.loads(path.read_text())
        for key, (name, _) in names.items():
            if key in config:
                assert config[key] == f"$defaults.{name}", path
                found += 1
    assert found >= 6
