"""The manifest: private, complete, and no way out of its root."""

from __future__ import annotations

import csv
import os
import re
import stat
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from monai_tpseg.io import ReadError
from monai_tpseg.results import StudyError
from monai_tpseg.studies import Entry, read_manifest, write_manifest
from monai_tpseg.studies.manifest import new_salt, shard_of
from monai_tpseg.studies.manifest_merge import grow_manifest, merge_scan
from monai_tpseg.studies.names import case_names

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


@pytest.mark.parametrize(
    "name", ["a\rb.png", "a\nb.png", "a\r\nb.png", "a\x0bb.png", "a\u2028b.png", 'a"b.png', "a,b;c.png"]
)
def test_any_name_of_a_file_is_one_row(tmp_path: Path, name: str) -> None:
    entries = [entry(name), entry("b.png")]
    write_manifest(tmp_path / "m.csv", entries)
    assert [row.path for row in read_manifest(tmp_path / "m.csv")] == [name, "b.png"]


def test_a_table_that_a_spreadsheet_saved_without_unicode(tmp_path: Path) -> None:
    """Umlauts as German Windows writes them lead to the same file; bytes of a name that are no text stay bytes."""
    (tmp_path / "Müller.png").touch()
    write_manifest(tmp_path / "m.csv", [entry("Müller.png", tmp_path, "")])
    table = (tmp_path / "m.csv").read_text("utf-8-sig").replace("\r\n", "\n")
    saved = table.replace(",", ";").replace("\n", "\r\n").encode("cp1252")
    (tmp_path / "m.csv").write_bytes(saved)
    (one,) = read_manifest(tmp_path / "m.csv")
    assert (one.path, one.root, one.salt) == ("Müller.png", tmp_path, SALT)


def test_a_spreadsheet_on_linux_saved_without_unicode(tmp_path: Path) -> None:
    """LibreOffice ends lines with a line feed there: bytes are umlauts, unless they are the name of a file."""
    table = "path,task,site\nM\u00fcller.png,,Z\u00fcrich\n".encode("cp1252")
    (tmp_path / "m.csv").write_bytes(table)
    (one,) = read_manifest(tmp_path / "m.csv", SALT)
    assert (one.path, one.extra_columns) == ("M\u00fcller.png", (("site", "Z\u00fcrich"),))
    (tmp_path / os.fsdecode(b"M\xfcller.png")).touch()
    (one,) = read_manifest(tmp_path / "m.csv", SALT)
    assert os.fsencode(one.path) == b"M\xfcller.png"


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
        b'"size, in mm, of it";path;task\n3,5;x/a, b.png;skin_lesion\n',
        b'\xef\xbb\xbf\xef\xbb\xbfpath,task\n"x/a, b.png",skin_lesion\n',
        b'"\xef\xbb\xbfpath";"task"\r\n"x/a, b.png";"skin_lesion"\r\n',
    ],
    ids=["excel", "semicolon", "utf-16", "order", "detour", "commas in a name", "two marks", "quoted mark"],
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
        (b'path,task\n"x.png,wet_amd\n', "not CSV"),
        (b"PK\x03\x04 and so on", "spreadsheet"),
        (b"\xff\xfe" + '"\u00ef\u00bb\u00bfpath";task\n'.encode("utf-16-le"), "took for Windows-1252"),
        ('"\u00ef\u00bb\u00bfpath",task\n"h\u00c3\u00a4nde.png",\n'.encode(), "with the character set UTF-8"),
        (b"path\na\0b\n", "zero bytes"),
        (b"\xef\xbb\xbfpath,task\nh\xe4nde.png,wet_amd\n", "Line 2 .* not UTF-8"),
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
        grow_manifest([], read_manifest(tmp_path / "m.csv"))


def test_several_tasks_of_one_source_are_cases_of_their_own() -> None:
    entries = [entry("a.png"), entry("b.png"), entry("a.png", task="wet_amd"), entry("a.png", task="")]
    a, b = (entries[i].source_id for i in (0, 1))
    assert case_names(entries) == [f"{a}_skin_lesion", f"{b}_skin_lesion", f"{a}_wet_amd", f"{a}_no_task"]
    assert case_names(entries, "source") == ["a_skin_lesion", "b_skin_lesion", "a_wet_amd", "a_no_task"]
    assert case_names(entries[:2], tasks=None) == [a, b]
    (note,) = case_names([entry("a.png", task="Jane Doe")])  # it may be somebody's note
    assert note.startswith(f"{a}_")
    assert not {"jane", "doe"} & set(note.lower().replace("_", " ").split())
    with pytest.raises(StudyError, match="Cases 1 and 3 of the manifest have the same source and task; delete one"):
        grow_manifest([], [*entries[:2], entry("a.png")])


