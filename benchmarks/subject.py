"""One side of a comparison, in a process of its own: `python -m benchmarks.subject SETTINGS`, run by `contest`.

It builds what the settings (JSON) name, tells what it is in a line of JSON, and from then on answers each line it
reads, such as `{"do": "train", "steps": 3}`, with a line of its own. Whatever else libraries print goes to stderr.
"""

import abc
import functools
import importlib
import json
import os
import resource
import statistics
import sys
import time
from typing import Any, TextIO

import numpy as np

# Square matrices of this side take both cores of a laptop, and a large accelerator, to their peak.
MATMUL_SIDE = {"cpu": 3072, "gpu": 16384}


class Subject(abc.ABC):
    """A network that trains and predicts on made-up batches.

    Args:
        settings: `arch`, `encoder`, `batch_size`, `height`, `width`, `precision`, `keep_freed_memory`, and a
            subject's own.

    Attributes:
        built_mib: the most memory of the process until it was built, libraries included.
    """

    built_mib: float

    def __init__(self, settings: dict[str, Any]):
        self.settings = settings

    @abc.abstractmethod
    def facts(self) -> dict[str, Any]:
        """What it is: `device`, `version`, `parameters`."""

    @abc.abstractmethod
    def train(self, steps: int) -> None:
        """Takes so many training steps, each on a batch that comes from the host, and waits for the last."""

    @abc.abstractmethod
    def infer(self, steps: int) -> None:
        """Predicts so many batches, and waits for the last."""

    def evaluate(self, steps: int) -> None:
        """Validates on so many batches, and waits for the last."""
        raise NotImplementedError

    def measure(self, steps: int) -> None:
        """Updates the metrics of so many batches' predictions, made up, and waits for the last."""
        raise NotImplementedError

    @abc.abstractmethod
    def device_peak_mib(self) -> float | None:
        """The most memory of an accelerator that was in use; None on a CPU."""

    def matmul_seconds(self, repeats: int = 5) -> float:
        """Median seconds of a large matrix product in the subject's precision; what the peak is measured by."""
        raise NotImplementedError


def batch(settings: dict[str, Any]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """A batch as the loader gives it: uint8 images, uint8 class ids with some ignored, float32 metres with gaps."""
    rng = np.random.default_rng(0)
    shape = (settings["batch_size"], settings["height"], settings["width"])
    images = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)
    classes = min(settings.get("num_classes", 19), 19)
    semseg = rng.integers(0, classes + 1, shape, dtype=np.uint8)
    semseg[semseg == classes] = 255
    depth = rng.uniform(4, 300, (*shape, 1)).astype(np.float32)
    depth[rng.random(depth.shape) < 0.2] = 0
    return images, {"semseg": semseg, "depth": depth}


