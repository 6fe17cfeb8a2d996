import errno
import multiprocessing
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import keras
import numpy as np
import pytest

from mtl_keras.data import Dataset, EvalView, Loader, TrainView, open_cache
from mtl_keras.data.depth_encoding import decode_depth
from mtl_keras.errors import UserError
from tests.harness import tiny_model
from tests.trainers.waiting import wait_until

CROP = TrainView((32, 32), horizontal_flip=True)


def read(loader, steps):
    return [loader[step] for step in range(steps)]


def assert_equal(batches, expected):
    assert len(batches) == len(expected)
    for (image, labels), (expected_image, expected_labels) in zip(batches, expected, strict=True):
        np.testing.assert_array_equal(image, expected_image)
        np.testing.assert_array_equal(labels["semseg"], expected_labels["semseg"])
        np.testing.assert_array_equal(labels["depth"], expected_labels["depth"])


@pytest.fixture(scope="module")
def expected(prepared):
    """13 steps of 5 an epoch, read in one thread without a cache."""
    with Loader(prepared["train"], 4, CROP, seed=7, cache="none", threads=1, prefetch=1) as loader:
        return read(loader, 13)


def test_a_batch_is_what_the_contract_says(prepared):
    with Loader(prepared["train"], 4, CROP) as loader:
        image, labels = loader[0]
    assert (image.shape, image.dtype) == ((4, 32, 32, 3), np.uint8)
    assert (labels["semseg"].shape, labels["semseg"].dtype) == ((4, 32, 32), np.uint8)
    assert (labels["depth"].shape, labels["depth"].dtype) == ((4, 32, 32, 1), np.float32)
    assert set(np.unique(labels["semseg"])) <= {*range(19), 255}
    metres = labels["depth"][labels["depth"] > 0]
    assert metres.min() >= 4 and metres.max() <= 300


@pytest.mark.parametrize("options", [{"threads": 4, "cache": "ram"}, {"cache": "disk"}, {"threads": 2, "prefetch": 1}])
def test_the_order_follows_from_the_seed_alone(prepared, expected, options):
    with Loader(prepared["train"], 4, CROP, seed=7, **options) as loader:
        assert_equal(read(loader, 13), expected)


def test_worker_processes_give_the_same_order(prepared, expected, tmp_path):
    with Loader(prepared["train"], 4, CROP, seed=7, workers=2, cache="disk", cache_dir=tmp_path) as loader:
        assert_equal(read(loader, 8), expected[:8])


def test_another_seed_gives_another_order(prepared, expected):
    with Loader(prepared["train"], 4, CROP, seed=8) as loader:
        assert any((loader[i][0] != expected[i][0]).any() for i in range(5))


def test_a_run_resumes_in_the_middle_of_an_epoch(prepared, expected):
    with Loader(prepared["train"], 4, CROP, seed=7) as loader:
        loader.go_to(7)
        assert_equal(read(loader, 6), expected[7:])
        loader.go_to(3)
        assert_equal(read(loader, 6), expected[3:9])


def test_peeks_and_restarts_do_not_change_what_a_step_holds(prepared, expected):
    with Loader(prepared["train"], 4, CROP, seed=7) as loader:
        batches = [loader[step] for step in (0, 1, 0, 1, 2, 4, 3)]
        assert_equal(batches, [expected[step] for step in (0, 1, 0, 1, 2, 4, 3)])
        # Closing stops what runs; reading starts it again.
        loader.close()
        assert_equal([loader[2]], [expected[2]])


def test_an_epoch_shows_every_sample_at_most_once_and_drops_others_each_time(prepared):
    with Loader(prepared["train"], 4, CROP, seed=7) as loader:
        epochs = [[name for step in range(5) for name in loader.ids(5 * epoch + step)] for epoch in range(6)]
    assert all(len(set(epoch)) == 20 for epoch in epochs)
    assert len({frozenset(epoch) for epoch in epochs}) > 1
    assert len({tuple(epoch) for epoch in epochs}) == 6


def test_ids_name_the_samples_of_a_step(prepared):
    dataset = prepared["train"]
    samples = {dataset.id(i): dataset[i] for i in range(len(dataset))}
    with Loader(dataset, 4, EvalView(), seed=3) as loader:
        for step in range(len(loader)):
            for name, image in zip(loader.ids(step), loader[step][0], strict=True):
                np.testing.assert_array_equal(image, samples[name]["image"][:64, :96])


