"""Every command answers a wrong command line with status 2 and one line, before it writes or reads anything."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from monai_tpseg.cli import main
from monai_tpseg.cli.main import _parser
from monai_tpseg.cli.usage import path, path_text

RUN = ["run", "p.png", "--task", "skin_lesion", "--out", "new"]
MANIFEST = ["run", "--data", "m.csv", "--out", "new"]
TRAIN = ["train", "--data", "in", "--task", "skin_lesion", "--out", "new"]
PRETRAIN = ["pretrain", "--data", "in", "--modality", "ct", "--out", "new"]
FOLDERS = ["prepare", "folders", "--images", "in", "--masks", "in", "--task", "skin_lesion", "--out", "new.json"]
CALIBRATE = ["calibrate", "--data", "in.json"]
NEW_TASK = ["new-task", "mole", "--modality", "ct", "--exemplars", "in", "--out", "new.pt"]
FOLLOW = ["follow", "a", "b", "--out", "new"]
PACK = ["weights", "pack", "model.pt", "--name", "liver"]
LISTEN = ["listen", "--out", "new", "--rules", "r.yaml", "--allow", "A"]

NUMBERS: dict[str, tuple[list[str], tuple[str, ...]]] = {
    "--threshold": (RUN, ("0", "1", "-1", "nan", "inf")),
    "--min-lesion-area": (RUN, ("-1", "1.5")),
    "--mpp": (RUN, ("0", "-1", "nan", "inf", "1e400")),
    "--slide-mpp": (RUN, ("0", "-1", "nan", "inf")),
    "--readers": (RUN, ("-1", "nan")),
    "--read-timeout": (RUN, ("0", "-1", "nan", "inf")),
    "--read-memory": (RUN, ("-1", "nan", "inf")),
    "--slice-batch": (RUN, ("0", "-1", "nan", "")),
    "--batch-memory": (RUN, ("0", "-1", "nan", "inf")),
    "--device": (RUN, ("gpu", "cuda:x", "meta")),
    "--precision": (RUN, ("fp64", "fp16 ")),
    "--label-maps": (RUN, ("mha", "seg.nrrd,x")),
    "--shard": (MANIFEST, ("0/2", "3/2", "x", "1", "1/0", "1/2/3", "1.5/2")),
    "--minutes": (TRAIN, ("0", "-1", "nan", "inf")),
    "--epochs": (TRAIN, ("-1", "0.5")),
    "--image-size": (TRAIN, ("0", "100", "-32")),
    "--batch-size": (TRAIN, ("0", "-1")),
    "--val-share": (TRAIN, ("0", "1", "nan")),
    "--set": (
        TRAIN,
        (
            *("lr", "=1", "lrr=1", "lr=abc", "lr=-1", "lr=nan", "lr=[1]", "batch_size=zero", "val_interval=0"),
            *("num_workers=-1", "num_workers=x", "max_epochs=1.5", "seed=x", "cache_rate=2", "amp=maybe", "recipe=foo"),
            *("image_size=7", "image_size=[64, 64, 64]", "tf32=perhaps", "device=foo", "loss=foo", "train=5"),
            *("gate_temperature=1", "channels=abc", "momentum=2", "stem=foo", "adapter=foo", "architecture=foo"),
            *("loss={}", "loss={'_target_': 'torch.nn.Los'}", "loss::contrastive_weight=-1", "network_def::stem=foo"),
            "loss={'_target_': 'monai_tpseg.losses.BoundaryDiceBCELoss', 'kernel_size': 30}",
            *("dataset_dir=/nowhere", "output_dir=5", "checkpoint=5", "tasks=['mole']", "run=[]", "described=5"),
        ),
    ),
    "--modality": (["train", "--data", "in", "--out", "new"], ("ct",)),
    "--mask-ratio": (PRETRAIN, ("0", "1", "nan")),
    "--lr": (PRETRAIN, ("0", "1", "nan")),
    "--slices": (PRETRAIN, ("0",)),
    "--backbone": (PRETRAIN, ("resnet",)),
    "--amp": (PRETRAIN, ("fp8",)),
    "--seed": (PRETRAIN, ("-1", "x")),
    "--patient-regex": (FOLDERS, ("(p",)),
    "--workers": (FOLDERS, ("-1",)),
    "--folds": (FOLDERS, ("1", "-1")),
    "--fold": (FOLDERS, ("1",)),
    "--miss": (CALIBRATE, ("0", "1", "nan")),
    "--false": (CALIBRATE, ("0", "1", "nan")),
    "--most": (CALIBRATE, ("-1",)),
    "--copies": ([*CALIBRATE, "--fit", "trust"], ("-1",)),
    "--fine-tune": (NEW_TASK, ("-1",)),
    "--tolerance": (FOLLOW, ("-1", "nan", "inf")),
    "--num-tasks": (["cost"], ("x",)),
    "--quiet-period": (LISTEN, ("0", "nan", "inf")),
    "--quota": (LISTEN, ("0", "nan", "inf")),
    "--keep": (LISTEN, ("-1", "nan")),
    "--associations": (LISTEN, ("0",)),
    "--port": (LISTEN, ("-1", "65536")),
    "--date": (PACK, ("yesterday", "2026-02-30")),
    "--name": (["weights", "pack", "model.pt"], ("", ".hidden", "bad/name", "..")),
    "--url": (PACK, ("foo", "ftp://example.org/w.pt", "https:w.pt")),
    "--monitor-port": (LISTEN, ("-2", "65536")),
}
"""Option -> a command that has it, and values that no file can make right."""

SHOWN = {"CSV", "DATA", "DIR", "E", "FILE", "IN", "JSON", "MODEL", "OUT", "PEM", "PNG", "RESULTS", "RUN"}
SHOWN |= {"SUITE", "W", "W2", "YAML"}
"""How the help shows a file or folder."""


@pytest.mark.parametrize("option", NUMBERS)
def test_a_wrong_value_is_status_2_and_one_line(
    option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words, values = NUMBERS[option]
    for value in values:
        assert main([*words, f"{option}={value}", "--quiet"]) == 2, value
        _one_line(capsys)
        assert list(tmp_path.iterdir()) == [], value


def _commands(parser: argparse.ArgumentParser, words: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    inner = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not inner:
        yield words
    for action in inner:
        for name, command in action.choices.items():
            yield from _commands(command, (*words, name))


@pytest.mark.parametrize("words", list(_commands(_parser())), ids=" ".join)
def test_every_command_refuses_an_option_that_it_does_not_have(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*words, "--no-such-option"]) == 2
    _one_line(capsys)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "words",
    [
        ["scan", "", "--out", "m.csv"],
        ["scan", ".", "--out", ""],
        ["run", ".", "--task", "skin_lesion", "--out", ""],
        ["run", "--data", "", "--out", "new"],
        ["report", ""],
        ["train", "--data", "", "--task", "skin_lesion", "--out", "new"],
        ["pretrain", "--data", "", "--modality", "ct", "--out", "new"],
        ["prepare", "folders", "--images", "", "--masks", ".", "--task", "skin_lesion", "--out", "new"],
        ["prepare", "busi", "--source", "", "--out", "new"],
        ["calibrate", "--data", ""],
        ["new-task", "mole", "--modality", "ct", "--exemplars", "", "--out", "new.pt"],
        ["follow", "", "--out", "new"],
        ["annotate", ""],
        ["fetch", "--from", "A@h:1", "--study", "1", "--out", ""],
        ["run", ".", "--task", "skin_lesion", "--checkpoint", ""],
        ["run", "--data", "m.csv", "--root", "", "--out", "new"],
        ["train", "--data", ".", "--task", "skin_lesion", "--encoder", "", "--out", "new"],
        ["listen", "--out", "new", "--rules", "", "--allow", "A"],
        ["weights", "pack", "", "--name", "n"],
    ],
    ids=" ".join,
)
def test_an_empty_path_is_not_the_current_folder(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    assert "the path is empty" in _one_line(capsys)
    assert list(tmp_path.iterdir()) == []


def test_values_of_a_suite_are_checked_before_its_first_row_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    suite = tmp_path / "suite.yaml"
    suite.write_text("{name: s, rows: [{id: A, options: {}}, {id: B, options: {batch_size: zero}}]}")
    assert main(["experiment", "suite.yaml", "--data", ".", "--out", "new"]) == 1
    assert "row B: batch_size must be a whole number of at least 1, got 'zero'" in _one_line(capsys)
    assert list(tmp_path.iterdir()) == [suite]


@pytest.mark.parametrize("words", [["--checkpoint", "absent.pt"], ["--checkpoint", "starter-tpseg"]], ids=" ".join)
def test_a_node_reads_weights_and_rules_before_it_makes_its_folder(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*LISTEN, *words, "--quiet"]) == 1
    assert ("absent.pt" if "absent.pt" in words else "r.yaml") in _one_line(capsys)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", list(_commands(_parser())), ids=" ".join)
def test_an_option_that_shows_a_file_or_folder_is_declared_as_one(words: tuple[str, ...]) -> None:
    command = _parser()
    for word in words:
        command = next(a for a in command._actions if isinstance(a, argparse._SubParsersAction)).choices[word]
    for action in command._actions:
        if action.metavar in SHOWN:
            assert action.type in (path, path_text), action.option_strings or action.dest


def _one_line(capsys: pytest.CaptureFixture[str]) -> str:
    error = capsys.readouterr().err
    assert error.startswith("Error: ")
    assert error.count("\n") == 1
    return error


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with two pictures with their masks, a datalist, and files that are none."""
    monkeypatch.chdir(tmp_path)
    for folder in ("images", "masks", "empty"):
        (tmp_path / folder).mkdir()
    for name in ("images/a.png", "masks/a.png", "images/b.png", "masks/b.png"):
        Image.new("L", (32, 32), 255).save(tmp_path / name)
    entry = {"image": "images/a.png", "label": "masks/a.png", "task": "skin_lesion"}
    other = {**entry, "image": "images/b.png", "label": "masks/b.png"}
    lists: dict[str, Any] = {
        "list": {"training": [entry], "validation": [other]},
        "no_list": {"training": entry},
        "number": 3,
    }
    lists["of_lists"] = {"training": [{**entry, "task": ["skin_lesion"]}]}
    for name, content in lists.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    (tmp_path / "run" / "cases").mkdir(parents=True)
    return tmp_path


