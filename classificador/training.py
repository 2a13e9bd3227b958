"""The training loop: batches, schedule, validation, the best weights kept as they improve."""

import platform
import signal
import sys
import time
import zlib
from collections.abc import Callable
from contextlib import nullcontext
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path

import torch
from torch import nn
from tqdm import tqdm

from classificador import distributed
from classificador.batches import make_batch
from classificador.best import BestCheckpoint
from classificador.brazilian import number, percent
from classificador.calibration import fit_doubt, fit_temperature
from classificador.dataset import ImageData, Split
from classificador.device import autocast, choose_device, describe_device, keep_freed_memory, memory_format, precision
from classificador.errors import DivergenceError, NotFiniteError, SettingsError
from classificador.history import History
from classificador.inference import predict_logits
from classificador.interrupt import StopRequest, stop_requests
from classificador.model_file import check_saveable
from classificador.resume import prepare_resume, restore_state, resume_path, save_state
from classificador.settings import Settings
from classificador.teacher import load_teacher
from classificador.tracking import RunRecord

WARM_UP = 0.2  # of a run, in which the learning rate rises; a tenth was no better (validation, one seed)
HOPELESS = 1e12  # a loss from which no training comes back


def fit(
    model: nn.Module,
    data: ImageData,
    criterion: nn.Module,
    optimizer: torch.optim.Optimizer,
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
    if settings.batch_size > len(data.train.labels):
        raise SettingsError(
            f"{settings.batch_size} é maior que as {len(data.train.labels)} imagens de treino; "
            f"use um menor, como {max(2, len(data.train.labels) // 8)}.",
            "batch_size",
        )
    if settings.batch_size < distributed.size():
        raise SettingsError(f"precisa ser pelo menos {distributed.size()}, o número de processos.", "batch_size")
    device = choose_device(settings.device)
    keep_freed_memory()
    torch.backends.cudnn.benchmark = True  # on NVIDIA: tries which algorithm is quickest for each size of batch
    if not all(torch.isfinite(value).all() for value in model.state_dict().values()):
        raise DivergenceError("A rede começa com pesos não finitos, talvez de um treino que divergiu. Crie-a de novo.")
    check_saveable(model)
    teacher = None
    if settings.teacher:
        teacher = load_teacher(settings.teacher, list(data.classes), data.train.images.shape[-1], device)
    writes = distributed.rank() == 0
    with stop_requests() as stop, BestCheckpoint(checkpoint) if writes else nullcontext() as best:
        if writes:
            prepare_resume(checkpoint, resume)
        with RunRecord(checkpoint, settings) if writes else nullcontext() as record:
            try:
                model.to(device=device, memory_format=memory_format(device))
                run = _Run(model, data, criterion, optimizer, settings, device, teacher, best, record, watch)
                distributed.check_same((run.fingerprint, teacher and teacher.facts))
                if resume:
                    restore_state(run, checkpoint)
                run.begin_record()
                run.train(stop, resume_path(checkpoint))
            except (RuntimeError, MemoryError) as error:
                if not _out_of_memory(error):
                    raise
                smaller = max(2, settings.batch_size // 2)
                remedy = f"a memória do dispositivo não basta com lotes de {settings.batch_size}; tente {smaller}."
                raise SettingsError(remedy, "batch_size") from error
        if writes and not run.history.interrupted:  # after the record: a job started anew looks for one of the two
            resume_path(checkpoint).unlink(missing_ok=True)
    return run.history


def _out_of_memory(error: Exception) -> bool:
    """On a CPU torch says so with a plain RuntimeError."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)


class _Run:
    """The moving parts of one call of fit(). Whatever changes from batch to batch is kept by resume.py.

    best, record: None in a process that writes no files.
    """

    def __init__(self, model, data, criterion, optimizer, settings, device, teacher, best, record, watch):
        self.model, self.criterion, self.optimizer = model, criterion, optimizer
        self.network = distributed.wrap(model)  # the model as it is called in training
        self.settings, self.device, self.teacher = settings, device, teacher
        self.best, self.record = best, record
        self.watch = watch or (lambda history: None)
        self.classes = list(data.classes)
        self.train_split = Split(data.train.images.to(device), data.train.labels.to(device))
        self.val_split = Split(data.val.images.to(device), data.val.labels.to(device))
        self.steps = len(self.train_split) // settings.batch_size  # the last, incomplete batch is left out
        total = settings.epochs * self.steps
        self.schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: lr_factor(step, total))
        self.generator = torch.Generator(device).manual_seed(settings.seed)
        torch.manual_seed(settings.seed)  # dropout draws from the global generator
        self.mirrored_first = torch.randint(2, (len(self.train_split),), generator=self.generator, device=device) > 0
        self.history, self.started = History(), time.perf_counter()
        self.folder = ""  # the name of the run's folder, when it is resumed
        self.epoch, self.step = 0, 0  # complete epochs, and batches of the one under way
        self.recorded = 1 + settings.epochs // 200  # of so many epochs one with its course: the history stays small

    @cached_property
    def fingerprint(self) -> int:
        """A check sum of the images and labels, in order, to tell other data by."""
        total = 0
        for split in (self.train_split, self.val_split):
            for part in (split.images, split.labels):
                total = zlib.crc32(part.cpu().contiguous().numpy(), total)
        return total

    def begin_record(self) -> None:
        """Open the folder in which the run is told; a resumed run goes on in the one it had."""
        if self.record:
            data = {"classes": self.classes, "train": len(self.train_split), "val": len(self.val_split)}
            facts = {
                "device": describe_device(self.device),
                "processes": distributed.size(),
                "job": distributed.job(),
                "data": data | {"crc32": f"{self.fingerprint:08x}"},
            }
            self.record.begin(facts, self.history, self.folder)

    def train(self, stop: StopRequest, resume: Path) -> None:
        """Train to the last epoch or until asked to stop; an unfinished run leaves its resume file."""
        self.watch(self.history)  # before the bar, so that in a notebook the curves stand above it
        total, done = self.settings.epochs * self.steps, self.epoch * self.steps + self.step
        options = {"unit": "lote", "file": sys.stdout, "mininterval": 0.5, "dynamic_ncols": True}
        with tqdm(total=total, initial=done, **options) as self.bar:
            for epoch in range(self.epoch):  # of the run that is resumed
                self._tell(epoch)
            self._train(stop, resume)

    def _train(self, stop: StopRequest, resume: Path) -> None:
        while self.epoch < self.settings.epochs and not self.history.interrupted:
            if self._train_epoch(stop):
                self._validate()
                self.epoch, self.step = self.epoch + 1, 0
            if self.epoch < self.settings.epochs:
                self._keep(resume, distributed.largest(stop.number))
                self.history.interrupted = distributed.largest(stop.number)
        if self.history.interrupted:
            self.bar.write(f"Interrompido; guardado em {resume}, para retomar.", file=sys.stdout)

    def _keep(self, resume: Path, asked: int) -> None:
        """Write the resume file. asked: the signal that asked to stop, 0 for none."""
        sums, job = self._sums(), "" if asked == signal.SIGINT else distributed.job()  # Ctrl-C is meant
        try:
            if self.best:
                save_state(self, sums, resume, job)
        except NotFiniteError as error:
            raise self._divergence() from error

    def _train_epoch(self, stop: StopRequest) -> bool:
        """The rest of the epoch, in a new random order if it begins. False if asked to stop before its end."""
        self.model.train()
        self.bar.set_description(f"Época {self.epoch + 1}/{self.settings.epochs}")
        if self.step == 0:
            self.order = torch.randperm(len(self.train_split), generator=self.generator, device=self.device)
            self.loss_sum, self.correct = torch.zeros(2, device=self.device).unbind()
        if distributed.size() > 1:  # what differs between the processes is dropout
            torch.manual_seed(self.settings.seed + self.epoch * distributed.size() + distributed.rank())
        # Each image and its mirror image in turn, which learns faster than chance (Keller Jordan, airbench, 2024).
        self.mirrored = self.mirrored_first ^ bool(self.epoch % 2) if self.settings.symmetric else None
        report_every = max(1, self.steps // 20)
        for batch in self.order.split(self.settings.batch_size)[self.step : self.steps]:
            self._train_batch(batch)
            self.step += 1
            reporting = self.step % report_every == 0 or self.step == self.steps
            if reporting:
                self._report()
            self.bar.update()
            # Several processes stop after the same batch, which costs them a message: not after every one.
            asked = distributed.largest(stop.number) if reporting or distributed.size() == 1 else 0
            if asked and self.step < self.steps:
                self._check_loss()
                return False
        return True

    def _train_batch(self, batch: torch.Tensor) -> None:
        images, targets = make_batch(
            batch, self.train_split, self.mirrored, self.settings, self.generator, self.teacher, len(self.classes)
        )
        weight = len(images) * distributed.size() / len(batch)  # of our mean loss in that of the batch
        with autocast(self.device):
            logits = self.network(images).float()
        loss = self.criterion(logits, targets)
        self.optimizer.zero_grad(set_to_none=True)
        (loss * weight).backward()
        self.optimizer.step()
        self.schedule.step()
        # Sums stay tensors: reading a value here would make a GPU wait at every step.
        self.loss_sum += loss.detach() * len(images)
        wanted = targets if targets.ndim == 1 else targets.argmax(1)
        self.correct += (logits.detach().argmax(1) == wanted).sum()

    def _sums(self) -> torch.Tensor:
        """The loss and the right answers of the epoch under way, up to here, of all processes."""
        return distributed.total(torch.stack([self.loss_sum, self.correct]))

    def _means(self) -> tuple[float, float]:
        """Mean loss and accuracy of the epoch under way, up to here."""
        loss, correct = self._sums().tolist()
        seen = self.step * self.settings.batch_size
        return loss / seen, correct / seen

    def _check_loss(self, *val_loss: float) -> None:
        """Raise DivergenceError unless the losses so far are finite, and such that training can go on."""
        if not all(abs(loss) < HOPELESS for loss in (self._means()[0], *val_loss)):
            raise self._divergence()

    def _divergence(self) -> DivergenceError:
        lr = self.optimizer.param_groups[0]["lr"]
        return DivergenceError(
            f"O treino divergiu (perda não finita ou enorme): época {self.epoch + 1}, até o lote {self.step}, "
            f"lr {lr:.2g}. Use um lr menor."
        )

    def _report(self) -> None:
        self._check_loss()
        loss, accuracy = self._means()
        if self.epoch % self.recorded == 0:
            self.history.steps.append([self.epoch + self.step / self.steps, loss, accuracy])
        self.bar.set_postfix_str(f"perda {number(loss, 3)}, acurácia {percent(accuracy)}", refresh=False)
        self.watch(self.history)

    def _validate(self) -> None:
        """Add the epoch to the history and keep the weights if they are the run's best so far."""
        with autocast(self.device):
            logits = predict_logits(self.model, self.val_split.images)
        labels = self.val_split.labels
        val_loss = self.criterion(logits, labels).item()
        val_accuracy = (logits.argmax(1) == labels).sum().item() / len(labels)
        self._check_loss(val_loss)
        (loss, accuracy), history = self._means(), self.history
        history.train_loss.append(loss)
        history.train_accuracy.append(accuracy)
        history.val_loss.append(val_loss)
        history.val_accuracy.append(val_accuracy)
        history.seconds.append(time.perf_counter() - self.started)
        if self.best and (self.best.score is None or val_accuracy > self.best.score):
            temperature = fit_temperature(logits, labels)
            doubt = fit_doubt((logits / temperature).softmax(1))
            self.best.save(self.model, self._describe() | {"temperature": temperature, "doubt_below": doubt})
        if self.record:
            self.record.update(history)
        self.watch(history)
        self._tell(self.epoch)

    def _tell(self, epoch: int) -> None:
        history = self.history
        self.bar.write(
            f"Época {epoch + 1}/{self.settings.epochs}: "
            f"perda {number(history.train_loss[epoch], 3)}, validação {number(history.val_loss[epoch], 3)}; "
            f"acurácia {percent(history.train_accuracy[epoch])}, validação {percent(history.val_accuracy[epoch])}",
            file=sys.stdout,
        )

    def _describe(self) -> dict:
        """The plain metadata that travels with the weights: what they are, how good, when and how made."""
        history, train, val = self.history, len(self.train_split), len(self.val_split)
        return {
            "preset": self.settings.preset,
            "settings": self.settings.to_dict(),
            "classes": self.classes,
            "epoch": len(history.val_loss),
            "val_accuracy": history.val_accuracy[-1],
            "val_loss": history.val_loss[-1],
            "seconds": history.seconds[-1],
            "history": history.to_dict(),
            "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "versions": {"torch": str(torch.__version__), "python": platform.python_version()},
            "precision": precision(self.device),
            "teacher": self.teacher.facts if self.teacher else {},
            "split": f"{number(train, 0)} imagens de treino, {number(val, 0)} de validação",
        }


def lr_factor(step: int, total: int) -> float:
    """Fraction of the peak learning rate at a step: a linear rise over the first fifth of the run, then to zero."""
    rise = max(1, round(total * WARM_UP))
    return (step + 1) / rise if step < rise else max(0.0, (total - step) / (total - rise + 1))
