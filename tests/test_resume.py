"""Interrupted and resumed equals uninterrupted, bit for bit: on a CPU, with as many threads."""

import errno
import os
import signal
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from classificador.errors import CheckpointError, SettingsError, WriteError
from classificador.files.model_file import load_model, save_checkpoint
from classificador.network.build import build, make_network, make_optimizer
from classificador.network.cnn import CNN
from classificador.recipes import make_settings
from classificador.training import trainer as trainer_module
from classificador.training.fit import fit
from classificador.training.history import Tally
from classificador.training.run_folder import Runs
from conftest import INFO, ROOT, runs_of

STEPS = 16  # batches an epoch, which shows each of the 520 images twice: 1040 // 64


@pytest.fixture(scope="module")
def settings():
    """A second's run of three epochs with every random part of training on."""
    return make_settings(epochs=3, batch_size=64, channels=(4, 8), hidden=16, device="cpu")


class Dropping(CNN):
    """With dropout, as a user may add it: its draws must be the same in a resumed run."""

    def __init__(self, **sizes):
        super().__init__(**sizes)
        self.fc2.register_forward_pre_hook(lambda _, inputs: F.dropout(inputs[0], 0.2, self.training))


class Outcome:
    """All that a run leaves: weights, optimizer, random draws, history (but for the seconds) and the best file."""

    def __init__(self, settings, data, path, resume=False):
        model = build(settings, data, Dropping)
        optimizer, criterion = make_optimizer(model, settings), nn.CrossEntropyLoss(label_smoothing=0.1)
        self.history = fit(model, data, criterion, optimizer, settings, path, resume=resume)
        moments = [value for state in optimizer.state_dict()["state"].values() for value in state.values()]
        self.tensors = [*model.state_dict().values(), *moments, torch.rand(3)]
        self.lr = optimizer.param_groups[0]["lr"]
        self.best = list(load_model(path).state_dict().values()) if path.exists() else []

    def __eq__(self, other):
        mine, theirs = self.tensors + self.best, other.tensors + other.best
        same = len(mine) == len(theirs) and all(torch.equal(a, b) for a, b in zip(mine, theirs, strict=True))
        histories = [outcome.history.to_dict() | {"seconds": None} for outcome in (self, other)]
        return same and self.lr == other.lr and histories[0] == histories[1]


@pytest.fixture(scope="module")
def uninterrupted(settings, toy, tmp_path_factory):
    return Outcome(settings, toy, tmp_path_factory.mktemp("whole") / "best.pth")


def stop_after(monkeypatch, batches, number=signal.SIGINT):
    """Let the signal arrive inside each of the batches with these numbers, counted over the whole run."""
    original, seen = Tally.add, []

    def add(tally, *batch):
        original(tally, *batch)
        seen.append(batch)
        if len(seen) in batches:
            signal.raise_signal(number)

    monkeypatch.setattr(Tally, "add", add)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("batch", [1, 5, STEPS, STEPS + 1, 2 * STEPS - 1, 3 * STEPS - 1])
def test_stopped_and_resumed_equals_uninterrupted(toy, settings, uninterrupted, tmp_path, monkeypatch, batch, number):
    path = tmp_path / "best.pth"
    with monkeypatch.context() as patch:
        stop_after(patch, {batch}, number)
        stopped = Outcome(settings, toy, path).history
    assert stopped.interrupted == number
    assert len(stopped.val_loss) == batch // STEPS
    torch.rand(7)  # the global generator's past must not matter
    assert Outcome(settings, toy, path, resume=True) == uninterrupted
    assert Runs(path).interrupted() is None


@pytest.mark.slow
@pytest.mark.parametrize("native", [False, True], ids=["float32", "bfloat16"])
def test_in_either_precision_the_same_seed_gives_the_same_bits_also_when_resumed(
    toy, settings, tmp_path, monkeypatch, native
):
    monkeypatch.setattr("classificador.device.has_bf16", lambda device: native)
    settings = replace(settings, epochs=2)
    whole, again = (Outcome(settings, toy, tmp_path / name) for name in ("a.pth", "b.pth"))
    assert whole == again
    with monkeypatch.context() as patch:
        stop_after(patch, {5})
        assert Outcome(settings, toy, tmp_path / "c.pth").history.interrupted
    assert Outcome(settings, toy, tmp_path / "c.pth", resume=True) == whole
    monkeypatch.setattr("classificador.device.has_bf16", lambda device: not native)
    assert Outcome(settings, toy, tmp_path / "d.pth") != whole


