"""Version of the installed distribution."""

from importlib.metadata import version

RELEASE = version("runfold")
