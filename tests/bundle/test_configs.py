"""The configs as files: short, written one way, and without what the description of the weights says."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from monai.bundle import ConfigParser

from monai_tpseg.bundle.setting_values import is_checked
from tests.bundle.config_format import CONFIGS, WIDTH, formatted

LINES = 1315
"""60 % of the 2193 lines that the configs had while each named the network's arguments three times."""


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: f"{path.parents[1].name}-{path.stem}")
def test_a_config_is_written_as_all_are(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text == formatted(json.loads(text)), "rewrite it: python -m tests.bundle.config_format"
    if path.stem != "metadata":  # has prose for people
        assert max(map(len, text.splitlines())) <= WIDTH


def test_the_configs_stay_short() -> None:
    assert sum(len(path.read_text(encoding="utf-8").splitlines()) for path in CONFIGS) <= LINES


RUNNABLE = [path for path in CONFIGS if path.stem in ("train", "evaluate", "inference")]


@pytest.mark.parametrize("path", RUNNABLE, ids=lambda path: f"{path.parents[1].name}-{path.stem}")
def test_every_switch_is_checked(path: Path) -> None:
    config = json.loads(path.read_text(encoding="utf-8"))
    switches = {name for name, value in config.items() if isinstance(value, bool)}
    unchecked = {name for name in switches if not is_checked(name)}
    assert unchecked <= {"resume", "augmentation"}  # each has a check of its own


@pytest.mark.parametrize("path", RUNNABLE, ids=str)
def test_the_network_is_described_once(path: Path) -> None:
    builder = "networks.build_network" if path.stem == "train" else "bundle.network.described_network"
    targets = re.findall(r'"_target_": "monai_tpseg.([\w.]+_network)"', path.read_text(encoding="utf-8"))
    assert targets == [builder]


def test_a_recipe_of_ones_own_is_a_file_laid_over_the_training(tmp_path: Path) -> None:
    (train,) = (path for path in CONFIGS if path.stem == "train" and "tpseg" in str(path.parent))
    mine = tmp_path / "mine.json"
    mine.write_text(json.dumps({"lr": 0.0005, "augmentation": "strong"}))
    parser = ConfigParser()
    parser.read_config([str(train), str(mine)])
    names = ("lr", "augmentation", "lr_schedule")
    assert [parser.get_parsed_content(name) for name in names] == [0.0005, "strong", "constant"]
