"""A task is proposed where everything in a header fits it, and nothing made up in one is repeated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset

from monai_tpseg.catalogue import Modality
from monai_tpseg.io.dicom.body_parts import is_auxiliary, regions_named
from monai_tpseg.io.dicom.image_check import PHOTOMETRIC_INTERPRETATIONS
from monai_tpseg.io.headers import Header
from monai_tpseg.io.pictures import PICTURE_MODES
from monai_tpseg.results.folder import decisions
from monai_tpseg.studies.proposals import propose


def proposed(modality: str, **tags: Any) -> str:
    header = Dataset()
    for keyword, value in tags.items():
        setattr(header, keyword, value)
    return propose(
        Header(Path("a"), "dicom", modality=modality, regions=regions_named(header), auxiliary=is_auxiliary(header))
    ).task


@pytest.mark.parametrize(
    ("modality", "tags"),
    [
        ("CT", {}),
        ("CT", {"BodyPartExamined": "CHEST"}),
        ("CT", {"BodyPartExamined": "CHESTABDOMEN", "SeriesDescription": "Lunge 1.0 B70f"}),
        ("CT", {"SeriesDescription": "CAP 5mm"}),
        ("CT", {"BodyPartExamined": "THORAX", "StudyDescription": "CT Abdomen"}),
        ("CT", {"SeriesDescription": "Darstellung axial", "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"]}),
        ("MR", {"BodyPartExamined": "BRAIN", "ProtocolName": "t1_mprage_sag"}),
        ("MR", {"SeriesDescription": "T2 Schädel"}),
        ("OPT", {"SeriesDescription": "Macula cube"}),
        ("ES", {"StudyDescription": "Coloscopy"}),
        ("DMS", {"BodyPartExamined": "ARM"}),
    ],
)
def test_what_fits_is_proposed(modality: str, tags: dict[str, Any]) -> None:
    assert proposed(modality, **tags)


@pytest.mark.parametrize(
    ("modality", "tags"),
    [
        ("CT", {"BodyPartExamined": "ABDOMEN"}),
        ("CT", {"BodyPartExamined": "ABDOMENPELVIS"}),
        ("CT", {"BodyPartExamined": "HEADNECK"}),
        ("CT", {"BodyPartExamined": "CHEST", "SeriesDescription": "Abdomen portal venous"}),
        ("CT", {"SeriesDescription": "Oberbauch nativ"}),
        ("CT", {"StudyDescription": "CT liver"}),
        ("CT", {"BodyPartExamined": "WHOLEBODY"}),
        ("CT", {"SeriesDescription": "Topogram 0.6"}),
        ("CT", {"SeriesDescription": "Dose Report"}),
        ("CT", {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}),
        ("CT", {"ImageType": ["DERIVED", "SECONDARY", "MIP"], "BodyPartExamined": "CHEST"}),
        ("MR", {"BodyPartExamined": "KNEE"}),
        ("MR", {"SeriesDescription": "Leber T2"}),
        ("MR", {"SeriesDescription": "3plane loc"}),
        ("MR", {"BodyPartExamined": "BRAIN", "ImageType": ["DERIVED", "PRIMARY", "DIFFUSION", "ADC"]}),
        ("OPT", {"SeriesDescription": "Anterior Segment of eye"}),
        ("ES", {"SeriesDescription": "Gastroscopy"}),
        ("ES", {"BodyPartExamined": "BRONCHUS"}),
        ("SM", {"BodyPartExamined": "BREAST"}),
        ("US", {"BodyPartExamined": "THYROID"}),
        ("", {}),
    ],
)
def test_what_speaks_against_it_is_heard(modality: str, tags: dict[str, Any]) -> None:
    assert not proposed(modality, **tags)


def test_what_the_readers_accept_is_repeated_and_nothing_else() -> None:
    terms = {"CT", "MR", "PT", "RF", "XA", "IO", "OPV", "IVOCT", "OT"}.union(*(modality.dicom for modality in Modality))
    for key, words in (("dicom_modality", terms), ("photometric", {*PHOTOMETRIC_INTERPRETATIONS, *PICTURE_MODES})):
        for word in words:
            assert decisions({key: word}) == {key: word}
        assert decisions({key: "Doe^Jane"}) == {key: "other"}
