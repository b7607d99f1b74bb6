"""Start-up: what passes before the first mask.

    python -m benchmarks.speed_start

The parts of the large network one by one, at the precision that `--precision auto` selects here; then `tpseg run` on
one picture with weights of the smallest network, and `tpseg --help`, beside Python that imports PyTorch and MONAI, and
Python that does nothing. These are processes of their own, in turn; ratios are of medians. CPU seconds are those of the
process and all that it started.
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.studies import write_weights
from benchmarks.timing import arguments, network, save, target
from monai_tpseg.networks import tpseg_hiera
from monai_tpseg.networks.checkpoint import load_weights
from monai_tpseg.networks.fast.inference_form import choose_precision, network_for_inference
from monai_tpseg.testing.phantoms import make_phantom, write_png


def main() -> None:
    args = arguments(str(__doc__), batch=1).parse_args()
    torch.set_num_threads(args.threads)
    seconds = {"import": _import_time()}
    with tempfile.TemporaryDirectory() as folder:
        torch.save(network(args.backbone).state_dict(), Path(folder) / "model.pt")
        clock = time.perf_counter()
        net = tpseg_hiera(args.backbone, 2)
        seconds["build"] = time.perf_counter() - clock
        clock = time.perf_counter()
        load_weights(net, Path(folder) / "model.pt")
        seconds["load"] = time.perf_counter() - clock
    clock = time.perf_counter()
    precision = choose_precision("auto", torch.device(args.device))
    fast = network_for_inference(net.to(args.device), precision).network
    seconds["optimize"] = time.perf_counter() - clock
    image = torch.randn(args.batch, 3, args.size, args.size, device=args.device)
    with torch.inference_mode():
        for name in ("first_call", "second_call"):
            clock = time.perf_counter()
            fast(image, 0).cpu()
            seconds[name] = time.perf_counter() - clock
    with tempfile.TemporaryDirectory() as folder:
        times = processes(Path(folder), args.rounds)
    run, help_ = (
        {key: times[of][key] / times[by][key] for key in ("seconds", "cpu_seconds")}
        for of, by in (("run", "import"), ("help", "nothing"))
    )
    targets = [target("first mask / import of torch and monai", run["seconds"], 1.6, most=True)]
    targets.append(target("seconds of tpseg --help", times["help"]["seconds"], 0.3, most=True))
    save(
        "start",
        args,
        precision=precision,
        targets=targets,
        seconds=seconds,
        times=times,
        ratios={"run": run, "help": help_},
    )


def processes(folder: Path, rounds: int) -> dict[str, dict[str, float]]:
    """Return the median wall and CPU seconds of each command, run in turn."""
    picture, weights = folder / "skin.png", write_weights(folder / "small.pt", 0)
    write_png(make_phantom("skin_lesion", 0, 128).image, picture)
    tpseg = ["-m", "monai_tpseg"]
    run = [*tpseg, "run", str(picture), "--task", "skin_lesion", "--checkpoint", str(weights), "--device", "cpu"]
    wall: dict[str, list[float]] = {}
    cpu: dict[str, list[float]] = {}
    for turn in range(rounds + 1):
        out = ["--out", str(folder / f"out{turn}"), "--quiet"]
        words = {"nothing": ["-c", "pass"], "help": [*tpseg, "--help"], "import": ["-c", "import torch, monai"]}
        for name, command in {**words, "run": [*run, *out]}.items():
            began, worked = time.perf_counter(), _of_children()
            subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL)
            if turn:  # the first one fills the caches of the disc
                wall.setdefault(name, []).append(time.perf_counter() - began)
                cpu.setdefault(name, []).append(_of_children() - worked)
    return {
        name: {"seconds": statistics.median(wall[name]), "cpu_seconds": statistics.median(cpu[name])} for name in wall
    }


def _of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _import_time() -> float:
    clock = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import monai_tpseg.networks"], check=True)
    return time.perf_counter() - clock


if __name__ == "__main__":
    main()
