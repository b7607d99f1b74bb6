"""What messages, help and pages tell people to type exists; numbers agree with their nouns."""

from __future__ import annotations

import argparse
import ast
import configparser
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from monai_tpseg.cli.main import _parser

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "monai_tpseg"
MODULES = sorted(str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py"))
PAGES = sorted(
    str(path.relative_to(ROOT))
    for path in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("bundles/*/docs/*.md"))
)
OPTION = re.compile(r"(?<![\w-])--([A-Za-z][\w-]*)")


def _commands(parser: argparse.ArgumentParser, name: str = "") -> Iterator[tuple[str, argparse.ArgumentParser]]:
    yield name, parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for word, below in action.choices.items():
                yield from _commands(below, f"{name} {word}".strip())


COMMANDS = dict(_commands(_parser()))
OPTIONS = {
    name: {option[2:] for action in parser._actions for option in action.option_strings}
    for name, parser in COMMANDS.items()
}
KEYS = {key for path in ROOT.glob("bundles/*/configs/*.json") for key in json.loads(path.read_text())}
PHANTOMS = {"studies", "train-per-task", "val-per-task", "size"}
BUNDLE_RUN = {"config_file", "meta_file", "logging_file", "tracking", "filepath", "ckpt_file", "key", "KEY"}
FOREIGN = {
    "gdcmconv": {"raw"},
    "torchrun": {"standalone", "nproc_per_node"},
    "pip": {"no-build-isolation", "index-url", "no-deps"},
    "ruff": {"check"},
    "TotalSegmentator": {"output_type"},
    "mkdocs": {"strict"},
    "vips": {"pyramid", "tile"},
    "sbatch": {"array", "cpus-per-task", "gres"},
    "MONAI Deploy": {"input", "output", "model", "log-level"},
    "trtexec": {"onnx", "saveEngine", "fp16", "minShapes", "optShapes", "maxShapes"},
}
"""Programs that the pages call, and their options."""

BENCHMARKS = {
    option
    for path in (*ROOT.glob("benchmarks/*.py"), *ROOT.glob("examples/*.py"))
    for option in re.findall(r'"--([\w-]+)"', path.read_text())
}
READS, NEW = {"scan", "run", "report", "annotate"}, {"new-task", "export"}
SAID_BY: dict[str, set[str]] = {
    "annotate": {"annotate"},
    "bundle": set(),  # keys of configs alone
    "cli/annotate.py": {"annotate"},
    "cli/data.py": {name for name in COMMANDS if name.split(" ")[0] in ("check", "prepare")},
    "cli/export.py": {"export"},
    "cli/new_task.py": {"new-task"},
    "cli/run.py": {"run"},
    "cli/weights.py": {name for name in COMMANDS if name.split(" ")[0] == "weights"},
    "data": {name for name in COMMANDS if name.split(" ")[0] in ("check", "prepare", "new-task")},
    "experiments": {"experiment", "table", "grid", "cost"},
    "handlers": set(),
    "report": READS,
    "results": READS | {"new-task"},
    "segment": READS,
    "studies": READS | {"calibrate", "new-task"},
}
"""Part of the package -> commands that say what it says; what is not here may be said by all."""