@pytest.mark.slow
def test_a_run_stopped_many_times_equals_uninterrupted(toy, settings, uninterrupted, tmp_path, monkeypatch):
    path = tmp_path / "best.pth"
    stop_after(monkeypatch, {2, 3, STEPS + 1, 2 * STEPS, 2 * STEPS + 4})
    outcomes = [Outcome(settings, toy, path, resume=turn > 0) for turn in range(6)]
    assert [bool(outcome.history.interrupted) for outcome in outcomes] == [True] * 5 + [False]
    assert outcomes[-1] == uninterrupted


def test_a_signal_while_the_last_epoch_is_validated_comes_too_late(toy, settings, uninterrupted, tmp_path, monkeypatch):
    stop_after(monkeypatch, {3 * STEPS})
    assert Outcome(settings, toy, tmp_path / "best.pth") == uninterrupted


def test_two_signals_the_second_while_saving(toy, settings, uninterrupted, tmp_path, monkeypatch):
    path = tmp_path / "best.pth"
    fsync, written = os.fsync, []

    def interrupted(handle):
        signal.raise_signal(signal.SIGINT)
        written.append(handle)
        fsync(handle)

    with monkeypatch.context() as patch:
        stop_after(patch, {5})
        patch.setattr(os, "fsync", interrupted)
        assert Outcome(settings, toy, path).history.interrupted
    assert written
    assert Outcome(settings, toy, path, resume=True) == uninterrupted


def test_an_interrupt_leaves_the_best_file_untouched(toy, settings, tmp_path, monkeypatch):
    path = tmp_path / "best.pth"
    save_checkpoint(path, make_network(CNN, channels=(4, 8), hidden=16), INFO)
    before = path.read_bytes()
    stop_after(monkeypatch, {STEPS - 1})
    assert Outcome(settings, toy, path).history.val_loss == []
    assert path.read_bytes() == before


def test_signals_work_as_before_after_training(toy, small, tmp_path):
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    Outcome(small, toy, tmp_path / "best.pth")
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers


CHILD = """
import os, signal, sys
sys.path.insert(0, {root!r})
import torch
torch.set_num_threads({threads})
from conftest import toy
from test_resume import Outcome
from classificador.training import trainer as trainer_module
from classificador.training.history import Tally
from classificador.recipes import make_settings
trainer_module.KEEP_EVERY = {keep_every!r}
function, at, path = sys.argv[1], int(sys.argv[2]), sys.argv[3]
owner, name = {{"batch": (Tally, "add"), "fsync": (os, "fsync"), "replace": (os, "replace")}}[function]
original, calls = getattr(owner, name), []
def killing(*arguments):
    calls.append(arguments)
    if len(calls) == at:
        print("killed in", function, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    return original(*arguments)
setattr(owner, name, killing)
from pathlib import Path
Outcome(make_settings(**{settings!r}), toy.__wrapped__(), Path(path))
"""


def killed(settings, path, function, at, keep_every=60.0):
    """Train in a process that is killed at a call of the function, and return what it said."""
    changes = {name: getattr(settings, name) for name in ("epochs", "batch_size", "channels", "hidden")}
    code = CHILD.format(
        root=str(ROOT / "tests"),
        threads=torch.get_num_threads(),
        settings=changes | {"device": "cpu"},
        keep_every=keep_every,
    )
    child = subprocess.run(
        [sys.executable, "-c", code, function, str(at), str(path)], cwd=ROOT, capture_output=True, text=True
    )
    assert child.returncode == -signal.SIGKILL, child.stderr
    assert f"killed in {function}" in child.stdout


# Each write is a replace after one fsync and before another. The record's two files are written first; then in each
# epoch the best weights in the folder (the eighth write is the second epoch's), at the top, the record and the point to
# go on from.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("function", "at"),
    [("batch", STEPS + 5), ("fsync", 15), ("fsync", 23), *(("replace", write) for write in (8, 9, 10, 12, 13))],
)
def test_killed_and_resumed_equals_uninterrupted(toy, settings, uninterrupted, tmp_path, function, at):
    path = tmp_path / "best.pth"
    killed(settings, path, function, at)
    load_model(path)  # complete, whenever the kill came
    assert Outcome(settings, toy, path, resume=True) == uninterrupted
    assert {file.name for file in tmp_path.iterdir()} == {"best.pth", ".best.pth.lock", "runs"}
    (folder,) = (tmp_path / "runs").iterdir()  # what was at the top was this run's: nothing had to be kept
    assert {file.name for file in folder.iterdir()} == {"best.pth", "history.csv", "run.json"}


