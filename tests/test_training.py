"""A training from beginning to end: what it learns, keeps, records, and how it fails."""

import signal
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from classificador.data.dataset import ImageData, Split
from classificador.device import autocast
from classificador.errors import CheckpointError, DivergenceError, SettingsError
from classificador.files import model_file
from classificador.files.model_file import load_model, read_checkpoint, save_checkpoint
from classificador.network.build import build, make_network, make_optimizer
from classificador.network.cnn import CNN, Symmetric, unwrap
from classificador.network.model_info import describe_checkpoint, info_of
from classificador.recipes import make_settings
from classificador.results.metrics import evaluate
from classificador.results.predict import fit_temperature, predict_logits
from classificador.training.batches import balanced_rows
from classificador.training.fit import fit, train
from classificador.training.history import History
from classificador.training.start import find_start
from classificador.training.trainer import lr_factor
from conftest import INFO


def fit_with(settings, data, path, criterion, watch=None):
    """fit() with the package's own network and optimizer."""
    model = build(settings, data)
    return fit(model, data, criterion, make_optimizer(model, settings), settings, path, watch)


def test_it_learns_and_keeps_the_best_epoch_with_its_exact_figures_and_temperature(toy, small, tmp_path):
    settings = replace(small, epochs=6)
    _, history = train(settings, toy, tmp_path / "best.pth")
    assert max(history.val_accuracy) > 0.5  # chance: 0.1
    assert len(history.train_loss) == len(history.seconds) == 6
    info = read_checkpoint(tmp_path / "best.pth").info
    assert info.val_accuracy == max(history.val_accuracy)
    assert info.epoch == history.best + 1
    with autocast(torch.device("cpu")):  # as in training
        logits = predict_logits(load_model(tmp_path / "best.pth"), toy.val.images)
    assert (logits.argmax(1) == toy.val.labels).sum().item() / len(toy.val) == info.val_accuracy
    loss = nn.functional.cross_entropy(logits, toy.val.labels, label_smoothing=0.1).item()
    assert info.val_loss == history.val_loss[history.best] == pytest.approx(loss, rel=1e-5)
    assert info.temperature == pytest.approx(fit_temperature(logits, toy.val.labels), rel=1e-3)


class Edited(CNN):
    """The class of the notebook with other defaults written into it."""

    def __init__(self, channels=(16, 32), hidden=99, **sizes):
        super().__init__(channels=channels, hidden=hidden, **sizes)


