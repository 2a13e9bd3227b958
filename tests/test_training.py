from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from classificador.data.dataset import ImageData, Split
from classificador.device import autocast
from classificador.errors import CheckpointError, DivergenceError, SettingsError, WriteError
from classificador.files import model_file
from classificador.files.model_file import load_model, read_checkpoint, save_checkpoint
from classificador.network.build import build, make_network, make_optimizer
from classificador.network.cnn import CNN, unwrap
from classificador.network.model_info import describe_checkpoint
from classificador.recipes import make_settings
from classificador.results.metrics import evaluate
from classificador.results.predict import fit_temperature, predict_logits
from classificador.training import trainer as trainer_module
from classificador.training.batches import balanced
from classificador.training.fit import fit, train
from classificador.training.history import History
from classificador.training.trainer import lr_factor
from conftest import INFO


def run(settings, data, path, watch=None):
    model = build(settings, data, CNN)
    criterion = nn.CrossEntropyLoss(label_smoothing=settings.label_smoothing)
    return model, fit(model, data, criterion, make_optimizer(model, settings), settings, path, watch)


def test_it_learns_and_keeps_the_best_epoch(toy, tmp_path):
    settings = make_settings(epochs=6, batch_size=64, channels=(4, 8), hidden=16, device="cpu")
    model, history = run(settings, toy, tmp_path / "best.pth")
    assert max(history.val_accuracy) > 0.5  # chance: 0.1
    assert len(history.train_loss) == len(history.seconds) == 6
    saved = read_checkpoint(tmp_path / "best.pth")
    assert saved.info.val_accuracy == max(history.val_accuracy)
    assert saved.info.epoch == history.best + 1
    # The file really holds the weights that scored so.
    loaded = load_model(tmp_path / "best.pth")
    with autocast(torch.device("cpu")):  # as in training
        right = predict_logits(loaded, toy.val.images).argmax(1) == toy.val.labels
    assert right.sum().item() / len(toy.val) == max(history.val_accuracy)


def test_same_seed_same_bits_other_seed_other_weights(toy, small, tmp_path):
    first, history = run(small, toy, tmp_path / "a.pth")
    torch.rand(5)  # the global generator's past must not matter
    second, again = run(small, toy, tmp_path / "b.pth")
    other, _ = run(replace(small, seed=1), toy, tmp_path / "c.pth")
    assert all(
        torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    )
    assert history.train_loss == again.train_loss
    assert not torch.equal(unwrap(first).conv2.weight, unwrap(other).conv2.weight)


