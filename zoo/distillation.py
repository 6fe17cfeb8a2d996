"""Distillation topology: branched, then each task takes what is useful of the other's features (report, section 3).

Each task predicts twice. All four predictions are trained; the final ones, `semseg` and `depth`, are the result.
"""

from mtl_keras.heads import attention_gate, refine
from zoo.heads import Features, Heads


def distillation(features: Features, heads: Heads):
    semseg = heads.decode(features, name="semseg")
    depth = heads.decode(features, name="depth")
    depth_for_semseg = attention_gate(depth, name="depth_gate")
    semseg_for_depth = attention_gate(semseg, name="semseg_gate")
    final_semseg = refine(semseg + depth_for_semseg, name="semseg_final_decoder")
    final_depth = refine(depth + semseg_for_depth, name="depth_final_decoder")
    return {
        "semseg": heads.semseg(final_semseg, name="semseg_final"),
        "depth": heads.depth(final_depth, name="depth_final"),
        "semseg_initial": heads.semseg(semseg, name="semseg"),
        "depth_initial": heads.depth(depth, name="depth"),
    }
