"""fit(): a whole training, from the checks before it to the files it leaves."""

import signal
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import torch
from torch import nn
from torch.optim import Optimizer

from classificador import distributed
from classificador.assemble import epochs_trained
from classificador.batches import Batches
from classificador.best import BestCheckpoint
from classificador.brazilian import number
from classificador.dataset import ImageData, Split
from classificador.device import autocast, choose_device, describe_device, keep_freed_memory, memory_format
from classificador.errors import DivergenceError, NotFiniteError, SettingsError
from classificador.history import Clock, History, Tally
from classificador.inference import predict_logits
from classificador.interrupt import StopRequest, stop_requests
from classificador.loop import train_epoch
from classificador.model_file import check_saveable
from classificador.resume import (
    ModelState,
    OptimizerState,
    RandomState,
    Stateful,
    prepare_resume,
    restore_state,
    resume_path,
    save_state,
)
from classificador.settings import Settings
from classificador.teacher import Teacher, load_teacher
from classificador.tracking import RunRecord
from classificador.watchers import Curves, KeepBest, KeepRecord, ProgressBar, Watcher, trained_with

HOPELESS = 1e12  # a loss from which no training comes back


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
    """Train `model` in place on `data.train` and keep its best weights by validation accuracy in the file `checkpoint`.

    An interrupt (Ctrl-C, the notebook's stop button, SIGTERM) ends the run after the batch at hand and returns the
    history of the complete epochs. With resume=True a later call goes on from there, or, when the process was killed,
    from the last complete epoch; on a CPU the result is that of an uninterrupted run, bit for bit.
    Called by several processes (distributed.py) it trains in all of them, and the first writes the files.
    watch: called with the history a few times an epoch and after each one, to draw it.
    Raises SettingsError (batch larger than the set or than the GPU holds, device missing, resumed with other settings),
    CheckpointError (file cannot be written, or in use, or nothing to resume) and DivergenceError (loss NaN or infinite;
    the file keeps the best weights reached before).
    """
    _check(model, data, settings)
    device = choose_device(settings.device)
    teacher = load_teacher(settings.teacher, data, device) if settings.teacher else None
    keep_freed_memory()
    torch.backends.cudnn.benchmark = True  # on NVIDIA: tries which algorithm is quickest for each size of batch
    first = distributed.rank() == 0  # the process that writes the files
    with stop_requests() as stop, BestCheckpoint(checkpoint) if first else nullcontext() as best:
        if first:
            prepare_resume(checkpoint, resume)
        with RunRecord(checkpoint, settings) if first else nullcontext() as record, _full_memory_told(settings):
            path, run = resume_path(checkpoint), _begin(model, data, criterion, optimizer, settings, device, teacher)
            if best:
                run.parts["best"] = best
            saved = {}
            if resume:
                saved = restore_state(checkpoint, run, settings, _setup(run))
            elif run.history.earlier_epochs:
                earlier = number(run.history.earlier_epochs, 1)
                print(f"Esta rede já treinou {earlier} épocas, e o treino parte dos pesos dela; build(…) cria outra.")
            if record:
                record.begin(_facts(run), run.history, str(saved.get("folder", "")))
                run.watchers += [KeepBest(best), KeepRecord(record)]
            if watch:
                watch(run.history)  # before the bar, so that in a notebook the curves stand above it
                run.watchers.append(Curves(watch))

            def keep(asked: int) -> None:
                """Write the resume file; asked: the signal that asked to stop, 0 for none."""
                state = run.state_dict()
                if record:
                    job = "" if asked == signal.SIGINT else distributed.job()  # Ctrl-C is meant
                    save_state(path, state, settings, {"setup": _setup(run), "folder": record.name, "job": job})

            with ProgressBar(run) as bar:
                run.watchers.append(bar)
                run.train(stop, keep)
                if run.history.interrupted:
                    bar.write(f"Interrompido; guardado em {path}, para retomar.")
        if first and not run.history.interrupted:  # after the record: a job started anew looks for one of the two
            path.unlink(missing_ok=True)
    return run.history