PREPARE = ["prepare", "folders", "--images", "images", "--masks", "masks", "--task", "skin_lesion", "--workers", "0"]
CHECK = ["check", "--workers", "0", "--data"]
FETCH = ["fetch", "--from", "A@127.0.0.1:1", "--out", "new"]
FILES: list[tuple[list[str], int, str]] = [
    ([*PREPARE, "--out", "images/a.png"], 2, "a file with the suffix .json, not 'images/a.png'"),
    ([*PREPARE, "--out", "empty"], 2, "a file with the suffix .json, not 'empty'"),
    ([*PREPARE, "--out", "list.json/new.json"], 1, "'list.json/new.json' cannot be written"),
    ([*PREPARE, "--images", "none", "--out", "new.json"], 1, "No folder at 'none'; check the path."),
    (["prepare", "merge", "list.json", "--out", "images/a.png"], 2, "a file with the suffix .json"),
    (["prepare", "merge", "list.json", "no_list.json", "--out", "new.json"], 1, "'training' of 'no_list.json' is not"),
    (
        ["prepare", "merge", "of_lists.json", "--out", "new.json"],
        1,
        "training[0] must be an object with image and task",
    ),
    ([*CHECK, "images"], 1, "'images' is a folder; give the JSON file, e.g. images/datalist.json."),
    ([*CHECK, "none"], 1, "No datalist at 'none'; check the path of the JSON file."),
    ([*CHECK, "number.json"], 1, "not a number."),
    ([*CHECK, "list.json", "--root", "none"], 1, "No folder at 'none'; correct --root."),
    (["calibrate", "--data", "list.json"], 1, "'starter-tpseg.safetensors' belongs to the package"),
    (["calibrate", "--data", "list.json", "--checkpoint", "starter-kprism"], 1, "belongs to the package"),
    ([*FETCH, "--date", "yesterday"], 2, "'yesterday' is not a date of DICOM"),
    ([*FETCH, "--date", "20241340"], 2, "'20241340' is not a date of DICOM"),
    ([*FETCH, "--study", "abc"], 2, "'abc' is not a UID"),
    ([*FETCH, "--modality", "X-ray"], 2, "'X-ray' is not a modality of DICOM"),
    ([*FETCH, "--patient", "1"], 1, "'A' at 127.0.0.1:1 does not answer"),
    (["fetch", "--from", "http://", "--out", "new", "--patient", "1"], 2, "'http://' is neither AET@HOST:PORT"),
    ([*LISTEN, "--out", "run"], 1, "'run' holds the results of tpseg run; choose another --out."),
    (["cost", "--set", "num_experts=0"], 2, "num_experts must be a whole number of at least 1, or null, got 0"),
    (["cost", "--set", "image_size=5"], 2, "image_size is not for --set; give --image-size."),
    (["cost", "--backbone", "none"], 2, "Unknown backbone 'none'"),
    (["export", "--checkpoint", "starter-tpseg", "--task", "mole", "--out", "new"], 2, "Unknown task 'mole'"),
    (["annotate", "images", "--out", "images"], 2, "'images' is both IN and --out"),
    (["train", "--data", "list.json", "--modality", "mole=ct", "--out", "new"], 1, "--modality names 'mole', of which"),
]
"""A command in the folder of the fixture, its exit status and a part of its line."""


@pytest.mark.parametrize(("words", "status", "said"), FILES, ids=[str(n) for n in range(len(FILES))])
def test_a_file_that_cannot_be_used_is_one_line_and_nothing_is_written(
    words: list[str], status: int, said: str, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() if path.is_file() else b"" for path in data.rglob("*")}
    assert main(words) == status
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("Error: ")
    assert said in last
    assert {path: path.read_bytes() if path.is_file() else b"" for path in data.rglob("*")} == before


def test_a_datalist_may_begin_with_the_mark_of_some_editors(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = (data / "list.json").read_text()
    (data / "marked.json").write_text(content, encoding="utf-8-sig")
    main([*CHECK, "list.json"])
    expected = capsys.readouterr().out.replace("list.json", "")
    main([*CHECK, "marked.json"])
    assert capsys.readouterr().out.replace("marked.json", "") == expected