@pytest.mark.parametrize("count", [2, 3])
def test_processes_share_every_step(prepared, count):
    whole = Loader(prepared["train"], 6, CROP, seed=5)
    parts = [
        Loader(prepared["train"], 6 // count, CROP, seed=5, process_index=i, process_count=count) for i in range(count)
    ]
    assert {len(part) for part in parts} == {len(whole)}
    for step in range(2 * len(whole)):
        names = [name for part in parts for name in part.ids(step)]
        assert sorted(names) == sorted(whole.ids(step))
        # Randomness belongs to the position in the order, so the same crops are seen, whoever cuts them.
        together = np.concatenate([part[step][0] for part in parts])
        np.testing.assert_array_equal(
            np.sort(together.reshape(6, -1).astype(int).sum(1)),
            np.sort(whole[step][0].reshape(6, -1).astype(int).sum(1)),
        )
    for loader in (whole, *parts):
        loader.close()


def test_evaluation_sees_every_sample_once_and_pads_with_ignore(prepared):
    dataset = prepared["val"]
    with Loader(dataset, 3, EvalView(), shuffle=False, drop_remainder=False) as loader:
        batches = [loader[step] for step in range(len(loader))]
        names = [name for step in range(len(loader)) for name in loader.ids(step)]
    assert names == [dataset.id(i) for i in range(5)]
    assert {image.shape for image, _ in batches} == {(3, 64, 96, 3)}
    image, labels = batches[-1]
    assert (labels["semseg"][2] == 255).all() and (labels["depth"][2] == 0).all() and (image[2] == 0).all()
    sample = dataset[4]
    np.testing.assert_array_equal(labels["semseg"][1], sample["semseg"][:64, :96])
    np.testing.assert_array_equal(labels["depth"][1, ..., 0], dataset.metres(sample)[:64, :96])


class Watched(Dataset):
    """Tells which samples are decoded, and fails once over one of them."""

    def __init__(self, dataset, fails_at=None):
        super().__init__(dataset.path, dataset.split)
        self.decoded = []
        self.fails_at = None
        self[0], self.decoded.clear()
        self.fails_at = fails_at

    def __getitem__(self, index):
        self.decoded.append(index)
        if index == self.fails_at:
            self.fails_at = None
            raise OSError(errno.EMFILE, "too many open files")
        return super().__getitem__(index)


@pytest.mark.parametrize("cache", ["none", "ram"])
def test_a_pass_decodes_nothing_beyond_its_end(prepared, cache):
    dataset = Watched(prepared["val"])
    with Loader(dataset, 1, EvalView(), shuffle=False, drop_remainder=False, cache=cache) as loader:
        dataset.decoded.clear()
        first = read(loader, 5)
        assert sorted(dataset.decoded) == [0, 1, 2, 3, 4]
        # The passes are alike, from wherever the second one begins.
        loader.go_to(len(loader))
        assert_equal([loader[step] for step in (0, 2, 3, 4, 0, 1)], [first[step] for step in (0, 2, 3, 4, 0, 1)])


def worker_ids():
    return {child.pid for child in multiprocessing.active_children()}


def test_worker_processes_go_on_from_pass_to_pass(prepared, tmp_path):
    others = worker_ids()
    options = {"drop_remainder": False, "cache_dir": tmp_path, "seed": 3}
    with Loader(prepared["val"], 1, CROP, workers=2, **options) as loader, Loader(prepared["val"], 1, CROP) as train:
        with Loader(prepared["val"], 1, CROP, **options) as threads:
            expected = read(threads, 5)
        assert_equal(read(loader, 5), expected)
        workers = worker_ids() - others
        assert_equal(read(loader, 5), expected)
        assert len(workers) == 2 and worker_ids() - others == workers
        # In training, each pass is another one.
        assert any((train[step][0] != train[step + 5][0]).any() for step in range(5))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_batch_that_failed_is_the_same_when_it_is_asked_for_again(prepared, workers):
    options = {"shuffle": False, "cache": "none"}
    with Loader(prepared["train"], 4, CROP, **options) as undisturbed:
        expected, ids = read(undisturbed, 3), [undisturbed.ids(step) for step in range(3)]
    with Loader(Watched(prepared["train"], fails_at=6), 4, CROP, workers=workers, **options) as loader:
        assert_equal([loader[0]], expected[:1])
        with pytest.raises(OSError, match="too many open files"):
            loader[1]
        loader.dataset.fails_at = None
        assert_equal(read(loader, 3), expected)
        assert [loader.ids(step) for step in range(3)] == ids


def test_processes_have_equally_many_evaluation_steps(prepared):
    parts = [
        Loader(prepared["val"], 2, EvalView(), shuffle=False, drop_remainder=False, process_index=i, process_count=2)
        for i in range(2)
    ]
    assert [len(part) for part in parts] == [2, 2]
    assert sorted(name for part in parts for step in range(2) for name in part.ids(step)) == list("01234")


def test_scale_consistent_depth_reaches_the_batch(prepared):
    view = TrainView((32, 32), window_scaling=1.0, scale_depth=True)
    plain = TrainView((32, 32), window_scaling=1.0)
    with Loader(prepared["train"], 4, view, seed=1) as scaled, Loader(prepared["train"], 4, plain, seed=1) as fixed:
        a, b = scaled[0][1]["depth"], fixed[0][1]["depth"]
    valid = (a > 0) & (b > 0)
    ratio = [np.unique(np.round(x[v] / y[v], 4)) for x, y, v in zip(a, b, valid, strict=True) if v.any()]
    assert all(len(values) == 1 for values in ratio) and len({float(values[0]) for values in ratio}) > 1


class Batches(keras.callbacks.Callback):
    """The loss of every batch, out of the running mean that Keras reports."""

    def on_epoch_begin(self, epoch, logs=None):
        self.sums = [0.0]

    def on_train_batch_end(self, batch, logs=None):
        self.sums.append(float(logs["loss"]) * (batch + 1))
        self.losses = [*getattr(self, "losses", []), self.sums[-1] - self.sums[-2]]


def test_fit_trains_on_every_step_in_order(prepared, expected):
    inputs = keras.Input((None, None, 3))
    semseg, depth = (keras.layers.Conv2D(1, 1, name=name)(inputs) for name in ("semseg", "depth"))
    model = keras.Model(inputs, {"semseg": semseg, "depth": depth})
    mean = lambda true, pred: keras.ops.mean(true) + 0 * keras.ops.mean(pred)  # noqa: E731
    nothing = lambda true, pred: 0 * keras.ops.mean(pred)  # noqa: E731
    model.compile(keras.optimizers.SGD(0.0), loss={"semseg": nothing, "depth": mean})
    train = Loader(prepared["train"], 4, CROP, seed=7)
    val = Loader(prepared["val"], 2, EvalView(), shuffle=False, drop_remainder=False)
    batches = Batches()
    options = {"shuffle": False, "callbacks": [batches], "verbose": 0}
    model.fit(train, steps_per_epoch=5, epochs=2, validation_data=val, **options)
    train.go_to(10)
    model.fit(train, steps_per_epoch=3, **options)
    train.close(), val.close()
    # Two epochs of five steps, and three steps of another: the order goes on from epoch to epoch.
    np.testing.assert_allclose(batches.losses, [labels["depth"].mean() for _, labels in expected], rtol=2e-4)


def test_what_cannot_be_read_is_refused(prepared):
    dataset = prepared["train"]
    with pytest.raises(UserError, match="fewer than one step"):
        Loader(dataset, 24, CROP)
    with pytest.raises(UserError, match=rf"^{dataset.full_name} train, {dataset.id(0)}: .* smaller than the crop"):
        Loader(dataset, 4, TrainView((80, 80)))
    with pytest.raises(UserError, match='use "disk"'):
        Loader(dataset, 4, CROP, workers=2, cache="ram")
    with pytest.raises(UserError, match="none, ram, disk"):
        Loader(dataset, 4, CROP, cache="tape")
    with pytest.raises(UserError, match="process 2 of 2"):
        Loader(dataset, 4, CROP, process_index=2, process_count=2)
    with Loader(dataset, 4, CROP) as loader, pytest.raises(UserError, match="^step -1: expected a whole number, 0"):
        loader.go_to(-1)
    for cache in ("ram", "none"):
        with pytest.raises(UserError, match='cache_dir here is of use with cache "disk" alone: add --cache=disk, or'):
            Loader(dataset, 4, CROP, cache=cache, cache_dir="here")


def decoded_on_disk(folder):
    return [path.parent.name for path in folder.rglob("samples.bin")]


def test_a_folder_for_the_cache_has_it_lie_there(prepared, tmp_path):
    dataset = prepared["val"]
    Loader(dataset, 2, CROP, cache_dir=tmp_path)
    assert decoded_on_disk(tmp_path) == [f"{dataset.full_name.replace('/', '-')}-val"]


def test_processes_share_a_cache_on_the_disk_unless_they_are_told_otherwise(prepared, monkeypatch):
    dataset = prepared["test"]
    first = {"process_index": 0, "process_count": 2}
    Loader(dataset, 1, CROP, cache="ram", **first)
    assert not any(name.endswith("-test") for name in decoded_on_disk(dataset.path))
    monkeypatch.setattr("mtl_keras.data.cache._free_memory", lambda: 0)
    Loader(dataset, 1, CROP, **first)
    assert any(name.endswith("-test") for name in decoded_on_disk(dataset.path))


@pytest.mark.parametrize(
    ("name", "number", "least"),
    [("batch_size", 0, 1), ("batch_size", 2.5, 1)]
    + [(name, -1, 0) for name in ("seed", "workers", "threads", "prefetch")]
    + [(name, 1.5, 0) for name in ("seed", "workers")],
)
def test_numbers_that_make_no_sense_are_named(prepared, name, number, least):
    with pytest.raises(UserError, match=f"^{name} {number}: expected a whole number, {least} or more$"):
        Loader(prepared["train"], **{"batch_size": 4, "view": CROP, name: number})


def test_caches_hold_what_the_dataset_holds(prepared, tmp_path):
    dataset = prepared["train"]
    for kind in ("none", "ram", "disk"):
        samples = open_cache(dataset, kind, folder=tmp_path)
        assert len(samples) == len(dataset)
        for i in range(len(dataset)):
            kept, sample = samples[i], dataset[i]
            assert kept["id"] == sample["id"] and kept["depth_scale"] == sample["depth_scale"]
            for name in ("image", "semseg", "depth_codes"):
                np.testing.assert_array_equal(kept[name], sample[name])
                assert kept[name].dtype == sample[name].dtype


def test_depth_of_a_crop_is_decoded_from_its_codes(prepared):
    dataset = prepared["train"]
    with Loader(dataset, 1, EvalView(), shuffle=False) as loader:
        codes = dataset[4]["depth_codes"][:64, :96]
        np.testing.assert_array_equal(loader[4][1]["depth"][0, ..., 0], decode_depth(codes, "inverse"))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_program_that_forgets_to_close_ends(prepared, workers, tmp_path):
    program = f"""
        from mtl_keras.data import Dataset, Loader, TrainView
        dataset = Dataset({str(prepared["train"].path)!r}, "train")
        loader = Loader(dataset, 4, TrainView((32, 32)), workers={workers}, cache="disk", cache_dir={str(tmp_path)!r})
        print(loader[0][0].shape)
    """
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"PYTHONPATH": os.getcwd()},
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "(4, 32, 32, 3)"
    assert "Traceback" not in result.stderr and "leaked" not in result.stderr


