"""BACKTRAIL_* variables, a TOML file and flags -> one frozen `Settings`, read once, at the edge.

One precedence, highest first: flags, environment, file, defaults. Every field has one name in all
three: `port` is the flag `--port`, the variable `BACKTRAIL_PORT` and the key `port` of the file.
A malformed value stops the start; a name that nobody knows is one warning, so that a newer file can
be read by an older program.
"""

from collector.settings.fields import ENV_PREFIX, Settings, check_reach, default_data_dir, is_loopback
from collector.settings.loading import (
    CLIENT_VARIABLES,
    Loaded,
    config_files,
    did_you_mean,
    load,
    without_password,
)

__all__ = [
    "CLIENT_VARIABLES",
    "ENV_PREFIX",
    "Loaded",
    "Settings",
    "check_reach",
    "config_files",
    "default_data_dir",
    "did_you_mean",
    "is_loopback",
    "load",
    "without_password",
]