class WithoutArguments(nn.Module):
    """A student's class without any argument."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3072, 10)

    def forward(self, images):
        return self.layer(images.flatten(1) / 255)


def test_what_is_written_in_the_class_is_what_trains_and_a_line_says_so(toy, capsys):
    recipe = make_settings("completo")
    unedited = unwrap(build(recipe, toy))
    assert (unedited.conv1.out_channels, unedited.conv2.out_channels) == recipe.channels
    assert unwrap(build(make_settings(hidden=64), toy)).fc1.out_features == 64
    assert capsys.readouterr().out == ""
    network = unwrap(build(recipe, toy, Edited))
    assert (network.conv1.out_channels, network.conv2.out_channels, network.fc1.out_features) == (16, 32, 99)
    said = capsys.readouterr().out
    assert f"channels = (16, 32), escrito na classe da rede, vale; a receita completo pediria {recipe.channels}" in said
    assert f"hidden = 99, escrito na classe da rede, vale; a receita completo pediria {recipe.hidden}" in said
    build(recipe, toy, Edited, pretrained=build(make_settings(hidden=64), toy))
    assert "hidden = 99, escrito na classe da rede, vale; os pesos de que" in capsys.readouterr().out


class WithFixedSize(CNN):
    """Takes any arguments, but for one that it sets itself."""

    def __init__(self, **sizes):
        super().__init__(hidden=20, **sizes)


class Demanding(CNN):
    """Asks for an argument that no recipe has."""

    def __init__(self, depth, **sizes):
        super().__init__(**sizes)


def factory(hidden=8, classes=10):
    return CNN(channels=(2, 4), hidden=hidden, classes=classes)


@pytest.mark.parametrize("network", [WithoutArguments, WithFixedSize, factory])
def test_whatever_makes_a_network_can_be_trained_saved_and_opened(toy, small, tmp_path, network):
    settings = replace(small, epochs=1, seed=10**15, hidden=256)
    train(settings, toy, tmp_path / "best.pth", build(settings, toy, network))
    model = load_model(tmp_path / "best.pth", network)
    assert model.info.seed == 10**15
    compiled = torch.compile(model, backend="eager")
    assert info_of(compiled) == model.info, "calibration and names hold for what torch.compile makes of it, too"


@pytest.mark.parametrize(
    ("network", "changes", "words"),
    [
        (WithoutArguments, {"classes": ("a", "b", "c")}, "dá 10 notas, e os dados têm 3 classes"),
        (Demanding, {}, "pede o argumento depth"),
    ],
    ids=["outputs", "argument"],
)
def test_a_class_that_is_not_for_these_data_is_refused_before_the_training(
    toy, small, tmp_path, network, changes, words
):
    few = Split(toy.train.images[:60], toy.train.labels[:60] % 3)
    data = replace(toy, train=few, val=few, **changes) if changes else toy
    with pytest.raises(SettingsError, match=words):
        train(small, data, tmp_path / "best.pth", build(small, data, network))
    assert not (tmp_path / "best.pth").exists()


class Told(nn.Module):
    """Takes an argument that nothing of it shows afterwards."""

    def __init__(self, slope=0.5, classes=10):
        super().__init__()
        self.layers, self.answer = nn.Sequential(nn.Flatten(), nn.Linear(3072, classes)), lambda x: slope * x

    def forward(self, images):
        return self.answer(self.layers(images / 255))


class Softer(Told):
    """The same weights, another computation."""

    def forward(self, images):
        return super().forward(images).tanh()


def test_a_network_made_by_its_class_alone_is_known_by_what_it_answers(toy, small, tmp_path):
    settings = replace(small, epochs=1, channels=(8, 8))
    torch.manual_seed(7)
    for number, network in enumerate([CNN(channels=(4, 8), hidden=16), Told(), Symmetric(Told())]):
        path = tmp_path / f"{number}.pth"
        train(settings, toy, path, network)
        model = load_model(path, type(unwrap(network)))
        assert torch.equal(predict_logits(model, toy.val.images), predict_logits(network, toy.val.images))
        assert info_of(network).seed == (7 if number == 0 else None)
    with pytest.raises(CheckpointError, match=r"ou crie-a com build\(…\)"):
        train(settings, toy, tmp_path / "best.pth", Told(slope=2.0))


def test_another_computation_with_the_same_weights_is_refused(toy, small, tmp_path):
    train(replace(small, epochs=1), toy, tmp_path / "best.pth", Told())
    with pytest.raises(CheckpointError, match="execute antes a célula que a define.* de outro modo a uma mesma imagem"):
        load_model(tmp_path / "best.pth", Softer)
    assert type(find_start(str(tmp_path / "best.pth"), toy.classes, network_class=Told)) is Told


class Failing(nn.CrossEntropyLoss):
    """Says at a call, counted from 1, of those in training or in validation, what is not so."""

    def __init__(self, call, loss, in_training=True):
        super().__init__()
        self.call, self.loss, self.in_training, self.calls = call, loss, in_training, 0

    def forward(self, logits, targets):
        self.calls += logits.requires_grad == self.in_training
        is_false = logits.requires_grad == self.in_training and self.calls == self.call
        return super().forward(logits, targets) * (0 if is_false else 1) + (self.loss if is_false else 0)


@pytest.mark.parametrize("in_training", [True, False])
def test_a_run_that_diverges_after_its_first_epoch_puts_the_better_file_back(toy, small, tmp_path, in_training):
    path = tmp_path / "best.pth"
    save_checkpoint(path, make_network(CNN, channels=(4, 8), hidden=16), INFO | {"val_accuracy": 2.0})
    before = path.read_bytes()
    with pytest.raises(DivergenceError, match="época 2"):
        fit_with(small, toy, path, Failing(20 if in_training else 2, float("nan"), in_training))
    assert path.read_bytes() == before


@pytest.mark.parametrize("loss", [float("nan"), float("inf"), 1e13])
def test_a_diverged_run_stops_and_leaves_the_best_file_alone(toy, small, tmp_path, loss):
    path, criterion = tmp_path / "best.pth", Failing(3, loss)
    save_checkpoint(path, make_network(CNN, channels=(4, 8), hidden=16), INFO)
    before = path.read_bytes()
    with pytest.raises(DivergenceError, match="enorme.: época 1, até o lote 3, lr"):
        fit_with(small, toy, path, criterion)
    assert criterion.calls == 3  # it stops at once
    assert path.read_bytes() == before


def test_a_network_that_has_diverged_is_to_be_made_anew(toy, small, tmp_path):
    model = build(small, toy)
    unwrap(model).fc2.weight.data[0, 0] = float("nan")
    with pytest.raises(DivergenceError, match="Crie-a de novo"):
        train(small, toy, tmp_path / "best.pth", model)


def test_averages_that_overflow_are_a_divergence_too(toy, small, tmp_path, request):
    def overflowing(optimizer, *_):
        for state in optimizer.state.values():
            state["exp_avg_sq"].fill_(float("inf"))  # the weights then stay as they are

    handle = register_optimizer_step_post_hook(overflowing)
    request.addfinalizer(handle.remove)
    with pytest.raises(DivergenceError, match=r"época \d+, até o lote \d+, lr"):
        train(small, toy, tmp_path / "best.pth")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"batch_size": 1041}, "^batch_size: 1041 .* 1040 .*como 130"),
        ({"device": "gpu"}, "^device: "),
        ({"device": "meta"}, "^device: "),
        ({"device": "cuda:99"}, "^device: "),
    ],
)
def test_what_the_data_or_the_machine_do_not_allow_is_refused(toy, small, tmp_path, changes, words):
    with pytest.raises(SettingsError, match=words):
        train(replace(small, **changes), toy, tmp_path / "best.pth")


def test_a_network_too_large_for_its_files_is_told_before_training(toy, small, tmp_path, monkeypatch):
    monkeypatch.setattr(model_file, "MAX_BYTES", 30_000)
    with pytest.raises(CheckpointError, match="grande demais"):
        train(small, toy, tmp_path / "best.pth")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("shape", [[1 << 60], []], ids=["CPU", "GPU"])
def test_a_full_memory_is_told_with_a_batch_size_to_try(toy, small, tmp_path, shape):
    def exhaust(*_):
        torch.empty(shape, dtype=torch.uint8)  # the first is too large for any machine
        raise torch.OutOfMemoryError("CUDA out of memory")

    model = build(small, toy)
    model.register_forward_pre_hook(exhaust)
    with pytest.raises(SettingsError, match="^batch_size: .* lotes de 64.*Tente 32"):
        train(small, toy, tmp_path / "best.pth", model)


def test_an_optimizer_of_another_network_is_refused(toy, small, tmp_path):
    model, other = build(small, toy), build(small, toy)  # the network's cell executed again, and not its own
    with pytest.raises(SettingsError, match="O otimizador é de outra rede"):
        fit(model, toy, nn.CrossEntropyLoss(), make_optimizer(other, small), small, tmp_path / "best.pth")
    assert list(tmp_path.iterdir()) == []


def test_the_learning_rate_rises_then_falls_to_almost_nothing():
    factors = [lr_factor(step, 100) for step in range(100)]
    assert factors.index(max(factors)) in (19, 20)
    assert max(factors) == 1
    assert 0 < factors[-1] < 0.02
    assert all(0 < factor <= 1 for factor in factors)


def test_the_history_of_a_long_run_stays_small(toy, small, tmp_path):
    def stop(history):
        if len(history.val_loss) == 4:
            signal.raise_signal(signal.SIGINT)

    long = replace(small, epochs=200, batch_size=260)
    history = fit_with(long, toy, tmp_path / "best.pth", nn.CrossEntropyLoss(), stop)
    assert {int(epoch - 1e-9) for epoch, *_ in history.steps} == {0, 2}  # of every second epoch


def test_a_second_training_of_a_network_says_that_it_goes_on_and_records_it(toy, small, tmp_path, capsys):
    model = build(small, toy)
    for name in ("a.pth", "b.pth"):
        train(small, toy, tmp_path / name, model)
    assert capsys.readouterr().out.count("Esta rede já treinou 2,0 épocas, e o treino parte dos pesos dela") == 1
    infos = [read_checkpoint(tmp_path / name).info for name in ("a.pth", "b.pth")]
    assert [info.earlier_epochs for info in infos] == [0, 2]
    assert "já treinados, 2,0 épocas" in describe_checkpoint(infos[1])
    train(small, toy, tmp_path / "c.pth", load_model(tmp_path / "b.pth"))
    assert read_checkpoint(tmp_path / "c.pth").info.earlier_epochs == 2 + infos[1].epoch


def test_the_file_records_what_trained_whatever_the_settings_say(toy, small, tmp_path):
    model = build(small, toy)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, betas=(0.8, 0.9), weight_decay=0.25)
    # Cells that were edited since:
    other = replace(small, lr=0.5, weight_decay=0.0, label_smoothing=0.0, hidden=999, seed=7)
    fit(model, toy, nn.CrossEntropyLoss(label_smoothing=0.2), optimizer, other, tmp_path / "best.pth")
    settings = read_checkpoint(tmp_path / "best.pth").info.settings
    expected = {"lr": 0.01, "betas": [0.8, 0.9], "weight_decay": 0.25, "label_smoothing": 0.2, "hidden": 16}
    expected |= {"seed": 7, "network_seed": 42}  # of the order of the images, and of the starting weights
    assert settings.items() >= (expected | {"optimizer": "Adam", "loss": "CrossEntropyLoss", "epochs": 2}).items()


@pytest.mark.parametrize("count", [2, 50])
def test_few_pictures_are_learnt_with_the_recipes_own_settings(toy, count, tmp_path):
    def few(split, count):
        """So many pictures of each of three classes."""
        rows = torch.cat([(split.labels == label).nonzero()[:count, 0] for label in (0, 4, 8)])
        return Split(split.images[rows], split.labels[rows] // 4)

    data = ImageData(few(toy.train, count), few(toy.val, 2), few(toy.test, 10), ("a", "b", "c"))
    sizes = {"channels": (8, 16), "hidden": 32, "pools": (2, 4)}  # the batch and the rate as they are
    train(make_settings(epochs=3, **sizes, start_from="zero", device="cpu"), data, tmp_path / "best.pth")
    assert evaluate(load_model(tmp_path / "best.pth"), data.test, data.classes).accuracy >= 0.95


def test_of_equally_accurate_epochs_the_one_of_lower_loss_is_kept():
    history = History(val_accuracy=[0.5, 1.0, 1.0, 1.0], val_loss=[1.0, 0.9, 0.2, 0.4])
    assert history.best == 2


def test_rare_classes_are_shown_as_often_as_the_others():
    labels = torch.tensor([0] * 300 + [1] * 12 + [2] * 290)
    rows = balanced_rows(labels)
    shown = labels[rows].bincount()
    assert shown.max() / shown.min() < 1.1
    assert torch.equal(rows.unique(), torch.arange(len(labels)))
    even = torch.arange(3).repeat(1000)
    assert torch.equal(balanced_rows(even), torch.arange(3000)), "as before, where classes are even and images many"
