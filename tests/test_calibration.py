import numpy as np
import pytest
import torch

from classificador.results.metrics import calibration_error, reliability
from classificador.results.predict import fit_doubt, fit_temperature, uncalibrated


def drawn(n: int, factor: float):
    """Logits of n images and labels drawn from their probabilities, then made too sure by `factor`."""
    torch.manual_seed(0)
    logits = 2 * torch.randn(n, 10)
    labels = torch.distributions.Categorical(logits=logits).sample()
    return factor * logits, labels


@pytest.mark.parametrize("factor", [0.5, 3.0])
def test_the_temperature_undoes_too_much_and_too_little_certainty(factor):
    logits, labels = drawn(20_000, factor)
    assert fit_temperature(logits, labels) == pytest.approx(factor, rel=0.05)


def test_the_error_is_small_where_labels_follow_the_probabilities_and_large_elsewhere():
    logits, labels = drawn(20_000, 1.0)
    honest, boastful = logits.softmax(1).numpy(), (4 * logits).softmax(1).numpy()
    assert calibration_error(honest, labels.numpy()) < 0.01
    assert calibration_error(boastful, labels.numpy()) > 0.1


def test_the_error_by_hand():
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6], [0.2, 0.8]])
    # In ten intervals: two at 0.9 of which one is right, one right at 0.6, one right at 0.8.
    labels = np.array([0, 1, 1, 1])
    assert calibration_error(probabilities, labels, bins=10) == pytest.approx((0.8 + 0.4 + 0.2) / 4)
    assert reliability(probabilities, labels, bins=10)[9] == pytest.approx([0.9, 0.5, 2])
    assert reliability(np.eye(2), np.array([0, 1]))[-1].tolist() == [1, 1, 2], "certainty is in the last interval"
    assert calibration_error(np.empty((0, 10)), np.empty(0)) == 0


def test_a_temperature_can_be_taken_off_again():
    logits, _ = drawn(100, 1.0)
    calibrated = (logits / 0.7).softmax(1).numpy()
    assert uncalibrated(calibrated, 0.7) == pytest.approx(logits.softmax(1).numpy(), rel=1e-3)


def test_without_a_mistake_or_with_too_few_images_the_logits_stay_as_they_are():
    right = torch.eye(4).repeat(25, 1) * 3
    assert fit_temperature(right, torch.arange(100) % 4) == 1
    logits, labels = torch.eye(4)[[0, 1, 2, 3, 0]], torch.tensor([0, 1, 2, 3, 1])
    assert fit_temperature(logits, labels) == 1
    assert fit_temperature(logits.repeat(10, 1), labels.repeat(10)) != 1


def test_the_doubt_is_what_one_in_twenty_stays_under():
    confidence = torch.arange(1, 101) / 100
    probabilities = torch.stack([confidence, 1 - confidence], 1).sort(1).values
    doubt = fit_doubt(probabilities)
    assert (probabilities.amax(1) < doubt).sum() == 5
    assert fit_doubt(torch.tensor([[0.9999, 0.0001]] * 60)) == 0.95  # and nothing that is surer is doubted
