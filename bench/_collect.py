"""Run benchmarks and write what they found into RESULTS.md.

    python bench/_collect.py [--quick] [--write-only] [NAME ...]

Each is run as a process of its own, one after the other; what it finds replaces its earlier line in RESULTS.md, and the
others stay. Names are those of the files without ``.py``; default: all in the table. One that fails is told of and
keeps its earlier line. Figures that were taken while other programs ran on the machine are marked: that is decided by
the CPU time of other processes during the run.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
PAGE = HERE / "RESULTS.md"
INTRODUCTION = """# What was measured

Every line is one command, run from the repository's root; `python bench/_collect.py` runs them all and rewrites this
page, `--quick` in small. Ratios say how many times as fast ours is; in each benchmark the contenders take turns within
a round, so that ratios hold where times do not. A line marked *busy* was taken while other programs took so much of the
cores' time: its seconds and rates mean little, and its ratios are rough. What a key means is told at the head of each
script.
"""
# Other programs took more than this share of the cores' time.
BUSY_SHARE = 0.1


@dataclass(frozen=True)
class Bench:
    """What a benchmark shows, and which keys of its JSON line say so.

    Attributes
    ----------
    shows : str
        In a few words.
    ratios : dict
        Peer by pattern of keys; how many times as fast ours is.
    figures : tuple of str
        Patterns of further keys, shown under their own names.
    options : tuple of str
        Given in either case.
    """

    shows: str
    ratios: Mapping[str, str]
    figures: tuple[str, ...]
    options: tuple[str, ...] = ()


BENCHES = {
    "tiles": Bench(
        "tiles cut from granules",
        {
            "vs_open_per_tile": "opening a file a tile",
            "overview_vs_open_per_tile": "the same, 10 km windows",
            "vs_torchgeo": "torchgeo",
            "vs_torchgeo_one_dataset": "torchgeo, one dataset",
        },
        ("of_decode_limit", "peak_mib", "pixels_equal"),
    ),
    "features": Bench(
        "tiles to network features",
        {"vs_plain_eager": "plain eager PyTorch"},
        ("of_forward", "of_peak", "training_of_bare", "device"),
    ),
    "ridge": Bench(
        "nested cross-validation of ridge",
        {"n*_p*": "GridSearchCV, {}"},
        ("max_abs_diff", "alphas_equal", "products.*"),
    ),
    "map": Bench(
        "maps wall to wall",
        {
            "vs_crops": "a crop a cell, same context",
            "vs_crops_*": "the same, {}",
            "vs_plain_crops": "a crop a cell, no context",
            "vs_plain_crops_*": "the same, {}",
            "vs_torchgeo": "torchgeo",
            "vs_torchgeo_*": "the same, {}",
            "vs_odc_xarray": "odc-stac + xarray",
            "vs_odc_xarray_*": "the same, {}",
            "vs_rio_tiler": "rio-tiler",
            "vs_rio_tiler_*": "the same, {}",
        },
        ("forward_share*", "pass_s_megapixel_*", "peak_mib_*"),
    ),
    "sharing": Bench(
        "r² of shared features beside crops", {}, ("r2_difference", "*.map_minus_crops", "*.feature_difference")
    ),
    "growth": Bench("slopes of time on size", {}, ("slope_*",)),
    "estimate": Bench("estimates beside runs", {}, ("*.clock_ratio", "*.cpu_ratio", "*.busy")),
    "density": Bench(
        "people of Nepal's wards",
        {},
        ("wards", "mae", "r2", "coverage90", "kind", "best_other.*", "outlines.mae", "outlines.r2"),
    ),
    "real": Bench("three real studies, end to end", {}, ("*.r2_pearson", "*.baseline_R2", "*.seconds", "*.peak_mib")),
    "published": Bench("published predictions, scored again", {}, ("lesotho*", "lsms*", "outer_looks", "seconds")),
    "extractors": Bench("what each extractor is worth", {}, ("*.r2", "lesotho.published*")),
    "survey": Bench("a household recode of over a gigabyte", {}, ("*",)),
    "displacement": Bench("what displacement costs", {}, ("published_by_survey.*", "seconds")),
    "surroundings": Bench("training on real radiance", {}, ("scores.*.auroc",)),
    "compare": Bench("the bake-off of backbones", {}, ("seconds",)),
}


def run(name: str, *, quick: bool) -> dict[str, Any] | None:
    """The line to keep of one benchmark; None if it fails."""
    options = [*BENCHES[name].options, *(["--quick"] if quick else [])]
    command = [sys.executable, str(HERE / f"{name}.py"), *options]
    before, begin = _of_others(), time.perf_counter()
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    lines: list[str] = []
    print(f"\n$ python bench/{' '.join([f'{name}.py', *options])}", flush=True)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, cwd=HERE.parent) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line.strip())
    wall, after = time.perf_counter() - begin, _of_others()
    found = _last_json(lines)
    if process.returncode or found is None:
        print(f"{name} failed (status {process.returncode}); its earlier line stays.")
        return None
    others = None if before is None or after is None else max(0, after - before) / (wall * (os.cpu_count() or 1))
    return {
        "bench": name,
        "command": " ".join(["python", f"bench/{name}.py", *options]),
        "date": datetime.date.today().isoformat(),
        "machine": machine(),
        "seconds": round(wall),
        "others_share": None if others is None else round(others, 2),
        "found": found,
    }


def _of_others() -> float | None:
    """CPU seconds of all that is not this process or a finished child of it; None where the system does not say."""
    stat = Path("/proc/stat")
    if not stat.exists():
        return None
    user, nice, system = (int(n) for n in stat.read_text(encoding="ascii").split()[1:4])
    return (user + nice + system) / os.sysconf("SC_CLK_TCK") - sum(os.times()[:4])


def _last_json(lines: list[str]) -> dict[str, Any] | None:
    for line in reversed(lines):
        if line.startswith("{"):
            try:
                return dict(json.loads(line))
            except json.JSONDecodeError:
                return None
    return None


def machine() -> str:
    """Cores, memory, processor and GPU."""
    model, info = platform.processor() or platform.machine(), Path("/proc/cpuinfo")
    if info.exists():
        named = [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
        model = named[0] if named else model
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{model}, {os.cpu_count()} cores, {memory:.0f} GiB, {_gpu()}"


def _gpu() -> str:
    try:
        import torch
    except ImportError:
        return "no GPU"
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"


def flat(found: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Leaves of a nested mapping by their dotted key."""
    for key, value in found.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{before}{key}.")
        elif value is not None and not isinstance(value, list):
            yield before + key, value


