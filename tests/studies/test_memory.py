"""Volumes that are larger than the memory: refused by their header, or by the limit, and the run goes on."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from monai_tpseg.io import ReadError
from monai_tpseg.studies import Limits, Model, Reader, Run, find_entries, prepare_output
from monai_tpseg.subprocesses import available_memory, free_memory
from monai_tpseg.testing.phantoms import make_phantom, write_png


def claim(path: Path, shape: tuple[int, int, int]) -> Path:
    """Write a volume of zeros that takes no room on the disc: a header, and a hole."""
    header = nib.Nifti1Image(np.zeros((2, 2, 2), np.int16), np.diag([0.5, 0.5, 0.5, 1.0])).header
    header.set_data_shape(shape)
    with path.open("wb") as file:
        file.write(header.binaryblock + bytes(4))
        file.truncate(352 + 2 * int(np.prod(shape, dtype=np.int64)))
    return path


def test_a_volume_of_1024_x_1024_x_600_is_refused_by_its_header(tmp_path: Path) -> None:
    reader = Reader(Limits(memory=0.25))  # of the 15.1 GB that it would take
    error = reader.get(claim(tmp_path / "large.nii", (1024, 1024, 600))).error
    reader.close()
    assert isinstance(error, ReadError)
    assert error.code == "E_TOO_LARGE"
    needed = 1024 * 1024 * 600 * 24 / 1e9
    assert "1024 x 1024 x 600 voxels" in str(error)
    found = re.search(r"take ([\d.]+) GB to read; ([\d.]+) GB are free; split it, resample it or give", str(error))
    assert found is not None
    assert found[1] == f"{needed:.1f}"
    assert float(found[2]) <= 0.3  # what the limit leaves


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux keeps the limit")
def test_a_large_volume_under_ulimit(tmp_path: Path) -> None:
    """1024 x 1024 x 600 is refused, in a process of its own that lives on."""
    path = claim(tmp_path / "large.nii", (1024, 1024, 600))
    script = (
        "import sys, resource\n"
        "resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))\n"
        "from monai_tpseg.io import ReadError\n"
        "from monai_tpseg.transforms import LoadMedicalImage\n"
        "try:\n    LoadMedicalImage()(sys.argv[1])\n"
        "except ReadError as error:\n    print(error.code, error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("E_TOO_LARGE large.nii has 1024 x 1024 x 600 voxels, which take 15.1 GB")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="control groups are Linux's")
@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 50),
        (
            {
                "proc/self/cgroup": "0::/a/b\n",
                "sys/fs/cgroup/a/memory.max": "30",
                "sys/fs/cgroup/a/memory.current": "20",
                "sys/fs/cgroup/a/memory.stat": "anon 5\ninactive_file 7\n",
            },
            17,
        ),
        (
            {
                "proc/self/cgroup": "0::/a\n",
                "sys/fs/cgroup/a/memory.max": "max",
                "sys/fs/cgroup/a/memory.current": "20",
            },
            50,
        ),
        (
            {
                "proc/self/cgroup": "9:memory:/j\n",
                "sys/fs/cgroup/memory/j/memory.limit_in_bytes": "40",
                "sys/fs/cgroup/memory/j/memory.usage_in_bytes": "15",
                "sys/fs/cgroup/memory/j/memory.stat": "cache 1\n",
            },
            25,
        ),
        (
            {
                "proc/self/cgroup": "0::/\n",
                "sys/fs/cgroup/memory.max": "10",
                "sys/fs/cgroup/memory.current": "20",
                "sys/fs/cgroup/memory.stat": "anon 20\n",
            },
            0,
        ),
    ],
)
def test_free_memory_is_the_least_of_what_is_left(tmp_path: Path, files: dict[str, str], expected: int) -> None:
    """Numbers are MiB; those of meminfo are kB."""
    files = {"proc/meminfo": f"MemTotal: 102400 kB\nMemAvailable: {50 * 1024} kB\n"} | files
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        sizes = text if name.startswith("proc") else re.sub(r"\d+", lambda found: str(int(found[0]) << 20), text)
        (tmp_path / name).write_text(sizes)
    assert free_memory(tmp_path) == expected << 20


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="control groups are Linux's")
@pytest.mark.parametrize("limit", ["30", "max"])
def test_available_memory_is_that_of_the_smallest_group(tmp_path: Path, limit: str) -> None:
    """A batch system limits a group below that of the container; what is used there does not count."""
    files = {
        "proc/self/cgroup": "0::/job/step\n",
        "sys/fs/cgroup/memory.max": "99",
        "sys/fs/cgroup/job/memory.max": limit,
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "sys/fs/cgroup/job/memory.current").write_text("20")
    assert available_memory(tmp_path) == (30 if limit == "30" else 99)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux keeps the limit")
def test_a_volume_beyond_the_limit_costs_itself(model: Model, tmp_path: Path) -> None:
    """32 million voxels are 384 MB as three channels: six times the limit, as 1024 x 1024 x 600 are of 1.2 GB."""
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    claim(folder / "b.nii", (512, 512, 122))
    for name in ("a.png", "c.png"):
        write_png(make_phantom("skin_lesion", 1, 40).image, folder / name)
    entries = find_entries(folder, "skin_lesion")
    counts = Run(model, out, quiet=True, reader=Reader(Limits(memory=1 / 16)))(
        prepare_output(out, entries, "source", False)
    )
    codes = {path.parent.name: json.loads(path.read_text())["code"] for path in out.glob("cases/*/result.json")}
    assert codes == {"a_skin_lesion": "", "b_skin_lesion": "E_TOO_LARGE", "c_skin_lesion": ""}
    assert (counts["failed"], sum(counts.values())) == (1, 3)
