"""What can be named and built.

`build` takes a topology's name or its function, `load` a run or a file; `list` and `presets` are of networks that have
a name.
"""

from zoo.builder import build, topologies
from zoo.catalog import names as list
from zoo.catalog import presets
from zoo.loader import load

__all__ = ["build", "list", "load", "presets", "topologies"]
