"""The manifest: private, complete, and no way out of its root."""

from __future__ import annotations

import stat
from dataclasses import replace
from pathlib import Path

import pytest

from monai_tpseg.studies import Entry, StudyError, read_manifest, write_manifest
from monai_tpseg.studies.manifest import case_names, new_salt, shard_of
from monai_tpseg.transforms import ReadError

SALT = "00" * 16


def entry(path: str, root: Path = Path("/data"), task: str = "skin_lesion", salt: str = SALT) -> Entry:
    return Entry(path, root, task, salt)


def test_what_is_written_is_read_back_and_private(tmp_path: Path) -> None:
    (tmp_path / "bad\udcff.png").touch()
    entries = [entry('a, "b"/c.png', tmp_path), entry("ä.nii.gz", tmp_path, ""), entry("bad\udcff.png", tmp_path)]
    entries.append(replace(entries[0], part="2/3"))
    write_manifest(tmp_path / "m.csv", entries)
    assert read_manifest(tmp_path / "m.csv") == entries
    assert stat.S_IMODE((tmp_path / "m.csv").stat().st_mode) == 0o600


def test_a_list_by_hand_needs_only_paths(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("\ufeffpath,task\nx/a.png,skin_lesion\n", encoding="utf-8")
    (one,) = read_manifest(tmp_path / "m.csv", SALT)
    assert (one.path, one.root, one.task, one.salt) == ("x/a.png", tmp_path, "skin_lesion", SALT)


@pytest.mark.parametrize(
    "content",
    [
        'path;task\r\n"x/a, b.png";skin_lesion\r\n'.encode("utf-8-sig"),
        b"sep=;\npath;task\nx/a, b.png;skin_lesion\n\n;\n",
        "path\ttask\nx/a, b.png\tskin_lesion\n".encode("utf-16"),
        b' Task , PATH , site\n skin_lesion , "x/a, b.png", Bern\n',
        b'path,task\n"./x/../x//a, b.png",skin_lesion\n',
    ],
    ids=["excel", "semicolon", "utf-16", "order", "detour"],
)
def test_what_spreadsheets_and_people_write_is_read(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.csv").write_bytes(content.replace(b' , "x', b',"x'))
    (one,) = read_manifest(tmp_path / "m.csv", SALT)
    assert (one.path, one.root, one.task, one.salt) == ("x/a, b.png", tmp_path, "skin_lesion", SALT)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"file\na.png\n", "no column 'path'"),
        (b"path\n", "lists no case"),
        (b"", "is empty"),
        (b"\n \n", "is empty"),
        (b"path,salt\na,xyz\n", "Line 2"),
        (b"path,part\na,2\n", "Line 2 .* part"),
        (b"path,part\na,3/2\n", "Line 2 .* part"),
        (b"path,task\na.png,wet_amd\n,wet_amd\n", "Line 3 .* no path"),
        (b"path,taks\na.png,wet_amd\n", "Column 2 .* almost 'task'"),
        (b"path,task,path\na,b,c\n", "'path' twice"),
        (b"path,task\nx, y.png,wet_amd\n", "Line 2 .* more cells"),
        (b'path,task\n"x.png,wet_amd\n', "no CSV"),
        (b"PK\x03\x04 and so on", "spreadsheet"),
        (b"path\na\0b\n", "zero bytes"),
        (b"path,task\nh\xe4nde.png,wet_amd\n", "Line 2 .* no UTF-8"),
    ],
)
def test_a_wrong_manifest_says_in_one_line_what_is_wrong(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "m.csv").write_bytes(content)
    with pytest.raises(StudyError, match=message) as caught:
        read_manifest(tmp_path / "m.csv")
    assert "\n" not in str(caught.value)


def test_one_source_is_one_case_however_it_is_written(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text(f"path\nx/a.png\n{tmp_path}/x/a.png\n")
    with pytest.raises(StudyError, match="Cases 1 and 2"):
        case_names(read_manifest(tmp_path / "m.csv"))


def test_several_tasks_of_one_source_are_cases_of_their_own() -> None:
    entries = [entry("a.png"), entry("b.png"), entry("a.png", task="wet_amd"), entry("a.png", task="")]
    a, b = (entries[i].case_id for i in (0, 1))
    assert case_names(entries) == [a, b, f"{a}-2", f"{a}-3"]
    assert case_names(entries[:2]) == [a, b]  # a task that is added leaves the names of the others alone
    assert case_names(entries, "source") == ["a", "b", "a-2", "a-3"]
    third = entry("a-2.png")
    assert case_names([*entries[:3], third], "source") == ["a", "b", f"a_{a}-2", f"a-2_{third.case_id}"]
    with pytest.raises(StudyError, match="Cases 1 and 3 of the manifest are one source and one task; delete one"):
        case_names([*entries[:2], entry("a.png")])


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
    with pytest.raises(StudyError, match="Cases 1 and 2"):
        case_names([entry("a.png"), entry("a.png")], "source")
    long = case_names([entry("x" * 250 + ".png"), entry("x" * 249 + ".png")], "source")
    assert len({*long}) == 2
    assert max(map(len, long)) < 100


def test_shards_divide_the_cases() -> None:
    named = [(str(n), entry(f"{n}.png")) for n in range(7)]
    parts = [shard_of(named, f"{i}/3") for i in (1, 2, 3)]
    assert sorted(name for part in parts for name, _ in part) == [str(n) for n in range(7)]
    for wrong in ("0/3", "4/3", "1", "a/b", "1/0"):
        with pytest.raises(StudyError, match="i/n"):
            shard_of(named, wrong)
