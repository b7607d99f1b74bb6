"""JSON, YAML and safetensors of others end in one line, whatever they hold, at every place that reads them."""

from __future__ import annotations

import ast
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from monai_tpseg import parsing
from monai_tpseg.annotate.session.journal import read_journal
from monai_tpseg.annotate.session.saved import read_source
from monai_tpseg.annotate.session.session_error import SessionError
from monai_tpseg.bundle.inference_inputs import inference_cases
from monai_tpseg.data.datalists import DatalistError, read_datalist
from monai_tpseg.data.prompts import read_clicks, read_exemplars
from monai_tpseg.experiments.datalist import write_datalist
from monai_tpseg.experiments.results import read_results
from monai_tpseg.experiments.suite import SuiteError, read_suite
from monai_tpseg.handlers.curves import LearningCurves
from monai_tpseg.networks.checkpoint import CheckpointError, read_checkpoint
from monai_tpseg.networks.weights_info import read_info
from monai_tpseg.parsing import ParseError, check_safetensors, json_of, read_json, read_record, read_yaml
from monai_tpseg.results.folder import read_result
from monai_tpseg.transforms.pipelines import load_pipeline
from monai_tpseg.weights.card import CatalogueError, read_card
from monai_tpseg.weights.pack import read_sources

PACKAGE = Path(__file__).resolve().parents[1] / "monai_tpseg"
BRACKETS = "[" * 200_000

DEEP = {
    "brackets": BRACKETS,
    "closed": BRACKETS + "]" * 200_000,
    "objects": '{"a":' * 200_000,
    "just too deep": "[" * (parsing.MAX_DEPTH + 1) + "]" * (parsing.MAX_DEPTH + 1),
}


def line_of(read: Callable[[], Any]) -> str:
    with pytest.raises(ParseError) as caught:
        read()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("text", DEEP.values(), ids=DEEP.keys())
def test_nesting_without_end_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "a").write_text(text)
    assert "deep" in line_of(lambda: read_json(tmp_path / "a"))
    assert "deep" in line_of(lambda: json_of(text.encode()))


