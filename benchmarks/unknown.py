"""Which score tells pictures of no known class: `python -m benchmarks.unknown`.

For each pair of CIFAR-10's classes in PAIRS a network of the recipe `relampago` learns the other eight; the pair's test
images are then the unknown. The threshold of each score warns of 5 % of the validation images of the known classes.
Prints, for each score, the mean over the pairs of the warnings about known and unknown test images and of the area
under the ROC curve; writes benchmarks/unknown.json.
"""

import statistics
import tempfile
from pathlib import Path

import torch
from sklearn.metrics import roc_auc_score
from torch import nn

from benchmarks import machine
from classificador import build, fit, load_cifar10, load_model, make_optimizer, make_settings
from classificador.data.dataset import ImageData, Split
from classificador.network.model_info import info_of
from classificador.results.predict import FALSE_WARNINGS, predict_logits

PAIRS = ((0, 1), (2, 3), (4, 5), (6, 7), (8, 9))
SCORES = {
    "maior probabilidade": lambda logits, temperature: (logits / temperature).softmax(1).amax(1),
    "maior logit": lambda logits, temperature: logits.amax(1),
    "energia": lambda logits, temperature: logits.logsumexp(1),
    "menos entropia": lambda logits, temperature: -torch.special.entr((logits / temperature).softmax(1)).sum(1),
}


def without(data: ImageData, unknown: tuple[int, int]) -> tuple[ImageData, torch.Tensor]:
    """The data set of the other classes, and the test images of the unknown ones."""
    known = [label for label in range(10) if label not in unknown]
    parts: list[Split] = []
    for split in (data.train, data.val, data.test):
        keep = torch.isin(split.labels, torch.tensor(known))
        parts.append(Split(split.images[keep], torch.searchsorted(torch.tensor(known), split.labels[keep])))
    unseen = data.test.images[torch.isin(data.test.labels, torch.tensor(unknown))]
    train, val, test = parts
    return ImageData(train, val, test, tuple(data.classes[label] for label in known)), unseen


def measure(data: ImageData, unknown: tuple[int, int]) -> dict[str, dict[str, float]]:
    """For each score: the share of known and of unknown test images that it warns of, and its area under the ROC."""
    part, unseen = without(data, unknown)
    settings = make_settings("relampago", seed=0)
    with tempfile.TemporaryDirectory() as folder:
        model, criterion = build(settings, part), nn.CrossEntropyLoss(label_smoothing=settings.label_smoothing)
        fit(model, part, criterion, make_optimizer(model, settings), settings, Path(folder, "best.pth"))
        model = load_model(Path(folder, "best.pth"))
    temperature, rows = info_of(model).temperature, {}
    logits = [predict_logits(model, images) for images in (part.val.images, part.test.images, unseen)]
    for name, score in SCORES.items():
        val, known, other = (score(values, temperature) for values in logits)
        threshold = val.quantile(FALSE_WARNINGS)
        truth = torch.cat([torch.ones(len(known)), torch.zeros(len(other))])
        rows[name] = {
            "known": (known < threshold).float().mean().item(),
            "unknown": (other < threshold).float().mean().item(),
            "auroc": float(roc_auc_score(truth, torch.cat([known, other]))),
        }
    return rows


def main() -> None:
    """Measure every pair and print the table."""
    data = load_cifar10(machine.ROOT / "data")
    results = [measure(data, pair) for pair in PAIRS]
    print(f"\n{'pontuação':<22}{'avisos: conhecidas':>20}{'desconhecidas':>15}{'AUROC':>8}")
    for name in SCORES:
        means = {key: statistics.mean(r[name][key] for r in results) for key in ("known", "unknown", "auroc")}
        print(f"{name:<22}{means['known']:>20.1%}{means['unknown']:>15.1%}{means['auroc']:>8.3f}")
    machine.save("unknown", {"machine": machine.describe(), "pairs": PAIRS, "results": results})


if __name__ == "__main__":
    main()
