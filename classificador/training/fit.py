"""fit(): a whole training, from the checks before it to the files it leaves."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn
from torch.optim import Optimizer
from tqdm import tqdm

from classificador import processes
from classificador.data.dataset import ImageData, Split
from classificador.device import autocast, choose_device, keep_freed_memory
from classificador.errors import DivergenceError, SettingsError
from classificador.files.model_file import check_saveable
from classificador.portuguese import number, percent
from classificador.recipes import Settings
from classificador.results.predict import predict_logits
from classificador.training.batches import Batches, balanced, load_teacher
from classificador.training.history import History, run_facts
from classificador.training.loop import train_epoch
from classificador.training.resume import restore_state
from classificador.training.run import HOPELESS, Run, stop_requests
from classificador.training.run_folder import RunFolder, find_interrupted

KEEP_EVERY = 60.0  # seconds of training, at most, that a process that is killed loses


def fit(
    model: nn.Module,
    data: ImageData,
    criterion: nn.Module,
    optimizer: Optimizer,
    settings: Settings,
    checkpoint: str | Path = "best_model.pth",
    watch: Callable[[History], None] | None = None,
    resume: bool = False,
) -> History:
    """Train `model` in place on `data.train`; keep its best weights by validation accuracy in the file `checkpoint`.

    All that the run writes is in its folder in runs/, beside `checkpoint`, which is a copy of the best weights there.
    An interrupt (Ctrl-C, the notebook's stop button, SIGTERM) ends the run within a few batches and returns the
    history of the complete epochs. With resume=True a later call goes on from there, or, when the process was killed,
    from at most a minute before; on a CPU the result is that of an uninterrupted run, bit for bit.
    Called by several processes (processes.py) it trains in all of them, and the first writes the files.
    watch: called with the history a few times an epoch and after each one, to draw it.
    Raises SettingsError (batch larger than an epoch or the memory, device missing, resumed with other settings),
    CheckpointError (file cannot be written, or in use, or nothing to resume) and DivergenceError (loss NaN or infinite;
    the file keeps the best weights reached before).
    """
    _check(model, data, optimizer, settings)
    files = RunFolder(checkpoint) if processes.rank() == 0 else nullcontext()  # the first process writes
    with stop_requests() as stop_signal, files as folder, _full_memory_told(settings):
        run = Run(model, _bring(data, settings), criterion, optimizer)
        _start(run, folder, checkpoint, resume)
        if watch:
            watch(run.history)  # before the bar, so that in a notebook the curves stand above it
            run.on_batch.append(lambda run: run.reporting and watch(run.history))
            run.on_epoch.append(lambda run: watch(run.history))
        with _progress_bar(run) as bar:
            _train(run, stop_signal)
            if run.history.interrupted and folder:
                bar.write(f"Interrompido; guardado em {folder.resume}, para retomar.")
    return run.history


def _check(model: nn.Module, data: ImageData, optimizer: Optimizer, settings: Settings) -> None:
    """Raise the errors that need no training to be seen."""
    if settings.batch_size > (shown := len(balanced(data.train.labels))):
        remedy = f"{settings.batch_size} é maior que as {shown} imagens de uma época; use um menor, como {shown // 8}."
        raise SettingsError(remedy, field="batch_size")
    if settings.batch_size < processes.size():
        raise SettingsError(f"precisa ser pelo menos {processes.size()}, o número de processos.", field="batch_size")
    if not all(torch.isfinite(value).all() for value in model.state_dict().values()):
        raise DivergenceError("A rede começa com pesos não finitos, talvez de um treino que divergiu. Crie-a de novo.")
    trained = {id(weight) for group in optimizer.param_groups for weight in group["params"]}
    if not any(weight.requires_grad and id(weight) in trained for weight in model.parameters()):
        raise SettingsError("O otimizador é de outra rede, e esta não aprenderia nada. Crie-o de novo, para esta.")
    check_saveable(model)


@contextmanager
def _full_memory_told(settings: Settings) -> Iterator[None]:
    """Turn a full memory into a SettingsError with a batch size to try."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        # On a CPU torch says so with a plain RuntimeError.
        if not isinstance(error, torch.OutOfMemoryError | MemoryError) and "can't allocate memory" not in str(error):
            raise
        smaller = max(2, settings.batch_size // 2)
        remedy = f"a memória do dispositivo não basta com lotes de {settings.batch_size}; tente {smaller}."
        raise SettingsError(remedy, field="batch_size") from error


def _bring(data: ImageData, settings: Settings) -> Batches:
    """Return the batches, with the images they need on the device. Raises as load_teacher and choose_device."""
    device = choose_device(settings.device)
    teacher = load_teacher(settings.teacher, data, device) if settings.teacher else None
    keep_freed_memory()
    torch.backends.cudnn.benchmark = True  # on NVIDIA: tries which algorithm is quickest for each size of batch
    train, val = (Split(part.images.to(device), part.labels.to(device)) for part in (data.train, data.val))
    return Batches(replace(data, train=train, val=val), settings, teacher)


def _start(run: Run, folder: RunFolder | None, checkpoint: str | Path, resume: bool) -> None:
    """Bring the run to where it begins: the weights of its network, or the point where it was interrupted."""
    saved = restore_state(checkpoint, run.parts, run.settings, run.setup) if resume else None
    if not resume and run.history.earlier_epochs:
        earlier = number(run.history.earlier_epochs, 1)
        print(f"Esta rede já treinou {earlier} épocas, e o treino parte dos pesos dela; build(…) a cria de novo.")
    if folder is None:
        return
    if not resume and (left := find_interrupted(checkpoint)):
        print(f"Há um treino interrompido em {left.parent}, que fica lá para retomar; este começa do zero.")
    if saved:
        folder.begin(run_facts(run), run.history, saved.path, str(saved.content.get("earlier", "")))
    else:
        folder.begin(run_facts(run), run.history)
    run.folder = folder
    run.on_epoch.append(folder.keep_best)


def _train(run: Run, stop_signal: Callable[[], int]) -> None:
    """Train to the last epoch or until asked to stop; keep a point to go on from after each epoch but the last.

    Raises DivergenceError.
    """
    epochs = run.settings.epochs
    while run.batches.epoch < epochs and not run.history.interrupted:
        try:
            if _rest_of_epoch(run, stop_signal):
                _validate(run)
        finally:
            trained = run.batches.done / run.batches.steps
            vars(run.model)["epochs_trained"] = run.history.earlier_epochs + trained
        if run.batches.epoch < epochs:
            asked = processes.largest(stop_signal())  # a signal stays noted: what ended the epoch ends the run
            run.keep(asked)
            run.history.interrupted = asked


def _rest_of_epoch(run: Run, stop_signal: Callable[[], int]) -> bool:
    """Train to the epoch's end; False if asked to stop before. In a single process weigh() and largest() do nothing."""
    batches, settings = run.batches, run.settings
    if batches.step == 0:
        run.tally.clear()
    criterion = processes.weigh(run.criterion, settings.batch_size)
    share = settings.batch_size / processes.size()  # of a batch's loss, in images
    report_every = max(1, batches.steps // 20)
    for loss, logits, targets in train_epoch(run.network, batches, criterion, run.optimizer):
        run.tally.add(loss * share, logits, targets)
        run.reporting = batches.step % report_every == 0  # the last one of an epoch, too: it is step 0
        if run.reporting:
            run.report()
        for watcher in run.on_batch:
            watcher(run)
        # Several processes stop, and keep, after the same batch, which costs them a message: not after every one.
        if batches.step == 0 or (processes.size() > 1 and not run.reporting):
            continue
        if processes.largest(int(time.perf_counter() - run.kept_at > KEEP_EVERY)):
            run.keep(0)
        if processes.largest(stop_signal()):
            run.read_means()
            return False
    return True


def _validate(run: Run) -> None:
    """Add the epoch to the history."""
    with autocast(run.device):
        run.logits = predict_logits(run.model, run.data.val.images)  # to which keep_best() fits a temperature
    labels, history = run.data.val.labels, run.history
    val_loss = run.criterion(run.logits, labels).item()
    if not abs(val_loss) < HOPELESS:
        raise run.divergence()
    history.train_loss.append(run.tally.loss)
    history.train_accuracy.append(run.tally.accuracy)
    history.val_loss.append(val_loss)
    history.val_accuracy.append((run.logits.argmax(1) == labels).sum().item() / len(labels))
    history.seconds.append(run.clock.seconds)
    for watcher in run.on_epoch:  # the best weights are saved, the curves drawn, the bar moves on
        watcher(run)


def _progress_bar(run: Run) -> tqdm:
    """Return a bar of all batches of the run, for a `with` block; it moves with the run and leaves a line an epoch."""
    history, epochs = run.history, run.settings.epochs

    def epoch_under_way() -> str:
        """What stands before the bar."""
        return f"Época {min(len(history.val_loss) + 1, epochs)}/{epochs}"

    def tell(epoch: int) -> None:
        """Leave a line about an epoch that is complete."""
        bar.write(
            f"Época {epoch + 1}/{epochs}: "
            f"perda {number(history.train_loss[epoch], 3)}, validação {number(history.val_loss[epoch], 3)}; "
            f"acurácia {percent(history.train_accuracy[epoch])}, validação {percent(history.val_accuracy[epoch])}"
        )
        bar.set_description(epoch_under_way())

    def move(run: Run) -> None:
        """Move on by a batch; a few times an epoch, show the loss."""
        if run.reporting:
            means = f"perda {number(run.tally.loss, 3)}, acurácia {percent(run.tally.accuracy)}"
            bar.set_postfix_str(means, refresh=False)
        bar.update()

    options = {"unit": "lote", "file": sys.stdout, "mininterval": 0.5, "dynamic_ncols": True}
    bar = tqdm(desc=epoch_under_way(), total=epochs * run.batches.steps, initial=run.batches.done, **options)
    for epoch in range(len(history.val_loss)):  # of the run that is resumed
        tell(epoch)
    run.on_batch.append(move)
    run.on_epoch.append(lambda run: tell(len(history.val_loss) - 1))
    return bar