def figures(line: Mapping[str, Any]) -> tuple[str, str]:
    """Ratios to each peer, and other figures, as text."""
    bench, leaves = BENCHES[line["bench"]], list(flat(line["found"]))
    ratios, taken = [], set()
    for pattern, peer in bench.ratios.items():
        for key, value in leaves:
            if fnmatch(key, pattern) and key not in taken and "." not in key:
                taken.add(key)
                rest = key.removeprefix(pattern.split("*")[0]) if "*" in pattern else ""
                what = peer.format(key if pattern.startswith("n*") else rest.replace("_", " "))
                ratios.append(f"{what} **{value:g}**")
    others = [
        f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}"
        for pattern in bench.figures
        for key, value in leaves
        if fnmatch(key, pattern) and key not in taken and not taken.add(key)
    ]
    return "<br>".join(ratios) or "no peer", "; ".join(others)


def read() -> dict[str, dict[str, Any]]:
    """The lines of RESULTS.md by benchmark."""
    if not PAGE.exists():
        return {}
    kept = [json.loads(line) for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith('{"bench"')]
    return {line["bench"]: line for line in kept}


def write(lines: Mapping[str, Mapping[str, Any]]) -> None:
    """RESULTS.md: a table for people, and the lines it was made from."""
    page = [*INTRODUCTION.splitlines(), ""]
    for number, computer in enumerate(_machines(lines), start=1):
        page.append(f"Machine {number}: {computer}.")
    page += ["", "| benchmark | ratio to each peer | other figures | command, date, machine |", "|---|---|---|---|"]
    for name, bench in BENCHES.items():
        if name not in lines:
            page.append(f"| **{name}**: {bench.shows} | not run yet | | `python bench/{name}.py` |")
            continue
        line = lines[name]
        ratios, others = figures(line)
        where = f"machine {_machines(lines).index(line['machine']) + 1}, {line['seconds']} s"
        share = line.get("others_share")
        if share is not None and share > BUSY_SHARE:
            where += f", *busy* ({share:.0%})"
        page.append(
            f"| **{name}**: {bench.shows} | {ratios} | {others} | `{line['command']}`<br>{line['date']}, {where} |"
        )
    page += ["", "The JSON lines themselves:", "", "```json"]
    page += [json.dumps(lines[name]) for name in BENCHES if name in lines]
    page += ["```", ""]
    partial = PAGE.with_suffix(".partial")
    partial.write_text("\n".join(page), encoding="utf-8")
    partial.replace(PAGE)


def _machines(lines: Mapping[str, Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(lines[name]["machine"] for name in BENCHES if name in lines))


def main() -> None:
    """Run, and write after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHES)}; default all")
    parser.add_argument("--quick", action="store_true", help="each in small")
    parser.add_argument("--write-only", action="store_true", help="run none; write the page anew from its own lines")
    options = parser.parse_args()
    if unknown := set(options.names) - set(BENCHES):
        parser.error(f"there is no benchmark {', '.join(sorted(unknown))}; there are {', '.join(BENCHES)}.")
    lines = read()
    for name in [] if options.write_only else options.names or list(BENCHES):
        found = run(name, quick=options.quick)
        if found is not None:
            lines[name] = found
            write(lines)
    write(lines)


if __name__ == "__main__":
    main()
