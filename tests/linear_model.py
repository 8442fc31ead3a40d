#!/usr/bin/env python3
"""A model that is linear in its parameters, as an outside executable: standard library only, 20 ms a run.

Reads parameters.json, writes output.nc (netCDF classic): GPP(t) = mean + wave sin(2 pi t / 60) + trend t / 60
and ET(t) = 1 + 0.5 mean - trend cos(2 pi t / 60) for 90 days from 2004-01-01. Told so by its arguments it
also fails, hangs or sleeps.
"""

import json
import math
import os
import struct
import sys
import time

N_DAYS = 90


def fluxes(parameters: dict[str, float], n_days: int = N_DAYS) -> dict[str, list[float]]:
    """Return daily GPP [g m-2 d-1] and ET [mm d-1]."""
    mean, wave, trend = (parameters[name] for name in ("mean", "wave", "trend"))
    turn = [2 * math.pi * t / 60 for t in range(n_days)]
    return {
        "GPP": [mean + wave * math.sin(x) + trend * t / 60 for t, x in enumerate(turn)],
        "ET": [1.0 + 0.5 * mean - trend * math.cos(x) for x in turn],
    }


def classic_netcdf(variables: dict[str, tuple[dict[str, str], list[float]]]) -> bytes:
    """Return a netCDF classic file with one dimension `time` and double variables (format specification)."""

    def name(text: str) -> bytes:
        raw = text.encode()
        return struct.pack(">i", len(raw)) + raw + b"\0" * (-len(raw) % 4)

    def attributes(given: dict[str, str]) -> bytes:
        body = b"".join(name(key) + struct.pack(">i", 2) + name(value) for key, value in given.items())
        return struct.pack(">ii", 12, len(given)) + body

    size = 8 * N_DAYS
    head = b"CDF\1" + struct.pack(">i", 0) + struct.pack(">ii", 10, 1) + name("time")
    head += struct.pack(">i", N_DAYS) + struct.pack(">ii", 0, 0)
    head += struct.pack(">ii", 11, len(variables))
    entries = [
        name(key) + struct.pack(">ii", 1, 0) + attributes(given) + struct.pack(">ii", 6, size)
        for key, (given, _) in variables.items()
    ]
    begin = len(head) + sum(len(entry) + 4 for entry in entries)
    for i, entry in enumerate(entries):
        head += entry + struct.pack(">i", begin + i * size)
    return head + b"".join(struct.pack(f">{N_DAYS}d", *values) for _, values in variables.values())


def main() -> None:
    with open("parameters.json") as file:
        parameters = json.load(file)
    if "--constant" in sys.argv:
        parameters = {"mean": 5.0, "wave": 1.0, "trend": 0.0}
    if "--bent" in sys.argv:  # no longer linear: few runs do not tell the posterior
        parameters["wave"] += 0.6 * math.sin(2.0 * (parameters["mean"] - 5.0))
        parameters["trend"] += 0.5 * parameters["wave"] ** 2
    if "--count" in sys.argv:
        with open(os.environ["LINEAR_LOG"], "a") as log:
            log.write(json.dumps(parameters) + "\n")
    if "--sleep" in sys.argv:
        time.sleep(float(sys.argv[sys.argv.index("--sleep") + 1]))
    if "--slow-above" in sys.argv and parameters["mean"] > float(
        sys.argv[sys.argv.index("--slow-above") + 1]
    ):
        time.sleep(100)
    if "--fail-above" in sys.argv and parameters["mean"] > float(
        sys.argv[sys.argv.index("--fail-above") + 1]
    ):
        sys.exit("ERROR: the mean is too large for this model")
    units = {"GPP": "g C m-2 d-1", "ET": "mm d-1"}
    axis = {"units": "days since 2004-01-01 12:00:00", "calendar": "standard"}
    content = {key: ({"units": units[key]}, values) for key, values in fluxes(parameters).items()}
    data = classic_netcdf({"time": (axis, [float(t) for t in range(N_DAYS)]), **content})
    with open("output.nc.part", "wb") as output:
        output.write(data)
    os.replace("output.nc.part", "output.nc")


if __name__ == "__main__":
    main()
