"""Importing this module hides every backend but KERAS_BACKEND, and keras-cv, as if they were not installed."""

import os
import sys

HIDDEN = {"tensorflow", "jax", "torch", "keras_cv"} - {os.environ["KERAS_BACKEND"]}


class Without:
    """A finder that does not find what is hidden."""

    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in HIDDEN else self.finder.find_spec(name, path, target)

    def __getattr__(self, name):
        return getattr(self.finder, name)


if already := HIDDEN & set(sys.modules):
    raise ImportError(f"imported before they could be hidden: {already}")
sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]