@pytest.mark.slow
def test_a_point_to_go_on_from_is_kept_within_an_epoch_too(toy, settings, uninterrupted, tmp_path):
    path = tmp_path / "best.pth"
    killed(settings, path, "batch", 5, keep_every=-1.0)
    assert torch.load(Runs(path).interrupted(), weights_only=True)["state"]["batches"]["done"] == 4
    assert Outcome(settings, toy, path, resume=True) == uninterrupted


def test_within_an_epoch_a_point_is_kept_once_a_minute(toy, settings, tmp_path, monkeypatch):
    kept, now, add = [], [0.0], Tally.add

    def slowly(tally, *batch):
        now[0] += 25  # seconds
        add(tally, *batch)

    monkeypatch.setattr(Tally, "add", slowly)
    monkeypatch.setattr("classificador.training.history.time.perf_counter", lambda: now[0])
    monkeypatch.setattr(trainer_module, "save_point", lambda point: kept.append(point.state["batches"]["done"]))
    Outcome(settings, toy, tmp_path / "best.pth")
    assert kept == [3, 6, 9, 12, 15, STEPS, 19, 22, 25, 28, 31, 2 * STEPS, 35, 38, 41, 44, 47]


@pytest.fixture
def stopped(toy, settings, tmp_path, monkeypatch):
    """The path of a run that was stopped in its second epoch."""
    with monkeypatch.context() as patch:
        stop_after(patch, {STEPS + 3})
        Outcome(settings, toy, tmp_path / "best.pth")
    return tmp_path / "best.pth"


@pytest.mark.slow
@pytest.mark.parametrize("change", [{"lr": 0.02}, {"epochs": 9}, {"seed": 1}, {"channels": (8, 8)}])
def test_other_settings_are_refused(toy, settings, stopped, change):
    before = Runs(stopped).interrupted().read_bytes()
    with pytest.raises(SettingsError, match=f"^{next(iter(change))}: "):
        Outcome(replace(settings, **change), toy, stopped, resume=True)
    assert Runs(stopped).interrupted().read_bytes() == before


def test_nothing_to_resume_says_so(toy, settings, tmp_path):
    with pytest.raises(CheckpointError, match="Não há treino interrompido"):
        Outcome(settings, toy, tmp_path / "best.pth", resume=True)


def test_another_network_is_refused_by_name(toy, settings, stopped):
    class Linear(nn.Sequential):
        def __init__(self):
            super().__init__(nn.Flatten(), nn.Linear(3072, 10))

    model = make_network(Linear)
    with pytest.raises(CheckpointError, match="1.weight: na rede"):
        criterion = nn.CrossEntropyLoss(label_smoothing=0.1)
        fit(model, toy, criterion, make_optimizer(model, settings), settings, stopped, resume=True)


def test_other_data_are_refused(toy, settings, stopped):
    other = replace(toy, val=type(toy.val)(toy.val.images[:50], toy.val.labels[:50]))
    with pytest.raises(CheckpointError, match="mudou: dados"):
        Outcome(settings, other, stopped, resume=True)


@pytest.mark.parametrize("change", ["pixels", "labels", "order"])
def test_as_many_other_pictures_are_refused(toy, settings, stopped, change):
    images, labels = toy.train.images.clone(), toy.train.labels.clone()
    if change == "pixels":
        images[3] = 255 - images[3]
    elif change == "labels":
        labels[3] = (labels[3] + 1) % 10
    else:
        images[[3, 4]] = images[[4, 3]]
    with pytest.raises(CheckpointError, match="mudou: dados"):
        Outcome(settings, replace(toy, train=type(toy.train)(images, labels)), stopped, resume=True)


def test_best_and_resume_files_are_told_apart(toy, settings, stopped):
    with pytest.raises(CheckpointError, match="um treino interrompido, para retomar"):
        load_model(Runs(stopped).interrupted())
    Runs(stopped).interrupted().write_bytes(stopped.read_bytes())
    with pytest.raises(CheckpointError, match="é um modelo pronto"):
        Outcome(settings, toy, stopped, resume=True)


