"""Who may import whom, and the list of packages that gets installed."""

from __future__ import annotations

import ast
import configparser
import graphlib
import re
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "monai_tpseg"

# module or package -> what of monai_tpseg it may import (besides itself)
ALLOWED: dict[str, set[str]] = {
    name: set(below.split())
    for name, below in {
        "catalogue": "",
        "keys": "",
        "files": "",
        "defaults": "",
        "cores": "",
        "subprocesses": "cores",
        "clicks": "",
        "lesions": "",
        "parsing": "",
        "words": "",
        "suffixes": "",
        "version": "",
        "losses": "catalogue keys",
        "metrics": "catalogue keys",
        "click_metrics": "metrics",
        "evaluation": "catalogue io lesions",
        "io": "catalogue files keys parsing subprocesses",
        "transforms": "catalogue defaults files io keys lesions parsing",
        "testing": "catalogue files keys",
        "data": "catalogue cores files io keys parsing transforms",
        "networks": "catalogue files parsing",
        "weights": "files networks parsing trust",
        "inferers": "clicks defaults keys networks",
        "trust": "defaults files networks parsing",
        "segment": "catalogue cores defaults inferers io keys lesions networks transforms trust",
        "handlers": "catalogue click_metrics data evaluation files keys metrics networks parsing",
        "engines": "catalogue clicks data files handlers inferers io keys losses networks transforms",
        "results": "catalogue files io keys networks parsing segment subprocesses transforms trust",
        "pacs": "files io parsing results studies",
        "report": "catalogue defaults files results studies",
        "follow": "catalogue files io lesions report results studies transforms",
        "bundle": "catalogue cores data engines files handlers inferers io keys networks parsing segment studies "
        "subprocesses transforms trust weights",
        "studies": "catalogue cores data defaults files inferers io keys metrics networks results segment subprocesses "
        "transforms trust weights",
        "annotate": "catalogue clicks defaults files inferers io keys lesions networks parsing results segment studies "
        "subprocesses transforms trust weights",
        "deploy_app": "io parsing results studies",
        "label_app": "annotate catalogue files io keys networks results studies transforms weights",
        "experiments": "catalogue data defaults files handlers inferers io keys metrics networks parsing transforms",
        "training": "bundle catalogue data engines files io keys networks parsing studies transforms weights",
        "pretraining": "catalogue cores data engines files handlers io keys networks parsing training transforms",
        "cli": "annotate bundle catalogue cores data defaults engines experiments files follow inferers io networks "
        "keys pacs parsing pretraining report results studies subprocesses training transforms trust weights",
    }.items()
}
NETWORKS: dict[str, set[str]] = {
    "layers": set(),
    "checkpoint": set(),
    "sam2_trunk": {"checkpoint"},
    "released_layout": {"checkpoint"},
    "weights_info": {"checkpoint"},
    "route": set(),
    "kernels": {"layers"},
    "compiled": set(),
    "hiera_block": {"compiled", "kernels"},
    "masked_autoencoder": {"kernels"},
    "encoder_file": {"checkpoint", "sam2_trunk", "weights_info"},
    "adapter": {"kernels"},
    "prototype": {"layers"},
    "ablation_parts": {"layers"},
    "lora": set(),
    "stem": {"layers"},
    "decoder": {"kernels", "layers", "prototype", "ablation_parts", "stem"},
    "hiera": {"adapter", "hiera_block", "layers", "route", "ablation_parts", "lora", "stem"},
    "unused_parameters": {"layers"},
    "arguments": set(),
    "peers": {"arguments", "layers"},
    "script": set(),
    "task": {"arguments", "layers"},
    "bind": {"task", "tpseg"},
    "described": {"build", "checkpoint", "tpseg", "weights_info"},
    "tpseg_hiera": {"ablation_parts", "adapter", "arguments", "decoder", "hiera", "tpseg", "unused_parameters"},
    "build": {"decoder", "hiera", "kprism", "peers", "task", "tpseg", "tpseg_hiera"},
    "fast/multi_task": {"decoder", "hiera", "layers", "ablation_parts", "task"},
    "fast/encoder": {"adapter", "kernels", "layers"},
    "fast/decoder": {"decoder", "kernels", "layers", "prototype", "stem"},
    "fast/inference_network": {"adapter", "compiled", "decoder", "fast", "hiera", "layers", "task"},
    "export": {"bind", "script", "tpseg"},
    "task_rows": {"tpseg"},
    "new_task_rows": {"prototype", "tpseg"},
}
KPRISM: dict[str, set[str]] = {
    "prompt": {"layers"},
    "queries": set(),
    "blocks": set(),
    "moe": set(),
    "click_map": {"layers"},
    "encoder": {"hiera", "layers", "kprism.blocks"},
    "mask_encoder": {"kprism.blocks"},
    "fusion": {"kprism.blocks"},
    "detail": {"layers", "kprism.blocks"},
    "semantic": {"kprism.queries"},
    "interactive": {"kprism.queries"},
    "in_context": {"kprism.blocks", "kprism.queries"},
    "decoder": {"layers", "kprism.blocks", "kprism.interactive", "kprism.moe", "kprism.queries"},
    "onnx_export": {"kprism.kprism", "kprism.prompt"},
}