class Keras(Subject):
    """Ours, trained by `fit`. Own settings: `metrics`, whether they are computed; `jit`, as `compile` takes it."""

    def __init__(self, settings: dict[str, Any]):
        super().__init__(settings)
        import keras

        import zoo
        from mtl_keras import backend, optimizers

        keras.config.set_dtype_policy(settings["precision"])
        backend.set_random_seed(0)
        backend.try_kernels()
        options = {"encoder": settings["encoder"], "num_classes": settings.get("num_classes", 19)}
        self.model = zoo.build(settings["arch"], **options)
        if not settings.get("metrics", True):
            self.model.__class__ = _without_metrics(type(self.model))
        self.model.compile(optimizers.Adam(1e-4, weight_decay=1e-4), jit_compile=settings.get("jit", "auto"))
        self.images, self.labels = batch(settings)

    def facts(self) -> dict[str, Any]:
        from mtl_keras import backend
        from mtl_keras.cost import count_parameters, multiply_adds

        size = (self.settings["height"], self.settings["width"])
        return {
            "device": backend.describe(),
            "parameters": count_parameters(self.model),
            "multiply_adds": multiply_adds(self.model, *size),
            "computed_multiply_adds": multiply_adds(self.model, *size, computed=True),
        }

    def train(self, steps: int) -> None:
        from mtl_keras import callbacks

        beside = callbacks.CallbackList(add_history=True, model=self.model)
        self.model.fit(_loader(self.images, self.labels, steps), shuffle=False, verbose=0, callbacks=beside)

    def evaluate(self, steps: int) -> None:
        self.model.evaluate(_loader(self.images, self.labels, steps), verbose=0)

    def measure(self, steps: int) -> None:
        import keras

        variables = [variable.value for variable in self.model.metrics_variables]
        for _ in range(steps):
            variables = self.update_metrics(variables, *self.measured)
        for variable in variables:
            keras.ops.convert_to_numpy(variable)

    @functools.cached_property
    def measured(self):
        """Labels and made-up predictions, on the device."""
        import keras

        shape = (*self.images.shape[:-1], self.model.spec.num_classes)
        rng = np.random.default_rng(0)
        predictions = {"semseg": rng.random(shape, np.float32), "depth": 300 * rng.random((*shape[:-1], 1), np.float32)}
        return keras.tree.map_structure(keras.ops.convert_to_tensor, (self.labels, predictions))

    @functools.cached_property
    def update_metrics(self):
        """A compiled function from the metrics' variables, labels and predictions to the variables after them."""
        import keras

        def update(values, labels, predictions):
            variables = self.model.metrics_variables
            with keras.StatelessScope(zip(variables, values, strict=True)) as scope:
                self.model.miou.update_state(labels["semseg"], predictions["semseg"])
                self.model.silog.update_state(labels["depth"], predictions["depth"])
            return [scope.get_current_value(variable) for variable in variables]

        library = importlib.import_module(keras.backend.backend())
        compiled = {"jax": "jit", "tensorflow": "function"}.get(library.__name__)
        return getattr(library, compiled)(update) if compiled else library.no_grad()(update)

    def infer(self, steps: int) -> None:
        for _ in range(steps):
            self.model.predict_on_batch(self.images)

    def device_peak_mib(self) -> float | None:
        from mtl_keras import backend

        peak = backend.peak_memory()
        return None if peak is None else peak / 2**20

    def matmul_seconds(self, repeats: int = 5) -> float:
        import keras

        dtype = "float32" if self.settings["precision"] == "float32" else "bfloat16"
        side = MATMUL_SIDE["cpu" if self.device_peak_mib() is None else "gpu"]
        a = keras.ops.cast(_square(side), dtype)

        def corner_of_product():
            # NumPy makes no scalar of TensorFlow's bfloat16.
            return keras.ops.convert_to_numpy(keras.ops.cast(keras.ops.matmul(a, a)[0, 0], "float32"))

        return _median_seconds(corner_of_product, repeats)


def _loader(images: np.ndarray, labels: dict[str, np.ndarray], steps: int) -> Any:
    """What reaches a model as a `Loader` does, with one batch for all steps."""
    from mtl_keras import backend

    class Loader(backend.ReadyBatches):
        image_size, num_batches = images.shape[1:3], steps

        def __len__(self):
            return steps

        def __getitem__(self, step):
            return images, labels

    return Loader()


def _without_metrics(model_class: type) -> type:
    """The class with neither mIoU nor SI-logRMSE, to tell what they cost."""
    from mtl_keras.model import MultiTaskModel

    class WithoutMetrics(MultiTaskModel):
        def compute_metrics(self, x, y, y_pred, sample_weight=None):
            return self.get_metrics_result()

    assert model_class is MultiTaskModel, model_class  # noqa: S101
    return WithoutMetrics


