"""Joint topology: the tasks share everything but the channels of the last convolution (report, section 1)."""

from zoo.heads import Features, Heads


def joint(features: Features, heads: Heads):
    shared = heads.decode(features, name="shared")
    semseg, depth = heads.both(shared, name="shared")
    return {"semseg": semseg, "depth": depth}