def test_a_damaged_resume_file_is_refused(toy, settings, stopped):
    data = bytearray(Runs(stopped).interrupted().read_bytes())
    data[len(data) // 2] ^= 1
    Runs(stopped).interrupted().write_bytes(data)
    with pytest.raises(CheckpointError, match="danificado"):
        Outcome(settings, toy, stopped, resume=True)


@pytest.mark.slow
@pytest.mark.parametrize("part", ["batches", "random", "history", "tally", "clock", "model", "optimizer"])
def test_a_state_without_one_of_its_parts_is_refused_in_one_line(toy, settings, stopped, part):
    content = torch.load(Runs(stopped).interrupted(), weights_only=True)
    del content["state"][part]
    torch.save(content, Runs(stopped).interrupted())
    with pytest.raises(CheckpointError, match="não serve para retomar") as caught:
        Outcome(settings, toy, stopped, resume=True)
    assert "\n" not in str(caught.value)


def test_the_best_weights_come_back_when_their_file_was_replaced(toy, settings, uninterrupted, stopped):
    save_checkpoint(stopped, make_network(CNN, channels=(4, 8), hidden=16), INFO | {"val_accuracy": 2.0})
    foreign = stopped.read_bytes()
    assert Outcome(settings, toy, stopped, resume=True) == uninterrupted
    (kept,) = stopped.parent.glob("runs/*-anterior/best.pth")
    assert kept.read_bytes() == foreign


def test_a_better_earlier_file_is_still_known_after_a_stop(toy, settings, tmp_path, monkeypatch, capsys):
    path = tmp_path / "best.pth"
    save_checkpoint(path, make_network(CNN, channels=(4, 8), hidden=16), INFO | {"val_accuracy": 2.0})
    with monkeypatch.context() as patch:
        stop_after(patch, {STEPS + 3})
        Outcome(settings, toy, path)
    capsys.readouterr()
    Outcome(settings, toy, path, resume=True)
    (kept,) = tmp_path.glob("runs/*-anterior/best.pth")
    assert "O modelo anterior era melhor na validação (200,00% contra" in capsys.readouterr().out
    assert load_model(kept).info.val_accuracy == 2.0


@pytest.mark.slow
def test_a_second_training_on_the_same_file_is_refused_and_names_the_first(toy, small, tmp_path):
    path = tmp_path / "best.pth"
    holder = subprocess.Popen(
        [sys.executable, "-c", "import sys; from classificador.training.run_folder import RunFolder, Runs\n"
         "with RunFolder(Runs(sys.argv[1])): print(flush=True); sys.stdin.read()", str(path)],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    holder.stdout.readline()
    with pytest.raises(WriteError, match=f"processo {holder.pid}"):
        Outcome(small, toy, path)
    holder.kill()
    holder.communicate()
    Outcome(small, toy, path)  # a dead holder holds nothing


def test_a_place_that_cannot_be_locked_for_want_of_rights_is_refused(toy, small, tmp_path, monkeypatch):
    def denied(lock, **options):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("classificador.atomic.FileLock.acquire", denied)
    with pytest.raises(WriteError, match="sem permissão"):
        Outcome(small, toy, tmp_path / "best.pth")


def test_a_file_system_without_locks_is_no_hindrance(toy, small, tmp_path, monkeypatch):
    def missing(lock, **options):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("classificador.atomic.FileLock.acquire", missing)
    assert Outcome(small, toy, tmp_path / "best.pth").history.val_loss


def test_starting_anew_keeps_every_interrupted_run(toy, settings, uninterrupted, tmp_path, monkeypatch, capsys):
    path = tmp_path / "best.pth"
    stop_after(monkeypatch, {STEPS + 3, STEPS + 4})  # the second run after a batch
    for _ in range(2):
        Outcome(settings, toy, path)
    monkeypatch.undo()
    first, second = runs_of(tmp_path)
    assert f"Há um treino interrompido em {first}, que fica lá para retomar" in capsys.readouterr().out
    for folder, left in ((second, first / "best.retomar.pth"), (first, None)):  # the newest first
        assert Outcome(settings, toy, path, resume=True) == uninterrupted
        assert Runs(path).interrupted() == left
        assert (folder / "best.pth").read_bytes() == path.read_bytes()


def test_a_closed_terminal_stops_a_training_too(toy, settings, tmp_path, monkeypatch):
    stop_after(monkeypatch, {5}, signal.SIGHUP)
    assert Outcome(settings, toy, tmp_path / "best.pth").history.interrupted == signal.SIGHUP


def resumed(settings, toy, path, network=CNN, optimizer=make_optimizer, criterion=None):
    model = build(settings, toy, network)
    criterion = criterion or nn.CrossEntropyLoss(label_smoothing=0.1)
    return fit(model, toy, criterion, optimizer(model, settings), settings, path, resume=True)


class Swapped(CNN):
    """The same layers by name and shape, in another order, by which the optimizer knows them."""

    def __init__(self, **architecture):
        super().__init__(**architecture)
        self.fc2 = self._modules.pop("fc2")
        self.conv2 = self._modules.pop("conv2")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"network": Swapped}, "mudou: rede"),
        ({"criterion": nn.CrossEntropyLoss()}, "mudou: critério"),
        ({"optimizer": lambda model, _: torch.optim.SGD(model.parameters(), lr=0.01)}, "mudou: otimizador"),
        ({"optimizer": lambda model, _: torch.optim.Adam(model.parameters(), lr=0.5)}, "mudou: otimizador"),
    ],
    ids=["order of layers", "loss", "kind of optimizer", "its options"],
)
def test_an_edited_notebook_is_refused_rather_than_mixed(toy, settings, stopped, changes, words):
    with pytest.raises(CheckpointError, match=words):
        resumed(settings, toy, stopped, **changes)


