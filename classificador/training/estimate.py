"""How long a training will take on this machine: a few of its steps are tried before it begins."""

import copy
import math
import statistics
import time
from collections.abc import Callable
from contextlib import suppress

from torch import nn

from classificador import processes
from classificador.constants import CLASSES
from classificador.device import EVAL_BATCH, autocast
from classificador.errors import DivergenceError, SettingsError
from classificador.gpu import explain_out_of_memory
from classificador.network.build import build, make_optimizer
from classificador.portuguese import about, number, tell
from classificador.recipes import PRESETS, REACHES, make_settings
from classificador.results.predict import predict_logits
from classificador.training.batches import Batches
from classificador.training.trainer import Trainer

STEPS, WARM_UP = 20, 4  # how many are tried, and how many of them, at the beginning, do not count
PATIENCE = 5.0  # seconds after which no further step is tried
WORTH = 30 * STEPS  # steps below which a training would be over before it is known how long it takes
LONG = 300.0  # seconds of a training beside which a shorter recipe is named


def foretell(trainer: Trainer, stop_signal: Callable[[], int]) -> None:
    """Say how long the rest of a training will take here, unless it is not worth a trial.

    The trainer is left as it was, to the bit. stop_signal: as for Trainer.train(); it ends the trial, too.
    """
    batches = trainer.batches
    if processes.world_size() > 1 or trainer.settings.epochs * batches.steps_per_epoch - batches.done < WORTH:
        return
    before = copy.deepcopy(trainer.state_dict())
    try:
        text = outlook(trainer, stop_signal)
    finally:
        trainer.load_state_dict(before)
        trainer.kept_at = time.perf_counter()
    tell(text)


def outlook(trainer: Trainer, stop_signal: Callable[[], int]) -> str:
    """Return what to say of the time that the rest of a training takes here."""
    settings, is_new = trainer.settings, trainer.batches.done == 0
    seconds = seconds_left(trainer, stop_signal)
    text = f"{'Este treino leva' if is_new else 'O que falta deste treino leva'} {about(seconds)} neste computador"
    if is_new and seconds > LONG and trainer.data.classes == CLASSES and settings.preset in PRESETS:
        shorter = list(PRESETS)[: list(PRESETS).index(settings.preset)]
        times = {name: _seconds_of(name, trainer, stop_signal) for name in shorter if name in REACHES}
        quick = [name for name, took in times.items() if took < min(LONG, seconds / 2)]
        if quick:
            name = max(quick, key=lambda name: REACHES[name])
            reached = number(100 * REACHES[name], 0)
            text += f"; a receita {name}, {about(times[name])} (PRESET ou --receita; {reached}% no teste)"
    return f"{text}."


def seconds_left(trainer: Trainer, stop_signal: Callable[[], int]) -> float:
    """Return how many seconds the rest of a training takes, by a few of its steps, which it has then done."""
    settings, batches, started, ends = trainer.settings, trainer.batches, time.perf_counter(), list[float]()
    steps, epochs = settings.epochs * batches.steps_per_epoch - batches.done, settings.epochs - batches.epoch

    def is_enough() -> int:
        trainer.tally.read()  # waits for a GPU
        ends.append(time.perf_counter())
        return len(ends) > STEPS or ends[-1] - started > PATIENCE or stop_signal()

    with suppress(DivergenceError):  # the training itself will say so
        while batches.epoch < settings.epochs and trainer.epoch(is_enough) and not is_enough():
            pass  # nobody asks after the last step of an epoch
    times = [end - begin for begin, end in zip([started, *ends], ends, strict=False)]
    images = trainer.data.val.images[: 2 * EVAL_BATCH]
    for _ in range(2):  # the first is slower
        started = time.perf_counter()
        with autocast(trainer.device):
            predict_logits(trainer.model, images).sum().item()
        validation = (time.perf_counter() - started) * len(trainer.data.val) / len(images)
    # The mean, because a training, too, has its slow steps.
    return steps * statistics.mean(times[WARM_UP:] or times or [0.0]) + epochs * validation


def _seconds_of(preset: str, trainer: Trainer, stop_signal: Callable[[], int]) -> float:
    """The seconds that a recipe takes on the data and the device of a training; infinity where it does not fit."""
    settings, data = make_settings(preset, device=trainer.settings.device), trainer.data
    criterion = nn.CrossEntropyLoss(label_smoothing=settings.label_smoothing)
    try:
        with explain_out_of_memory(settings.batch_size):
            model, batches = build(settings, data), Batches(data, settings, trainer.device)
            return seconds_left(Trainer(model, batches, criterion, make_optimizer(model, settings)), stop_signal)
    except SettingsError:
        return math.inf
