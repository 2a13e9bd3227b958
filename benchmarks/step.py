"""How much of the machine's own matrix-multiplication rate a training step reaches: `python -m benchmarks.step`.

Multiply-adds are counted layer by layer, forward and backward, as the step really needs them: a frozen layer has no
backward pass, and nothing needs the gradient of the pixels. Prints a table and writes benchmarks/step.json.
"""

import statistics
import time

import torch
from torch import nn

from benchmarks import machine
from classificador import CNN, build, load_cifar10, make_optimizer, make_settings
from classificador.augment import augment, draw_moves
from classificador.device import keep_freed_memory

STEPS, WARM_UP = 60, 15
PARTS = ("dados", "ida", "volta", "Adam")


def matmul_rate(size: int = 2048, repeats: int = 10) -> float:
    """The machine's sgemm rate in multiply-adds a second: the best of `repeats` products of square matrices."""
    left, right = torch.randn(size, size), torch.randn(size, size)
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        left @ right
        times.append(time.perf_counter() - started)
    return size**3 / min(times)


def multiply_adds(model: nn.Module, side: int = 32) -> tuple[int, int]:
    """Multiply-adds of one image: forward, and backward (weights that learn; inputs that carry a gradient).

    Where the network sees the mirror image too, those of both.
    """
    forward, backward, carries = 0, 0, False
    layers = [layer for layer in model.children() if isinstance(layer, nn.Conv2d | nn.Linear)]
    sizes: list[int] = []
    hooks = [layer.register_forward_hook(lambda _, __, out: sizes.append(out.numel() // 2)) for layer in layers]
    model(torch.zeros(2, 3, side, side))
    for hook in hooks:
        hook.remove()
    for layer, size in zip(layers, sizes, strict=True):
        macs = size * layer.weight[0].numel()
        forward += macs
        backward += macs * (layer.weight.requires_grad + carries)
        carries |= layer.weight.requires_grad
    return forward, backward


def measure(preset: str, batch_size: int, data) -> dict:
    """Time the parts of the training step of a preset; medians in milliseconds, and the fractions of the sgemm rate."""
    settings = make_settings(preset, batch_size=batch_size, device="cpu")
    model = build(settings, data, CNN)
    forward, backward = (batch_size * macs for macs in multiply_adds(model))
    model.to(memory_format=torch.channels_last)
    optimizer, generator = make_optimizer(model, settings), torch.Generator().manual_seed(0)
    criterion = nn.CrossEntropyLoss(label_smoothing=settings.label_smoothing)
    laps: list[list[float]] = []
    rates = [matmul_rate()]
    for _ in range(WARM_UP + STEPS):
        times = [time.perf_counter()]
        batch = torch.randint(len(data.train), (batch_size,), generator=generator)
        images, labels = data.train.images[batch], data.train.labels[batch]
        if settings.shift or settings.flip:
            mirrored = torch.randint(2, (batch_size,), generator=generator) > 0
            moves = draw_moves(len(images), settings.shift, generator)
            images = augment(images, moves, mirrored & settings.flip)
        times.append(time.perf_counter())
        loss = criterion(model(images), labels)
        times.append(time.perf_counter())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        times.append(time.perf_counter())
        optimizer.step()
        times.append(time.perf_counter())
        laps.append([after - before for before, after in zip(times, times[1:], strict=False)])
    rates.append(matmul_rate())
    seconds = [statistics.median(part) for part in zip(*laps[WARM_UP:], strict=True)]
    total, rate = statistics.median(sum(lap) for lap in laps[WARM_UP:]), max(rates)
    return {
        "preset": preset,
        "batch_size": batch_size,
        "multiply_adds_per_image": (forward + backward) // batch_size,
        "sgemm_gflops": 2e-9 * rate,
        "milliseconds": dict(zip(PARTS, (1000 * part for part in seconds), strict=True)) | {"passo": 1000 * total},
        "fraction_of_sgemm": {
            "ida": forward / seconds[1] / rate,
            "volta": backward / seconds[2] / rate,
            "passo": (forward + backward) / total / rate,
        },
    }


def main() -> None:
    """Measure the original network, with its own small batches and with larger ones, and that of `rapido`."""
    keep_freed_memory()
    data = load_cifar10(machine.ROOT / "data")
    runs = [measure(*case, data) for case in (("original", 64), ("original", 256), ("rapido", 256))]
    print(f"{'rede, lote':<15}{'sgemm':>14}" + "".join(f"{part:>11}" for part in (*PARTS, "passo")))
    for run in runs:
        times, fractions = run["milliseconds"], run["fraction_of_sgemm"]
        name = f"{run['preset']}, {run['batch_size']}"
        print(f"{name:<15}{run['sgemm_gflops']:>7.0f} GFLOP/s" + "".join(f"{times[part]:>8.1f} ms" for part in times))
        print(f"{'':<29}" + "".join(f"{fractions[p]:>11.0%}" if p in fractions else " " * 11 for p in times))
    machine.save("step", {"machine": machine.describe(), "runs": runs})


if __name__ == "__main__":
    main()