def hostile(path, **changes):
    """Change parts of what the resume file holds."""
    content = torch.load(Runs(path).interrupted(), weights_only=True)
    for part, change in changes.items():
        if part in content:
            content[part] = change
        else:
            content["state"][part] |= change
    torch.save(content, Runs(path).interrupted())


@pytest.mark.slow
@pytest.mark.parametrize("averages", [{"exp_avg": torch.zeros(1)}, {"exp_avg": torch.tensor(1.0)}, {"exp_avg": 3.0},
                                      {"step": torch.zeros(2)}, {"exp_avg_sq": torch.zeros(1), "more": 1}])  # fmt: skip
def test_averages_that_adam_could_not_use_are_refused(toy, settings, stopped, averages):
    optimizer = torch.load(Runs(stopped).interrupted(), weights_only=True)["state"]["optimizer"]
    for state in optimizer["state"].values():
        state.update(averages)  # fused Adam would read on behind a shorter one
    hostile(stopped, optimizer=optimizer)
    with pytest.raises(CheckpointError, match="não serve para retomar"):
        Outcome(settings, toy, stopped, resume=True)


def test_an_optimizer_edited_in_the_file_is_refused_and_its_lr_is_the_schedules(toy, settings, uninterrupted, stopped):
    optimizer = torch.load(Runs(stopped).interrupted(), weights_only=True)["state"]["optimizer"]
    whole = Runs(stopped).interrupted().read_bytes()
    optimizer["param_groups"][0]["maximize"] = True
    hostile(stopped, optimizer=optimizer)
    with pytest.raises(CheckpointError, match="mudou: otimizador"):
        Outcome(settings, toy, stopped, resume=True)
    Runs(stopped).interrupted().write_bytes(whole)
    optimizer["param_groups"][0] |= {"maximize": False, "lr": 100.0}
    hostile(stopped, optimizer=optimizer)
    assert Outcome(settings, toy, stopped, resume=True) == uninterrupted


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="Windows has no SIGHUP")
def test_an_ignored_signal_stays_ignored_as_under_nohup(toy, small, tmp_path, monkeypatch):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        stop_after(monkeypatch, {3}, signal.SIGHUP)
        assert Outcome(small, toy, tmp_path / "best.pth").history.interrupted == 0
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"batches": {"done": 10.5}},
        {"batches": {"done": 10**6}},
        {"batches": {"done": -1}},
        {"batches": {"order": torch.zeros(1040, dtype=torch.int64)}},
        {"batches": {"order": torch.arange(1040.0)}},
        {"batches": {"order": torch.arange(519)}},
        {"tally": {"sums": torch.zeros(2, 3)}},
        {"clock": {"seconds": float("nan")}},
        {"history": {"steps": [[1.0, 2.0]]}},
        {"history": {"val_loss": [None]}},
        {
            "history": {
                name: [1.0] * 7 for name in ("train_loss", "train_accuracy", "val_loss", "val_accuracy", "seconds")
            }
        },
        {"history": {"val_loss": 3, "unknown": 4}},
        {"clock": {"seconds": 10**400}},
        {"batches": {"generator": torch.zeros(3, dtype=torch.uint8)}},
        {"random": {"cpu": torch.zeros(3, dtype=torch.uint8)}},
        {"settings": {"preset": "\x1b[2J", "epochs": 3}},
        {"settings": {"preset": "rapido", "unknown": 3}},
    ],
    ids=[
        *(
            "half a step",
            "far step",
            "negative step",
            "wrong order",
            "order of floats",
            "short order",
            "long sums",
            "no time",
            "short point",
            "no loss",
            "long history",
            "other history",
            "endless time",
            "short generator",
            "short global generator",
        ),
        *("escapes", "unknown setting"),
    ],
)
def test_a_hostile_state_is_refused_in_one_line_and_the_best_file_stays(toy, settings, stopped, changes):
    before = stopped.read_bytes()
    hostile(stopped, **changes)
    with pytest.raises(CheckpointError) as caught:
        Outcome(settings, toy, stopped, resume=True)
    assert str(caught.value).isprintable()
    assert stopped.read_bytes() == before
