"""The how-to pages are followed to the letter, in a copy of the package: a task and a modality of one's own."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
_FENCED = re.compile(r"^ *```(\w+)\n(.*?)^ *```", re.M | re.S)
_USES_TASK = """
from monai_tpseg.catalogue import TASKS, Modality, get_task, resolve_task
task = get_task("liver_lesion")
assert (TASKS[-1], task.modality, task.anatomy.meaning) == (task, Modality.CT, "Liver")
assert resolve_task("liver_lesion") == len(TASKS) - 1
"""
_USES_MODALITY = """
import torch
from monai.data import MetaTensor
from monai_tpseg.catalogue import Modality
from monai_tpseg.io.dicom.modalities import MODALITIES
from monai_tpseg.results.measurements import fits_modality
from monai_tpseg.transforms import load_pipeline
assert Modality("xray") is Modality.XRAY and {"DX", "CR"} <= MODALITIES
assert fits_modality("CR", Modality.XRAY) and not fits_modality("CT", Modality.XRAY)
image = MetaTensor(torch.linspace(0, 4095, 3 * 8 * 8).reshape(3, 8, 8))
seen = load_pipeline("xray", "physical", network=False)({"image": image})["image"]
assert 0 <= seen.min() < seen.max() <= 1
"""


def blocks(page: str, language: str) -> list[str]:
    """The fenced blocks of a page, without the indentation of the list that they stand in."""
    found = _FENCED.findall((ROOT / "docs" / page).read_text())
    return ["\n".join(line.strip() for line in text.splitlines()) for kind, text in found if kind == language]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A package that may be changed."""
    for name in ("monai_tpseg", "transforms"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "*.safetensors"))
    return tmp_path


def insert(copy: Path, after: str, block: str, indent: str = "    ") -> None:
    """Put a block behind the last line of the catalogue that matches."""
    file = copy / "monai_tpseg" / "catalogue.py"
    text = file.read_text()
    (end,) = (match.end() for match in re.finditer(after, text, re.M | re.S))
    file.write_text(f"{text[:end]}\n{indent}{block}{text[end:]}")


def run(copy: Path, program: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(copy)}
    ended = subprocess.run([sys.executable, "-c", program], env=environment, cwd=copy, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr


def test_a_task_is_added_as_the_page_says(copy: Path) -> None:
    (task,) = blocks("adding-a-task.md", "python")
    insert(copy, r"^TASKS: .*?(?=\n\)\n)", task)
    run(copy, _USES_TASK)
    (entry,) = blocks("adding-a-task.md", "json")
    assert json.loads(entry)["task"] == "liver_lesion"


def test_a_modality_is_added_as_the_page_says(copy: Path) -> None:
    member, record = blocks("adding-a-modality.md", "python")
    insert(copy, r"^class Modality.*?(?=\n\n    @property\n    def dicom)", member)
    insert(copy, r"^_IMAGING: .*?(?=\n\}\n)", record)
    shutil.copy(copy / "transforms" / "mri.yaml", copy / "transforms" / "xray.yaml")
    run(copy, _USES_MODALITY)
