"""Tab completes what the parser knows, and options are called alike in every command and in the bundle's page."""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from monai_tpseg.catalogue import TASK_NAMES
from monai_tpseg.cli.main import _parser

ROOT = Path(__file__).resolve().parents[1]


def completed(line: str, tmp_path: Path) -> list[str]:
    """What a shell is offered at the end of a line."""
    answer = tmp_path / "answer"
    asked = {"_ARGCOMPLETE": "1", "COMP_LINE": line, "COMP_POINT": str(len(line)), "_ARGCOMPLETE_IFS": "\n"}
    asked |= {"_ARGCOMPLETE_STDOUT_FILENAME": str(answer), "XDG_DATA_HOME": str(tmp_path)}
    code = "import sys; sys.argv[0] = 'tpseg'; from monai_tpseg.cli import main; main()"
    subprocess.run([sys.executable, "-c", code], env={**os.environ, **asked}, cwd=tmp_path, check=True)
    return [word.strip() for word in answer.read_text().split("\n")]


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("tpseg tr", {"train"}),
        ("tpseg run --min-l", {"--min-lesion-area"}),
        ("tpseg run a.png --task skin", {"skin_lesion"}),
        ("tpseg run a.png --task ", set(TASK_NAMES)),
        ("tpseg train --data d --checkpoint starter-", {"starter-tpseg", "starter-kprism"}),
        ("tpseg weights wh", {"where"}),
    ],
)
def test_tab_completes(line: str, offered: set[str], tmp_path: Path) -> None:
    pytest.importorskip("argcomplete")
    assert set(completed(line, tmp_path)) == offered


def commands(parser: argparse.ArgumentParser, name: str = "") -> Iterator[tuple[str, set[str]]]:
    """Each command with its options."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for word, inner in action.choices.items():
                yield from commands(inner, f"{name} {word}".strip())
    yield name, {option for action in parser._actions for option in action.option_strings}


def test_help_lists_every_command_once_beneath_a_heading(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        _parser().parse_args(["--help"])
    listed = re.findall(r"^    ([a-z][a-z-]*) {2,}\S", capsys.readouterr().out, flags=re.MULTILINE)
    top = [name for name, _ in commands(_parser()) if name and " " not in name]
    assert sorted(listed) == sorted(top)
    assert listed.index("run") < listed.index("train") < listed.index("experiment")


def test_one_thing_has_one_name() -> None:
    other = {
        "--output",
        "--output-dir",
        "--out-dir",
        "--dest",
        "--weights",
        "--model",
        "--ckpt",
        "--dataset",
        "--data-dir",
    }
    for name, options in commands(_parser()):
        assert not options & other, name
        assert all(re.fullmatch(r"--?[a-z][a-z-]*", option) for option in options), name


def test_the_table_names_options_that_exist() -> None:
    """Of `tpseg` in the first column, of the bundle in the second."""
    known = dict(commands(_parser()))
    every = set().union(*known.values())
    keys: set[str] = set()
    for config in ("train", "inference"):
        path = ROOT / "bundles" / "tpseg_lesion_segmentation" / "configs" / f"{config}.json"
        keys |= set(json.loads(path.read_text()))
    section = (ROOT / "docs" / "bundle.md").read_text().split("## The same options in `tpseg`\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| `")][1:]
    assert len(lines) > 10
    for line in lines:
        ours, theirs, *_ = (cell.strip() for cell in line.strip("|").split(" | "))
        for span in re.findall(r"`([^`]+)`", ours):
            command = span.split()[0] if not span.startswith("-") else ""
            options = re.findall(r"--[a-z-]+", span)
            assert set(options) <= (known[command] if command else every), line
        assert set(re.findall(r"--([a-z_]+)", theirs)) <= keys, line
