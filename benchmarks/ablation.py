"""What each trick of the recipe `destilado` is worth: `python -m benchmarks.ablation`.

The recipe made SMALL (fewer filters and epochs, no contrast, means or mirror), as it is and with one thing changed;
then the same with labels instead of the teacher's answers, from which the older tricks are taken away one by one.
Validation accuracy only: the test set stays closed. Needs professor.pth (`python -m classificador professor`). All
rows of a seed in turn; prints a table and writes benchmarks/ablation.json. Cut off, it goes on where it was; a row
whose settings or teacher changed, or that was measured on another processor, is measured anew.
"""

import argparse
import json
import statistics
from dataclasses import replace
from pathlib import Path
from unittest import mock

from benchmarks import machine
from benchmarks.search import train
from classificador import load_cifar10, make_settings, teacher
from classificador.device import choose_device
from classificador.settings import PRESETS

BEFORE = {"batch_size": 128, "lr": 8e-3, "train_first": False}  # the recipe before it was moved to a GPU
TODAY = {name: getattr(PRESETS["destilado"], name) for name in BEFORE}
SMALL = BEFORE | {"channels": (64, 128), "epochs": 6, "contrast": False, "means": False, "mirror": False}
SYMMETRIC = {"contrast": True, "mirror": True, "channels": (64, 64)}
LABELS = {"teacher": "", "label_smoothing": 0.1}
PLAIN = LABELS | {"mixup": 0.0}
SOFTENING = "divisor"  # not a setting: teacher.SOFTENING
ROWS = {
    "destilado": {},
    "com contraste e espelho, 64 e 64 canais": SYMMETRIC,
    "com contraste, médias e espelho, 64 e 64 canais": SYMMETRIC | {"means": True},
    "a receita de hoje, 64 e 64 canais": SYMMETRIC | {"means": True} | TODAY,
    "sem mistura": {"mixup": 0.0},
    "mistura em todos os lotes": {"mixup": 1.0},
    "respostas do professor divididas por 1": {SOFTENING: 1.0},
    "com rótulos": LABELS,
    "com rótulos, sem mistura": PLAIN,
    "— e sem label smoothing": PLAIN | {"label_smoothing": 0.0},
    "— e dropout de 0,3": PLAIN | {"dropout": 0.3},
    "— e sem espelhamento": PLAIN | {"flip": False},
    "— e sem deslocamento": PLAIN | {"shift": 0},
    "— e primeira camada ao acaso, treinada": PLAIN | {"whiten": False},
    "— e sem normalização em lote, lr de 1e-3": PLAIN | {"norm": False, "lr": 1e-3},
    "— e weight decay de 1e-4": PLAIN | {"weight_decay": 1e-4},
    "— e taxa de aprendizado constante": PLAIN | {"warmup": 0.0},
    "— e fp32": PLAIN | {"bf16": False},
}


def settings_of(row: str, crc32: str) -> dict:
    """What decides a row's runs, as the JSON file keeps it. crc32: of the teacher."""
    changes = SMALL | ROWS[row]
    softening = changes.pop(SOFTENING, teacher.SOFTENING)
    settings = make_settings("destilado", **changes).to_dict()
    return settings | ({SOFTENING: softening, "crc32": crc32} if settings["teacher"] else {})


def measure(row: str, data, seed: int) -> dict[str, float]:
    """One run: validation accuracy, single view and with TTA, and seconds."""
    changes = SMALL | ROWS[row]
    softening = changes.pop(SOFTENING, teacher.SOFTENING)
    with mock.patch.object(teacher, "SOFTENING", softening):
        single, tta, seconds = train(replace(make_settings("destilado", **changes), seed=seed), data)
    return {"val_accuracy": single, "val_accuracy_tta": tta, "seconds": seconds}


def print_table(results: dict) -> None:
    """Mean and, of several seeds, standard deviation of each row."""
    print(f"\n{'receita':<48}{'n':>3}{'validação %':>15}{'com TTA %':>15}{'segundos':>10}")
    for row, result in results.items():
        runs = result["runs"]
        cells = []
        for key in ("val_accuracy", "val_accuracy_tta"):
            values = [100 * run[key] for run in runs]
            spread = f" ± {statistics.stdev(values):.2f}" if len(runs) > 1 else ""
            cells.append(f"{statistics.mean(values):.2f}{spread}")
        seconds = statistics.mean(run["seconds"] for run in runs)
        print(f"{row:<48}{len(runs):>3}{cells[0]:>15}{cells[1]:>15}{seconds:>10.0f}")


def main() -> None:
    """Run what is missing, all rows of a seed in turn, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    data = load_cifar10(machine.ROOT / "data")
    path = Path(__file__).with_suffix(".json")
    stored, here = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}, machine.describe()
    if stored and stored["machine"]["processor"] != here["processor"]:
        stored = {}
    crc32 = teacher.load_teacher("professor.pth", list(data.classes), 32, choose_device("cpu")).facts["crc32"]
    results = {}
    for row in ROWS:
        settings, earlier = settings_of(row, crc32), stored.get("rows", {}).get(row, {})
        results[row] = earlier if earlier.get("settings") == settings else {"settings": settings, "runs": []}
    for seed in range(options.seeds):
        for row, result in results.items():
            if seed >= len(result["runs"]):
                result["runs"].append(measure(row, data, seed))
                print(f"semente {seed}, {row}: {result['runs'][-1]['val_accuracy']:.2%}", flush=True)
                machine.save("ablation", {"machine": here, "rows": results})
    print_table(results)


if __name__ == "__main__":
    main()
