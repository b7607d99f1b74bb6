"""A task that the catalogue does not have runs by name wherever the weights describe it."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pydicom
import pytest
import torch
from monai.data import MetaTensor

from monai_tpseg.catalogue import TASK_NAMES, Modality, get_task
from monai_tpseg.cli import main
from monai_tpseg.networks.checkpoint import CheckpointError, read_checkpoint
from monai_tpseg.networks.weights_info import read_info, save_weights
from monai_tpseg.report.page import REPORT, write_report
from monai_tpseg.studies import Model, Run, find_entries, prepare_output
from monai_tpseg.testing.phantoms import make_volume, write_dicom_series
from monai_tpseg.transforms import NormalizeByModalityd

from .conftest import write_weights
from .test_outputs import Bright

NAME = "lesion_of_the_pancreas"
TASKS = (*TASK_NAMES, NAME)


@pytest.fixture(scope="module")
def beyond(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of nine tasks, the last of them in CT and in no catalogue."""
    path = write_weights(tmp_path_factory.mktemp("beyond") / "model.pt", tasks=TASKS)
    save_weights(path, read_checkpoint(path), replace(read_info(path), modalities={NAME: "ct"}))
    return path


@pytest.fixture(scope="module")
def result(beyond: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a run with a network that finds what is bright wrote about one CT."""
    folder = tmp_path_factory.mktemp("run")
    write_dicom_series(make_volume("lung_infection", 1, (32, 32, 6)), folder / "in" / "series")
    model = Model(beyond, "cpu")
    model.segmenter.network = Bright()
    cases = prepare_output(folder / "out", find_entries(folder / "in", NAME), "salted", False)
    assert Run(model, folder / "out")(cases)["ok"] == 1
    return next((folder / "out" / "cases").iterdir())


def test_the_description_says_the_modality() -> None:
    task = get_task(NAME, {NAME: "ct"})
    assert (task.modality, task.title, task.anatomy) == (Modality.CT, "lesion of the pancreas", None)
    with pytest.raises(ValueError, match=r"Unknown task 'liver'; choose one of wet_amd, .*, lesion_of_the_pancreas"):
        get_task("liver", {NAME: "ct"})
    with pytest.raises(
        ValueError, match="Unknown modality 'xray' of task 'lesion_of_the_pancreas'; choose one of oct, "
    ):
        get_task(NAME, {NAME: "xray"})


def test_pixels_become_input_as_those_of_its_modality(beyond: Path) -> None:
    known, new = ({"image": _image(), "task": task} for task in ("lung_infection", NAME))
    normalise = NormalizeByModalityd(modalities=read_info(beyond).modalities)
    assert torch.equal(normalise(new)["image"], NormalizeByModalityd()(known)["image"])
    with pytest.raises(ValueError, match="Unknown task 'lesion_of_the_pancreas'"):
        NormalizeByModalityd()(new)


def test_its_segmentation_names_a_lesion_and_no_anatomy(result: Path) -> None:
    made = pydicom.dcmread(next(result.glob("*_seg.dcm")))
    segment = made.SegmentSequence[0]
    code = segment.SegmentedPropertyTypeCodeSequence[0]
    assert (code.CodeValue, code.CodeMeaning) == ("52988006", "Lesion")
    assert "AnatomicRegionSequence" not in segment
    assert made.ContentLabel == "LESION_OF_THE_PA"
    assert segment.SegmentLabel == "lesion of the pancreas 1"


def test_its_record_fits_the_schema_and_the_report_shows_it(result: Path) -> None:
    record = json.loads((result / "result.json").read_text())
    schema = Path(__file__).parents[2] / "monai_tpseg" / "results" / "result.schema.json"
    jsonschema.validate(record, json.loads(schema.read_text()))
    assert (record["task"], record["provenance"]["model"]["modalities"]) == (NAME, {NAME: "ct"})
    out = result.parents[1]
    write_report(out)
    assert NAME in (out / REPORT).read_text()


def test_the_command_takes_it_by_name(beyond: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_dicom_series(make_volume("lung_infection", 1, (32, 32, 6)), tmp_path / "series")
    run = ["run", str(tmp_path / "series"), "--out", str(tmp_path / "out"), "--checkpoint", str(beyond), "--quiet"]
    assert main([*run, "--task", NAME, "--device", "cpu"]) == 0
    assert main([*run, "--task", "liver"]) == 2
    assert capsys.readouterr().err.endswith(f"choose one of {', '.join(TASKS)}.\n")


@pytest.mark.parametrize("modalities", [["ct"], "ct", 3])
def test_a_description_of_another_form_is_refused(beyond: Path, tmp_path: Path, modalities: Any) -> None:
    content = {**asdict(read_info(beyond)), "modalities": modalities}
    (tmp_path / "model.pt").write_bytes(b"")
    (tmp_path / "model.json").write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=r"model.json' is not the description of a weights file"):
        read_info(tmp_path / "model.pt")


def _image() -> MetaTensor:
    values = torch.from_numpy(np.linspace(-1000, 400, 3 * 8 * 8, dtype=np.float32).reshape(3, 8, 8))
    return MetaTensor(values, meta={"intensity": "physical"})
