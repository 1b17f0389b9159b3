"""A household recode of over a gigabyte: peak memory and time of `read_dhs`, beside pandas.read_stata of the same file.

    python bench/survey.py [--quick] [--folder FOLDER]

Writes a DHS survey in the documented layout, adds 4,000 variables of one byte to the households as real recodes have
them (the household schedule, a column for each question and line), and reads it in a fresh process each way: whole
survey through `read_dhs`, its columns through `microdata.chunks`, the same columns through pandas, in chunks and at
once, and all columns through pandas. Every way must find the same households and weights. The folder is emptied
again. The last line is JSON. Quick: a hundredth of the households.
"""

from __future__ import annotations

import argparse
import json
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from geopov.survey.dhs.read import read_dhs
from geopov.survey.dhs.variables import VARIABLES
from geopov.survey.files.microdata import open_microdata

EXTRA, CLUSTERS, HOUSEHOLDS = 4_000, 14_000, 20
LIMIT_MIB = 2048
PIECE_ROWS = 5_000
BYTE_MISSING = 101
# Bytes that format 118 keeps of a variable beside the data: (section, width, what an entry starts with).
SECTIONS = (
    ("variable_types", 2, lambda i: struct.pack("<H", 65530)),
    ("varnames", 129, lambda i: b"sh%04d" % i),
    ("sortlist", 2, lambda i: b""),
    ("formats", 57, lambda i: b"%8.0g"),
    ("value_label_names", 129, lambda i: b""),
    ("variable_labels", 321, lambda i: b"Question %d of the household schedule" % i),
)


def widen(narrow: Path, wide: Path, extra: int) -> None:
    """Append variables of one byte to a .dta of format 118, a piece of its rows at a time (Stata: help dta).

    Their values are 0 to 9, and missing in nineteen of twenty households, as the lines of a schedule are.
    """
    raw = narrow.read_bytes()
    columns, rows = struct.unpack("<H", inside(raw, "K"))[0], struct.unpack("<Q", inside(raw, "N"))[0]
    header = raw[: raw.index(b"<map>")].replace(
        tagged("K", inside(raw, "K")), tagged("K", struct.pack("<H", columns + extra))
    )
    sections = [
        tagged(name, inside(raw, name) + b"".join(entry(i).ljust(width, b"\0") for i in range(extra)))
        for name, width, entry in SECTIONS
    ]
    sections.append(tagged("characteristics", b""))
    tail = [tagged("strls", b""), raw[raw.rindex(b"<value_labels>") : raw.rindex(b"</stata_dta>")], b"</stata_dta>"]
    begin = raw.index(b"<data>") + len(b"<data>")
    data = np.frombuffer(raw, "uint8", raw.rindex(b"</data>") - begin, begin).reshape(rows, -1)
    data_size = len(tagged("data", b"")) + data.size + rows * extra
    # Where everything begins: the file, the map, the sections, the data, what follows it, and the end of the file.
    sizes = [len(header), len(tagged("map", bytes(14 * 8))), *map(len, sections), data_size, *map(len, tail)]
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype("<u8")
    rng = np.random.default_rng(0)
    pool = rng.integers(0, 10, (PIECE_ROWS, extra), dtype="uint8")
    pool[rng.random(pool.shape) < 0.95] = BYTE_MISSING
    with wide.open("wb") as out:
        out.write(header + tagged("map", offsets.tobytes()) + b"".join(sections) + b"<data>")
        for first in range(0, rows, PIECE_ROWS):
            piece = data[first : first + PIECE_ROWS]
            out.write(np.hstack([piece, np.roll(pool, first, axis=1)[: len(piece)]]).tobytes())
        out.write(b"</data>" + b"".join(tail))


def inside(raw: bytes, tag: str) -> bytes:
    begin = raw.index(b"<%s>" % tag.encode()) + len(tag) + 2
    return raw[begin : raw.index(b"</%s>" % tag.encode(), begin)]


def tagged(tag: str, data: bytes) -> bytes:
    return b"<%s>%s</%s>" % (tag.encode(), data, tag.encode())