def _check(model: nn.Module, data: ImageData, settings: Settings) -> None:
    """Raise the errors that need no training to be seen."""
    if settings.batch_size > len(data.train.labels):
        raise SettingsError(
            f"{settings.batch_size} é maior que as {len(data.train.labels)} imagens de treino; "
            f"use um menor, como {max(2, len(data.train.labels) // 8)}.",
            "batch_size",
        )
    if settings.batch_size < distributed.size():
        raise SettingsError(f"precisa ser pelo menos {distributed.size()}, o número de processos.", "batch_size")
    if not all(torch.isfinite(value).all() for value in model.state_dict().values()):
        raise DivergenceError("A rede começa com pesos não finitos, talvez de um treino que divergiu. Crie-a de novo.")
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
        raise SettingsError(remedy, "batch_size") from error


def _begin(
    model: nn.Module,
    data: ImageData,
    criterion: nn.Module,
    optimizer: Optimizer,
    settings: Settings,
    device: torch.device,
    teacher: Teacher | None,
) -> "Run":
    """Bring everything to the device. Raises DataError when the processes have different data or teachers."""
    model.to(device=device, memory_format=memory_format(device))
    train, val = (Split(part.images.to(device), part.labels.to(device)) for part in (data.train, data.val))
    run = Run(model, Batches(train, settings, list(data.classes), teacher), val, criterion, optimizer)
    distributed.check_same((run.fingerprint, teacher and teacher.facts))
    return run


