"""Branched topology: a shared encoder, and for each task its own ASPP and decoder (report, section 2)."""

from zoo.heads import Features, Heads


def branched(features: Features, heads: Heads):
    semseg = heads.decode(features, name="semseg")
    depth = heads.decode(features, name="depth")
    return {"semseg": heads.semseg(semseg, name="semseg"), "depth": heads.depth(depth, name="depth")}
