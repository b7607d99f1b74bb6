"""The scripts of docs/own-pipeline.md, run as they stand there."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from monai_tpseg.testing.phantoms import write_dataset, write_demo_cases

PAGE = Path(__file__).resolve().parents[1] / "docs" / "own-pipeline.md"
SCRIPTS = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.M | re.S)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_dataset(tmp_path / "data", train_per_task=1, val_per_task=1, size=64)
    write_demo_cases(tmp_path / "data" / "demo")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(script: str) -> None:
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*(No task was given|prototypes have not moved).*")
        exec(compile(script, "own-pipeline.md", "exec"), {"__name__": "__main__"})


def test_the_page_has_two_scripts() -> None:
    assert len(SCRIPTS) == 2


def test_the_loop(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(SCRIPTS[0])
    assert "epoch 2: loss " in capsys.readouterr().out
    state = torch.load(folder / "own.pt", weights_only=True)
    assert bool(state["encoder.gate.hard"])
    mask = np.asarray(Image.open(folder / "own" / "skin_lesion" / "skin_lesion_trans.png"))
    assert mask.shape == (96, 128)  # rows, columns of the picture
    assert set(np.unique(mask)) <= {0, 255}


def test_the_trainer(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(SCRIPTS[1])
    found = re.search(r"'dice': ([\d.]+)", capsys.readouterr().out)
    assert found is not None
    assert 0 <= float(found[1]) <= 1