class Run:
    """A training under way: the things it is made of, those of them that have a state, and who watches it."""

    def __init__(self, model: nn.Module, batches: Batches, val: Split, criterion: nn.Module, optimizer: Optimizer):
        self.model, self.batches, self.val, self.criterion, self.optimizer = model, batches, val, criterion, optimizer
        self.settings, self.device = batches.settings, val.images.device
        self.network = distributed.wrap(model)  # the model as it is called in training
        for group in optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])
        torch.manual_seed(self.settings.seed)  # dropout draws from the global generator
        self.history, self.tally, self.clock = History(), Tally(self.device), Clock()
        self.history.earlier_epochs = epochs_trained(model)
        self.parts: dict[str, Stateful] = {
            "model": ModelState(model),
            "optimizer": OptimizerState(optimizer),
            "batches": batches,
            "random": RandomState(self.device),
            "history": self.history,
            "tally": self.tally,
            "clock": self.clock,
        }
        self.watchers: list[Watcher] = []
        self.reporting = False  # whether the sums were read after the last batch
        self.loss = self.accuracy = 0.0  # means of the epoch under way, when they were last read
        self.logits = torch.empty(0)  # what the network answers to the validation images, after an epoch
        self.fingerprint = _check_sum([batches.split, val])

    def train(self, stop: StopRequest, keep: Callable[[int], None]) -> None:
        """Train to the last epoch or until asked to stop; keep() what there is after each epoch, and then.

        Raises DivergenceError.
        """
        epochs = self.settings.epochs
        while self.batches.epoch < epochs and not self.history.interrupted:
            try:
                if self._train_epoch(stop):
                    self._validate()
            finally:
                trained = self.batches.done / self.batches.steps
                self.model.epochs_trained = self.history.earlier_epochs + trained
            if self.batches.epoch < epochs:
                asked = distributed.largest(stop.number)
                try:
                    keep(asked)
                except NotFiniteError as error:
                    raise self._divergence() from error
                self.history.interrupted = asked

    def _train_epoch(self, stop: StopRequest) -> bool:
        """The rest of the epoch. False if asked to stop before its end."""
        batches, settings = self.batches, self.settings
        if batches.step == 0:
            self.tally.clear()
        distributed.seed_dropout(settings.seed, batches.epoch)
        criterion = distributed.weigh(self.criterion, settings.batch_size)
        share = settings.batch_size / distributed.size()  # of a batch's loss, in images
        report_every = max(1, batches.steps // 20)

        def after_batch(loss: torch.Tensor, logits: torch.Tensor, targets: torch.Tensor) -> bool:
            """Count the batch, tell the watchers, and return whether to stop before the epoch's end."""
            self.tally.add(loss * share, logits, targets)
            self.reporting = batches.step % report_every == 0  # the last one of an epoch, too: it is step 0
            if self.reporting:
                self._report()
            for watcher in self.watchers:
                watcher.batch(self)
            # Several processes stop after the same batch, which costs them a message: not after every one.
            asked = distributed.largest(stop.number) if self.reporting or distributed.size() == 1 else 0
            return bool(asked) and batches.step > 0

        complete = train_epoch(self.network, batches, criterion, self.optimizer, after_batch)
        if not complete:
            self._read()
        return complete

    def _report(self) -> None:
        """Read the means so far and add them to the history, of so many epochs of one that it stays small."""
        self._read()
        epoch = len(self.history.val_loss)
        if epoch % (1 + self.settings.epochs // 200) == 0:
            self.history.steps.append([self.batches.done / self.batches.steps, self.loss, self.accuracy])

    def _read(self) -> None:
        """Read the means of the epoch under way. Raises DivergenceError unless training can go on with them."""
        seen = (self.batches.done - len(self.history.val_loss) * self.batches.steps) * self.settings.batch_size
        self.loss, self.accuracy = (value / seen for value in distributed.total(self.tally.sums).tolist())
        if not abs(self.loss) < HOPELESS:
            raise self._divergence()

    def _validate(self) -> None:
        """Add the epoch to the history."""
        with autocast(self.device):
            self.logits = predict_logits(self.model, self.val.images)
        labels, history = self.val.labels, self.history
        val_loss = self.criterion(self.logits, labels).item()
        if not abs(val_loss) < HOPELESS:
            raise self._divergence()
        history.train_loss.append(self.loss)
        history.train_accuracy.append(self.accuracy)
        history.val_loss.append(val_loss)
        history.val_accuracy.append((self.logits.argmax(1) == labels).sum().item() / len(labels))
        history.seconds.append(self.clock.seconds)
        for watcher in self.watchers:
            watcher.epoch(self)

    def _divergence(self) -> DivergenceError:
        epoch, lr = len(self.history.val_loss), self.optimizer.param_groups[0]["initial_lr"]
        return DivergenceError(
            f"O treino divergiu (perda não finita ou enorme): época {epoch + 1}, até o lote "
            f"{self.batches.done - epoch * self.batches.steps}, lr {lr:.2g}. Use um lr menor."
        )

    def state_dict(self) -> dict:
        """All that the rest of the run depends on. Of several processes each has to ask for it."""
        return {name: part.state_dict() for name, part in self.parts.items()}

    def load_state_dict(self, state: dict) -> None:
        """Go on from there. Raises an exception of any kind for what no run leaves."""
        if len(state["history"]["val_loss"]) != state["batches"]["done"] // self.batches.steps:
            raise ValueError("história incompleta")
        for name, part in self.parts.items():
            part.load_state_dict(state[name])


def _setup(run: Run) -> dict:
    """What must be as it was for a run to go on, under the names a reader finds in the message."""
    train, teacher = run.batches.split, run.batches.teacher
    return {
        "dados": [run.batches.classes, len(train), len(run.val), train.images.shape[-1], run.fingerprint],
        "otimizador": OptimizerState(run.optimizer).options(),
        "critério": [type(run.criterion).__name__, _plain_attributes(run.criterion)],
        "dispositivo": run.device.type,
    } | ({"professor": teacher.facts} if teacher else {})


def _facts(run: Run) -> dict:
    """What its record says of the run."""
    data = {"classes": run.batches.classes, "train": len(run.batches.split), "val": len(run.val)}
    return {
        "device": describe_device(run.device),
        "processes": distributed.size(),
        "job": distributed.job(),
        "data": data | {"crc32": f"{run.fingerprint:08x}"},
        "settings": trained_with(run),
    }


def _check_sum(splits: list[Split]) -> int:
    """Of the images and labels, in order, to tell other data by."""
    total = 0
    for split in splits:
        for part in (split.images, split.labels):
            total = zlib.crc32(part.cpu().contiguous().numpy(), total)
    return total


def _plain_attributes(criterion: nn.Module) -> dict:
    """The plain attributes of a loss, such as label_smoothing; its repr does not show them."""
    return {name: value for name, value in vars(criterion).items() if isinstance(value, int | float | str)}
