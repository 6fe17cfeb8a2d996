"""What can be named and built."""

from zoo.builder import build, topologies
from zoo.catalog import names as list
from zoo.catalog import presets
from zoo.loader import load

__all__ = ["build", "list", "load", "presets", "topologies"]
