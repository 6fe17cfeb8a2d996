"""What can be named and built."""

from zoo.builder import build, topologies

__all__ = ["build", "topologies"]
