"""The three real studies of tests/real, run through the command line: scores beside the baseline, time and memory.

    python bench/real.py [--quick]

Needs the real inputs under GEOPOV_REAL_DATA (default ../shared/data). Quick: Lesotho only.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
STUDIES = ("lesotho", "malawi", "kinshasa")


def measure(name: str, folder: Path) -> dict[str, Any]:
    """Run one study in a fresh work folder; sources and weights that are cached already are not fetched again."""
    work = folder / name
    command = [sys.executable, "-m", "geopov", "run", str(ROOT / "tests/real" / f"{name}.yaml"), "--work", str(work)]
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - start
    if done.returncode:
        raise SystemExit(f"{name}: {done.stderr}")
    scores = json.loads((work / "model/scores.json").read_text())
    pooled = {row["predictor"]: row for row in scores["scores"] if row["subset"] == "all"}
    baselines = {name: row["R2"] for name, row in pooled.items() if name != "model"}
    return {
        "n": scores["n"],
        "dropped": dict(Counter(row["reason"] for row in scores["dropped"])),
        "r2_pearson": round(pooled["model"]["r2_pearson"], 4),
        "R2": round(pooled["model"]["R2"], 4),
        "baseline_R2": round(max(baselines.values()), 4),
        "baselines": {name: round(value, 4) for name, value in baselines.items()},
        "seconds": round(seconds, 1),
        # Of the largest single process of this study: see main.
        "peak_mib": round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024),
    }


def main() -> None:
    """Print a table for people and one JSON line for machines."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="Lesotho only")
    quick = parser.parse_args().quick
    data = Path(os.environ.setdefault("GEOPOV_REAL_DATA", str(ROOT.parent / "shared/data")))
    if not data.is_dir():
        raise SystemExit(f"there is no folder {data}; set GEOPOV_REAL_DATA to the real inputs.")
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        print(f"{'study':10} {'n':>5} {'r²':>6} {'R²':>6} {'baseline R²':>12} {'s':>6} {'MiB':>6}  dropped")
        for name in STUDIES[:1] if quick else STUDIES:
            # A process of its own, since the system keeps the peak of all children a process ever had.
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as apart:
                row = results[name] = apart.submit(measure, name, Path(folder)).result()
            dropped = "; ".join(f"{count} {reason}" for reason, count in row["dropped"].items()) or "none"
            figures = f"{row['n']:>5} {row['r2_pearson']:>6.3f} {row['R2']:>6.3f} {row['baseline_R2']:>12.3f}"
            print(f"{name:10} {figures} {row['seconds']:>6.0f} {row['peak_mib']:>6}  {dropped}")
    print(json.dumps(results))


if __name__ == "__main__":
    main()
