"""Fit trained weights to the contrast after the pooling: `python -m benchmarks.refit OLD.pth NEW.pth`.

Until 30/11/2026 the network divided by the contrast before its first pooling, and files had format 2. This is how
best_model.pth came to its order of today: 117 steps of 128 training images, with the answers of the network as it was
for targets, all weights learning, Adam from 5e-4 to zero. The old file: `git show 7d3d923:best_model.pth > OLD.pth`.
Prints what both reach on the validation split; the test set stays closed.
"""

import sys
from itertools import islice
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks import machine
from classificador import load_cifar10, make_settings
from classificador.device import keep_freed_memory, to_device
from classificador.files.model_file import Checkpoint, copy_weights
from classificador.files.safe import BEST, write_file
from classificador.network.cnn import CNN, contrast, make_network, max_and_mean, unwrap
from classificador.network.model_info import ModelInfo
from classificador.results.predict import fit_doubt, fit_temperature, predict_logits
from classificador.training.batches import Batches

STEPS, BATCH_SIZE, LR = 117, 128, 5e-4
START = f"best_model.pth (destilado, 2026-11-27; benchmarks.refit: {STEPS} × {BATCH_SIZE})"


class ContrastFirst(CNN):
    """The network as it was."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits."""
        x = self.conv1((images / 255 - 0.5) / 0.5)
        x = F.relu(F.max_pool2d(contrast(x), self.pools[0]))
        x = F.relu(self.norm2(max_and_mean(self.conv2(x), self.pools[1])))
        return self.fc2(F.relu(self.norm3(self.fc1(x.flatten(1)))))


def main(old_path: str, new_path: str) -> None:
    """Write the new file."""
    content, data, device = torch.load(old_path, weights_only=True), load_cifar10(machine.ROOT / "data"), "cpu"
    info = ModelInfo.from_dict(content["info"])
    old, model = (make_network(network, **info.architecture) for network in (ContrastFirst, CNN))
    for one in (old, model):
        unwrap(one).load_state_dict(content["weights"])
        to_device(one, torch.device(device))
    keep_freed_memory()
    settings = make_settings("destilado", epochs=1, batch_size=BATCH_SIZE, mixup=0.0, seed=0)
    batches = Batches(data, settings, torch.device(device))
    criterion, optimizer = nn.CrossEntropyLoss(), torch.optim.Adam(model.parameters(), lr=LR, fused=True)
    old.eval()
    model.train()
    for step, (images, _) in enumerate(islice(batches, STEPS)):
        with torch.no_grad():
            targets = old(images).softmax(1)
        optimizer.param_groups[0]["lr"] = LR * (1 - step / STEPS)
        loss = criterion(model(images), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    before, logits = (predict_logits(one, data.val.images) for one in (old, model))
    labels = data.val.labels
    print(*(f"{(answers.argmax(1) == labels).double().mean().item():.2%}" for answers in (before, logits)))
    temperature = fit_temperature(logits, labels)
    facts = content["info"] | {
        "start": START,
        "val_accuracy": (logits.argmax(1) == labels).double().mean().item(),
        "val_loss": criterion(logits, labels).item(),
        "temperature": temperature,
        "doubt_below": fit_doubt((logits / temperature).softmax(1)),
    }
    # As a file keeps it, but with the device of the training itself.
    new = Checkpoint(ModelInfo.from_dict(facts), copy_weights(unwrap(model)))
    write_file(Path(new_path), BEST, new.to_dict())


if __name__ == "__main__":
    main(*sys.argv[1:])
