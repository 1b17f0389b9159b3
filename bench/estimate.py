"""What `geopov run --estimate` foretells against what `geopov run` then takes, study by study.

    python bench/estimate.py [STUDY.yaml ...] [--quick]

Each study is estimated and then run in one fresh work folder, so that whatever else the machine does weighs on both.
"clock" is what a person waits, "cpu" the time of all cores, which other programs disturb less. Seconds of the stages
are those between the time stamps that Snakemake keeps. Real studies need their inputs under GEOPOV_REAL_DATA (default
../shared/data), Nepal the wheels that `make demo` fetches. Quick: Lesotho only. The last line is JSON: by study the
estimated and the true seconds with their ratio, also of each stage.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from geopov.cli._estimate import print_estimate
from geopov.study import prepare_study
from geopov.study.estimate import Estimate, estimate_study

ROOT = Path(__file__).resolve().parents[1]
STUDIES = (
    *("tests/real/lesotho.yaml", "tests/real/malawi.yaml", "tests/real/kinshasa.yaml"),
    *("pipelines/nepal.yaml", "pipelines/sample.yaml"),
)
# What the estimate counts in one row.
ROWS = {
    **dict.fromkeys(("people", "consumption", "poverty", "quintile", "poor"), "other maps"),
    **dict.fromkeys(("style", "picture", "page", "project", "report"), "pictures, page, project, report"),
    **{"features/model.nc": "features", "features/baseline.nc": "features of the baseline"},
    "features/random.nc": "random convolution",
}


def run(study: Path, work: Path) -> tuple[float, float]:
    """Seconds by the clock and of the processors, of a run."""
    command = [sys.executable, "-m", "geopov", "run", str(study), "--work", str(work)]
    before, start = os.times(), time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds, after = time.perf_counter() - start, os.times()
    if done.returncode:
        raise SystemExit(f"{study.name}: {done.stdout[-2000:]}{done.stderr[-4000:]}")
    used = after.children_user - before.children_user + after.children_system - before.children_system
    return seconds, used


def stages(work: Path, seconds: float) -> dict[str, float]:
    """True seconds by the estimate's rows; what lies before the first and after the last stage are start and checks."""
    jobs: dict[tuple[str, float, float], str] = {}
    for file in (work / ".snakemake" / "metadata").iterdir():
        record = json.loads(file.read_text())
        output = base64.b64decode(file.name).decode()
        name = ROWS.get(output) or ROWS.get(record["rule"]) or record["rule"]
        jobs[record["rule"], record["starttime"], record["endtime"]] = name
    rows: dict[str, float] = {}
    for (_, start, end), name in jobs.items():
        rows[name] = rows.get(name, 0.0) + end - start
    first, last = min(start for _, start, _ in jobs), max(end for _, _, end in jobs)
    return {"start and checks": seconds - (last - first)} | rows


def compare(study: Path, work: Path) -> dict[str, Any]:
    """Estimate, then run."""
    prepared = prepare_study(study, work=work)
    estimate = estimate_study(prepared, work=work)
    print_estimate(estimate, Console(width=120))
    seconds, cpu_seconds = run(study, work)
    true = stages(work, seconds)
    rows = {stage.name: [stage.cost.seconds, true.get(stage.name, 0.0)] for stage in estimate.stages}
    print(f"\n{study.stem:36}{'estimated':>11}{'true':>9}{'ratio':>8}")
    for name, (foretold, found) in rows.items():
        print(f"{name:36}{foretold:>11.1f}{found:>9.1f}{_ratio(foretold, found):>8.2f}")
    result = _in_all(estimate, seconds, cpu_seconds)
    for clock in ("clock", "cpu"):
        foretold, found = result[f"{clock}_estimated"], result[f"{clock}_true"]
        print(f"{'in all, ' + clock:36}{foretold:>11.1f}{found:>9.1f}{result[f'{clock}_ratio']:>8.2f}")
    print(f"busy {estimate.busy:.0%}; the estimate took {estimate.probe_seconds:.0f} s\n", flush=True)
    return result | {"stages": {name: [round(value, 2) for value in pair] for name, pair in rows.items()}}


def _ratio(foretold: float, found: float) -> float:
    return foretold / found if found else float("nan")


def _in_all(estimate: Estimate, seconds: float, cpu_seconds: float) -> dict[str, Any]:
    foretold = {"clock": (estimate.seconds, seconds), "cpu": (estimate.total.cost.cpu_seconds, cpu_seconds)}
    result: dict[str, Any] = {}
    for clock, (guess, true) in foretold.items():
        result |= {f"{clock}_estimated": round(guess, 1), f"{clock}_true": round(true, 1)}
        result[f"{clock}_ratio"] = round(guess / true, 3)
    return result | {"busy": round(estimate.busy, 2), "probe_seconds": round(estimate.probe_seconds, 1)}


def main() -> None:
    """Print a table a study for people and one JSON line for machines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", nargs="*", type=Path, help="default: three real studies, Nepal, the made-up country")
    parser.add_argument("--quick", action="store_true", help="Lesotho only")
    options = parser.parse_args()
    os.environ.setdefault("GEOPOV_REAL_DATA", str(ROOT.parent / "shared/data"))
    paths = options.studies or [ROOT / name for name in STUDIES[: 1 if options.quick else None]]
    results = {}
    for path in paths:
        if "real" in path.parts and not Path(os.environ["GEOPOV_REAL_DATA"]).is_dir():
            raise SystemExit(f"there is no folder {os.environ['GEOPOV_REAL_DATA']}; set GEOPOV_REAL_DATA.")
        with tempfile.TemporaryDirectory() as folder:
            results[path.stem] = compare(path, Path(folder) / path.stem)
    print(json.dumps(results))


if __name__ == "__main__":
    main()
