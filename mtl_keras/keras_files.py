"""Keras' own model files, read without running any code of theirs."""

import os
import zipfile

import keras

from mtl_keras.errors import UserError, first_sentence
from mtl_keras.files import refuse_harmful_archive


def load_keras_file(path: str | os.PathLike) -> keras.Model:
    """The model of a `.keras` file, not compiled; of code there runs only what is registered or Keras' own.

    Raises:
        UserError: the file is damaged, made to do harm, holds what only code of its own could make, or no model.
    """
    if not zipfile.is_zipfile(path):
        raise UserError(f"{path}: not a whole Keras file that can be read; get it again")
    refuse_harmful_archive(path)
    try:
        model = keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:
        # Keras raises whatever its parts raise.
        raise UserError(
            f"{path}: cannot be loaded ({first_sentence(error)}): it is damaged, or needs code of its own, which is "
            "never run; give a file that this library saved"
        ) from None
    if not isinstance(model, keras.Model):
        raise UserError(f"{path}: holds a {type(model).__name__}; give a file of a model")
    return model
