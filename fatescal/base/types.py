"""Names for what is passed about: arrays and functions of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy.typing as npt

Array = npt.NDArray[Any]
LogLikelihood = Callable[[Array], Array]  # u (M, P) -> (M)
Map = Callable[[Callable, Iterable], list]  # like the built-in map, but a list, perhaps on many ranks