def test_shards_need_a_common_salt(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("path\na.png\n")
    with pytest.raises(StudyError, match="tpseg scan"):
        read_manifest(tmp_path / "m.csv", SALT, salted=True)


def test_ids_depend_on_path_and_salt_and_hide_both() -> None:
    ids = {entry(path, salt=salt).source_id for path in ("a.png", "b.png") for salt in (SALT, new_salt())}
    assert len(ids) == 4
    assert entry("a.png").source_id == entry("a.png", Path("/moved"), "wet_amd").source_id


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
    assert names[2:] == ["b_skin_lesion", "case_skin_lesion"]
    assert names[0] == f"a_{entries[0].source_id}_skin_lesion"
    assert names[1] == f"A_{entries[1].source_id}_skin_lesion"
    assert case_names(entries[2:3], "source", taken=["B_skin_lesion"]) == [f"b_{entries[2].source_id}_skin_lesion"]
    long = case_names([entry("\U0001d49c" * 62 + ".png"), entry("\U0001d49c" * 61 + ".png")], "source")
    assert len({*long}) == 2
    assert max(len(name.encode()) for name in long) < 200
    for hostile in ("=1+1.png", "\x1b[2J\x07a.png", "bad\udcff.png", "a\\b.png", "\u202ea.png", ".a.png"):
        (name,) = case_names([entry(hostile)], "source")
        assert name.isprintable()
        assert name.encode()
        assert name[0] not in "=+-@. "
        assert "\\" not in name


def test_shards_divide_the_cases() -> None:
    named = [(str(n), entry(f"{n}.png")) for n in range(7)]
    parts = [shard_of(named, f"{i}/3") for i in (1, 2, 3)]
    assert sorted(name for part in parts for name, _ in part) == [str(n) for n in range(7)]
    for wrong in ("0/3", "4/3", "1", "a/b", "1/0"):
        with pytest.raises(StudyError, match="i/n"):
            shard_of(named, wrong)


def test_a_further_run_never_takes_the_name_or_the_row_of_another_case() -> None:
    first = grow_manifest([], [entry("a.png"), entry("x/b.png")])
    second = grow_manifest(
        first.rows, [entry("a.png", task="wet_amd"), entry("b.png", Path("/data/x")), entry("c.png")]
    )
    assert second.rows[:2] == first.rows
    assert [row.case for row in second.rows[:2]] == [row.case for row in first.rows]
    assert len(second.rows) == 4  # x/b.png is known, by whatever folder it is named
    assert second.requested[1] == first.rows[1]
    assert second.requested[0].case == f"{first.rows[0].source_id}_wet_amd"
    other = grow_manifest(second.rows, [entry("a.png", Path("/other"))])  # the same path below another folder
    assert other.rows[:4] == second.rows
    assert other.requested[0].case not in {row.case for row in second.rows}
    assert grow_manifest(other.rows, [entry("a.png", Path("/other"))]).rows == other.rows
    assert (
        grow_manifest([], [entry("a.png"), entry("a.png", Path("/other"))]).requested[1] == other.requested[0]
    )  # for every shard
    (moved,) = grow_manifest(first.rows, [entry("a.png", Path("/moved"))], moved=True).requested
    assert (moved.case, moved.root) == (first.rows[0].case, Path("/moved"))


def test_a_case_without_a_task_gives_way_to_the_one_that_has_it() -> None:
    known = grow_manifest([], [entry("a.png", task=""), entry("b.png", task="liver"), entry("c.png", task="")]).rows
    found = grow_manifest(known, [entry("a.png"), entry("b.png")])
    assert found.obsolete == known[:2]
    assert [row.path for row in found.rows] == ["c.png", "a.png", "b.png"]
    assert grow_manifest(known, [entry("b.png")], tasks=("skin_lesion", "liver")).obsolete == []


def test_a_scan_adds_to_a_manifest_and_changes_nothing_in_it(tmp_path: Path) -> None:
    known = [
        replace(entry("a.png", tmp_path), note="by hand", extra_columns=(("site", "Bern"),)),
        entry("a.png", tmp_path, "wet_amd"),
        entry("gone.png", tmp_path),
        entry("a.png", Path("/elsewhere")),
    ]
    other = new_salt()
    found = [entry("a.png", tmp_path, "", other), entry("new.png", tmp_path, "", other)]
    merged = merge_scan(known, found, tmp_path)
    assert merged.rows[:4] == known
    assert merged.rows[4:] == [entry("new.png", tmp_path, "")]
    assert merged[1:] == (1, 1, 0)
    assert merge_scan(merged.rows, found, tmp_path).rows == merged.rows
    write_manifest(tmp_path / "m.csv", merged.rows)
    assert read_manifest(tmp_path / "m.csv") == merged.rows


def test_a_folder_that_is_divided_anew_keeps_its_tasks(tmp_path: Path) -> None:
    def parts(count: int, *tasks: str) -> list[Entry]:
        return [
            replace(entry("x", tmp_path, task), part=f"{n + 1}/{count}")
            for n, task in zip(range(count), tasks * count, strict=False)
        ]

    same = merge_scan(parts(2, "brain_tumor"), parts(3, ""), tmp_path)
    assert same.rows == parts(3, "brain_tumor")
    assert same.divided == 2
    mixed = merge_scan(parts(2, "brain_tumor", "lung_infection"), parts(3, "wet_amd"), tmp_path)
    assert [row.task for row in mixed.rows] == ["", "", ""]
    assert "1 of 2: brain_tumor, 2 of 2: lung_infection" in mixed.rows[0].note


@pytest.mark.parametrize(
    "task", [" Skin_Lesion ", "SKIN_LESION", "\u00a0skin_lesion", "Skin lesion", "skin - Lesion\u200b"]
)
def test_tasks_are_known_whatever_their_case_and_spaces(tmp_path: Path, task: str) -> None:
    (tmp_path / "m.csv").write_text(f"path,task\na.png,{task}\n", encoding="utf-8")
    assert read_manifest(tmp_path / "m.csv", SALT)[0].task == "skin_lesion"
    with pytest.raises(StudyError, match="is a folder; give the CSV file"):
        read_manifest(tmp_path)


HOSTILE = (
    "0001",
    "2024-01-05",
    "=HYPERLINK(1)",
    "+1",
    "-2",
    "@x",
    "1/2",
    "1e5",
    "Jan/5",
    "TRUE",
    "\u00e4/\u00f6.png",
    " a ",
)
"""Paths that spreadsheets would take for numbers, dates, truth values and formulas."""


def hostile(folder: Path) -> list[Entry]:
    found = [entry(path, folder, salt="c0" * 16) for path in HOSTILE]
    found[0] = replace(
        found[0], part="1/2", modality="=1+1", note="'quoted", extra_columns=(("=site", "+41"), ("note 2", "a"))
    )
    return found


def test_nothing_in_a_manifest_looks_like_a_number_a_date_or_a_formula(tmp_path: Path) -> None:
    write_manifest(tmp_path / "m.csv", hostile(tmp_path))
    assert (tmp_path / "m.csv").read_bytes().startswith(b"\xef\xbb\xbfcase,")
    assert read_manifest(tmp_path / "m.csv") == hostile(tmp_path)
    with (tmp_path / "m.csv").open(encoding="utf-8-sig", newline="") as file:
        cells = [cell for row in csv.reader(file) for cell in row if cell]
    assert "1 of 2" in cells
    assert not [cell for cell in cells if cell[0] in "=+-@" or re.fullmatch(r"\d+([/.e-]\d+)*", cell)]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["csv", "xlsx"])
def test_a_spreadsheet_program_keeps_a_manifest_as_it_is(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, spreadsheet: str, kind: str
) -> None:
    profile = tmp_path_factory.getbasetemp() / "spreadsheet"
    utf8 = "44,34,76,1"  # comma, quote, UTF-8, from the first line on
    csv_as = f"csv:Text - txt - csv (StarCalc):{utf8}"

    def convert(source: Path, to: str) -> Path:
        command = [spreadsheet, f"-env:UserInstallation=file://{profile}", "--headless", "--convert-to", to]
        command += [f"--infilter=CSV:{utf8}"] if source.suffix == ".csv" else []
        out = source.parent / "converted"
        subprocess.run([*command, "--outdir", str(out), str(source)], check=True, capture_output=True)
        return out / f"m.{to.partition(':')[0]}"

    write_manifest(tmp_path / "m.csv", hostile(tmp_path))
    saved = convert(tmp_path / "m.csv", csv_as if kind == "csv" else kind)
    assert read_manifest(saved if kind == "csv" else convert(saved, csv_as)) == hostile(tmp_path)
