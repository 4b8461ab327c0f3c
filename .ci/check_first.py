"""Checks what README's first command printed, in the file named: its row within README's range, its run directory's files."""

import json
import re
import sys
from pathlib import Path

RUN = Path("runs/wgan_gp-digits-seed0")
FILES = ("config.json", "provenance.json", "metrics.jsonl", "summary.json", "tensorboard", "samples", "figures", "checkpoints")

readme, printed = Path("README.md").read_text(encoding="utf-8"), Path(sys.argv[1]).read_text(encoding="utf-8")
stated = " ".join(re.search(r"The command's row lies within:(.+?)\n\n", readme, re.DOTALL)[1].split())
found = re.findall(r"([a-z ]+) (-?\d+\.\d+) to (-?\d+\.\d+)", stated)
ranges = {name.strip(): (float(low), float(high)) for name, low, high in found}
wrong = [f"{RUN}: lacks {name}" for name in FILES if not (RUN / name).exists()]
summary = json.loads((RUN / "summary.json").read_text(encoding="utf-8"))
for name, (low, high) in ranges.items():
    value = summary["final"]["wasserstein_" * (name in {"ratio", "excess"}) + name.replace(" ", "_")]
    if not low <= value <= high:
        wrong.append(f"{name}: {value:.3f} is not from {low} to {high}, as README says")
    if f"{value:.3f}" not in printed:
        wrong.append(f"{name}: {value:.3f} was not printed")
if len(ranges) < 4 or summary["status"] != "done":
    wrong.append(f"status {summary['status']}; README states the ranges of {', '.join(ranges)}")
sys.exit("\n".join(wrong) or 0)
