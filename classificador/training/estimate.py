"""How long a training will take on this machine: a few of its steps are tried before it begins."""

import copy
import statistics
import time
from contextlib import suppress

import torch
from torch import nn

from classificador import processes
from classificador.constants import CLASSES
from classificador.device import EVAL_BATCH
from classificador.errors import DivergenceError
from classificador.network.build import build, make_optimizer
from classificador.portuguese import about, number, tell
from classificador.recipes import REACHES, make_settings
from classificador.results.predict import predict_logits
from classificador.training.batches import Batches
from classificador.training.trainer import Trainer

STEPS, WARM_UP = 20, 4  # how many are tried, and how many of them, at the beginning, do not count
PATIENCE = 5.0  # seconds after which no further step is tried
WORTH = 30 * STEPS  # steps below which a training would be over before it is known how long it takes
LONG = 300.0  # seconds of a training beside which a shorter recipe is named


def foretell(trainer: Trainer) -> None:
    """Say how long the rest of a training will take here, unless it is not worth a trial."""
    if text := outlook(trainer):
        tell(text)


def outlook(trainer: Trainer) -> str:
    """Return what to say of the time that the rest of a training takes here; empty where it is not worth a trial."""
    settings, batches = trainer.settings, trainer.batches
    if processes.world_size() > 1 or settings.epochs * batches.steps_per_epoch - batches.done < WORTH:
        return ""
    seconds = seconds_left(trainer)
    text = f"Este treino leva {about(seconds)} neste computador"
    if seconds > LONG and trainer.data.classes == CLASSES:
        with torch.random.fork_rng():
            shorter = {name: _seconds_of(name, trainer) for name in REACHES if name != settings.preset}
        quick = {name: took for name, took in shorter.items() if took < min(LONG, seconds / 2)}
        if quick:
            name = max(quick, key=lambda name: REACHES[name])
            reached = number(100 * REACHES[name], 0)
            text += f"; a receita {name}, {about(quick[name])} (PRESET ou --receita; {reached}% no teste)"
    return f"{text}."


def seconds_left(trainer: Trainer) -> float:
    """Return how many seconds the rest of a training takes, by a few of its steps; it is then as it was, to the bit."""
    before, ends, settings, batches = copy.deepcopy(trainer.state_dict()), [], trainer.settings, trainer.batches
    steps, epochs = settings.epochs * batches.steps_per_epoch - batches.done, settings.epochs - batches.epoch
    started = time.perf_counter()

    def is_enough() -> int:
        trainer.tally.read()  # waits for a GPU
        ends.append(time.perf_counter())
        return len(ends) > STEPS or ends[-1] - started > PATIENCE

    with suppress(DivergenceError):  # the training itself will say so
        trainer.epoch(is_enough)
    trainer.load_state_dict(before)
    times = [end - begin for begin, end in zip([started, *ends], ends, strict=False)]
    images = trainer.data.val.images[: 2 * EVAL_BATCH]
    for _ in range(2):  # the first is slower
        started = time.perf_counter()
        predict_logits(trainer.model, images).sum().item()
        validation = (time.perf_counter() - started) * len(trainer.data.val) / len(images)
    # The mean, because a training, too, has its slow steps.
    return steps * statistics.mean(times[WARM_UP:] or times or [0.0]) + epochs * validation


def _seconds_of(preset: str, trainer: Trainer) -> float:
    """The seconds that a recipe takes on the data and the device of a training."""
    settings = make_settings(preset, device=trainer.settings.device)
    model, criterion = build(settings, trainer.data), nn.CrossEntropyLoss(label_smoothing=settings.label_smoothing)
    batches = Batches(trainer.data, settings, trainer.device)
    return seconds_left(Trainer(model, batches, criterion, make_optimizer(model, settings)))
