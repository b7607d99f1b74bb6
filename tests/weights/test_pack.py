"""Half precision on disc, single precision in the network, and a card that says what it is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from monai_tpseg.cli import main
from monai_tpseg.networks import build_described
from monai_tpseg.networks.checkpoint import CheckpointError, read_checkpoint
from monai_tpseg.networks.weights_info import read_info
from monai_tpseg.weights import CatalogueError, read_card
from monai_tpseg.weights.pack import half_precision_state, pack, write_card

from .conftest import CARD


def test_half_precision_on_disc_becomes_single_precision(trained: Path, packed: Path) -> None:
    file = packed / "starter-tpseg.safetensors"
    assert file.stat().st_size < 0.6 * trained.stat().st_size
    stored, original = load_file(file), read_checkpoint(trained)
    assert {value.dtype for value in stored.values() if value.is_floating_point()} <= {torch.float16, torch.float32}
    assert sum(v.dtype == torch.float16 for v in stored.values()) > 0.9 * len(stored)
    network, info = build_described(file), read_info(file)
    assert info.card["name"] == "starter-tpseg"
    assert not network.training
    for name, value in network.state_dict().items():
        assert value.dtype == original[name].dtype
        if value.is_floating_point():
            assert torch.equal(value, stored[name].float())
            assert torch.allclose(value, original[name], rtol=1e-3, atol=1e-7)
        else:
            assert torch.equal(value, original[name])


def test_what_half_precision_cannot_hold_stays_as_it_is() -> None:
    state = {
        "large": torch.tensor([1e5, 1.0]),
        "tiny": torch.tensor([1e-9, 2e-9]),
        "usual": torch.tensor([0.1, -0.2]),
        "zero": torch.zeros(3),
        "count": torch.tensor([70000]),
    }
    half = half_precision_state(state)
    assert {name: value.dtype for name, value in half.items()} == {
        "large": torch.float32,
        "tiny": torch.float32,
        "usual": torch.float16,
        "zero": torch.float16,
        "count": torch.int64,
    }
    assert torch.equal(half["large"], state["large"])
    assert torch.equal(half["count"], state["count"])


def test_the_card_is_complete_and_the_digest_right(packed: Path) -> None:
    card = read_card(packed / "starter-tpseg.json")
    file = packed / "starter-tpseg.safetensors"
    assert (card.name, card.size, card.status) == ("starter-tpseg", file.stat().st_size, "research preview")
    assert card.sources[0]["terms"] == "Apache 2.0"
    assert card.sha256 == read_info(file, verify=True).sha256


def test_two_packs_are_the_same_bytes(trained: Path, packed: Path, tmp_path: Path) -> None:
    pack(trained, tmp_path, "starter-tpseg", CARD)
    for suffix in (".safetensors", ".json"):
        name = f"starter-tpseg{suffix}"
        assert (tmp_path / name).read_bytes() == (packed / name).read_bytes()


def test_a_pack_writes_over_nothing(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["weights", "pack", str(trained), "--name", "mine", "--out", str(tmp_path)]
    assert main(words) == 0
    assert "mine.safetensors: " in capsys.readouterr().out
    before = (tmp_path / "mine.safetensors").read_bytes()
    assert main(words) == 1
    assert "--replace" in capsys.readouterr().err
    assert main([*words, "--replace", "--quiet", "--licence", "CC BY 4.0"]) == 0
    assert (tmp_path / "mine.safetensors").read_bytes() == before
    assert read_card(tmp_path / "mine.json").licence == "CC BY 4.0"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.json", "mine.safetensors"]


@pytest.mark.parametrize("name", ["", ".hidden", "a/b"])
def test_names_are_file_names(name: str, trained: Path, tmp_path: Path) -> None:
    with pytest.raises(CatalogueError, match="is not a valid name for weights"):
        pack(trained, tmp_path, name, {})


def test_weights_that_are_none_are_not_packed(trained: Path, tmp_path: Path) -> None:
    model = tmp_path / "model.pt"
    state = read_checkpoint(trained)
    first = next(iter(state))
    shutil.copy(trained.with_suffix(".json"), tmp_path)
    torch.save(state, model)
    with pytest.raises(CheckpointError, match="SHA-256 differs"):  # written again: other bytes
        pack(model, tmp_path / "out", "x", {})
    described = json.loads(trained.with_suffix(".json").read_text())
    for changed, message in (
        ({**state, first: torch.full_like(state[first], float("nan"))}, "non-finite"),
        ({key: value for key, value in state.items() if key != first}, "1 missing"),
    ):
        torch.save(changed, model)
        from monai_tpseg.files import file_sha256

        model.with_suffix(".json").write_text(json.dumps({**described, "sha256": file_sha256(model)}))
        with pytest.raises(ValueError, match=message):
            pack(model, tmp_path / "out", "x", {})
    assert not (tmp_path / "out").exists()


def test_sources_are_checked(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sources = tmp_path / "sources.json"
    words = ["weights", "pack", str(trained), "--name", "s", "--out", str(tmp_path / "o"), "--sources", str(sources)]
    for text in ("{", "{}", '[{"name": "x"}]'):
        sources.write_text(text)
        assert main(words) == 1
        assert capsys.readouterr().err.count("\n") == 1
    sources.write_text(json.dumps(CARD["sources"]))
    assert main(words) == 0


def test_a_card_can_be_filled_in_later(packed: Path, tmp_path: Path) -> None:
    for suffix in (".safetensors", ".json"):
        shutil.copy(packed / f"starter-tpseg{suffix}", tmp_path)
    file = tmp_path / "starter-tpseg.safetensors"
    write_card(file, {"dice": {"wet_amd": 70.0, "mean": 70.0}, "licence": None})
    card = read_card(file.with_suffix(".json"))
    assert card.dice == {"wet_amd": 70.0, "mean": 70.0}
    assert card.licence == ""
    assert card.status == "research preview"
    read_info(file, verify=True)
