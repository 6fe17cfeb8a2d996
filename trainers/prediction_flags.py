"""The flags that say how images are predicted, for every command that predicts."""

from absl import flags

from mtl_keras.errors import UserError
from mtl_keras.inference import Options

FLAGS = flags.FLAGS
flags.disclaim_key_flags()


def define(batch_size: int = 1) -> None:
    """Defines the flags."""
    flags.DEFINE_list("tta", [], "test-time augmentation: flip, scales, or both, such as flip,0.75,1.0,1.25")
    flags.DEFINE_string("window", None, "HEIGHTxWIDTH of a sliding window, for images larger than memory allows")
    flags.DEFINE_float("overlap", 0.25, "share of a window that the next one covers again")
    flags.DEFINE_integer("batch_size", batch_size, "images of one size that are predicted at once")


def options() -> Options:
    """What the flags say; raises `UserError` for what cannot be."""
    words = [word.strip() for word in FLAGS.tta]
    scales = tuple(_scale(word) for word in words if word != "flip")
    return Options(
        batch_size=FLAGS.batch_size,
        flip="flip" in words,
        scales=scales or (1.0,),
        window=size("window"),
        overlap=FLAGS.overlap,
    )


def _scale(word: str) -> float:
    try:
        return float(word)
    except ValueError:
        raise UserError(f"tta: '{word}' is neither flip nor a scale; give such as flip,0.75,1.0,1.25") from None


def size(name: str) -> tuple[int, int] | None:
    """Height and width that a flag gives, if it does; raises `UserError` for what is neither."""
    text = FLAGS[name].value
    if text is None:
        return None
    try:
        height, width = (int(side) for side in text.lower().replace(",", "x").split("x"))
    except ValueError:
        raise UserError(f"{name}: '{text}' is no size; give HEIGHTxWIDTH in pixels, such as 512x1024") from None
    return height, width
