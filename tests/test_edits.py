"""What a student writes into the notebook's network is what trains, is saved, and opens again: with every recipe."""

from dataclasses import replace

import nbformat
import pytest
import torch

from classificador import load_model
from classificador.apps.notebook import NOTEBOOK
from classificador.errors import CheckpointError
from classificador.network.cnn import unwrap
from classificador.recipes import FEW, PRESETS
from classificador.results.predict import predict_logits
from classificador.training import batches
from conftest import model_of

pytestmark = pytest.mark.slow

CELLS = nbformat.read(NOTEBOOK, as_version=4).cells
# Cells by words in them: the training's, and of the prediction section those that open the model.
TRAINING = [
    "import DataLoader",
    "data = load_data(DATA_DIR, side=SIDE",
    "def contrast",
    "def max_and_mean",
    "class CNN",
]
TRAINING += ["start = find_start(", "criterion = nn.CrossEntropyLoss(label", "curves ="]
PREDICTION = ["import describe_checkpoint", 'CHECKPOINT = ""', "model = load_model("]

FIXED = """    def __init__(self):
        channels, kernels, pools, hidden, classes, side = (8, 12), (3, 3), (4, 2), 24, 2, 32
"""
ANY_SIGNATURE = """    def __init__(self, channels=(64, 192), kernels=(5, 3), pools=(3, 3),
                 hidden=256, classes=10, side=32):
"""
CONV1 = 'self.conv1 = nn.Conv2d(3, channels[0], kernels[0], padding="same", bias=False)'
CONV2 = 'self.conv2 = nn.Conv2d(*channels, kernels[1], padding="same", bias=False)'
# What is replaced by what, in all cells; and whether the package's own class, in a fresh kernel, is another network.
EDITS = {
    "none": ([], False),
    "no arguments": ([(ANY_SIGNATURE, FIXED)], True),
    "other names": ([("conv1", "primeira"), ("self.conv2", "self.segunda"), ("fc1", "densa")], True),
    "another activation": ([("F.relu", "F.silu")], True),
    "three convolutions": (
        [
            (CONV2, CONV2 + "\n        self.conv3 = nn.Conv2d(channels[1], channels[1], 3, padding=1)"),
            ("max_and_mean(self.conv2(x)", "max_and_mean(self.conv3(F.relu(self.conv2(x)))"),
        ],
        True,
    ),
    "LazyLinear": ([("nn.Linear(2 * channels[1] * regions, hidden,", "nn.LazyLinear(hidden,")], False),
    "no batch normalisation": (
        [("nn.BatchNorm2d(2 * channels[1])", "nn.Identity()"), ("nn.BatchNorm1d(hidden)", "nn.Identity()")],
        True,
    ),
    "a conv1 of one's own": (
        [(CONV1, "self.conv1 = nn.Sequential(nn.Conv2d(3, channels[0], 3, padding=1), nn.GroupNorm(1, channels[0]))")],
        True,
    ),
    "sizes in the call": ([("CNN(**sizes)", "CNN((6, 10), hidden=24, pools=sizes['pools'], classes=2)")], False),
    "a default": ([("hidden=256", "hidden=24")], False),
    "no mirror": ([("if settings.symmetric:", "if False:")], False),
}


def cell(words: str) -> str:
    """The first cell of code with these words in it."""
    return next(one.source for one in CELLS if one.cell_type == "code" and words in one.source)


@pytest.fixture(scope="module")
def shipped(tmp_path_factory):
    return str(model_of("Pytorch.ipynb", tmp_path_factory.mktemp("shipped")))


@pytest.mark.parametrize("preset", [*PRESETS, "rapido, from trained weights"])
@pytest.mark.parametrize("edit", EDITS)
def test_what_is_written_is_what_trains_is_saved_and_opens(photos, tmp_path, shipped, monkeypatch, edit, preset):
    monkeypatch.setattr(batches, "SHOWN", 64)  # images an epoch, not a thousand
    kernel, path = {}, str(tmp_path / "m.pth")
    replaced, is_another_network = EDITS[edit]
    preset, _, is_trained = preset.partition(", ")
    parameters = {"PRESET": preset, "EPOCHS": 1, "BATCH_SIZE": 16, "DATA_DIR": str(photos), "CHECKPOINT": path}
    exec(cell('PRESET = "rapido"'), kernel)
    kernel |= parameters | {"START_FROM": shipped if is_trained else "zero", "DEVICE": "cpu"}
    for words in TRAINING:
        source = cell(words)
        for old, new in replaced:
            source = source.replace(old, new)
        exec(source, kernel)
        if words == TRAINING[0]:  # there is no teacher of these classes
            kernel["settings"] = replace(kernel["settings"], teacher="")
    for old, _ in replaced:
        assert any(old in cell(words) for words in TRAINING), "the notebook changed"
    trained, images = kernel["model"], kernel["data"].val.images
    assert type(unwrap(trained)) is kernel["CNN"]
    for words in PREDICTION:
        exec(cell(words), kernel)
    opened = kernel["model"]
    assert opened is not trained and opened.info.preset in (preset, FEW)
    expected = predict_logits(trained, images)
    assert torch.equal(predict_logits(opened, images), expected)
    if is_another_network:
        with pytest.raises(CheckpointError, match="execute antes a célula que a define"):
            load_model(path)
    else:
        assert torch.allclose(predict_logits(load_model(path), images), expected, atol=1e-5)
