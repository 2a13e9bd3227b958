"""How much of the machine's own matrix-multiplication rate a training step reaches: `python -m benchmarks.step`.

In float32, and for `rapido` in bfloat16 too where the processor has it; each against matrix products of its own kind.
Multiply-adds are counted layer by layer, forward and backward, as the step really needs them: a frozen layer has no
backward pass, and nothing needs the gradient of the pixels. Prints a table and writes benchmarks/step.json.
"""

import statistics
import time

import torch
from torch import nn

from benchmarks import machine
from classificador import ImageData, build, load_cifar10, make_optimizer, make_settings
from classificador.device import has_bf16, keep_freed_memory
from classificador.network.cnn import OriginalCNN
from classificador.training.batches import augment, draw_moves

STEPS, WARM_UP = 60, 15
ORIGINAL = "original"
PARTS = ("dados", "ida", "volta", "Adam")


def matmul_rate(dtype: torch.dtype, size: int = 2048, repeats: int = 10) -> float:
    """The machine's matrix product in multiply-adds a second: the best of `repeats` products of square matrices."""
    left, right = torch.randn(size, size, dtype=dtype), torch.randn(size, size, dtype=dtype)
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        left @ right
        times.append(time.perf_counter() - started)
    return size**3 / min(times)


def multiply_adds(model: nn.Module, side: int = 32) -> tuple[int, int]:
    """Multiply-adds of one image: forward, and backward (weights that learn; inputs that carry a gradient).

    As in training, where Symmetric passes on the image alone.
    """
    forward, backward, carries = 0, 0, False
    layers = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
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


def measure(recipe: str, batch_size: int, dtype: torch.dtype, data: ImageData) -> dict:
    """Time the parts of a training step; medians in milliseconds, and the fractions of the rate of matrix products."""
    if recipe == ORIGINAL:
        model: nn.Module = machine.FromPixels(OriginalCNN())
        criterion, shift = nn.CrossEntropyLoss(), 0
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    else:
        settings = make_settings(recipe, batch_size=batch_size, device="cpu")
        model, shift = build(settings, data), settings.shift
        criterion = nn.CrossEntropyLoss(label_smoothing=settings.label_smoothing)
        optimizer = make_optimizer(model, settings)
    forward, backward = (batch_size * macs for macs in multiply_adds(model))
    model.to(memory_format=torch.channels_last)
    generator, laps, rates = torch.Generator().manual_seed(0), [], [matmul_rate(dtype)]
    for _ in range(WARM_UP + STEPS):
        times = [time.perf_counter()]
        batch = torch.randint(len(data.train), (batch_size,), generator=generator)
        images = data.train.images[batch]
        if shift:
            images = augment(images, draw_moves(batch_size, shift, generator), None)
        labels = data.train.labels[batch]
        times.append(time.perf_counter())
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype is torch.bfloat16):
            logits = model(images).float()
        loss = criterion(logits, labels)
        times.append(time.perf_counter())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        times.append(time.perf_counter())
        optimizer.step()
        times.append(time.perf_counter())
        laps.append([after - before for before, after in zip(times, times[1:], strict=False)])
    rates.append(matmul_rate(dtype))
    seconds = [statistics.median(part) for part in zip(*laps[WARM_UP:], strict=True)]
    total, rate = statistics.median(sum(lap) for lap in laps[WARM_UP:]), max(rates)
    return {
        "recipe": recipe,
        "batch_size": batch_size,
        "precision": str(dtype).removeprefix("torch."),
        "multiply_adds_per_image": (forward + backward) // batch_size,
        "matmul_gflops": 2e-9 * rate,
        "milliseconds": dict(zip(PARTS, (1000 * part for part in seconds), strict=True)) | {"passo": 1000 * total},
        "fraction_of_matmul": {
            "ida": forward / seconds[1] / rate,
            "volta": backward / seconds[2] / rate,
            "passo": (forward + backward) / total / rate,
        },
    }


def main() -> None:
    """Measure the original network, with its own small batches and with larger ones, and that of `rapido`."""
    keep_freed_memory()
    data = load_cifar10(machine.ROOT / "data")
    cases = [(ORIGINAL, 64, torch.float32), (ORIGINAL, 256, torch.float32), ("rapido", 128, torch.float32)]
    if has_bf16(torch.device("cpu")):
        cases.append(("rapido", 128, torch.bfloat16))
    runs = [measure(*case, data) for case in cases]
    print(f"{'rede, lote, precisão':<25}{'matrizes':>15}" + "".join(f"{part:>11}" for part in (*PARTS, "passo")))
    for run in runs:
        times, fractions = run["milliseconds"], run["fraction_of_matmul"]
        name = f"{run['recipe']}, {run['batch_size']}, {run['precision']}"
        print(f"{name:<25}{run['matmul_gflops']:>7.0f} GFLOP/s" + "".join(f"{times[part]:>8.1f} ms" for part in times))
        print(f"{'':<40}" + "".join(f"{fractions[p]:>11.0%}" if p in fractions else " " * 11 for p in times))
    machine.save("step", {"machine": machine.describe(), "runs": runs})


if __name__ == "__main__":
    main()
