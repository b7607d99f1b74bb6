"""Where weights are found, and what is said where they are absent, foreign, altered or of another version."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import monai_tpseg
from monai_tpseg.cli import main
from monai_tpseg.networks import build_described
from monai_tpseg.networks.checkpoint import CheckpointError
from monai_tpseg.networks.weights_info import FORMAT
from monai_tpseg.testing.phantoms import make_phantom, write_png
from monai_tpseg.weights import CatalogueError, find, folders, listed, weights_path


def put(packed: Path, folder: Path, name: str = "starter-tpseg") -> Path:
    """Copy packed weights into a folder of the catalogue, under `name`."""
    folder.mkdir(parents=True, exist_ok=True)
    for suffix in (".safetensors", ".json"):
        shutil.copy(packed / f"starter-tpseg{suffix}", folder / f"{name}{suffix}")
    return folder / f"{name}.safetensors"


def change(file: Path, **changes: Any) -> None:
    """Change the description beside a weights file."""
    path = file.with_suffix(".json")
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def refused(*arguments: str, capsys: pytest.CaptureFixture[str]) -> str:
    """The one line of a command that ends with status 1."""
    assert main(list(arguments)) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("Error: ")
    assert err.count("\n") == 1
    return err


def test_starter_weights_run_where_none_are_named(package: Path, packed: Path) -> None:
    file = put(packed, package)
    assert weights_path(None) == weights_path("") == weights_path("starter-tpseg") == file
    assert weights_path("some/model.pt") == Path("some/model.pt")
    assert weights_path(Path("model.pt")) == Path("model.pt")


def test_a_file_counts_more_than_a_name(
    package: Path, packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(packed, package)
    monkeypatch.chdir(tmp_path)
    assert weights_path("starter-tpseg") == package / "starter-tpseg.safetensors"
    Path("starter-tpseg").touch()
    assert weights_path("starter-tpseg") == Path("starter-tpseg")


def test_the_first_folder_that_knows_a_name_decides(
    package: Path, packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(packed, package)
    put(packed, package, "only-here")
    mine = put(packed, tmp_path / "user")
    assert weights_path() == mine
    site, other = put(packed, tmp_path / "site"), put(packed, tmp_path / "other", "liver")
    monkeypatch.setenv("TPSEG_WEIGHTS", os.pathsep.join([str(site.parent), str(other.parent)]))
    assert weights_path() == site
    assert [folder.origin for folder in folders()] == ["TPSEG_WEIGHTS", "TPSEG_WEIGHTS", "user", "package"]
    assert {entry.card.name: entry.folder.path for entry in listed()} == {
        "starter-tpseg": site.parent,
        "liver": other.parent,
        "only-here": package,
    }
    monkeypatch.setenv("TPSEG_WEIGHTS", str(tmp_path / "gone"))
    with pytest.raises(CatalogueError, match="which is not a folder"):
        weights_path()


def test_weights_of_a_training_need_no_card(package: Path, trained: Path) -> None:
    for suffix in (".pt", ".json"):
        shutil.copy(trained.with_suffix(suffix), package / f"mine{suffix}")
    (package / "notes.json").write_text("[1, 2]")
    (entry,) = listed()
    entry.check()
    assert (entry.card.name, entry.card.network, entry.card.licence) == ("mine", "tpseg", "")
    assert weights_path("mine") == package / "mine.pt"


def test_absent(package: Path, packed: Path, no_network: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(CatalogueError, match="No weights were given, and the starter weights are missing"):
        weights_path(None, "kprism")
    with pytest.raises(CatalogueError, match=r"No weights 'heart' in .*\(there: none\)"):
        find("heart")
    put(packed, package).unlink()
    with pytest.raises(CatalogueError, match=r"file of weights 'starter-tpseg' is not in .*not hosted"):
        weights_path()
    change(package / "starter-tpseg.safetensors", card={"url": "https://example.org/w.safetensors"})
    with pytest.raises(CatalogueError, match="tpseg weights fetch starter-tpseg gets it"):
        weights_path()
    assert "starter-tpseg" in refused("run", "x.png", "--task", "wet_amd", "--out", "o", capsys=capsys)
    assert no_network == []
    assert not Path("o").exists()


def test_foreign(package: Path, packed: Path, trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = put(packed, package)
    shutil.copy(trained, file)  # not what the suffix says, and another digest
    for action in (("weights", "verify"), ("weights", "verify", "starter-tpseg")):
        assert "has another SHA-256" in refused(*action, capsys=capsys)
    with pytest.raises(CheckpointError, match="SHA-256 differs"):
        monai_tpseg.load_model(device="cpu")
    shutil.copy(trained, package / "starter-tpseg.pt")
    assert "remove the wrong one" in refused("weights", "list", capsys=capsys)
    (package / "starter-tpseg.pt").unlink()
    file.with_suffix(".json").write_text("{")
    assert "is not the description" in refused("weights", "show", "starter-tpseg", capsys=capsys)
    assert "is not the description" in refused("weights", "list", capsys=capsys)


def test_altered(package: Path, packed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = put(packed, package)
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert "has another SHA-256" in refused("weights", "verify", capsys=capsys)
    with pytest.raises(CheckpointError, match="SHA-256 differs"):
        monai_tpseg.load_model(device="cpu")


def test_of_another_version(package: Path, packed: Path) -> None:
    file = put(packed, package)
    change(file, format=FORMAT + 1)
    with pytest.raises(CheckpointError, match=r"newer version \(format 2, this one reads up to 1\); update"):
        build_described(file)
    network = json.loads((packed / "starter-tpseg.json").read_text())["network"]
    for unknown in ({"stem": "of the future"}, {"backbone": "hiera_giant"}, {"architecture": "tpseg9"}):
        change(file, format=FORMAT, network={**network, **unknown})
        with pytest.raises(CheckpointError, match="cannot build") as error:
            build_described(file)
        assert "\n" not in str(error.value)


def test_load_model_says_what_runs_and_computes_in_single_precision(
    package: Path, packed: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    put(packed, package)
    with caplog.at_level("WARNING"):
        model = monai_tpseg.load_model(device="cpu")
    assert "weights: starter-tpseg, research preview (research use, non-commercial)" in caplog.text
    assert model.info.title == "starter-tpseg, research preview"
    assert {p.dtype for p in model.network.parameters()} == {torch.float32}
    write_png(make_phantom("skin_lesion", 0, 40).image, tmp_path / "x.png")
    found = model.segment(tmp_path / "x.png", "skin_lesion")
    assert found.mask.shape == (1, 40, 40)
    caplog.clear()
    with caplog.at_level("WARNING"):
        monai_tpseg.load_model("starter-tpseg", "cpu")
    assert "weights:" not in caplog.text


def test_the_command_shows_and_verifies(package: Path, packed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = put(packed, package)
    assert main(["weights", "list"]) == 0
    heading, line = capsys.readouterr().out.splitlines()
    assert heading.split() == ["NAME", "NETWORK", "MiB", "DICE", "STATUS", "LICENCE", "FROM"]
    assert line.startswith("starter-tpseg  tpseg ")
    assert line.endswith("research preview  research use, non-commercial  package")
    assert main(["weights", "show", "starter-tpseg"]) == 0
    shown = capsys.readouterr().out
    for word in (f"{file.stat().st_size:,} bytes", "phantoms (wet_amd; 8 pictures): Apache 2.0", "breast_lesion"):
        assert word in shown
    assert main(["weights", "show", "starter-tpseg", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["file"] == str(file)
    assert main(["weights", "verify"]) == 0
    assert capsys.readouterr().out == "starter-tpseg: SHA-256 matches\n"
    assert main(["weights", "where"]) == 0
    assert str(package) in capsys.readouterr().out


def test_the_list_needs_no_pytorch() -> None:
    code = "import sys, monai_tpseg.weights; print({'torch', 'monai', 'numpy'} & set(sys.modules))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown == "set()\n"
