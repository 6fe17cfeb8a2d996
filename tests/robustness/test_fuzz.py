"""Properties of flags, configurations and encodings, and the short form of `benchmarks.fuzz`."""

import contextlib
import dataclasses
import json
import random
import typing

import numpy as np
import pytest
from absl import flags
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks import fuzz
from mtl_keras.data.depth_encoding import decode_depth, encode_inverse_depth
from mtl_keras.data.images import BadFile
from mtl_keras.errors import UserError, on_one_line
from trainers.cli import _ListParser
from trainers.config import RunConfig, from_settings, read_config

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)
FIELDS = {field.name: field for field in dataclasses.fields(RunConfig)}


def likely(field: dataclasses.Field) -> st.SearchStrategy:
    """Values of about the right kind, among them the field's own default."""
    own = st.just(field.default)
    kinds = {bool: st.booleans(), int: st.integers(-2, 10**6), float: st.floats(), str: st.text(max_size=6)}
    given_kinds = [kinds[kind] for kind in (field.type, *typing.get_args(field.type)) if kind in kinds]
    choices = st.sampled_from(field.metadata.get("choices") or [field.default])
    tuples = st.lists(st.integers(-1, 99) | st.booleans(), max_size=3)
    return st.one_of(own, choices, tuples, *given_kinds)


@pytest.mark.parametrize("name", fuzz.TARGETS)
@settings(max_examples=40)
@given(seed=st.integers(0, 2**32), raw=st.binary(max_size=200))
def test_a_parser_takes_or_refuses_any_bytes(name, seed, raw):
    rng = random.Random(seed)
    fuzz.check(name, fuzz.mutated(rng.choice(fuzz.TARGETS[name][1]), rng))
    fuzz.check(name, raw)


@pytest.mark.parametrize("name", fuzz.TARGETS)
@pytest.mark.parametrize(
    "data", [b"[" * 100_000, b"a = " + b"[" * 100_000, b'{"a":' * 100_000], ids=["list", "toml", "table"]
)
def test_a_parser_takes_or_refuses_what_is_nested_deep(name, data):
    fuzz.check(name, data)


@pytest.mark.parametrize("name", fuzz.TARGETS)
def test_a_parser_takes_what_is_right(name):
    taken = 0
    for data in fuzz.TARGETS[name][1]:
        with contextlib.suppress(BadFile):  # 16-bit pixels are stored, and never predicted
            fuzz.TARGETS[name][0](data)
            taken += 1
    assert taken >= len(fuzz.TARGETS[name][1]) - 1 > -1


@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(st.fixed_dictionaries({}, optional={name: likely(field) for name, field in FIELDS.items()}))
def test_settings_make_a_run_that_its_json_makes_again_or_one_line(tmp_path_factory, values):
    path = tmp_path_factory.mktemp("settings") / "config.json"
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    try:
        config = RunConfig(**values)
    except UserError as error:
        assert "\n" not in str(error)
        return
    path.write_text(config.to_json(), encoding="utf-8", errors="surrogatepass")
    assert read_config(path) == config


@given(st.dictionaries(st.sampled_from(sorted(FIELDS)) | st.text(max_size=5), JSON, max_size=4) | JSON)
def test_any_json_is_a_configuration_or_refused(tmp_path_factory, values):
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_text(json.dumps(values), encoding="utf-8")
    try:
        assert isinstance(read_config(path), RunConfig)
    except UserError as error:
        assert "\n" not in str(error)


@given(st.sampled_from(sorted(set(FIELDS) - {"dataset"})), JSON)
def test_a_setting_fits_or_is_named(name, value):
    try:
        config = from_settings({name: value})
    except UserError as error:
        assert "\n" not in str(error)
    else:
        assert getattr(config, name) == value or name == "recipe"


@given(st.lists(st.integers(-(10**6), 10**6), min_size=1, max_size=5))
def test_a_list_flag_reads_what_it_writes(values):
    parser = _ListParser(flags.IntegerParser())
    text = flags.ListSerializer(",").serialize(values)
    assert parser.parse(text) == values == parser.parse(f"({text.replace(',', ', ')})")


@given(st.text(max_size=12))
def test_a_list_flag_refuses_by_a_value_error(text):
    for item in (flags.IntegerParser(), flags.FloatParser(), flags.BooleanParser()):
        try:
            _ListParser(item).parse(text)
        except (ValueError, OverflowError) as error:
            assert str(error)


CODES = st.lists(st.integers(0, 65535), min_size=1, max_size=30)


@given(CODES, st.sampled_from(["linear", "disparity"]), st.floats(1e-6, 1e6), st.floats(1e-3, 10), st.floats(10.5, 1e4))
def test_decoded_depth_is_missing_or_within_the_range(codes, encoding, scale, near, far):
    metres = decode_depth(np.array(codes, np.uint16), encoding, scale, (near, far))
    assert metres.dtype == np.float32 and np.isfinite(metres).all()
    valid = metres[metres != 0]
    assert (valid >= np.float32(near)).all() and (valid <= np.float32(far)).all()


@given(st.lists(st.floats(width=32), min_size=1, max_size=30), st.sampled_from(["invalidate", "clamp"]))
def test_encoding_orders_codes_by_nearness(metres, policy):
    metres = np.array(metres, np.float32)
    codes = encode_inverse_depth(metres, policy).astype(int)
    assert (codes[~np.isfinite(metres) | (metres <= 0)] == 0).all()
    kept = codes > 0
    assert (np.diff(codes[kept][np.argsort(metres[kept], kind="stable")]) <= 0).all()


@given(st.text(st.characters(codec=None, exclude_categories=())))
def test_any_name_can_be_printed_on_one_line(name):
    line = on_one_line(name)
    assert line.isprintable() and line.encode() is not None
    if name.isprintable():
        assert line == name