def write_survey(folder: Path, clusters: int) -> Path:
    """A DHS survey in a folder; returns its household recode."""
    # Not at the top: the processes that are measured do not write.
    from geopov.testing.dhs import write_dhs

    made = write_dhs(folder, n_clusters=clusters, households=HOUSEHOLDS, encoding="utf-8", zipped=False)
    narrow = made.household_file.rename(folder / "narrow.tmp")
    widen(narrow, made.household_file, EXTRA)
    narrow.unlink()
    return made.household_file


def found(weights: pd.Series) -> tuple[int, int]:
    return len(weights), round(float(weights.sum()))


def with_read_dhs(recode: Path) -> tuple[int, int]:
    return found(read_dhs(recode.parent).households["weight"] * 1e6)


def with_chunks(recode: Path) -> tuple[int, int]:
    data = open_microdata(recode)
    columns = [name for name in VARIABLES if data.find(name)]
    return found(pd.concat(chunk["hv005"] for chunk in data.chunks(columns)))


def with_pandas_chunks(recode: Path) -> tuple[int, int]:
    options = {"columns": known(recode), "convert_categoricals": False, "chunksize": PIECE_ROWS}
    with pd.read_stata(recode, **options) as reader:
        return found(pd.concat(chunk["hv005"] for chunk in reader))


def with_pandas_columns(recode: Path) -> tuple[int, int]:
    return found(pd.read_stata(recode, columns=known(recode), convert_categoricals=False)["hv005"])


def with_pandas(recode: Path) -> tuple[int, int]:
    return found(pd.read_stata(recode, convert_categoricals=False)["hv005"])


def known(recode: Path) -> list[str]:
    have = open_microdata(recode).columns
    return [name for name in VARIABLES if name in have]


WAYS: dict[str, Callable[[Path], tuple[int, int]]] = {
    "imports alone": lambda recode: (0, 0),
    "read_dhs": with_read_dhs,
    "microdata.chunks": with_chunks,
    "pandas, columns, chunks": with_pandas_chunks,
    "pandas, columns": with_pandas_columns,
    "pandas, all": with_pandas,
}


def peak_mib() -> float:
    """Peak resident memory of this process."""
    status = Path("/proc/self/status")
    if status.exists():
        # ru_maxrss would count the parent's memory at the fork.
        return int(status.read_text().split("VmHWM:")[1].split()[0]) / 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def only(way: str, recode: Path) -> None:
    begin = time.perf_counter()
    rows, total = WAYS[way](recode)
    print(json.dumps({"seconds": time.perf_counter() - begin, "peak_mib": peak_mib(), "found": [rows, total]}))


def measure(way: str, recode: Path) -> dict[str, object]:
    command = [sys.executable, __file__, "--only", way, "--folder", str(recode)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{way}: {done.stderr}")
    result: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return result


def compare(folder: Path, clusters: int) -> dict[str, object]:
    recode = write_survey(folder, clusters)
    size, rows, columns = recode.stat().st_size, clusters * HOUSEHOLDS, len(open_microdata(recode).columns)
    print(f"{recode.name}: {size / 1e9:.3f} GB, {rows} households, {columns} variables\n")
    results = {way: measure(way, recode) for way in WAYS}
    print(f"{'':26}{'seconds':>9}{'peak MiB':>10}")
    for way, result in results.items():
        print(f"{way:26}{result['seconds']:9.1f}{result['peak_mib']:10.0f}")
    answers = {tuple(result["found"]) for way, result in results.items() if way != "imports alone"}
    return {
        "file_bytes": size,
        "households": rows,
        "variables": columns,
        "seconds": {way: round(result["seconds"], 1) for way, result in results.items()},
        "peak_mib": {way: round(result["peak_mib"]) for way, result in results.items()},
        "same_households_and_weights": len(answers) == 1 and next(iter(answers))[0] == rows,
        "within_2_gib": results["read_dhs"]["peak_mib"] < LIMIT_MIB,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a hundredth of the households")
    parser.add_argument("--folder", type=Path, help="where the file of over 1 GB is made (default: a temporary folder)")
    parser.add_argument("--only", choices=list(WAYS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        only(options.only, options.folder)
        return
    with tempfile.TemporaryDirectory(prefix="geopov-bench-", dir=options.folder) as folder:
        result = compare(Path(folder), CLUSTERS // 100 if options.quick else CLUSTERS)
    print()
    print(json.dumps(result))


if __name__ == "__main__":
    main()
