"""Learning from few pictures: all of them, at once, with an accuracy that comes from cross-validation."""

import random
import signal
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from classificador.apps import cli
from classificador.constants import CLASSES
from classificador.data.dataset import ImageData, Origin, Split
from classificador.data.folders import load_data
from classificador.errors import CheckpointError, SettingsError
from classificador.files.model_file import copy_weights, load_model, save_checkpoint
from classificador.network.build import build, make_optimizer
from classificador.network.cnn import CNN, make_network, unwrap
from classificador.network.model_info import ModelInfo, describe_checkpoint, info_of, set_info
from classificador.recipes import make_settings
from classificador.results.metrics import evaluate
from classificador.results.predict import predict
from classificador.show import figures
from classificador.training import few, few_network
from classificador.training.copies import KINDS, altered
from classificador.training.fit import fit, train
from classificador.training.regression import Regression, fit_regressions, regress
from classificador.training.start import find_start
from conftest import INFO, ROOT, noise

SIZES = {"channels": (6, 10), "hidden": 12}


@pytest.fixture
def start() -> nn.Module:
    """A small network that stands for one that has learnt elsewhere."""
    torch.manual_seed(0)
    model = make_network(CNN, True, **SIZES)
    set_info(model, replace(info_of(model), start="outra.pth", classes=tuple("abcdefghij")))
    return model


