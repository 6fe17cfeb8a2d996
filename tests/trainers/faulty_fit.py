"""`trainers.fit` with a fault in its data: in the first epoch, one image's depth has an infinite square."""

import os

from trainers import cli, fit  # isort: skip (chooses the backend)
from mtl_keras.data import Loader

getitem = Loader.__getitem__


def with_fault(loader: Loader, step: int):
    images, labels = getitem(loader, step)
    ids = loader.ids(step)
    first_epoch = loader.dataset.split == "train" and loader.start_step + step < loader.steps_per_epoch
    if first_epoch and os.environ["FAULTY_ID"] in ids:
        labels = {**labels, "depth": labels["depth"].copy()}
        labels["depth"][ids.index(os.environ["FAULTY_ID"])] = 1e30
    return images, labels


Loader.__getitem__ = with_fault

if __name__ == "__main__":
    cli.launch(fit.main)
