"""The grid of pictures, with and without the pictures."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from monai_tpseg.catalogue import TASK_NAMES
from monai_tpseg.cli import main
from monai_tpseg.networks import build_network
from monai_tpseg.networks.weights_info import WeightsInfo, save_weights


@pytest.fixture
def trained(phantoms: Path, tmp_path: Path) -> Path:
    """The folder of a run, as far as the grid reads it."""
    folder = tmp_path / "runs" / "UNet-0"
    options = {"architecture": "unet", "width": 4}
    weights = build_network(**options).state_dict()  # type: ignore[arg-type]
    folder.mkdir(parents=True)
    save_weights(folder / "model.pt", weights, WeightsInfo(TASK_NAMES, options, (32, 32)))
    shutil.copy(phantoms / "datalist.json", folder / "datalist.json")
    return folder


def coloured(path: Path) -> int:
    """Number of colours that are not grey, of the picture made coarse; outlines alone give few."""
    pixels = np.asarray(Image.open(path).convert("RGB").resize((200, 600))).reshape(-1, 3) // 16
    return len({tuple(p) for p in pixels.tolist() if max(p) - min(p) > 1})


def test_grid_shows_pictures_or_outlines_alone(trained: Path, phantoms: Path, tmp_path: Path) -> None:
    shown, bare = tmp_path / "shown.png", tmp_path / "bare.png"
    base = ["grid", str(trained), str(trained), "--data", str(phantoms), "--out"]
    assert main([*base, str(shown)]) == 0
    assert main([*base, str(bare), "--outlines"]) == 0
    assert Image.open(shown).size == Image.open(bare).size
    assert coloured(shown) > 2 * coloured(bare) > 0


def test_a_folder_without_a_run_is_named(phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["grid", str(tmp_path), "--data", str(phantoms), "--out", str(tmp_path / "x.png")]) == 1
    assert "holds no trained run; expected model.pt" in capsys.readouterr().err
    assert not (tmp_path / "x.png").exists()


def test_a_damaged_datalist_of_a_run_is_named(
    trained: Path, phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["grid", str(trained), "--data", str(phantoms), "--out", str(tmp_path / "x.png")]
    for content in (bytes(9), b"[]", b"{}", b'{"validation": 5}', b'{"validation": [5]}'):
        (trained / "datalist.json").write_bytes(content)
        assert main(words) == 1
        error = capsys.readouterr().err
        assert f"'{trained / 'datalist.json'}'" in error
        assert error.count("\n") == 1
    assert not (tmp_path / "x.png").exists()