COMMON = {"words", "suffixes", "version"}  # for every part


def name_of(file: Path) -> str:
    """Name of the module in a file."""
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {name_of(file): file for file in sorted(PACKAGE.rglob("*.py"))}


def imported(file: Path) -> set[str]:
    """Names of the modules that a file imports, also late or for types alone."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            found |= {
                name if (name := f"{node.module}.{alias.name}") in MODULES else str(node.module) for alias in node.names
            }
    return found


def test_no_module_imports_itself_by_way_of_others() -> None:
    """Not even late or for types alone, and nothing but the facade itself takes from the facade `monai_tpseg`."""
    graph = {name: imported(file) & MODULES.keys() for name, file in MODULES.items()}
    assert len(graph) > 300
    assert [name for name, found in graph.items() if "monai_tpseg" in found] == []
    graphlib.TopologicalSorter(graph).prepare()  # CycleError names the modules


@pytest.mark.parametrize("name", sorted(ALLOWED))
def test_parts_import_only_what_lies_below(name: str) -> None:
    part = PACKAGE / name
    for file in part.rglob("*.py") if part.is_dir() else [part.with_suffix(".py")]:
        parts = {m.split(".")[1] for m in imported(file) if m.startswith("monai_tpseg.")} - {name}
        assert parts <= ALLOWED[name] | COMMON, f"{file.name} imports {parts - ALLOWED[name]}"


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_boxes_import_only_what_lies_below(name: str) -> None:
    modules = imported(PACKAGE / "networks" / f"{name}.py")
    boxes = {m.split(".")[2] for m in modules if m.startswith("monai_tpseg.networks.")}
    assert boxes <= NETWORKS[name]


@pytest.mark.parametrize("name", sorted(KPRISM))
def test_boxes_of_kprism_import_only_what_lies_below(name: str) -> None:
    modules = imported(PACKAGE / "networks" / "kprism" / f"{name}.py")
    prefix = "monai_tpseg.networks."
    assert {m.removeprefix(prefix) for m in modules if m.startswith(prefix)} <= KPRISM[name]


def test_every_box_of_kprism_has_its_rule() -> None:
    files = {path.stem for path in (PACKAGE / "networks" / "kprism").glob("*.py")}
    assert files - {"__init__", "kprism", "variants"} == set(KPRISM)


@pytest.mark.parametrize(
    "name", ["words", "catalogue", "keys", "files", "subprocesses", "defaults", "suffixes", "version"]
)
def test_leaves_import_the_standard_library_only(name: str) -> None:
    lower = {"monai_tpseg.words", "monai_tpseg.cores"} if name != "words" else set()  # lower leaves
    tops = {m.split(".")[0] for m in imported(PACKAGE / f"{name}.py") - lower}
    assert tops <= set(sys.stdlib_module_names)


def test_modules_have_names_of_their_own() -> None:
    """But for the parts of each network, and the files of commands, which are called what a person types."""
    names = Counter(path.stem for path in PACKAGE.rglob("*.py") if path.parent.name != "cli" and path.stem[:2] != "__")
    assert {name for name, number in names.items() if number > 1} == {"decoder", "encoder"}


def test_every_part_has_its_rule() -> None:
    parts = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    assert parts - {"__init__", "__main__"} == set(ALLOWED)


def test_the_table_of_the_page_lists_every_part_behind_those_it_may_import() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text().split("| part | contents |\n")[1].split("\n\n")[0]
    cells = [line.split(" | ")[0] for line in page.splitlines()[1:]]
    order = [name for cell in cells for name in re.findall(r"`(\w+)/?`", cell)]
    assert sorted(order) == sorted(ALLOWED)
    place = {name: number for number, name in enumerate(order)}
    assert {f"{name} -> {other}" for name in order for other in ALLOWED[name] if place[other] > place[name]} == set()


def test_setup_lists_every_package() -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    listed = set(config["options"]["packages"].split())
    found = {".".join(f.parent.relative_to(ROOT).parts) for f in PACKAGE.rglob("__init__.py")}
    assert listed == found | {"monai_tpseg.pipelines", "monai_tpseg.bundles"}
