"""What more processes bring: `python -m benchmarks.scaling`.

One epoch of `rapido` by one process with one thread, by one with two, and by two with one thread each (torchrun, gloo),
in turn, ROUNDS times; medians. Counts what two processes tell each other at a step. Writes benchmarks/scaling.json.
"""

import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks import machine
from classificador import CNN, read_checkpoint

ROUNDS = 3
WAYS = {"1 processo, 1 thread": (1, 1), "1 processo, 2 threads": (1, 2), "2 processos, 1 thread cada": (2, 1)}


def run_epoch(processes: int, threads: int, path: Path) -> dict[str, float]:
    """Seconds and results of one epoch, as the run itself tells them."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command = [*torchrun, "-m", "classificador", "treinar", "--epocas", "1", "--modelo", str(path)]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    subprocess.run(command, cwd=machine.ROOT, env=environment, check=True, capture_output=True)
    info = read_checkpoint(path).info
    return {name: getattr(info, name) for name in ("seconds", "val_accuracy", "val_loss")}


def bytes_a_step() -> dict[str, int]:
    """What each of two processes contributes to the sums at a step: gradients, and batch statistics there and back."""
    model = CNN()  # the sizes of `rapido` are its defaults
    gradients = sum(w.numel() for name, w in model.named_parameters() if name != "conv1.weight")  # conv1 is frozen
    channels = model.norm2.num_features + model.norm3.num_features
    return {"gradients": 4 * gradients, "batch_statistics": 2 * 4 * (2 * channels + 2)}


def main() -> None:
    """Run all ways in turn and print the table."""
    found: dict[str, list[dict]] = {name: [] for name in WAYS}
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(ROUNDS):
            for number, (name, way) in enumerate(WAYS.items()):
                found[name].append(run_epoch(*way, Path(folder, f"{turn}-{number}.pth")))
    base = [one["seconds"] for one in found["1 processo, 1 thread"]]
    rows = {
        name: {
            "seconds": statistics.median(one["seconds"] for one in runs),
            "times_faster": statistics.median(old / one["seconds"] for old, one in zip(base, runs, strict=True)),
            "val_accuracy": runs[0]["val_accuracy"],
            "val_loss": runs[0]["val_loss"],
        }
        for name, runs in found.items()
    }
    print(f"\n{'uma época de rapido':<30}{'segundos':>10}{'vezes':>8}{'validação':>12}{'perda':>8}")
    for name, row in rows.items():
        print(
            f"{name:<30}{row['seconds']:>10.1f}{row['times_faster']:>8.2f}{row['val_accuracy']:>12.2%}"
            f"{row['val_loss']:>8.4f}"
        )
    print(f"por passo, cada processo contribui com (bytes): {bytes_a_step()}")
    machine.save("scaling", {"machine": machine.describe(), "rows": rows, "bytes_a_step": bytes_a_step()})


if __name__ == "__main__":
    main()
