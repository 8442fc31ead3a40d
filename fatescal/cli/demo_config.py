"""The config of the demo: the embedded model against a known truth."""

from fatescal.config.shipped_files import SHIPPED

DEFAULT_CONFIG = SHIPPED / "config" / "hyytiala_twin.yaml"