@pytest.mark.slow
def test_real_cifar10_same_seed_same_bits(cifar10, tmp_path):
    subset = type(cifar10)(
        type(cifar10.train)(cifar10.train.images[:2048], cifar10.train.labels[:2048]), cifar10.val, cifar10.test
    )
    settings = make_settings("rapido", epochs=1, device="cpu")
    weights = [run(settings, subset, tmp_path / name)[0].state_dict() for name in ("a.pth", "b.pth")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_validation_is_exact_over_all_images_and_fits_the_temperature(toy, small, tmp_path):
    model, history = run(small, toy, tmp_path / "best.pth")
    with torch.no_grad(), autocast(torch.device("cpu")):
        logits = model.eval()(toy.val.images).float()
    loss = nn.functional.cross_entropy(logits, toy.val.labels, label_smoothing=0.1).item()
    assert history.val_loss[-1] == pytest.approx(loss, rel=1e-5)
    info = read_checkpoint(tmp_path / "best.pth").info
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


@pytest.mark.parametrize("preset", ["rapido", "completo"])
def test_what_is_written_in_the_class_is_what_trains_and_a_line_says_so(toy, preset, capsys):
    network = unwrap(build(make_settings(preset), toy, Edited))
    assert (network.conv1.out_channels, network.conv2.out_channels, network.fc1.out_features) == (16, 32, 99)
    recipe = make_settings(preset)
    said = capsys.readouterr().out
    assert f"channels = (16, 32), escrito na classe da rede, vale; a receita {preset} pediria {recipe.channels}" in said
    assert f"hidden = 99, escrito na classe da rede, vale; a receita {preset} pediria {recipe.hidden}" in said
    build(recipe, toy, Edited, pretrained=build(make_settings(hidden=64), toy))
    assert "hidden = 99, escrito na classe da rede, vale; os pesos de que" in capsys.readouterr().out


@pytest.mark.parametrize("preset", ["rapido", "completo"])
def test_an_unedited_class_has_the_recipes_sizes_and_nothing_is_said(toy, preset, capsys):
    recipe = make_settings(preset)
    network = unwrap(build(recipe, toy))
    assert (network.conv1.out_channels, network.conv2.out_channels) == recipe.channels
    assert unwrap(build(make_settings(preset, hidden=64), toy)).fc1.out_features == 64
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("preset", ["rapido", "completo"])
def test_a_class_without_arguments_is_built_trained_saved_and_opened(toy, tmp_path, preset):
    settings = make_settings(preset, epochs=1, batch_size=128, device="cpu")
    train(settings, toy, tmp_path / "best.pth", build(settings, toy, WithoutArguments))
    assert isinstance(unwrap(load_model(tmp_path / "best.pth", WithoutArguments)), WithoutArguments)


def test_a_network_that_does_not_say_its_sizes_is_sent_to_build(toy, small, tmp_path):
    model = CNN(channels=(4, 8), hidden=16)
    with pytest.raises(CheckpointError, match=r"Crie-a com build\(…\)"):
        fit(model, toy, nn.CrossEntropyLoss(), make_optimizer(model, small), small, tmp_path / "best.pth")


def test_a_diverged_run_stops_and_leaves_the_best_file_alone(toy, small, tmp_path):
    path = tmp_path / "best.pth"
    run(small, toy, path)
    before = path.read_bytes()
    model = build(small, toy, CNN)

    def poison(history):
        unwrap(model).fc2.weight.data[0, 0] = float("nan")

    with pytest.raises(DivergenceError, match="época 1.*lr"):
        fit(model, toy, nn.CrossEntropyLoss(), make_optimizer(model, small), small, path, poison)
    with pytest.raises(DivergenceError, match="Crie-a de novo"):
        fit(model, toy, nn.CrossEntropyLoss(), make_optimizer(model, small), small, path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("where", ["weights", "validation"])
def test_a_run_that_diverges_after_its_first_epoch_puts_the_better_file_back(toy, small, tmp_path, monkeypatch, where):
    path = tmp_path / "best.pth"
    save_checkpoint(path, make_network(CNN, channels=(4, 8), hidden=16), INFO | {"val_accuracy": 2.0})
    before = path.read_bytes()

    def poison(history):
        if history.steps and history.steps[-1][0] > 1.3:
            if where == "weights":
                unwrap(model).fc2.weight.data[0, 0] = float("nan")
            else:
                nowhere = torch.full((100, 10), float("nan"))
                monkeypatch.setattr(trainer_module, "predict_logits", lambda *arguments: nowhere)

    model = build(small, toy, CNN)
    with pytest.raises(DivergenceError, match="época 2"):
        fit(model, toy, nn.CrossEntropyLoss(), make_optimizer(model, small), small, path, poison)
    assert path.read_bytes() == before


def test_a_batch_larger_than_the_set_is_refused(toy, tmp_path):
    settings = make_settings(batch_size=1041, channels=(4, 8), hidden=16)
    with pytest.raises(SettingsError, match="^batch_size: 1041 .* 1040 .*como 130"):
        run(settings, toy, tmp_path / "best.pth")


@pytest.mark.parametrize("device", ["tpu", "gpu", "meta", "cuda:99"])
def test_an_unknown_or_missing_device_is_refused(toy, tmp_path, device):
    with pytest.raises(SettingsError, match="^device: "):
        run(make_settings(device=device, channels=(4, 8), hidden=16), toy, tmp_path / "best.pth")


def test_an_unwritable_place_is_found_before_training(toy, small, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError, match="Escolha outro caminho"):
        run(small, toy, tmp_path / "file" / "best.pth", lambda history: pytest.fail("training began"))


def test_the_learning_rate_rises_then_falls_to_almost_nothing():
    factors = [lr_factor(step, 100) for step in range(100)]
    assert factors.index(max(factors)) in (19, 20)
    assert max(factors) == 1
    assert 0 < factors[-1] < 0.02
    assert all(0 < factor <= 1 for factor in factors)


def test_a_learning_rate_beyond_reason_ends_in_a_named_error(toy, small, tmp_path):
    with pytest.raises(DivergenceError, match=r"época 1, até o lote \d+, lr 1e\+30"):
        run(replace(small, lr=1e30), toy, tmp_path / "best.pth")
    assert not (tmp_path / "best.pth").exists()


def test_a_loss_that_is_no_number_stops_the_epoch_at_once(toy, small, tmp_path):
    losses = []

    class Poisoned(nn.CrossEntropyLoss):
        def forward(self, *arguments):
            losses.append(super().forward(*arguments))
            return losses[-1] * (float("nan") if len(losses) == 3 else 1)

    model = build(small, toy, CNN)
    with pytest.raises(DivergenceError, match="época 1, até o lote 3"):
        fit(model, toy, Poisoned(), make_optimizer(model, small), small, tmp_path / "best.pth")
    assert len(losses) == 3


def test_averages_that_overflow_are_a_divergence_too(toy, small, tmp_path, request):
    def overflowing(optimizer, *_):
        for state in optimizer.state.values():
            state["exp_avg_sq"].fill_(float("inf"))  # the weights then stay as they are

    handle = register_optimizer_step_post_hook(overflowing)
    request.addfinalizer(handle.remove)
    with pytest.raises(DivergenceError, match=r"época \d+, até o lote \d+, lr"):
        run(small, toy, tmp_path / "best.pth")


@pytest.mark.parametrize("loss", [1e13, float("inf")])
def test_a_hopeless_loss_is_a_divergence(toy, small, tmp_path, loss):
    class Huge(nn.CrossEntropyLoss):
        def forward(self, *arguments):
            return super().forward(*arguments) * 0 + loss

    model = build(small, toy, CNN)
    with pytest.raises(DivergenceError, match="enorme"):
        fit(model, toy, Huge(), make_optimizer(model, small), small, tmp_path / "best.pth")


def test_training_draws_the_same_whatever_was_drawn_before(toy, small, tmp_path):
    models = [build(small, toy, CNN) for _ in range(2)]
    for number, model in enumerate(models):
        torch.rand(number * 5 + 1)
        fit(model, toy, nn.CrossEntropyLoss(), make_optimizer(model, small), small, tmp_path / f"{number}.pth")
    assert all(map(torch.equal, models[0].state_dict().values(), models[1].state_dict().values()))


@pytest.mark.slow
def test_the_history_of_a_long_run_stays_small(toy, tmp_path, monkeypatch):
    monkeypatch.setattr(trainer_module, "save_point", lambda point: None)  # not to wait for the disk
    settings = make_settings(epochs=200, batch_size=256, channels=(1, 1), kernels=(1, 1), pools=(8, 4), hidden=1)
    _, history = run(replace(settings, device="cpu"), toy, tmp_path / "best.pth")
    assert len(history.steps) == 4 * 100


def test_a_network_too_large_for_its_files_is_told_before_training(toy, small, tmp_path, monkeypatch):
    monkeypatch.setattr(model_file, "MAX_BYTES", 30_000)
    with pytest.raises(CheckpointError, match="grande demais"):
        run(small, toy, tmp_path / "best.pth")
    assert list(tmp_path.iterdir()) == []


def test_a_full_memory_is_told_on_a_cpu_too(toy, small, tmp_path):
    class Greedy(CNN):
        def forward(self, images):
            return super().forward(torch.empty(1 << 60, dtype=torch.uint8))

    model = build(small, toy, Greedy)
    with pytest.raises(SettingsError, match="^batch_size: .* lotes de 64; tente 32"):
        fit(model, toy, nn.CrossEntropyLoss(), make_optimizer(model, small), small, tmp_path / "best.pth")


def test_a_full_gpu_is_told_with_a_batch_size_to_try(toy, small, tmp_path):
    class Greedy(CNN):
        def forward(self, images):
            raise torch.OutOfMemoryError("CUDA out of memory")

    model = build(small, toy, Greedy)
    with pytest.raises(SettingsError, match="^batch_size: .* lotes de 64; tente 32"):
        fit(model, toy, nn.CrossEntropyLoss(), make_optimizer(model, small), small, tmp_path / "best.pth")


def test_a_second_training_of_a_network_says_that_it_goes_on_and_records_it(toy, small, tmp_path, capsys):
    model, criterion = build(small, toy, CNN), nn.CrossEntropyLoss()
    for name in ("a.pth", "b.pth"):
        fit(model, toy, criterion, make_optimizer(model, small), small, tmp_path / name)
    assert capsys.readouterr().out.count("Esta rede já treinou 2,0 épocas, e o treino parte dos pesos dela") == 1
    infos = [read_checkpoint(tmp_path / name).info for name in ("a.pth", "b.pth")]
    assert [info.earlier_epochs for info in infos] == [0, 2]
    assert "já treinados, 2,0 épocas" in describe_checkpoint(infos[1])
    loaded = load_model(tmp_path / "b.pth")
    fit(loaded, toy, criterion, make_optimizer(loaded, small), small, tmp_path / "c.pth")
    assert read_checkpoint(tmp_path / "c.pth").info.earlier_epochs == 2 + infos[1].epoch


def test_the_file_records_what_trained_whatever_the_settings_say(toy, small, tmp_path):
    model = build(small, toy, CNN)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, betas=(0.8, 0.9), weight_decay=0.25)
    other = replace(
        small, lr=0.5, weight_decay=0.0, label_smoothing=0.0, hidden=999, seed=7
    )  # cells that were edited since
    fit(model, toy, nn.CrossEntropyLoss(label_smoothing=0.2), optimizer, other, tmp_path / "best.pth")
    settings = read_checkpoint(tmp_path / "best.pth").info.settings
    expected = {"lr": 0.01, "betas": [0.8, 0.9], "weight_decay": 0.25, "label_smoothing": 0.2, "hidden": 16}
    expected |= {"seed": 7, "network_seed": 42}  # of the order of the images, and of the starting weights
    assert settings.items() >= (expected | {"optimizer": "Adam", "loss": "CrossEntropyLoss", "epochs": 2}).items()


def test_an_optimizer_of_another_network_is_refused(toy, small, tmp_path):
    model, other = build(small, toy, CNN), build(small, toy, CNN)  # the network's cell executed again, and not its own
    with pytest.raises(SettingsError, match="O otimizador é de outra rede"):
        fit(model, toy, nn.CrossEntropyLoss(), make_optimizer(other, small), small, tmp_path / "best.pth")
    assert list(tmp_path.iterdir()) == []


def colours(count: int, seed: int) -> Split:
    """So many noisy pictures of each of three colours."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(3).repeat(count)
    images = 40 * torch.randn(len(labels), 3, 32, 32, generator=generator) + 40
    images[torch.arange(len(labels)), labels] += 160
    return Split(images.clamp(0, 255).to(torch.uint8), labels)


@pytest.mark.parametrize("count", [2, 50])
def test_few_pictures_are_learnt_with_the_recipes_own_settings(count, tmp_path):
    data = ImageData(colours(count, 0), colours(max(1, count // 5), 1), colours(100, 2), ("a", "b", "c"))
    settings = make_settings(epochs=3, channels=(8, 16), hidden=32, device="cpu")  # the batch and the rate as they are
    run(settings, data, tmp_path / "best.pth")
    assert evaluate(load_model(tmp_path / "best.pth"), data.test, data.classes).accuracy >= 0.99


def test_of_equally_accurate_epochs_the_one_of_lower_loss_is_kept():
    history = History(val_accuracy=[0.5, 1.0, 1.0, 1.0], val_loss=[1.0, 0.9, 0.2, 0.4])
    assert history.best == 2


def test_rare_classes_are_shown_as_often_as_the_others():
    labels = torch.tensor([0] * 300 + [1] * 12 + [2] * 290)
    rows = balanced(labels)
    shown = labels[rows].bincount()
    assert shown.max() / shown.min() < 1.1
    assert torch.equal(rows.unique(), torch.arange(len(labels)))
    even = torch.arange(3).repeat(1000)
    assert torch.equal(balanced(even), torch.arange(3000)), "as before, where classes are even and images many"