def stripes(count: int, classes: int = 3, side: int = 32, seed: int = 0) -> Split:
    """So many pictures of each class, which are noise crossed by lines: upright, level, or both."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(classes).repeat(count)
    images = torch.randint(0, 120, (len(labels), 3, side, side), generator=generator, dtype=torch.uint8)
    for image, label in zip(images, labels.tolist(), strict=True):
        first = int(torch.randint(4, (1,), generator=generator))
        if label != 1:
            image[:, :, first::4] += 120
        if label != 0:
            image[:, first::4] += 120 if label == 1 else 15
    return Split(images, labels)


def data_of(pictures: Split, classes: int = 3) -> ImageData:
    """What load_data() makes of few pictures."""
    return ImageData(pictures[classes * 2 :], pictures[: classes * 2], pictures, tuple("abcdef"[:classes]), few=True)


def learnt(data: ImageData, start: nn.Module, folder, seed: int = 0):
    """The network that fit() leaves, and the history."""
    settings = make_settings(device="cpu", seed=seed)
    model = build(settings, data, pretrained=start)
    criterion = nn.CrossEntropyLoss()
    history = fit(model, data, criterion, make_optimizer(model, settings), settings, folder / "own.pth")
    return model, history


def test_tuning_leaves_the_network_as_sure_as_the_folds_say(start, monkeypatch):
    """Its smoothed labels would leave it in doubt of all that it knows, or noise would make it too sure."""
    data, spreads, tune = data_of(stripes(20)), [], few.tune
    pictures = data.train + data.val
    network = unwrap(build(make_settings(device="cpu"), data, pretrained=start)).eval()

    def spread() -> float:
        logits = few_network.head(network, few_network.answers(network, pictures.images / 255)["regions"])
        return (logits - logits.mean(1, keepdim=True)).norm().item()

    def watched(*given):
        spreads.append(spread())
        is_done = tune(*given)
        spreads.append(spread())
        return is_done

    monkeypatch.setattr(few, "tune", watched)
    monkeypatch.setattr(few, "COLOURLESS", tuple(few.PATHS))  # so that conv2 learns, too
    with torch.no_grad():
        few.learn(network, pictures, True, 0)
        before, after = spreads
        assert abs(after / before - 1) > 0.1  # as the tuning leaves it
        assert spread() == pytest.approx(before, rel=1e-3)


def test_it_learns_from_all_and_reports_what_those_say_that_did_not_see_a_picture(start, tmp_path, capsys):
    data = data_of(stripes(20))
    model, history = learnt(data, start, tmp_path)
    again = load_model(tmp_path / "own.pth")
    assert torch.equal(predict(model, data.test.images), predict(again, data.test.images))
    report = evaluate(again, data.test, data.classes)
    assert (len(report.labels), report.crossed, report.groups) == (60, 60, 60)
    assert report.accuracy == history.val_accuracy[0] == again.info.val_accuracy > 0.6
    assert history.train_accuracy[0] >= report.accuracy and again.info.validated_on == 60
    assert "n = 60, validação cruzada" in report.summary()
    assert "60 imagens de treino; validação cruzada" in describe_checkpoint(again.info)
    fresh = stripes(20, seed=1)
    own = evaluate(again, fresh, data.classes)
    assert own.crossed == 0 and "validação cruzada" not in own.summary()
    agree = own.predictions == predict(again, fresh.images).argmax(1).numpy()  # the Report may be in bfloat16
    assert agree.mean() > 0.9
    both = evaluate(again, data.test + fresh, data.classes)
    assert "validação cruzada em 60 delas" in both.summary()
    assert abs(own.accuracy - report.accuracy) < 0.25  # of 60 each
    assert "Esta rede já treinou" not in capsys.readouterr().out


def test_the_hours_in_which_a_laptop_slept_are_none_of_learning(start, tmp_path, monkeypatch):
    slept, measure, fitted = [0.0], time.perf_counter, few.fit_regressions

    def sleep(*given, **options):
        slept[0] += 30_000
        return fitted(*given, **options)

    monkeypatch.setattr(time, "perf_counter", lambda: measure() + slept[0])
    monkeypatch.setattr(few, "fit_regressions", sleep)
    _, history = learnt(data_of(stripes(4)), start, tmp_path)
    assert slept[0] and history.seconds[0] < 600


def test_the_logits_are_the_sum_of_the_regressions(start):
    images, classes = stripes(3).images / 255, 4
    network = unwrap(make_network(CNN, classes=classes, channels=(6, 10), hidden=12 + 2 * classes)).eval()
    with torch.no_grad():
        found, bias = few_network.answers(network, images), torch.randn(classes)
        weights = {name: torch.randn(values.shape[1], classes) for name, values in found.items()}
        assert found["trained"].shape[1] == 12
        one = Regression("moved", weights, bias, bias, 2.0, 0.0)
        wanted = (sum(found[name] @ weights[name] for name in found) + bias) / 2
        few_network.put(network, [(0.25, one), (0.75, one)])
        assert torch.allclose(network(images), wanted, rtol=1e-3, atol=1e-3)
        ours = few_network.head(
            network, few_network.by_region(network, few_network.first_pooled(network, images)).flatten(1)
        )
    assert torch.allclose(network(images), ours)


def test_a_regression_is_scikit_learns():
    from sklearn.linear_model import LogisticRegression

    generator = torch.Generator().manual_seed(0)
    rows, labels = torch.randn(60, 8, generator=generator), torch.arange(60) % 3
    rows[:, 0] += labels
    fit = regress(rows @ rows.T, labels, torch.ones(60, 1), torch.tensor([60]))[:, 0]
    theirs = LogisticRegression(C=100.0, tol=1e-8, max_iter=1000).fit(rows, labels)
    weights = rows.T @ fit[:-1]
    assert np.allclose(weights - weights.mean(1, keepdim=True), theirs.coef_.T, atol=2e-2)
    scores = rows @ weights + fit[-1]
    assert np.allclose(scores.softmax(1), theirs.predict_proba(rows), atol=1e-2)


def test_a_held_out_picture_and_its_copies_are_not_learnt_from():
    """One picture has the label of the other class: with its copies in the fit it would be told as labelled."""
    labels = torch.tensor([0, 1] * 10)
    rows = torch.nn.functional.one_hot(labels, 2).float() + 0.01 * torch.randn(20, 2)
    wrong = labels.clone()
    wrong[0] = 1
    (regression,) = fit_regressions("x", {"regions": rows.repeat(3, 1)}, {"regions": rows}, wrong, torch.arange(20) % 5)
    assert regression.held_out.argmax(1).tolist() == labels.tolist()


@pytest.mark.parametrize(("first", "second", "equal"), [(0, 0, True), (0, 1, False)])
def test_the_same_seed_gives_the_same_weights(start, tmp_path, first, second, equal):
    data = data_of(stripes(8))
    weights = [copy_weights(learnt(data, start, tmp_path, seed)[0]) for seed in (first, second)]
    same = [torch.equal(one, weights[1][name]) for name, one in weights[0].items()]
    assert all(same) == equal


def test_labels_drawn_by_chance_are_not_told_as_known(start, tmp_path):
    """Ten scenes of twelve near copies: without groups the copies would be known again, and all be right."""
    draw, scenes = random.Random(0), noise(10)
    images, labels, origins = [], [], []
    for scene, image in enumerate(scenes):
        for number in range(12):
            images.append((image.float() + 4 * torch.randn(3, 32, 32)).clamp(0, 255).to(torch.uint8))
            labels.append(draw.randrange(2) if number == 0 else labels[-1])
            origins.append(Origin(f"{scene}-{number}.png", f"{scene}-{number}", scene))
    labels[:24] = [0] * 12 + [1] * 12
    pictures = Split(torch.stack(images), torch.tensor(labels), tuple(origins))[torch.randperm(120)]
    told = {}
    for name, one in (("groups", pictures), ("without", replace(pictures, origins=()))):
        model, history = learnt(data_of(one, 2), start, tmp_path)
        report = evaluate(model, one, ("a", "b"))
        told[name] = history.val_accuracy[0]
        if name == "groups":
            assert report.groups == 10 and "n = 120 (10 diferentes), validação cruzada" in report.summary()
            assert report.interval[1] - report.interval[0] > 0.4
    assert told["without"] > 0.95 and told["groups"] < 0.8


@pytest.mark.parametrize(("side", "symmetric"), [(48, True), (32, False)])
def test_another_side_no_mirror_and_classes_of_other_sizes(start, tmp_path, side, symmetric):
    whole = stripes(12, side=side)
    rows = [row for row, label in enumerate(whole.labels.tolist()) if label != 2 or row < 12]  # four of the last
    data = data_of(whole[torch.tensor(rows)])
    settings = make_settings(device="cpu", symmetric=symmetric)
    model = build(settings, data, pretrained=start)
    assert unwrap(model).fc1.out_features == 6 + (12 if side == 32 else 0)
    fit(model, data, nn.CrossEntropyLoss(), make_optimizer(model, settings), settings, tmp_path / "own.pth")
    assert evaluate(load_model(tmp_path / "own.pth"), data.test, data.classes).crossed == len(rows)


def test_a_second_time_and_from_ones_own_model_with_one_class_more(start, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    data = data_of(stripes(10, 2), 2)
    model, _ = learnt(data, start, tmp_path)
    first, settings = copy_weights(model), make_settings(device="cpu", seed=0)
    fit(model, data, nn.CrossEntropyLoss(), make_optimizer(model, settings), settings, tmp_path / "own.pth")
    again = copy_weights(model)
    assert all(torch.equal(one, again[name]) for name, one in first.items())  # of what it had learnt nothing is left
    save_checkpoint("best_model.pth", make_network(CNN, **SIZES), INFO)
    more = data_of(stripes(10), 3)
    own = find_start("own.pth", more.classes)  # which has learnt what cross-validation is to find out
    assert own.info.classes == CLASSES and "aprende-se de novo de todas" in capsys.readouterr().out
    larger, history = learnt(more, own, tmp_path)
    assert unwrap(larger).fc1.out_features == 12 + 2 * 3 and history.val_accuracy[0] > 0.5


def test_interrupted_the_network_is_as_it_was_and_nothing_is_written(start, tmp_path, capsys):
    data, settings = data_of(stripes(8)), make_settings(device="cpu")
    model = build(settings, data, pretrained=start)
    before = copy_weights(model)
    (tmp_path / "own.pth").write_text("what was there")

    def stop(history):
        signal.raise_signal(signal.SIGINT)

    history = fit(
        model, data, nn.CrossEntropyLoss(), make_optimizer(model, settings), settings, tmp_path / "own.pth", watch=stop
    )
    assert (history.interrupted, history.val_accuracy) == (signal.SIGINT, [])
    assert all(torch.equal(one, before[name]) for name, one in model.state_dict().items())
    assert (tmp_path / "own.pth").read_text() == "what was there"
    assert "Interrompido; nada foi gravado." in capsys.readouterr().out
    assert list((tmp_path / "runs").iterdir()) == []


def test_where_it_learns_in_epochs_only_what_it_has_not_seen_counts(start, toy, tmp_path, quick, capsys):
    data = data_of(stripes(20))
    settings = make_settings(device="cpu", epochs=1, batch_size=16, channels=(4, 8), hidden=16, start_from="zero")
    train(settings, data, tmp_path / "own.pth")
    assert "Das 60 imagens, 54 são de treino, em épocas" in capsys.readouterr().out
    model = load_model(tmp_path / "own.pth")
    report = evaluate(model, data.test, data.classes)
    assert len(report.labels) == 6 and report.accuracy == pytest.approx(model.info.val_accuracy)
    assert report.crossed == 0 and "cruzada" not in report.summary()
    assert "Ficam de fora da avaliação 54 das 60 imagens, que são de treino." in capsys.readouterr().out
    with pytest.raises(CheckpointError, match="aprendeu com todas estas imagens"):
        evaluate(model, data.train, data.classes)


def test_an_edited_class_learns_in_epochs(start, tmp_path, quick, capsys):
    class Edited(CNN):
        def forward(self, images):
            return super().forward(images) * 2

    data, settings = data_of(stripes(20)), make_settings(device="cpu", epochs=1, batch_size=16)
    model = build(settings, data, Edited, start)
    history = fit(model, data, nn.CrossEntropyLoss(), make_optimizer(model, settings), settings, tmp_path / "own.pth")
    assert history.steps and "são de treino, em épocas" in capsys.readouterr().out


def test_pictures_that_are_probably_in_the_wrong_folder_are_named(start, tmp_path, monkeypatch, capsys):
    pictures = stripes(20)
    origins = tuple(Origin(f"fotos/{row}.png", f"{row:016x}", row) for row in range(60))
    probabilities = torch.nn.functional.one_hot(pictures.labels, 3) * 0.94 + 0.02
    probabilities[7] = torch.tensor([0.95, 0.03, 0.02])  # which is of class 1
    few._tell_doubtful_labels(probabilities, replace(pictures, origins=origins), ("a", "b", "c"))
    assert capsys.readouterr().out == "Talvez na pasta errada, ou difíceis (1): fotos/7.png (a, 95%).\n"


def test_a_report_and_its_figures_name_the_files_of_mistakes(start, tmp_path):
    pictures = stripes(8)
    origins = tuple(Origin(f"fotos/{row}.png", f"{row:016x}", row) for row in range(24))
    labels = pictures.labels.clone()
    labels[5] = 0  # which is of class 2
    learnt(data_of(replace(pictures, origins=origins, labels=labels)), start, tmp_path)
    report = evaluate(load_model(tmp_path / "own.pth"), replace(pictures, origins=origins), ("a", "b", "c"))
    report = replace(report, pictures=replace(report.pictures, labels=labels))
    wrong = [row for row in range(24) if report.predictions[row] != labels[row]]
    named = {one["file"]: one for one in report.to_dict()["mistakes"]}
    assert set(named) == {origins[row].file for row in wrong} and wrong
    assert named[origins[wrong[0]].file]["class"] == "abc"[labels[wrong[0]]]
    titles = [axis.get_title() for axis in figures.prediction_grid(report, wrong).axes]
    assert titles[0].splitlines()[-1] == f"{wrong[0]}.png"


def test_a_network_of_a_file_that_learnt_so_is_not_taught_again(start, tmp_path):
    data, settings = data_of(stripes(8)), make_settings(device="cpu")
    learnt(data, start, tmp_path)
    model = load_model(tmp_path / "own.pth")
    set_info(model, replace(info_of(model), start="outra.pth"))
    with pytest.raises(SettingsError, match="Crie-a de novo"):
        fit(model, data, nn.CrossEntropyLoss(), make_optimizer(model, settings), settings, tmp_path / "again.pth")


@pytest.mark.parametrize("name", ["norm3", "fc1", "conv2"])
def test_what_cannot_learn_so_is_seen_beforehand(start, name):
    model = build(make_settings(), data_of(stripes(8)), pretrained=start)
    assert few.suits(model, data_of(stripes(8)))
    network = unwrap(model)
    if name == "conv2":
        network.conv2.weight.requires_grad_(True)  # it is to learn
    else:
        setattr(network, name, nn.Identity())
    assert not few.suits(model, data_of(stripes(8)))


@pytest.mark.parametrize(
    "known", [{"x": [5]}, {"x": [20_000, 0]}, {"x": "ab"}, {"\n": []}, {"x": [True, False]}, {"x": [0.5, 0.5]}]
)
def test_impossible_answers_in_a_file_are_refused(known):
    facts = INFO | {"classes": ["a", "b"], "architecture": {}}
    facts.pop("history")
    assert ModelInfo.from_dict(facts | {"known": {"x": [5000, 5000], "y": []}}).known
    with pytest.raises(ValueError, match="metadados"):
        ModelInfo.from_dict(facts | {"known": known})


@pytest.mark.parametrize("kind", KINDS)
def test_altered_copies_are_pictures_and_others_each_time(kind):
    images = stripes(2).images / 255
    copies = altered(images, kind, 3, True, torch.Generator().manual_seed(0))
    assert copies.shape == (18, 3, 32, 32) and copies.min() >= 0 and copies.max() <= 1
    assert not torch.equal(copies[:6], copies[6:12])


@pytest.mark.slow
def test_thirty_photos_from_folders_to_the_report(tmp_path, cifar10, monkeypatch, capsys):
    """Three of CIFAR-10's classes upside down, as a user has them: the figure told is not far from that of others."""
    monkeypatch.chdir(tmp_path)
    for number, label in enumerate((1, 4, 8)):
        rows = (cifar10.test.labels == label).nonzero()[:120, 0].tolist()
        for place, row in enumerate(rows):
            folder = tmp_path / ("fotos" if place < 30 else "outras") / "abc"[number]
            folder.mkdir(parents=True, exist_ok=True)
            pixels = cifar10.test.images[row].flip(1).permute(1, 2, 0).numpy()
            Image.fromarray(pixels).resize((96, 96), Image.Resampling.BICUBIC).save(folder / f"{place}.png")
    start = ["--partir-de", str(ROOT / "best_model.pth")]
    assert cli.main(["treinar", "--dados", "fotos", "--modelo", "fotos.pth", *start]) == 0
    assert "n = 90, validação cruzada" in capsys.readouterr().out
    assert cli.main(["avaliar", "--dados", "fotos", "--modelo", "fotos.pth"]) == 0
    assert "n = 90, validação cruzada" in capsys.readouterr().out
    model = load_model("fotos.pth")
    told, others = (evaluate(model, load_data(name).test, tuple("abc")) for name in ("fotos", "outras"))
    assert told.crossed == 90 and others.crossed == 0
    assert others.accuracy > 0.8 and abs(told.accuracy - others.accuracy) < 0.12
