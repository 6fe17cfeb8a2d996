"""A functional model that knows its tasks: their joint loss, their metrics and the grader."""

import functools
import inspect
from collections.abc import Mapping

import keras
import numpy as np
from keras import ops

from mtl_keras.backend import (
    ReadyBatches,
    build_optimizer,
    feed,
    feed_images,
    is_eager,
    is_within_call,
    lay_out_kernels,
    share_of_batch,
)
from mtl_keras.backend.steps import as_one, compiled_steps, state_kept, undo_where_skipped
from mtl_keras.data.spec import DataSpec
from mtl_keras.errors import UserError
from mtl_keras.files import as_tuples
from mtl_keras.inference import Options, Prediction, predict_images
from mtl_keras.layer_calls import LayerCalls
from mtl_keras.layers import PixelNormalization, check_images
from mtl_keras.losses import TASKS, DepthLoss, SegmentationLoss, check_labels, valid_depth, valid_labels
from mtl_keras.metrics import MeanIoU, SILogRMSE, grader
from mtl_keras.model_checks import check_compile, check_optimizer, check_outputs, no_export


@keras.saving.register_keras_serializable("mtl_keras")
class MultiTaskModel(keras.Model):
    """A functional `keras.Model` from images to semantic segmentation and depth.

    Train it like any other: `model.compile("adam")`, then `model.fit`, with labels
    `{"semseg": (batch, height, width) ids, 255 = ignore, "depth": (batch, height, width, 1) metres, 0 = invalid}`.
    The logs are `loss`, `semseg_loss`, `depth_loss`, `miou`, `silog` and `grader`.

    Args:
        inputs: the input `image`, (batch, height, width, 3), RGB 0–255; other channels are the network's own affair.
        outputs: a dict with `semseg`, (batch, height, width, classes) logits, and `depth`, (batch, height, width, 1)
            metres, and, where a task is predicted more than once, others named `semseg_…` and `depth_…`.
        spec: what the model must know of its dataset.
        architecture: the options that the model was built with, kept for those who load it.
    """

    def __init__(self, inputs, outputs, name=None, *, spec: DataSpec | None = None, architecture=None, **kwargs):
        if not isinstance(outputs, Mapping) or not set(TASKS) <= set(outputs):
            raise ValueError(f"outputs: give a dict with predictions of {' and '.join(TASKS)}")
        policy = None
        if spec is None:
            spec, architecture, policy = _facts_of(outputs)
        check_outputs(outputs, spec)
        super().__init__(inputs=inputs, outputs=outputs, name=name, **kwargs)
        if policy is not None:
            self.dtype_policy = policy
        self.spec = spec
        self.architecture = dict(architecture or {})
        self.task_losses, self.task_weights = self._default_losses(), dict.fromkeys(TASKS, 0.5)
        self.task_loss_means = {task: keras.metrics.Mean(name=f"{task}_loss", dtype="float32") for task in TASKS}
        # Of regularizers, and of what layers add.
        self.added_loss_mean = keras.metrics.Mean(name="added_loss", dtype="float32")
        self.miou = MeanIoU(spec.num_classes)
        self.silog = SILogRMSE(spec.depth_range)

    def compile(self, optimizer="adam", *, loss=None, loss_weights=None, **kwargs):
        """Configures training.

        Args:
            optimizer: as in `keras.Model.compile`.
            loss: a dict with a loss for `semseg`, `depth` or both; the report's where a task is not named. Such a
                loss takes labels and a prediction, and gives a scalar of what is valid.
            loss_weights: a dict with the weights of both tasks; 0.5 each by default.
            **kwargs: as in `keras.Model.compile`, but for metrics, which the model brings. With `jit_compile=True`
                PyTorch compiles whole steps, each for every size of batch: none of the layers and losses may then
                ask what a tensor holds, or be a `torch.autograd.Function` with a gradient of its own.

        Raises:
            ValueError: a loss or a weight of no task, a loss that cannot be called, or metrics.
        """
        check_compile(loss, loss_weights, kwargs)
        scales_loss = self.dtype_policy.name == "mixed_float16" and kwargs.get("auto_scale_loss", True)
        check_optimizer(optimizer, scales_loss)
        self.task_losses = {**self._default_losses(), **(loss or {})}
        self.task_weights = {**dict.fromkeys(TASKS, 0.5), **(loss_weights or {})}
        lay_out_kernels(self)
        super().compile(optimizer=optimizer, **kwargs)
        self._asked_jit_compile = kwargs.get("jit_compile", "auto")
        # What was compiled computes the losses of before.
        self.__dict__.pop("_compiled_steps", None)

    def _default_losses(self):
        return {"semseg": SegmentationLoss(), "depth": DepthLoss(self.spec.depth_std)}

    def get_compile_config(self):
        if not self.compiled:
            return {}
        losses = {task: keras.saving.serialize_keras_object(loss) for task, loss in self.task_losses.items()}
        config = {**super().get_compile_config(), "loss": losses, "loss_weights": dict(self.task_weights)}
        # Keras tells what this backend makes of "auto"; where the model is loaded, another makes its own of it.
        return config | ({"jit_compile": "auto"} if self._asked_jit_compile == "auto" else {})

    def compile_from_config(self, config):
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.optimizer is not None:
            build_optimizer(self)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """The weighted sum of the tasks' losses; that of a task with several predictions is their mean."""
        if sample_weight is not None:
            raise ValueError("sample_weight: not supported; mark what must not count as ignore (255, or depth 0)")
        check_labels(y, y_pred)
        weights = _label_weights(y, self.spec.num_classes)
        total = 0.0
        for task in TASKS:
            losses = [self.task_losses[task](y[task], y_pred[name]) for name in self.predictions_of(task)]
            loss = sum(losses) / len(losses)
            if shape := tuple(getattr(loss, "shape", ())):
                raise ValueError(
                    f"loss: that of {task} is {shape}, no scalar; give its mean, as keras.losses' classes do"
                )
            self.task_loss_means[task].update_state(loss, weights[task])
            total = total + self.task_weights[task] * share_of_batch(loss, weights[task])
        # Asked for once: Keras goes through all layers for them.
        if added := self.losses:
            self.added_loss_mean.update_state(sum(ops.sum(loss) for loss in added))
        return total + sum(self._aggregate_additional_loss(loss) for loss in added)

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        self.miou.update_state(y["semseg"], y_pred["semseg"])
        self.silog.update_state(y["depth"], y_pred["depth"])
        return self.get_metrics_result()

    def get_metrics_result(self):
        results = self._metric_results()
        loss = sum(self.task_weights[task] * results[f"{task}_loss"] for task in TASKS)
        return {"loss": loss + results.pop("added_loss"), **results}

    @functools.cached_property
    def _metric_results(self):
        """A function that gives what the metrics have come to; asked for between steps, too."""
        metrics = {
            **{f"{task}_loss": mean for task, mean in self.task_loss_means.items()},
            "added_loss": self.added_loss_mean,
            "miou": self.miou,
            "silog": self.silog,
        }

        def results():
            found = {name: metric.result() for name, metric in metrics.items()}
            return {**found, "grader": grader(found["miou"], found["silog"])}

        return as_one(results, [variable for metric in metrics.values() for variable in metric.variables])

    def train_step(self, *arguments):
        """As Keras', but a step that the optimizer skips leaves batch statistics and metrics as they were too."""
        step = super().train_step if self._compiled_steps is None else self._compiled_steps.train_step
        if getattr(self.optimizer, "skip_non_finite", False):
            return undo_where_skipped(self, step, *arguments)
        return step(*arguments)

    def test_step(self, *arguments):
        step = super().test_step if self._compiled_steps is None else self._compiled_steps.test_step
        return step(*arguments)

    def predict_step(self, *arguments):
        step = super().predict_step if self._compiled_steps is None else self._compiled_steps.predict_step
        return step(*arguments)

    @functools.cached_property
    def _compiled_steps(self):
        return compiled_steps(self) if is_eager() and self.jit_compile else None

    def _should_torch_compile(self):
        # Keras would have it done around the steps.
        return False

    def fit(self, x=None, *args, **kwargs):
        """As `keras.Model.fit`; of batches without end, such as a `Loader`'s, an epoch has one pass.

        A `Loader` has an order of its own, which `shuffle` leaves alone unless it is given.
        """
        given = inspect.signature(super().fit).bind(x, *args, **kwargs).arguments
        validation = given.get("validation_data")
        if isinstance(x, ReadyBatches):
            given.setdefault("shuffle", False)
        if self.compiled:
            build_optimizer(self)
        self._check_size(x)
        self._check_size(validation[0] if isinstance(validation, tuple) else validation)
        self._check_classes(x)
        self._check_classes(validation)
        given |= {
            "x": feed(x),
            "validation_data": feed(validation),
            "steps_per_epoch": _steps(x, given.get("steps_per_epoch")),
            "validation_steps": _steps(validation, given.get("validation_steps")),
        }
        # Who feeds it may ask the model in another thread: not to be answered is better than to wait for ever.
        with state_kept(self, alone=False):
            return super().fit(**given)

    def evaluate(
        self, x=None, y=None, batch_size=None, verbose="auto", sample_weight=None, steps=None, *args, **kwargs
    ):
        """As `keras.Model.evaluate`; of batches without end, such as a training `Loader`'s, one epoch is used."""
        self._check_size(x)
        self._check_classes(x)
        with state_kept(self):
            steps = _steps(x, steps)
            return super().evaluate(feed(x), y, batch_size, verbose, sample_weight, steps, *args, **kwargs)

    def predict(self, x, batch_size=None, verbose="auto", steps=None, callbacks=None):
        """As `keras.Model.predict`, with depth clamped to the dataset's range; one epoch of batches without end."""
        self._check_size(x)
        batches = feed_images(feed(x), batch_size or 32)
        with state_kept(self):
            return self._clamped(super().predict(batches, batch_size, verbose, _steps(x, steps), callbacks))

    def predict_on_batch(self, x):
        """As `keras.Model.predict_on_batch`, with depth clamped to the dataset's range."""
        with state_kept(self):
            return self._clamped(super().predict_on_batch(x))

    @property
    def metrics_names(self):
        """The names in the logs; the grader is made of two of the metrics."""
        return [name for name in super().metrics_names if name != self.added_loss_mean.name] + ["grader"]

    @property
    def output_stride(self) -> int:
        """What an image's height and width must be multiples of: 1 in a network without `PixelNormalization`."""
        return getattr(self._normalization(), "output_stride", 1)

    @property
    def padding_color(self) -> tuple[float, ...]:
        """The RGB 0–255 that images are padded with: the mean that the network takes off, black where it takes none."""
        return getattr(self._normalization(), "mean", (0.0, 0.0, 0.0))

    def _normalization(self) -> PixelNormalization | None:
        return next((layer for layer in self._flatten_layers() if isinstance(layer, PixelNormalization)), None)

    def _check_classes(self, batches):
        """Raises `UserError` for a loader of other classes, whose labels would count as ignore or as others."""
        count = batches.num_classes if isinstance(batches, ReadyBatches) else None
        if count not in (None, self.spec.num_classes):
            raise UserError(
                f"the data has {count} classes and the model {self.spec.num_classes}; build it with the data's spec: "
                "zoo.build(…, spec=dataset.spec), or zoo.load(…, spec=dataset.spec)"
            )

    def _check_size(self, images):
        """Raises `ValueError` for an array of images that the network cannot take: a graph of any size would not."""
        if len(getattr(images, "shape", ())) == 4:
            check_images(images.shape, self.output_stride, self.inputs[0].shape[-1])

    def _clamped(self, predictions):
        for name in self.predictions_of("depth"):
            predictions[name] = np.clip(predictions[name], *self.spec.depth_range)
        return predictions

    def predict_images(self, images, **options) -> Prediction | list[Prediction]:
        """Predicts images of any size, at their own size.

        ```python
        prediction = model.predict_images("street.jpg")
        prediction.semseg, prediction.depth  # (height, width) class ids, (height, width) metres
        ```

        Args:
            images: an image, which gives one prediction, or several, which give a list: paths of PNG or JPEG files,
                PIL images or arrays (height, width, 3), RGB 0–255. Sizes may differ.
            **options: fields of `mtl_keras.inference.Options`, such as `flip=True`, `scales=(0.75, 1.0, 1.25)`,
                `window=(512, 1024)` or `confidence=True`.

        Raises:
            UserError: for a file that is no image, an array of another shape, or an option out of its range.
        """
        return predict_images(self, images, Options(**options))

    def export(self, filepath, format="tf_saved_model", *arguments, input_signature=None, **options):
        """As `keras.Model.export`. A SavedModel takes images of any size under TensorFlow, and of one under JAX.

        It is the network as it is: depth is not clamped to the dataset's range, and images are not padded to a size
        that fits. `mtl_keras.exporting.write` does both.

        Raises:
            UserError: PyTorch makes no SavedModel, JAX none of images of any size, and Keras no ONNX or OpenVINO file
                of them; `mtl_keras.exporting.write` does.
        """
        if reason := no_export(format, input_signature or self.inputs):
            command = f"python -m trainers.export FILE.keras --format={format.removeprefix('tf_')}"
            raise UserError(f"export: {reason}, or save the model and run: {command}")
        return super().export(filepath, format, *arguments, input_signature=input_signature, **options)

    def predictions_of(self, task: str) -> list[str]:
        """The names of a task's predictions, the final one among them."""
        return [name for name in self.output if name == task or name.startswith(f"{task}_")]

    @functools.cached_property
    def _layer_calls(self):
        return LayerCalls(self)

    def call(self, inputs, training=None, mask=None):
        """As Keras', without what it does around each layer where that would be done in every step."""
        if not (is_eager() and is_within_call()) or training is None or mask is not None:
            return super().call(inputs, training=training, mask=mask)
        outputs = self._layer_calls.run(self._standardize_inputs(inputs), training)
        return keras.tree.pack_sequence_as(self._outputs_struct, outputs)

    def _run_through_graph(self, inputs, *args, **kwargs):
        outputs = super()._run_through_graph(inputs, *args, **kwargs)
        if isinstance(keras.tree.flatten(inputs)[0], keras.KerasTensor):
            # `keras.models.clone_model` makes a model of these and knows nothing of a spec.
            outputs["semseg"].facts_of_model = self.spec, self.architecture, self.dtype_policy
        return outputs

    def get_config(self):
        # The policy of the model itself, which Keras leaves out, decides whether its losses are scaled for float16.
        facts = {"dtype": self.dtype_policy.name, "spec": self.spec.to_dict(), "architecture": dict(self.architecture)}
        return {**super().get_config(), **facts}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config = dict(config)
        spec = DataSpec.from_dict(config.pop("spec"))
        architecture, dtype = as_tuples(config.pop("architecture")), config.pop("dtype")
        of_graph = ("name", "trainable", "layers", "input_layers", "output_layers")
        graph = keras.Model.from_config({key: config.pop(key) for key in of_graph}, custom_objects=custom_objects)
        # What is left is a subclass' own.
        model = cls(graph.inputs[0], graph.output, name=graph.name, spec=spec, architecture=architecture, **config)
        if not graph.trainable:
            model.trainable = False
        model.dtype_policy = dtype
        return model


def _facts_of(outputs) -> tuple[DataSpec, dict, keras.DTypePolicy]:
    """The spec, the architecture and the policy of the model that outputs were cloned from."""
    facts = getattr(outputs["semseg"], "facts_of_model", None)
    if facts is None:
        raise ValueError("spec: missing; give MultiTaskModel the DataSpec of its dataset")
    return facts


def _steps(data, steps: int | None) -> int | None:
    """How many batches to ask for: one epoch's of a dataset whose batches go on without end."""
    endless = isinstance(data, keras.utils.PyDataset) and data.num_batches is None
    if steps is not None or not endless:
        return steps
    if not hasattr(data, "__len__"):
        raise ValueError(f"steps: the batches of {type(data).__name__} have no end; say how many to take")
    return len(data)


def _label_weights(labels, num_classes: int):
    """What a batch's losses weigh in an epoch's mean: its valid pixels, and its images with valid depth."""
    semseg, _ = valid_labels(labels["semseg"], num_classes)
    depth, _ = valid_depth(labels["depth"])
    return {
        "semseg": ops.sum(ops.cast(semseg, "float32")),
        "depth": ops.sum(ops.cast(ops.any(depth, axis=(1, 2, 3)), "float32")),
    }