@pytest.mark.skipif(not os.path.exists("/proc/self/maps"), reason="reads Linux's /proc")
def test_a_killed_program_leaves_no_process_and_no_shared_memory(prepared, tmp_path):
    program = f"""
        import multiprocessing, time
        from mtl_keras.data import Dataset, Loader, TrainView
        dataset = Dataset({str(prepared["train"].path)!r}, "train")
        loader = Loader(dataset, 4, TrainView((32, 32)), workers=2, cache="disk", cache_dir={str(tmp_path)!r})
        batches = [loader[0], loader[1]]
        print(*(child.pid for child in multiprocessing.active_children()), flush=True)
        time.sleep(600)
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ | {"PYTHONPATH": os.getcwd()},
    )
    workers = process.stdout.readline().split()
    shared = [
        Path(name) for pid in workers for name in re.findall(r"/dev/shm/\S+", Path(f"/proc/{pid}/maps").read_text())
    ]
    process.kill()
    # Every process that it started holds the other end.
    process.communicate(timeout=60)
    assert len(workers) == 2 and shared
    wait_until(lambda: not any(path.exists() for path in shared), seconds=60)


def test_a_model_of_other_classes_is_refused(prepared):
    model = tiny_model(num_classes=4)
    model.compile("sgd")
    with Loader(prepared["train"], 4, CROP) as loader:
        for train in (model.fit, model.evaluate):
            with pytest.raises(UserError, match="the data has 19 classes and the model 4; build it with"):
                train(loader)
        with pytest.raises(UserError, match="the data has 19 classes and the model 4; build it with"):
            model.fit(np.zeros((2, 16, 16, 3)), validation_data=loader)


def test_fit_needs_no_word_about_shuffling(prepared, recwarn):
    model = tiny_model(num_classes=19)
    model.compile("sgd")
    with Loader(prepared["train"], 4, CROP) as loader:
        model.fit(loader, steps_per_epoch=2, verbose=0)
    assert not [warning for warning in recwarn if "shuffle" in str(warning.message)]


def test_worker_processes_share_a_cache_on_the_disk(prepared):
    with Loader(prepared["train"], 4, CROP, workers=1) as loader, Loader(prepared["train"], 4, CROP) as expected:
        assert_equal(read(loader, 2), read(expected, 2))
