"""The manifest: private, complete, and no way out of its root."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from monai_tpseg.studies import Entry, StudyError, read_manifest, write_manifest
from monai_tpseg.studies.manifest import case_names, new_salt, shard_of
from monai_tpseg.transforms import ReadError

SALT = "00" * 16


def entry(path: str, root: Path = Path("/data"), task: str = "skin_lesion", salt: str = SALT) -> Entry:
    return Entry(path, root, task, salt)


def test_what_is_written_is_read_back_and_private(tmp_path: Path) -> None:
    entries = [entry('a, "b"/c.png', tmp_path), entry("ä.nii.gz", tmp_path, ""), entry("bad\udcff.png", tmp_path)]
    write_manifest(tmp_path / "m.csv", entries)
    assert read_manifest(tmp_path / "m.csv") == entries
    assert stat.S_IMODE((tmp_path / "m.csv").stat().st_mode) == 0o600


def test_a_list_by_hand_needs_only_paths(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("\ufeffpath,task\nx/a.png,skin_lesion\n", encoding="utf-8")
    (one,) = read_manifest(tmp_path / "m.csv", SALT)
    assert (one.path, one.root, one.task, one.salt) == ("x/a.png", tmp_path, "skin_lesion", SALT)


@pytest.mark.parametrize(
    ("content", "message"),
    [("file\na.png\n", "no column 'path'"), ("path\n", "lists no case"), ("path,salt\na,xyz\n", "Line 2")],
)
def test_a_wrong_manifest_says_what_is_wrong(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "m.csv").write_text(content)
    with pytest.raises(StudyError, match=message):
        read_manifest(tmp_path / "m.csv")


def test_shards_need_a_common_salt(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("path\na.png\n")
    with pytest.raises(StudyError, match="tpseg scan"):
        read_manifest(tmp_path / "m.csv", SALT, salted=True)


def test_ids_depend_on_path_and_salt_and_hide_both() -> None:
    ids = {entry(path, salt=salt).case_id for path in ("a.png", "b.png") for salt in (SALT, new_salt())}
    assert len(ids) == 4
    assert entry("a.png").case_id == entry("a.png", Path("/moved"), "wet_amd").case_id


@pytest.mark.parametrize("path", ["../secret.png", "/etc/hostname", "in/../../secret.png", "link/secret.png"])
def test_paths_out_of_the_root_are_refused(tmp_path: Path, path: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "secret.png").write_bytes(b"")
    (root / "link").symlink_to(tmp_path)
    with pytest.raises(ReadError) as caught:
        entry(path, root).source()
    assert caught.value.code == "E_OUTSIDE"


def test_names_of_sources_are_told_apart_and_stay_in_the_folder() -> None:
    entries = [entry("x/a.png"), entry("y/A.png"), entry("b.nii.gz"), entry("..")]
    names = case_names(entries, "source")
    assert names[2:] == ["b", "case"]
    assert names[0].startswith("a_")
    assert names[1].startswith("A_")
    with pytest.raises(StudyError, match="Line 3"):
        case_names([entry("a.png"), entry("a.png", task="wet_amd")])


def test_shards_divide_the_cases() -> None:
    named = [(str(n), entry(f"{n}.png")) for n in range(7)]
    parts = [shard_of(named, f"{i}/3") for i in (1, 2, 3)]
    assert sorted(name for part in parts for name, _ in part) == [str(n) for n in range(7)]
    for wrong in ("0/3", "4/3", "1", "a/b", "1/0"):
        with pytest.raises(StudyError, match="i/n"):
            shard_of(named, wrong)
