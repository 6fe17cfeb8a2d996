"""What TensorBoard's own plugins make of the runs in a folder."""

import json
import subprocess
import sys
import textwrap

import pytest

from mtl_keras.cost import count_parameters
from mtl_keras.event_writer import EventWriter
from mtl_keras.model_graph import model_graph
from tests import harness
from trainers import dashboards
from trainers.config import RunConfig
from trainers.run_folder import create

# In a process of its own and without TensorFlow, whose import takes longer than all the rest.
READER = """
    import json, sys
    sys.modules["tensorflow"] = None
    from google.protobuf import json_format, text_format
    from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
    from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
    from tensorboard.compat.proto import graph_pb2
    from tensorboard.context import RequestContext
    from tensorboard.plugins.base_plugin import TBContext
    from tensorboard.plugins.custom_scalar.custom_scalars_plugin import CustomScalarsPlugin
    from tensorboard.plugins.graph.graphs_plugin import GraphsPlugin
    from tensorboard.plugins.hparams import api_pb2, backend_context, list_session_groups

    multiplexer = EventMultiplexer()
    multiplexer.AddRunsFromDirectory(sys.argv[1])
    multiplexer.Reload()
    provider = MultiplexerDataProvider(multiplexer, sys.argv[1])
    context, request = TBContext(data_provider=provider, logdir=sys.argv[1]), RequestContext()

    found = {"layout": json.loads(CustomScalarsPlugin(context).layout_impl(request, ""))}
    hparams = backend_context.Context(context)
    asked = api_pb2.ListSessionGroupsRequest(slice_size=10, start_index=0, allowed_statuses=[1, 2, 3, 0])
    metadata = hparams.hparams_metadata(request, "")
    experiment = hparams.experiment_from_metadata(
        request, "", True, metadata, hparams.hparams_from_data_provider(request, "", 100)
    )
    for info in experiment.metric_infos:
        asked.col_params.add(metric=info.name)
    groups = list_session_groups.Handler(request, hparams, "", asked).run().session_groups
    found["sessions"] = [
        {
            "status": group.sessions[0].status,
            "hparams": {name: json_format.MessageToDict(value) for name, value in group.hparams.items()},
            "metrics": {value.name.tag: value.value for value in group.metric_values},
        }
        for group in groups
    ]
    run = sorted(multiplexer.Runs())[0]
    text, _ = GraphsPlugin(context).graph_impl(request, run, None, False, "", None, None)
    graph = text_format.Parse(text, graph_pb2.GraphDef())
    found["graph"] = [[n.name, n.op, list(n.input), n.attr["parameters"].i] for n in graph.node]
    tag = "best/val_grader"
    with_results = [r for r, tags in multiplexer.Runs().items() if tag in tags["tensors"]]
    found["results"] = [len(multiplexer.Tensors(r, tag)) for r in with_results]
    print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def model():
    return harness.tiny_model()


@pytest.fixture(scope="module")
def found(model, tmp_path_factory):
    """Two runs of a study, one that ended and one that is under way."""
    folder = tmp_path_factory.mktemp("runs")
    for name, rate in (("ended", 1e-4), ("running", 1e-3)):
        config = RunConfig(runs_dir=str(folder), name=name, learning_rate=rate, data_dir="/somewhere")
        run = create(config)
        with EventWriter(run.tensorboard) as writer:
            dashboards.begin(writer, config, model)
            writer.scalars({"val_grader": 21.5}, step=1)
        if name == "ended":
            best = {"epoch": 7, "metrics": {"grader": 66.4, "miou": 84.5, "silog": 18.1, "loss": 1.0}}
            # Killed right after it has entered its results, a run enters them again.
            dashboards.end(run, config, best)
            dashboards.end(run, config, best)
    command = [sys.executable, "-c", textwrap.dedent(READER), str(folder)]
    reader = subprocess.run(command, capture_output=True, text=True, check=False)
    assert reader.returncode == 0, reader.stderr
    return json.loads(reader.stdout)


def test_a_study_shows_its_settings_and_what_they_came_to(found):
    running, ended = sorted(found["sessions"], key=lambda session: len(session["metrics"]))
    assert (running["hparams"]["learning_rate"], ended["hparams"]["learning_rate"]) == (1e-3, 1e-4)
    assert ended["hparams"]["arch"] == "branched" and ended["hparams"]["aspp"] is True
    # Where a run reads and writes is no setting that runs are compared by.
    assert "data_dir" not in ended["hparams"] and "runs_dir" not in ended["hparams"]
    best = {"best/val_grader": 66.4, "best/val_miou": 84.5, "best/val_silog": 18.1}
    assert {tag: ended["metrics"][tag] for tag in best} == pytest.approx(best)
    assert ended["status"] != running["status"]
    assert found["results"] == [1]


def test_the_reports_three_curves_have_a_chart_each(found):
    report = found["layout"]["category"][0]
    charts = {chart["title"]: chart["multiline"]["tag"] for chart in report["chart"]}
    assert charts == {
        "Grader": ["val_grader$"],
        "Semseg: mIoU, %": ["val_miou$"],
        "Depth: SI-logRMSE": ["val_silog$"],
    }


def test_the_graph_is_the_models(found, model):
    nodes = {name: (kind, inputs) for name, kind, inputs, _ in found["graph"]}
    assert nodes["conv"] == ("Conv2D", ["normalization"]) and nodes["norm"] == ("BatchNormalization", ["conv"])
    assert sum(parameters for *_, parameters in found["graph"]) == count_parameters(model)


@pytest.mark.parametrize("arch", ["joint", "distillation"])
def test_blocks_open_and_every_output_is_reached_from_the_image(arch):
    import zoo

    model = zoo.build(arch, encoder="resnet18")
    nodes = model_graph(model)
    assert len({node.name for node in nodes}) == len(nodes)
    assert sum(node.parameters for node in nodes) == count_parameters(model)
    reached = set()
    for node in nodes:
        assert set(node.inputs) <= reached
        reached.add(node.name)
    taken = {name for node in nodes for name in node.inputs}
    ends = {node.name for node in nodes if node.name not in taken}
    assert len(ends) == (4 if arch == "distillation" else 2)
    assert {node.name.partition("/")[0] for node in nodes if "/" in node.name} >= {"encoder"}