class Torch(Subject):
    """The plain PyTorch network. Own settings: `channels_last`, `compile`."""

    def __init__(self, settings: dict[str, Any]):
        super().__init__(settings)
        import torch

        from benchmarks.peers import torch_model

        self.torch, self.peers = torch, torch_model
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.benchmark = True
        torch.manual_seed(0)
        self.layout = torch.channels_last if settings.get("channels_last") else torch.contiguous_format
        classes = settings.get("num_classes", 19)
        network = torch_model.TOPOLOGIES[settings["arch"]](settings["encoder"], num_classes=classes)
        self.network = network.to(self.device, memory_format=self.layout)
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=1e-4, weight_decay=1e-4, fused=True)
        compiled = torch.compile if settings.get("compile") else (lambda function: function)
        self.forward, self.loss = compiled(self.network), compiled(self._loss)
        images, labels = batch(settings)
        self.images = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()
        self.labels = {
            "semseg": torch.from_numpy(labels["semseg"]),
            "depth": torch.from_numpy(labels["depth"]).permute(0, 3, 1, 2).contiguous(),
        }
        if self.device.type == "cuda":
            self.images = self.images.pin_memory()
            self.labels = {name: value.pin_memory() for name, value in self.labels.items()}

    def facts(self) -> dict[str, Any]:
        torch = self.torch
        device = (
            torch.cuda.get_device_name() if self.device.type == "cuda" else f"cpu ({torch.get_num_threads()} threads)"
        )
        count = sum(p.numel() for p in self.network.parameters() if p.requires_grad)
        return {"device": f"torch {torch.__version__} on {device}", "parameters": count}

    def _autocast(self):
        dtype = self.torch.float16 if self.settings["precision"] == "mixed_float16" else self.torch.bfloat16
        return self.torch.autocast(self.device.type, dtype, enabled=self.settings["precision"] != "float32")

    def _to_device(self, value):
        return value.to(self.device, non_blocking=True)

    def _images(self):
        return self._to_device(self.images).float().contiguous(memory_format=self.layout)

    def _loss(self, images, labels):
        with self._autocast():
            outputs = self.network(images)
        outputs = {name: value.float() for name, value in outputs.items()}
        loss, *_ = self.peers.joint_loss(outputs, labels | {"semseg": labels["semseg"].long()})
        return loss

    def train(self, steps: int) -> None:
        self.network.train()
        for _ in range(steps):
            labels = {name: self._to_device(value) for name, value in self.labels.items()}
            loss = self.loss(self._images(), labels)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.optimizer.step()
        loss.item()

    def infer(self, steps: int) -> None:
        self.network.eval()
        with self.torch.inference_mode(), self._autocast():
            for _ in range(steps):
                outputs = self.forward(self._images())
                outputs["depth"].float().cpu(), outputs["semseg"].float().cpu()

    def device_peak_mib(self) -> float | None:
        return self.torch.cuda.max_memory_allocated() / 2**20 if self.device.type == "cuda" else None

    def matmul_seconds(self, repeats: int = 5) -> float:
        dtype = self.torch.float32 if self.settings["precision"] == "float32" else self.torch.bfloat16
        side = MATMUL_SIDE["gpu" if self.device.type == "cuda" else "cpu"]
        a = self.torch.from_numpy(_square(side)).to(self.device, dtype)
        return _median_seconds(lambda: (a @ a)[0, 0].item(), repeats)


class Export(Subject):
    """An exported model in its runtime. Own settings: `format` and `path`."""

    def __init__(self, settings: dict[str, Any]):
        super().__init__(settings)
        from mtl_keras.exporting.runtimes import RUNTIMES

        self.run = RUNTIMES[settings["format"]](settings["path"])
        self.images, _ = batch(settings)

    def facts(self) -> dict[str, Any]:
        return {"device": f"{self.settings['format']} on cpu ({os.cpu_count()} cores)"}

    def train(self, steps: int) -> None:
        raise NotImplementedError("an exported model does not train")

    def infer(self, steps: int) -> None:
        for _ in range(steps):
            self.run(self.images)

    def device_peak_mib(self) -> float | None:
        return None


SUBJECTS: dict[str, type[Subject]] = {"keras": Keras, "torch": Torch, "export": Export}


def _square(side: int) -> np.ndarray:
    """A matrix of random numbers: a processor multiplies equal ones at less power, and so faster."""
    return np.random.default_rng(0).standard_normal((side, side), np.float32)


def _median_seconds(work, repeats: int) -> float:
    work()
    seconds = []
    for _ in range(repeats):
        begin = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds)


def peak_resident_mib() -> float:
    """The most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def answer(subject: Subject, message: dict[str, Any]) -> dict[str, Any]:
    """Does what a message asks, and tells the seconds it took or what was measured."""
    begin = time.perf_counter()
    if message["do"] in ("train", "infer", "evaluate", "measure"):
        getattr(subject, message["do"])(message["steps"])
    elif message["do"] == "matmul":
        seconds = subject.matmul_seconds()
        side = MATMUL_SIDE["cpu" if subject.device_peak_mib() is None else "gpu"]
        return {"flops": 2 * side**3 / seconds}
    elif message["do"] == "memory":
        return {
            "built_mib": subject.built_mib,
            "resident_mib": peak_resident_mib(),
            "device_mib": subject.device_peak_mib(),
        }
    return {"seconds": time.perf_counter() - begin}


def main() -> None:
    settings = json.loads(sys.argv[1])
    replies: TextIO = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    if settings.get("keep_freed_memory"):
        # As all commands do when they start; imported here, for it would have the others' memory kept too.
        import trainers  # noqa: F401
    subject = SUBJECTS[settings["kind"]](settings)
    subject.built_mib = peak_resident_mib()
    print(json.dumps(subject.facts()), file=replies)
    for line in sys.stdin:
        print(json.dumps(answer(subject, json.loads(line))), file=replies)


if __name__ == "__main__":
    main()
