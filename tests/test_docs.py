"""What the documentation names exists: links, files, public names, keys and options; its Python and its counts hold."""

from __future__ import annotations

import ast
import importlib
import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from monai_tpseg.networks import tpseg_hiera_large

ROOT = Path(__file__).resolve().parents[1]
BUNDLE = ROOT / "bundles" / "tpseg_lesion_segmentation"
KPRISM = ROOT / "bundles" / "kprism_universal_segmentation"
CARDS = [bundle / "docs" / "README.md" for bundle in (BUNDLE, KPRISM)]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *CARDS])
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
FOLDERS = sorted(path.name for path in ROOT.iterdir() if path.is_dir() and path.name[0] != ".")
OWN_OPTIONS = {"config_file", "meta_file", "logging_file", "tracking"}  # of `monai.bundle run` itself


def _blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^ *```{language}\n(.*?)^ *```", text, re.M | re.S)


def _config(name: str, bundle: Path = BUNDLE) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((bundle / "configs" / f"{name}.json").read_text())
    return config


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_lead_to_files(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)", page.read_text())
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert missing == []


def _anchors(page: Path) -> set[str]:
    """The anchors that GitHub and mkdocs give to the headings of a page."""
    text = re.sub(r"^ *```.*?^ *```", "", page.read_text(), flags=re.M | re.S)
    titles = (re.sub(r"[^\w\s-]", "", title.lower()) for title in re.findall(r"^#+ (.+)$", text, re.M))
    return {re.sub(r"\s", "-", title.strip()) for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_lead_to_headings(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]*)#([^)\s]+)\)", page.read_text())
    wrong = [(file, anchor) for file, anchor in links if "://" not in file]
    wrong = [(file, anchor) for file, anchor in wrong if anchor not in _anchors(page.parent / file if file else page)]
    assert wrong == []


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_named_paths_exist(page: Path) -> None:
    spans = re.findall(r"`([\w./-]+)`", page.read_text())
    paths = [span for span in spans if "/" in span and span.split("/")[0] in FOLDERS]
    # this page shows how to make these
    new = {"transforms/xray.yaml"}
    assert [path for path in paths if path not in new and not (ROOT / path).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_public_names_can_be_imported(page: Path) -> None:
    for name in set(re.findall(r"\bmonai_tpseg(?:\.\w+)+", page.read_text())):
        _resolve(name)


def _resolve(name: str) -> Any:
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for part in parts[end:]:
            found = getattr(found, part)
        return found
    raise AssertionError(f"{name} is not there")


CONFIGS = [
    ("bundle.md", BUNDLE, n) for n in ("train", "evaluate", "inference", "multi_gpu_train", "multi_gpu_evaluate")
]
CONFIGS += [("kprism.md", KPRISM, n) for n in ("train", "evaluate", "inference")]


@pytest.mark.parametrize(("page", "bundle", "name"), CONFIGS, ids=lambda value: getattr(value, "stem", value))
def test_every_key_of_a_config_is_documented(page: str, bundle: Path, name: str) -> None:
    text = (ROOT / "docs" / page).read_text()
    section = text.split(f"\n## {name}.json\n")[1].split("\n## ")[0]
    documented = re.findall(r"^\| `([\w:]+)` \|", section, re.M)
    config = _config(name, bundle)
    keys = list(config) + [f"{part}::{key}" for part in ("train", "validate") for key in config.get(part, ())]
    assert sorted(documented) == sorted(keys)


@pytest.mark.parametrize(("page", "bundle"), [("bundle.md", BUNDLE), ("kprism.md", KPRISM)], ids=str)
def test_documented_defaults_are_those_of_the_configs(page: str, bundle: Path) -> None:
    text = (ROOT / "docs" / page).read_text()
    for name in ("train", "evaluate", "inference"):
        section = text.split(f"\n## {name}.json\n")[1].split("\n## ")[0]
        for key, default in re.findall(r"^\| `(\w+)` \| ([^|]+?) \|", section, re.M):
            value = _config(name, bundle)[key]
            if isinstance(value, bool | int | float) or (isinstance(value, str) and value and value[0] not in "$@"):
                assert default == (value if isinstance(value, str) else json.dumps(value)), f"{name}: {key}"


def _commands(page: Path) -> list[str]:
    text = "\n".join(_blocks(page.read_text(), "bash")).replace("\\\n", " ")
    return [line for line in text.splitlines() if "monai.bundle run" in line or "testing.phantoms" in line]


@pytest.mark.parametrize("page", [p for p in PAGES if _commands(p)], ids=lambda page: str(page.relative_to(ROOT)))
def test_options_of_commands_exist(page: Path) -> None:
    for command in _commands(page):
        options = re.findall(r" --([\w:-]+)", command.partition(" -m ")[2])
        if "testing.phantoms" in command:
            source = (ROOT / "monai_tpseg" / "testing" / "phantoms" / "__main__.py").read_text()
            assert [option for option in options if f'"--{option}"' not in source] == [], command
            continue
        configs = re.findall(r"(?:configs|CONFIGS)/(\w+)\.json", shlex.split(command.partition("--config_file ")[2])[0])
        bundle = KPRISM if "kprism" in command or page.is_relative_to(KPRISM) else BUNDLE
        keys = set().union(*(_config(name, bundle) for name in configs)) | OWN_OPTIONS
        assert configs, command
        assert [option for option in options if option.split("::")[0] not in keys] == [], command


def test_benchmarks_are_started_as_modules() -> None:
    """Several import others of `benchmarks`, which Python does not find if it is given the path of the file."""
    scripts = sorted((ROOT / "benchmarks").glob("*.py"))
    texts = {path.name: path.read_text() for path in (*PAGES, *scripts)}
    wrong = r"python benchmarks/|`benchmarks/\w+\.py +[\w-]"
    assert [name for name, text in texts.items() if re.search(wrong, text)] == []
    named = {name for text in texts.values() for name in re.findall(r"python -m benchmarks\.(\w+)", text)}
    assert len(named) > 30
    assert named <= {path.stem for path in scripts}


def test_first_python_of_the_readme_runs() -> None:
    scope: dict[str, Any] = {}
    exec(_blocks((ROOT / "README.md").read_text(), "python")[0], scope)
    assert scope["mask"].shape == (2, 1, 256, 320)


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_python_parses_and_its_imports_exist(page: Path) -> None:
    text = page.read_text()
    for block in [*_blocks(text, "python"), *re.findall(r'python3? -c "([^"]+)"', text)]:
        lines = [line.strip() for line in block.splitlines()] if block.startswith(" ") else [block]
        for node in ast.walk(ast.parse("\n".join(lines))):
            if isinstance(node, ast.ImportFrom):
                module = importlib.import_module(str(node.module))
                assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == []


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["paper", "released"])
@pytest.mark.parametrize("num_tasks", [1, 8])
def test_parameter_counts_of_the_readme(layout: str, num_tasks: int) -> None:
    table = re.search(rf'^\| `layout="{layout}"`.*?\| ([\d,]+) \| ([\d,]+) \|$', (ROOT / "README.md").read_text(), re.M)
    assert table is not None
    count = sum(p.numel() for p in tpseg_hiera_large(num_tasks, layout=layout).parameters())
    assert f"{count:,}" == table[1 if num_tasks == 1 else 2]
