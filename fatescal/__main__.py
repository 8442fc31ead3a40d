"""The command line: `fatescal [VERB] [CONFIG | RUN]`, the same as `python -m fatescal`.

Without any argument `python -m fatescal` runs the demo, and `fatescal` prints its help.
Exit codes are root's: 0 done, 1 failed, 2 bad input, 75 out of time (start again to continue).
"""

from __future__ import annotations

import os

for _threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(_threads, "1")  # one BLAS thread per rank unless set otherwise

import sys

from fatescal.cli.command_line import console, main

__all__ = ["console", "main"]

if __name__ == "__main__":
    sys.exit(main())
