"""The weights that are shipped: better than chance on real pictures, told truly in docs and bundles, and installed."""

from __future__ import annotations

import json
import os
import re
from collections import defaultdict
from pathlib import Path

import monai.bundle
import numpy as np
import pytest
import yaml
from PIL import Image
from setuptools import Distribution

from monai_tpseg.bundle.config import bundle_weights
from monai_tpseg.catalogue import TASK_NAMES
from monai_tpseg.files import file_sha256
from monai_tpseg.studies import Model
from monai_tpseg.weights import DEFAULTS, find, read_card
from tests.scripts import load_script

ROOT = Path(__file__).resolve().parents[2]
FILES = ROOT / "monai_tpseg" / "weights" / "files"
PAGE = (ROOT / "docs" / "weights.md").read_text()
large_files = load_script("benchmarks/large_files.py")


@pytest.fixture(autouse=True)
def _shipped(monkeypatch: pytest.MonkeyPatch) -> None:
    """No folder of a site or a user stands before that of the package."""
    monkeypatch.delenv("TPSEG_WEIGHTS", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", "/nowhere")


def test_they_find_lesions_in_real_pictures(shared_dir: Path) -> None:
    """Up to four validation pictures per task, evenly spread, those with a lesion; chance is marking everything."""
    folder = shared_dir / "data" / "lesions"
    listed = defaultdict(list)
    for entry in json.loads((folder / "datalist.json").read_text())["validation"]:
        listed[entry["task"]].append(entry)
    assert set(listed) == set(TASK_NAMES)
    model, found, chance = Model(FILES / "starter-tpseg.safetensors", "cpu"), {}, {}
    for task, entries in listed.items():
        dice, everything = [], []
        for entry in entries[:: len(entries) // 4][:4]:
            label = np.asarray(Image.open(folder / entry["label"]).convert("L")) > 0
            if not label.any():
                continue
            mask = model.segment(folder / entry["image"], task).mask[0].numpy() > 0
            dice.append(2 * (mask & label).sum() / (mask.sum() + label.sum()))
            everything.append(2 * label.sum() / (label.size + label.sum()))
        found[task], chance[task] = float(np.mean(dice)), float(np.mean(everything))
    assert all(found[task] > chance[task] + 0.05 for task in TASK_NAMES), (found, chance)
    assert np.mean(list(found.values())) > np.mean(list(chance.values())) + 0.25, (found, chance)


def rows(head: str) -> dict[str, float]:
    """The first table of the page whose header begins so, as column -> value."""
    lines = PAGE.splitlines()
    number = next(n for n, line in enumerate(lines) if line.startswith(head))
    names, values = ([cell.strip() for cell in lines[n].strip("|").split("|")] for n in (number, number + 2))
    return {name: float(value) for name, value in zip(names, values, strict=True)}


def test_the_page_says_what_the_cards_say() -> None:
    tpseg, kprism = (read_card(FILES / f"{DEFAULTS[network]}.json") for network in ("tpseg", "kprism"))
    assert tpseg.dice is not None
    assert kprism.dice is not None
    assert rows("| wet_amd |") == {task: round(value, 1) for task, value in tpseg.dice.items()}
    asked = rows("| by class |")
    means = {name: table["mean"] for name, table in kprism.dice.items()}
    means["by class"] = means.pop("class")
    shown = {name: round(value, 1) for name, value in means.items() if name in asked}
    assert {name: asked[name] for name in shown} == shown
    assert {"by class", "1 click", "5 clicks", "10 clicks"} <= set(shown)
    for card in (tpseg, kprism):
        assert f"{card.size / 1e6:.1f} MB" in PAGE
        assert sum(source["pictures"] for source in card.sources) == int(
            re.search(r"([\d,]+) pictures of eight tasks", PAGE)[1].replace(",", "")  # type: ignore[index]
        )
        notice = (ROOT / "NOTICE").read_text()
        for source in card.sources:
            name = source["name"].split(" (")[0].split(" and ")[0]
            assert name in notice, name
            assert source["terms"] in notice, source


@pytest.mark.parametrize(("network", "bundle"), large_files.BUNDLES.items())
def test_the_bundle_takes_them_as_the_zoo_downloads_them(
    network: str, bundle: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = ROOT / "bundles" / bundle / "large_files.yml"
    assert written.read_text() == large_files.content(network), "run benchmarks/large_files.py"
    (tmp_path / "large_files.yml").write_text(large_files.content(network, FILES.as_uri()))
    monai.bundle.download_large_files(bundle_path=str(tmp_path))
    taken = Path(bundle_weights(str(tmp_path), network))
    assert taken.parent == tmp_path / "models"
    assert file_sha256(taken) == find(DEFAULTS[network]).card.sha256
    assert read_card(taken.with_suffix(".json")).licence == find(DEFAULTS[network]).card.licence
    assert set(yaml.safe_load(written.read_text())["large_files"][0]) == {"path", "url", "hash_val", "hash_type"}


@pytest.mark.parametrize("bundle", large_files.BUNDLES.values())
def test_bundles_do_not_deny_them(bundle: str) -> None:
    folder = ROOT / "bundles" / bundle
    name = DEFAULTS[{value: key for key, value in large_files.BUNDLES.items()}[bundle]]
    texts = [folder / "docs" / "README.md", folder / "docs" / "data_license.txt", folder / "configs" / "metadata.json"]
    for path in texts:
        text = path.read_text()
        assert name in text, path
        assert "no weights trained on patient data" not in text, path
        assert "None are shipped" not in text, path
    assert "not for commercial" in texts[1].read_text()


def test_an_installation_holds_weights_licence_and_bundles(monkeypatch: pytest.MonkeyPatch) -> None:
    """What setuptools would copy, without copying it."""
    monkeypatch.chdir(ROOT)
    distribution = Distribution()
    distribution.parse_config_files(["setup.cfg"])
    build = distribution.get_command_obj("build_py")
    build.ensure_finalized()
    copied = {
        os.path.normpath(os.path.join(source, name))
        for _, source, _, names in build.data_files  # type: ignore[attr-defined]
        for name in (os.path.relpath(name, source) if os.path.isabs(name) else name for name in names)
    }
    wanted = {path.relative_to(ROOT).as_posix() for path in FILES.iterdir()}
    wanted |= {
        path.relative_to(ROOT).as_posix()
        for bundle in large_files.BUNDLES.values()
        for path in (ROOT / "bundles" / bundle).rglob("*")
        if path.is_file() and path.name != ".gitkeep" and "__pycache__" not in path.parts
    }
    assert wanted <= copied
    assert set(distribution.metadata.license_files) == {"LICENSE", "NOTICE"}


def test_where_gives_the_folder_alone(capsys: pytest.CaptureFixture[str]) -> None:
    from monai_tpseg.cli import main

    assert main(["weights", "where", "starter-tpseg"]) == 0
    assert capsys.readouterr().out == f"{FILES}\n"
    assert main(["weights", "where", "nothing"]) == 1
    assert "No weights 'nothing'" in capsys.readouterr().err
