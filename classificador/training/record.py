"""What is recorded of a run in its folder: `history.csv`, and `run.json`, which says what trained and how it went."""

import csv
import io
import json
import platform
import subprocess
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from classificador.atomic import write_bytes
from classificador.training.history import COLUMNS, History

PACKAGES = ("torch", "numpy", "scikit-learn", "pillow")
STATUS = {"running": "em andamento", "finished": "completo", "interrupted": "interrompido", "failed": "falhou"}


def write_record(folder: Path, record: dict, history: History, status: str) -> None:
    """Write both files anew; record: what run.json says beside the metrics; status: of STATUS. Raises WriteError."""
    rows = io.StringIO()
    table = csv.writer(rows, lineterminator="\n")
    table.writerow(["epoch", *COLUMNS])
    values = zip(*(getattr(history, name) for name in COLUMNS), strict=True)
    table.writerows([epoch, *row] for epoch, row in enumerate(values, 1))
    record = {"status": status} | record | {"metrics": _metrics(history)}
    write_bytes(folder / "history.csv", rows.getvalue().encode())
    write_bytes(folder / "run.json", json.dumps(record, ensure_ascii=False, indent=2).encode())


def read_record(folder: Path) -> dict:
    """Return what the folder's run.json holds; nothing where it holds no record."""
    with suppress(OSError, ValueError, RecursionError):
        record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        return record if isinstance(record, dict) else {}
    return {}


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


def versions() -> dict[str, str]:
    """The versions of Python and of the packages that decide a training."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def git_commit() -> str | None:
    """The commit of this code, with "-dirty" behind it where files differ from it; None outside a git checkout."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, encoding="utf-8", timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
