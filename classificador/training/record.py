"""What a run says of itself in its folder, to be compared with others: `history.csv` and `run.json`."""

import csv
import io
import json
import platform
import subprocess
from contextlib import suppress
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from classificador.atomic import write_bytes
from classificador.training.history import History

PACKAGES = ("torch", "numpy", "scikit-learn", "pillow")
COLUMNS = ("train_loss", "train_accuracy", "val_loss", "val_accuracy", "seconds")
STATUS = {"running": "em andamento", "finished": "completo", "interrupted": "interrompido", "failed": "falhou"}


def write_record(folder: Path, facts: dict, history: History, status: str) -> None:
    """Write both files anew; status: of STATUS. Raises CheckpointError."""
    rows = io.StringIO()
    table = csv.writer(rows, lineterminator="\n")
    table.writerow(["epoch", *COLUMNS])
    values = zip(*(getattr(history, name) for name in COLUMNS), strict=True)
    table.writerows([epoch, *row] for epoch, row in enumerate(values, 1))
    facts = {"status": status} | facts | {"metrics": _metrics(history)}
    write_bytes(folder / "history.csv", rows.getvalue().encode())
    write_bytes(folder / "run.json", json.dumps(facts, ensure_ascii=False, indent=2).encode())


def read_record(folder: Path) -> dict:
    """Return what the folder's run.json holds; nothing where it holds no record."""
    with suppress(OSError, ValueError, RecursionError):
        facts = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        return facts if isinstance(facts, dict) else {}
    return {}


def circumstances() -> dict:
    """Versions, commit and time of day, for run.json."""
    return {
        "versions": {"python": platform.python_version()} | _versions(),
        "git_commit": _commit(),
        "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def _metrics(history: History) -> dict:
    if not history.val_accuracy:
        return {"epochs": 0}
    best = history.best
    return {
        "epochs": len(history.val_loss),
        "best_epoch": best + 1,
        "val_accuracy": history.val_accuracy[best],
        "val_loss": history.val_loss[best],
        "seconds": history.seconds[-1],
    }


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _commit() -> str | None:
    """The commit of this code, with "-dirty" behind it where files differ from it; None outside a git checkout."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, encoding="utf-8", timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
