"""Time of reading two fluxes from 244 history files of CLM-FATES against xarray.open_mfdataset, in one run.

Twenty model years in files of thirty days, as CLM leaves them by default: copies of the real year in
$FATESCAL_DATA/ctsm. Prints both times, their ratio, and what reading adds to the peak memory. The peer needs
dask.
"""

from __future__ import annotations

import os
import resource
import shutil
import tempfile
import warnings
from pathlib import Path
from time import perf_counter

import netCDF4
import numpy as np
import xarray as xr

from fatescal.models.clm_fates import history

N_FILES = 244
FLUXES = ("FATES_GPP", "QFLX_EVAP_TOT")


def copies(source: Path, folder: Path) -> list[Path]:
    """Write the files of the real year over and over, under the names of later days; return them in order."""
    year = sorted(source.glob("*.clm2.h1a.*.nc"))
    found = []
    for i in range(N_FILES):
        found.append(folder / f"hyy.clm2.h1a.{2004 + i // 12}-{1 + i % 12:02d}-01-00000.nc")
        shutil.copy(year[i % len(year)], found[-1])
        found[-1].chmod(0o644)
        with netCDF4.Dataset(found[-1], "a") as data:
            data["time"][:] += 365 * (i // len(year))
            data["time_bounds"][:] += 365 * (i // len(year))
    return found


def main() -> None:
    """Print the two times and their ratio."""
    source = Path(os.environ["FATESCAL_DATA"]) / "ctsm" / "ctsm5.4_run"
    warnings.simplefilter("ignore", FutureWarning)  # of the peer's changing defaults
    with tempfile.TemporaryDirectory() as temporary:
        files = copies(source, Path(temporary))
        history.read(Path(temporary), FLUXES, "hyy")  # imports, and the files in the page cache for both
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        begin = perf_counter()
        found = history.read(Path(temporary), FLUXES, "hyy")
        own = perf_counter() - begin
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        begin = perf_counter()
        with xr.open_mfdataset(files, combine="nested", concat_dim="time") as data:
            peer = {name: data[name].values.reshape(-1) for name in FLUXES}
        theirs = perf_counter() - begin
    whole = np.isin(peer["FATES_GPP"], found["FATES_GPP"].values)
    assert whole.mean() > 0.99
    print(
        f"{N_FILES} files, {found.sizes['time']} days, {len(FLUXES)} variables; peak memory grew by {grown} KiB"
    )
    print(f"fatescal {own:.3f} s  xarray.open_mfdataset {theirs:.2f} s  ratio {theirs / own:.0f}")


if __name__ == "__main__":
    main()
