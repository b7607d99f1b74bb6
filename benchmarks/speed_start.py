"""Start-up: what passes before the first mask.

python -m benchmarks.speed_start
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.timing import arguments, network, save
from monai_tpseg.networks import tpseg_hiera
from monai_tpseg.networks.checkpoint import load_weights


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
    fast = net.eval().to(args.device).optimize_for_inference(0, torch.bfloat16)
    seconds["optimize"] = time.perf_counter() - clock
    image = torch.randn(args.batch, 3, args.size, args.size, device=args.device)
    with torch.inference_mode():
        for name in ("first_call", "second_call"):
            clock = time.perf_counter()
            fast(image, 0).cpu()
            seconds[name] = time.perf_counter() - clock
    save("start", args, seconds=seconds)


def _import_time() -> float:
    clock = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import monai_tpseg.networks"], check=True)
    return time.perf_counter() - clock


if __name__ == "__main__":
    main()
