"""The command line: `fatescal [VERB] [CONFIG | RUN]`, the same as `python -m fatescal`.

Without any argument `python -m fatescal` runs the demo, and `fatescal` prints its help.
Exit codes are root's: 0 done, 1 failed, 2 bad input, 75 out of time (start again to continue).
"""

from __future__ import annotations

import os

for _threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(_threads, "1")  # one BLAS thread per rank unless set otherwise

import sys
from collections.abc import Sequence

from fatescal.base import stop_signal

__all__ = ["console", "main"]


def console() -> int:
    """Run the program `fatescal`; without any argument, print the help."""
    return main(sys.argv[1:] or ["--help"])


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb on all ranks; return root's exit code (0 on the others).

    SIGUSR1 is caught before all that takes time, so that one that comes at once does not kill the rank.
    """
    stop_signal.catch()
    from fatescal.cli import command_line

    return command_line.main(sys.argv[1:] if argv is None else argv)


if __name__ == "__main__":
    sys.exit(main())
