"""Time and memory of reading two columns of a wide table against pandas.read_csv(usecols=...), in one run.

The file is of the size of a FULLSET file of FLUXNET2015: half-hourly, 242 columns, 20 years (350,640 rows,
640 MB), made of random numbers beside the system's other temporary files. `python benchmarks/table_reading.py
[years]`. What fatescal does beyond its peer: times as moments, codes for missing, rows longer than the names,
all told from text.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path

import numpy as np

COLUMNS = ["GPP_NT_VUT_REF", "NEE_VUT_REF_QC"]
READERS = {
    "pandas": "import pandas; pandas.read_csv(path, usecols=['TIMESTAMP_START', *columns])",
    "fatescal": "import pandas; from fatescal import tables; tables.read(path, columns)",
}
TIMED = """
import resource, sys, time
path, columns = sys.argv[1], sys.argv[2:]
{imports}
begin = time.process_time()
{call}
print(time.process_time() - begin, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def write(path: Path, years: int) -> None:
    """Write a half-hourly table of `years` years from 1995, rows of 500 different ones."""
    rng = np.random.default_rng(1)
    names = [*COLUMNS, *(f"V{k}" for k in range(238))]
    rows = [",".join(f"{x:.4f}" for x in rng.normal(size=len(names))) for _ in range(500)]
    first, last = np.datetime64("1995-01-01T00:00"), np.datetime64(f"{1995 + years}-01-01T00:00")
    stamps = [
        text.translate({ord(mark): None for mark in "-T:"})
        for text in np.arange(first, last + 1, 30).astype(str).tolist()
    ]
    with path.open("w") as file:
        file.write(f"TIMESTAMP_START,TIMESTAMP_END,{','.join(names)}\n")
        for k, (start, end) in enumerate(pairwise(stamps)):
            file.write(f"{start},{end},{rows[k % 500]}\n")


def measured(reader: str, path: Path) -> tuple[float, float]:
    """Return seconds of CPU and the peak memory [MB] of a process that reads the columns."""
    imports, _, call = READERS[reader].rpartition("; ")
    code = TIMED.format(imports=imports, call=call)
    done = subprocess.run(
        [sys.executable, "-c", code, str(path), *COLUMNS], capture_output=True, text=True, check=True
    )
    seconds, memory = (float(text) for text in done.stdout.split())
    return seconds, memory


def main(years: int = 20) -> None:
    """Print both readers' time and memory, and their ratios."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "fullset.csv"
        write(path, years)
        print(f"{path.stat().st_size / 1e6:.0f} MB, {years} years, 242 columns")
        results = {reader: measured(reader, path) for reader in READERS}
    for reader, (seconds, memory) in results.items():
        print(f"{reader:8}  {seconds:6.1f} s of CPU  {memory:6.0f} MB at most")
    ratio = np.array(results["fatescal"]) / results["pandas"]
    print(f"ratio     {ratio[0]:6.2f}           {ratio[1]:6.2f}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