@pytest.mark.parametrize("text", [BRACKETS, "{a: " * 200_000, "- " * 200_000, "[" * 101 + "]" * 101])
def test_nesting_without_end_in_yaml(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.yaml").write_text(text)
    assert "deep" in line_of(lambda: read_yaml(tmp_path / "a.yaml"))


def test_what_is_real_is_read(tmp_path: Path) -> None:
    content = {"a": [1, 2.5, None, True, "\u00fc"], "b": {"c": [[]]}}
    (tmp_path / "a.json").write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    assert read_json(tmp_path / "a.json") == content
    assert json_of("[" * 100 + "]" * 100) == json.loads("[" * 100 + "]" * 100)
    (tmp_path / "a.yaml").write_text("a: &x {b: 1}\nc: [*x, *x]\nd: {<<: *x, e: 2}\n")
    assert read_yaml(tmp_path / "a.yaml") == {"a": {"b": 1}, "c": [{"b": 1}, {"b": 1}], "d": {"b": 1, "e": 2}}
    (tmp_path / "empty.yaml").write_text("")
    assert read_yaml(tmp_path / "empty.yaml") is None


@pytest.mark.parametrize("kind", ["[{}]", "{{<<: [{}]}}"])
def test_references_that_multiply(tmp_path: Path, kind: str) -> None:
    """Ten references to ten references ...: a thousand bytes that stand for 10 ** 9 values."""
    first = "a0: &a0 {x: 1}\n" if "<<" in kind else "a0: &a0 [1]\n"
    rows = [f"a{n}: &a{n} {kind.format(', '.join([f'*a{n - 1}'] * 10))}\n" for n in range(1, 10)]
    (tmp_path / "a.yaml").write_text(first + "".join(rows))
    assert "references" in line_of(lambda: read_yaml(tmp_path / "a.yaml"))


@pytest.mark.parametrize("text", ["&a [*a]", "a: &a {b: *a}", "a: [1", "a: b: c", "!!python/object/apply:os.getcwd []"])
def test_yaml_that_refers_to_itself_is_damaged_or_builds_objects(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.yaml").write_text(text)
    assert line_of(lambda: read_yaml(tmp_path / "a.yaml"))


@pytest.mark.parametrize("text", [b"", b"{", b"\xff\xfe", b'"MARKER', b"1" * 10_000, b"[1,]"])
def test_damaged_json_is_one_line_without_its_content(text: bytes) -> None:
    line = line_of(lambda: json_of(text))
    assert "MARKER" not in line
    assert len(line) < 100


def test_what_is_larger_than_anything_real(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for limit in ("MAX_JSON_BYTES", "MAX_YAML_BYTES"):
        monkeypatch.setattr(parsing, limit, 20)
    (tmp_path / "a").write_text("[" + "1, " * 10 + "1]")
    assert "larger" in line_of(lambda: read_json(tmp_path / "a"))
    assert "larger" in line_of(lambda: read_yaml(tmp_path / "a"))


@pytest.mark.parametrize(
    ("length", "size", "word"),
    [(2**63, 100, "longer"), (2**64 - 1, 100, "longer"), (101, 100, "longer"), (2**24 + 1, 2**24 + 10, "larger")],
)
def test_headers_of_safetensors(tmp_path: Path, length: int, size: int, word: str) -> None:
    with (tmp_path / "a.safetensors").open("wb") as file:
        file.write(length.to_bytes(8, "little"))
        file.truncate(8 + size)
    assert word in line_of(lambda: check_safetensors(tmp_path / "a.safetensors"))
    (tmp_path / "b.safetensors").write_bytes(b"\x01")
    assert "longer" in line_of(lambda: check_safetensors(tmp_path / "b.safetensors"))


def test_nothing_else_in_the_package_parses() -> None:
    """`json.loads` and its like stand in one file."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                name = f"{node.value.id}.{node.attr}"
                if name in {"json.loads", "json.load", "yaml.safe_load", "yaml.load", "yaml.full_load"}:
                    found.append(str(path.relative_to(PACKAGE)))
    assert set(found) == {"parsing.py"}


READERS: dict[str, tuple[str, type[Exception], Callable[[Path], Any]]] = {
    "datalist": (
        "a.json",
        DatalistError,
        lambda path: read_datalist(path, "training", path.parent, ["t"]),
    ),
    "clicks": ("a.json", DatalistError, read_clicks),
    "exemplars": ("a.json", DatalistError, lambda path: read_exemplars(path, "lung_infection")),
    "datalist of an inference": ("a.json", DatalistError, lambda path: inference_cases("", str(path), None, ["t"])),
    "suite": ("a.yaml", SuiteError, read_suite),
    "datalist of a suite": ("a.json", SuiteError, lambda path: write_datalist(path, path.parent / "b", ["t"], 0)),
    "results of a suite": ("a.json", SuiteError, read_results),
    "pipelines": ("ct.yaml", ValueError, lambda path: load_pipeline("ct", path.parent)),
    "history": ("history.json", ValueError, lambda path: LearningCurves(path.parent)),
    "card": ("a.json", CatalogueError, read_card),
    "sources": ("a.json", CatalogueError, read_sources),
    "journal": ("session.jsonl", SessionError, lambda path: read_journal(path.parent)),
    "source of a session": ("source.json", SessionError, lambda path: read_source(path.parent)),
}


@pytest.mark.parametrize(("name", "kind", "read"), READERS.values(), ids=READERS.keys())
def test_every_reader_ends_in_its_own_line(
    tmp_path: Path, name: str, kind: type[Exception], read: Callable[[Path], Any]
) -> None:
    (tmp_path / name).write_text(BRACKETS + "\n")
    with pytest.raises(kind) as caught:
        read(tmp_path / name)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400 + len(str(tmp_path))


def test_weights_and_their_description(tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(b"x")
    (tmp_path / "a.json").write_text(BRACKETS)
    with pytest.raises(CheckpointError, match="deep"):
        read_info(tmp_path / "a.pt")
    (tmp_path / "a.safetensors").write_bytes((2**40).to_bytes(8, "little") + b"{}")
    with pytest.raises(CheckpointError, match="longer than the file"):
        read_checkpoint(tmp_path / "a.safetensors")


def test_a_damaged_result_is_none(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text(BRACKETS)
    assert read_result(tmp_path) is None


@pytest.mark.parametrize("name", ["model.pt", "model.pth"])
def test_weights_that_would_unpack_to_more_than_they_hold(tmp_path: Path, name: str) -> None:
    bomb, overlapping = tmp_path / name, tmp_path / f"other_{name}"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as file, file.open("model/data.pkl", "w") as part:
        for _ in range(64):
            part.write(bytes(2**20))
    with zipfile.ZipFile(overlapping, "w") as file:
        file.writestr("model/data.pkl", bytes(1000))
        file.filelist = file.filelist * 50
    for path in (bomb, overlapping):
        with pytest.raises(CheckpointError, match=r"it would unpack to \d+ bytes and has \d+"):
            read_checkpoint(path)


def test_a_tensor_that_repeats_a_number_is_no_weights(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1).expand(2**40)}, tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match="a tensor of shape"):
        read_checkpoint(tmp_path / "model.pt")


def test_a_damaged_record_of_our_own_is_named_with_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    for text, why in (
        (bytes(9), "Expecting value at line 1, column 1"),
        (b"[]", "no object"),
        (b"{}", "'steps' is missing"),
        (b'{"steps": "9"}', "'steps' is wrong"),
    ):
        path.write_bytes(text)
        with pytest.raises(ParseError) as error:
            read_record(path, {"steps": (int, float)})
        assert str(error.value) == f"'{path}' is damaged ({why}); restore it, or begin again in another folder."
    path.write_bytes(b'{"steps": 9, "path": 1}')
    assert read_record(path, {"steps": int, "path": int}) == {"steps": 9, "path": 1}
