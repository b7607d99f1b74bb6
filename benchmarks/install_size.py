"""Size of an installation on disc: `python -m benchmarks.install_size [EXTRA ...]`.

Adds up the files of the packages that `monai-tpseg`, or `monai-tpseg[EXTRA]`, needs, as this environment has them
installed. PyTorch's own part, with the libraries of CUDA where it is a build for GPUs, is told apart.
"""

from __future__ import annotations

import configparser
import sys
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

SETUP = Path(__file__).resolve().parents[1] / "setup.cfg"
PYTORCH = ("torch", "triton", "nvidia-")


def requirements(extras: list[str]) -> list[Requirement]:
    """What setup.cfg asks for."""
    setup = configparser.ConfigParser()
    setup.read(SETUP)
    lines = setup["options"]["install_requires"].split()
    for extra in extras:
        lines += setup["options.extras_require"][extra].split()
    return [Requirement(line) for line in lines]


def closure(wanted: list[Requirement]) -> dict[str, Distribution]:
    """The distributions that requirements lead to, by name."""
    found: dict[str, Distribution] = {}
    seen: set[tuple[str, frozenset[str]]] = set()
    while wanted:
        requirement = wanted.pop()
        name, extras = canonicalize_name(requirement.name), frozenset(requirement.extras)
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:
            sys.stderr.write(f"{name} is not installed here and not counted.\n")
            continue
        for line in found[name].requires or ():
            needed = Requirement(line)
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in ("", *extras)):
                wanted.append(needed)
    return found


def megabytes(dist: Distribution) -> float:
    """The files of a distribution as they lie on disc, compiled ones among them, in MB."""
    files = (Path(str(file.locate())) for file in dist.files or ())
    return sum(file.stat().st_size for file in files if file.is_file()) / 1e6


def main() -> None:
    """Print one line each for PyTorch, the rest and all."""
    sizes = {name: megabytes(dist) for name, dist in closure(requirements(sys.argv[1:])).items()}
    torch = {name: size for name, size in sizes.items() if name.startswith(PYTORCH)}
    label = f"monai-tpseg[{','.join(sys.argv[1:])}]" if sys.argv[1:] else "monai-tpseg"
    print(f"{label}: {sum(sizes.values()) / 1000:.1f} GB in {len(sizes)} packages")
    build = distribution("torch").version
    print(f"PyTorch {build} of it: {sum(torch.values()) / 1000:.1f} GB; the rest: ", end="")
    print(f"{(sum(sizes.values()) - sum(torch.values())) / 1000:.1f} GB")
    for name in sorted(sizes, key=sizes.__getitem__, reverse=True)[:8]:
        print(f"  {sizes[name]:7.0f} MB  {name}")


if __name__ == "__main__":
    main()
