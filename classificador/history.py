"""What happened in a training run."""

from dataclasses import asdict, dataclass, field


@dataclass
class History:
    """An entry for each complete epoch: mean loss per image, accuracy as a fraction, seconds since the run began."""

    train_loss: list[float] = field(default_factory=list)
    train_accuracy: list[float] = field(default_factory=list)
    val_loss: list[float] = field(default_factory=list)
    val_accuracy: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    steps: list[list[float]] = field(default_factory=list)  # [epoch, loss, accuracy] within the epochs
    interrupted: int = 0  # the signal that ended the run early (2: Ctrl-C), 0 if none did

    @property
    def best(self) -> int:
        """Index of the epoch with the highest validation accuracy (the first of equals). Raises ValueError if empty."""
        return self.val_accuracy.index(max(self.val_accuracy))

    def to_dict(self) -> dict:
        """The history as plain lists, for a checkpoint or a JSON file."""
        return asdict(self)
