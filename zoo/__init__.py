"""What can be named and built."""

from zoo.builder import build, topologies
from zoo.loader import load

__all__ = ["build", "load", "topologies"]
