"""What gets installed from a wheel: every package, the modality files, the type marker."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.slow
def test_a_wheel_holds_packages_and_modality_files(tmp_path: Path) -> None:
    source_tree = tmp_path / "source"  # a build leaves files behind
    source_tree.mkdir()
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(ROOT / name, source_tree)
    for name in ("monai_tpseg", "transforms", "bundles"):
        shutil.copytree(ROOT / name, source_tree / name)
    subprocess.run(
        [sys.executable, str(ROOT / ".github" / "public_address.py"), "https://example.org/lab/tpseg", "v9"],
        cwd=source_tree, check=True,
    )  # fmt: skip
    options = ["--no-deps", "--no-build-isolation", "--no-cache-dir", "--wheel-dir", str(tmp_path)]
    subprocess.run([sys.executable, "-m", "pip", "wheel", "-q", *options, str(source_tree)], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    for source in ROOT.glob("monai_tpseg/**/*.py"):
        assert str(source.relative_to(ROOT)) in names
    for source in ROOT.glob("transforms/*.yaml"):
        assert f"monai_tpseg/pipelines/{source.name}" in names
    beside = [
        *(ROOT / "monai_tpseg" / "report").iterdir(),
        *(ROOT / "monai_tpseg" / "results").iterdir(),
        *(ROOT / "monai_tpseg" / "annotate" / "web" / "page").iterdir(),
    ]
    for source in [p for p in beside if p.suffix not in (".py", "")]:
        assert str(source.relative_to(ROOT)) in names
    assert "monai_tpseg/bundles/tpseg_lesion_segmentation/configs/train.json" in names
    assert "monai_tpseg/weights/files/starter-tpseg.safetensors" in names
    assert "monai_tpseg/py.typed" in names
    (metadata,) = (name for name in names if name.endswith(".dist-info/METADATA"))
    described = zipfile.ZipFile(wheel).read(metadata).decode()
    relative = re.findall(r"\]\((?!https?://|#)[^)]*\)", described)
    assert not relative
    assert "https://example.org/lab/tpseg/raw/v9/docs/figures/tasks.jpg" in described
    assert "https://example.org/lab/tpseg/blob/v9/docs/weights.md" in described
    assert "Project-URL: Changelog, https://example.org/lab/tpseg/blob/v9/CHANGELOG.md" in described
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/", "bundles/"))]


def test_the_image_copies_what_is_there_and_what_is_not_ignored() -> None:
    known = {"FROM", "ARG", "ENV", "RUN", "WORKDIR", "COPY", "USER", "ENTRYPOINT", "CMD"}
    text = re.sub(r"\\\n", " ", (ROOT / "Dockerfile").read_text())
    lines = [line.split() for line in text.splitlines() if line and not line.startswith("#")]
    assert {line[0] for line in lines} <= known
    copied = [name for line in lines if line[0] == "COPY" for name in line[1:-1]]
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert all((ROOT / name).exists() for name in copied)
    assert set(copied) == kept
    assert lines[-2] == ["ENTRYPOINT", '["tpseg"]']
