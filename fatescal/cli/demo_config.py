"""The config of the demo: the embedded model against a known truth."""

from pathlib import Path

DEFAULT_CONFIG = Path(__file__).parents[1] / "hyytiala_twin.yaml"
