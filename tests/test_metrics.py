import json

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, f1_score

from classificador.data.dataset import Split
from classificador.errors import CheckpointError
from classificador.network.cnn import CNN, make_network
from classificador.results.metrics import Report, evaluate
from classificador.results.predict import predict
from conftest import info_for

CLASSES = ("Gato", "Navio", "Sapo")


def pictures(labels) -> Split:
    """Black images with these labels."""
    return Split(torch.zeros(len(labels), 3, 32, 32, dtype=torch.uint8), torch.tensor(labels).long())


@pytest.fixture
def report() -> Report:
    labels = np.array([0, 0, 0, 1, 1, 1, 1, 2, 2, 2])
    predictions = np.array([0, 1, 1, 1, 1, 1, 0, 2, 2, 0])
    return Report(CLASSES, pictures(labels), np.eye(3)[predictions])


def test_figures_are_scikit_learns(report):
    assert report.accuracy == accuracy_score(report.labels, report.predictions)
    assert report.macro[2] == pytest.approx(f1_score(report.labels, report.predictions, average="macro"))
    assert report.confusion.tolist() == [[1, 2, 0], [1, 3, 0], [1, 0, 2]]


def test_wilson_interval_of_a_textbook_case():
    def interval(right: int, n: int) -> tuple[float, float]:
        return Report(("a", "b"), pictures(np.arange(n) >= right), np.tile([1.0, 0.0], (n, 1))).interval

    assert interval(90, 100) == pytest.approx((0.8256, 0.9448), abs=1e-4)  # Newcombe 1998's method 3
    assert interval(10, 10) == pytest.approx((0.7225, 1.0), abs=1e-4)
    assert interval(0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)


def test_most_confused_pairs_come_most_frequent_first(report):
    assert report.most_confused(9) == [(0, 1, 2), (1, 0, 1), (2, 0, 1)]
    assert report.most_confused(1) == [(0, 1, 2)]


def test_a_class_without_images_counts_as_zero_not_as_an_error():
    report = Report(CLASSES, pictures([0, 1]), np.eye(3)[[0, 1]])
    assert report.per_class[2].tolist() == [0, 0, 0, 0]
    assert json.loads(json.dumps(report.to_dict()))["per_class"]["Sapo"]["recall"] == 0


def test_texts_are_in_portuguese_with_decimal_comma(report):
    assert "Acurácia 60,00%" in report.summary() and "n = 10" in report.summary()
    assert "Revocação" in report.table() and "0,600" in report.table()
    assert len({len(line) for line in report.table().splitlines()}) == 1  # aligned


def test_classes_with_fewer_than_ten_images_are_told():
    labels = np.repeat([0, 1, 2], [10, 9, 0])
    report = Report(CLASSES, pictures(labels), np.eye(3)[labels])
    assert report.few == report.to_dict()["few_images"] == ["Navio", "Sapo"]
    assert report.summary().splitlines()[1].startswith("Menos de 10 imagens de teste: Navio, Sapo. ")
    many = Report(CLASSES, pictures(np.repeat([0, 1, 2], 10)), np.eye(3)[np.repeat([0, 1, 2], 10)])
    assert many.few == [] and "\n" not in many.summary()
    seven = Report(tuple("abcdefg"), pictures(np.arange(7)), np.eye(7))
    assert "a, b, c, d, e e mais 2." in seven.summary()


def test_evaluation_takes_bfloat16_where_native_and_a_single_answer_never_does(toy, monkeypatch):
    model = make_network(CNN, channels=(4, 8), hidden=16)
    single = predict(model, toy.test.images)
    monkeypatch.setattr("classificador.device.has_bf16", lambda device: False)
    assert np.array_equal(evaluate(model, toy.test, toy.classes).probabilities, single.numpy())
    monkeypatch.setattr("classificador.device.has_bf16", lambda device: True)
    coarse = evaluate(model, toy.test, toy.classes).probabilities
    assert coarse.dtype == np.float32
    assert 0 < np.abs(coarse - single.numpy()).max() < 0.02
    assert torch.equal(predict(model, toy.test.images), single)


def test_a_model_of_other_classes_is_refused(toy):
    model = make_network(CNN, channels=(4, 8), hidden=16, classes=2)
    model.info = info_for(model, classes=["gato", "cachorro"])
    with pytest.raises(CheckpointError, match="não conhece a classe Avião, e sim gato, cachorro"):
        evaluate(model, toy.test, toy.classes)


def test_labels_go_by_the_names_of_the_classes_not_by_their_places(toy):
    model = make_network(CNN, channels=(4, 8), hidden=16, classes=3)
    model.info = info_for(model, classes=["gato", "sapo", "cachorro"])
    report = evaluate(model, Split(toy.test.images[:4], torch.tensor([0, 1, 1, 0])), ("cachorro", "gato"))
    assert report.classes == ("gato", "sapo", "cachorro")
    assert report.labels.tolist() == [2, 0, 0, 2]
    assert report.macro[2] == report.per_class[[0, 2], 2].mean()  # over the two classes that have images


def test_surest_mistakes_and_difficulty():
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.3, 0.7], [0.55, 0.45]])
    report = Report(("a", "b"), pictures([0, 0, 1, 1, 0]), probabilities)
    assert report.surest_mistakes() == [1, 2]
    assert report.surest_mistakes(1) == [1]
    assert report.by_difficulty(0).tolist() == [0, 4, 1]