def _texts(path: Path) -> Iterator[str]:
    """The strings of a module, docstrings among them."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


@pytest.mark.parametrize("module", MODULES)
def test_options_that_a_module_names_are_those_of_its_commands(module: str) -> None:
    owner = next((part for part in (module, module.split("/")[0]) if part in SAID_BY), None)
    commands = COMMANDS.keys() if owner is None else SAID_BY[owner]
    known = KEYS | BUNDLE_RUN | {"raw"} | set().union(*(OPTIONS[name] for name in commands))
    if module.startswith("testing"):
        known |= PHANTOMS
    named = {option for text in _texts(PACKAGE / module) for option in OPTION.findall(text)}
    assert named - known == set()


@pytest.mark.parametrize("page", PAGES)
def test_options_of_pages_exist(page: str) -> None:
    known = set().union(*OPTIONS.values(), KEYS, BUNDLE_RUN, PHANTOMS, BENCHMARKS, *FOREIGN.values())
    assert {*OPTION.findall((ROOT / page).read_text())} - known == set()


@pytest.mark.parametrize("page", PAGES)
def test_commands_of_pages_parse(page: str) -> None:
    """Each `tpseg ...` line of a page has options of its command."""
    for block in re.findall(r"^ *```(?:bash|sh|console)\n(.*?)^ *```", (ROOT / page).read_text(), re.M | re.S):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if "tpseg" not in words[:2]:
                continue
            words = words[words.index("tpseg") + 1 :]
            name = next((" ".join(words[:n]) for n in (2, 1) if " ".join(words[:n]) in COMMANDS), "")
            options = {word.partition("=")[0][2:] for word in words if word.startswith("--")}
            assert options - OPTIONS[name] == set(), line


@pytest.mark.parametrize("file", [*(f"monai_tpseg/{module}" for module in MODULES), *PAGES])
def test_commands_that_are_named_exist(file: str) -> None:
    text = "\n".join(_texts(ROOT / file)) if file.endswith(".py") else (ROOT / file).read_text()
    named = re.findall(r"(?:(?<=[`'])|(?<![-\w`'/] )(?<![-\w`'/]))tpseg ([a-z][a-z-]+[a-z])", text)
    assert {word for word in named if word not in COMMANDS} == set()


def _extras() -> set[str]:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    return set(setup["options.extras_require"])


def _installed() -> set[str]:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    return {re.split("[>=[]", word)[0] for word in setup["options"]["install_requires"].split()} | {
        *("monailabel", "monai-deploy-app-sdk", "holoscan-cu13", "holoscan-cli"),  # into environments of their own
        "setuptools",
        "wheel",
    }


def test_extras_that_messages_name_exist() -> None:
    text = "".join((PACKAGE / module).read_text() for module in MODULES if module != "words.py")
    named = re.findall(r"how_to_install\(['\"](\w+)['\"]\)", text)
    assert named
    assert {*named} <= _extras()


@pytest.mark.parametrize("file", [*(f"monai_tpseg/{module}" for module in MODULES if module != "words.py"), *PAGES])
def test_what_is_to_be_installed_can_be_from_a_checkout(file: str) -> None:
    text = "\n".join(_texts(ROOT / file)) if file.endswith(".py") else (ROOT / file).read_text()
    for line in re.findall(r"pip install ([^\n`#,;()|]+)", text):
        words = line.partition(" in ")[0].replace('"', " ").replace("'", " ").split()
        for word in (word for word in words if not word.startswith("-")):
            own = re.fullmatch(r"\.(?:\[([\w,]+)\])?", word)
            assert own or re.split("[<>=]", word)[0] in _installed() or (ROOT / word).is_file(), line
            assert own is None or {*(own[1] or "").split(",")} - {""} <= _extras(), line


NOUNS = re.compile(
    r" (?:other |DICOM |new )?(?:cases|channels|clicks|columns|copies|epochs|exemplars|files|folders|frames|groups|"
    r"images|inputs|iterations|lesions|masks|objects|paths|pictures|places|points|processes|readers|rows|slices|stacks|tasks|"
    r"titles|volumes|words|workers)\b"
)
SEVERAL = {
    "bundle/preflight.py": "dist.get_world_size()",
    "bundle/prompt_checks.py": "len(cases)",
    "cli/answer.py": "len(lesions)",
    "cli/run.py": "len(entries)",
    "data/samplers.py": "num_replicas",
    "io/dicom/stack.py": "len(groups)",
    "io/discovery.py": "len(case.objects)",
    "networks/kprism/encoder.py": "channels",
    "networks/kprism/moe.py": "channels",
    "networks/prototype.py": "channels",
    "networks/task.py": "self.num_tasks len(rows)",
    "studies/scan.py": "case.copies",
}
"""Module -> numbers that are more than one wherever they stand in its messages."""


@pytest.mark.parametrize("module", MODULES)
def test_a_number_agrees_with_its_noun(module: str) -> None:
    """`{n} cases` is wrong for one; `monai_tpseg.words.count` writes both. Constants (in capitals) are known."""
    wrong = []
    for node in ast.walk(ast.parse((PACKAGE / module).read_text())):
        if not isinstance(node, ast.JoinedStr):
            continue
        for value, after in zip(node.values, node.values[1:], strict=False):
            if not isinstance(value, ast.FormattedValue) or not isinstance(after, ast.Constant):
                continue
            number = ast.unparse(value.value)
            if NOUNS.match(str(after.value)) and not number.isupper() and number not in SEVERAL.get(module, "").split():
                wrong.append(f"{number}{after.value}")
    assert wrong == []
