"""The check of SavedModels: exports pass it; what could access files, the network or Python does not."""

import itertools

import pytest
from export.generators import make_generator
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.framework import op_def_registry

from sagan_tf.conversion import heykeetae
from sagan_tf.errors import UserError
from sagan_tf.export import export_saved_model
from sagan_tf.files.saved_models import EXPORT_OPERATIONS, FEATURE_OPERATIONS, checked_graph, regular_files

OTHER_OPERATIONS = (
    "PrintV2", "Print", "SaveV2", "Save", "SaveSlices", "RestoreV2", "Restore", "RestoreSlice", "MergeV2Checkpoints",
    "ReadFile", "WriteFile", "MatchingFiles", "ShardedFilename", "ShardedFilespec", "WholeFileReaderV2",
    "TextLineReaderV2", "FIFOQueueV2", "ReaderReadV2", "CreateSummaryFileWriter", "WriteSummary", "FlushSummaryWriter",
    "DebugIdentityV2", "DebugIdentityV3", "TextLineDataset", "TFRecordDataset", "MatchingFilesDataset",
    "FixedLengthRecordDatasetV2", "LoadDataset", "SaveDatasetV2", "SnapshotDatasetV2", "DatasetToTFRecord",
    "InitializeTableFromTextFile", "InitializeTableFromTextFileV2", "HashTableV2", "LookupTableFindV2", "PyFunc",
    "PyFuncStateless", "EagerPyFunc", "GeneratorDataset", "RemoteCall", "RpcGetRemoteAddress", "DataServiceDatasetV4",
    "TPUExecute", "XlaLaunch", "_Send", "_Recv", "CollectiveReduceV2", "ConfigureDistributedTPU", "SymbolicGradient",
    "Timestamp", "TfLiteSubgraphExecute", "AudioSpectrogram", "no such operation",
)  # fmt: skip


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    return export_saved_model(make_generator(), tmp_path_factory.mktemp("export"), warm_up=False)


@pytest.fixture
def edited(exported, tmp_path):
    """A function that writes a copy of the exported graph, changed by a function of its MetaGraphDef."""

    def write(change):
        model = saved_model_pb2.SavedModel.FromString((exported / "saved_model.pb").read_bytes())
        change(model.meta_graphs[0])
        (tmp_path / "saved_model.pb").write_bytes(model.SerializeToString())
        return tmp_path

    return write


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [{"num_classes": None, "attention_sizes": (), "image_channels": 1},
     {"dtype": "mixed_bfloat16", "attention_sizes": (4, 32), "spectral_normalization": False}],
    ids=str,
)  # fmt: skip
def test_checked_graph_accepts_every_kind_of_export(options, tmp_path):
    checked_graph(export_saved_model(make_generator(**options), tmp_path, warm_up=False), EXPORT_OPERATIONS)


def test_checked_graph_accepts_the_transposed_convolutions_of_a_converted_generator(tmp_path):
    generator = heykeetae.build_generator(8, (16, 16, 16, 8), 3)
    checked_graph(export_saved_model(generator, tmp_path, warm_up=False), EXPORT_OPERATIONS)


def test_checked_graph_removes_the_function_that_saves(exported):
    graph = checked_graph(exported, EXPORT_OPERATIONS).graph_def
    nodes = itertools.chain(graph.node, *(function.node_def for function in graph.library.function))
    assert {node.op for node in nodes} - EXPORT_OPERATIONS == {"AssignVariableOp", "RestoreV2"}


def test_allowed_operations_have_no_state_but_the_variables_of_the_model():
    known = {name: op_def_registry.get(name) for name in FEATURE_OPERATIONS}
    assert {name for name, definition in known.items() if definition.is_stateful} == {
        "Assert", "AssignVariableOp", "CheckNumerics", "DisableCopyOnRead", "If", "ReadVariableOp", "ResourceGather",
        "StatefulPartitionedCall", "VarHandleOp", "VarIsInitializedOp", "While",
    }  # fmt: skip
    assert not FEATURE_OPERATIONS & set(OTHER_OPERATIONS)
    # Not even their attributes can name a file.
    attributes = {attr.name for one in known.values() for attr in one.attr if attr.type == "string"}
    assert not {name for name in attributes if "file" in name or "path" in name or "url" in name}


@pytest.mark.parametrize("place", ["graph", "function", "new function", "restore"])
@pytest.mark.parametrize("operation", OTHER_OPERATIONS)
def test_checked_graph_rejects_other_operation(edited, operation, place):
    def change(meta_graph):
        functions = meta_graph.graph_def.library.function
        if place == "graph":
            return meta_graph.graph_def.node.add(name="trap", op=operation)
        if place == "new function":
            functions.add().signature.name = "extra"
        by_place = {"restore": "traced_restore", "new function": "extra", "function": "signature_wrapper"}
        function = next(one for one in functions if by_place[place] in one.signature.name)
        function.node_def.add(name="trap", op=operation)

    with pytest.raises(ValueError, match=r"its graph has|restores its variables in a way"):
        checked_graph(edited(change), FEATURE_OPERATIONS)


def function(meta_graph, part):
    return next(one for one in meta_graph.graph_def.library.function if part in one.signature.name)


def call(meta_graph, name):
    return next(node for node in meta_graph.graph_def.node if node.name == name.partition(":")[0])


def read_another_file(meta_graph):
    restore = function(meta_graph, "traced_restore")
    next(node for node in restore.node_def if node.op == "RestoreV2").input[0] = "RestoreV2/tensor_names:output:0"


def name_a_constant_file(meta_graph):
    meta_graph.graph_def.node.add(name="passwd", op="Const")
    call(meta_graph, meta_graph.saver_def.restore_op_name).input[0] = "passwd"


def serve_the_file_name(meta_graph):
    meta_graph.signature_def["sample"].inputs["seed"].name = "saver_filename:0"


def serve_the_saving(meta_graph):
    meta_graph.signature_def["sample"].outputs["image_bytes"].name = meta_graph.saver_def.save_tensor_name


def save_before_serving(meta_graph):
    served = call(meta_graph, meta_graph.signature_def["sample"].outputs["image_bytes"].name)
    served.input.append("^" + meta_graph.saver_def.save_tensor_name.partition(":")[0])


def call_the_saving_in_a_function(meta_graph):
    node = function(meta_graph, "signature_wrapper").node_def.add(name="trap", op="StatefulPartitionedCall")
    node.attr["f"].func.name = function(meta_graph, "traced_save").signature.name


def call_the_saving_by_a_list(meta_graph):
    node = meta_graph.graph_def.node.add(name="trap", op="If")
    node.attr["then_branch"].list.func.add(name=function(meta_graph, "traced_restore").signature.name)


def name_the_saving_in_the_object_graph(meta_graph):
    meta_graph.object_graph_def.concrete_functions[function(meta_graph, "traced_save").signature.name].SetInParent()


def save_as_the_gradient(meta_graph):
    meta_graph.graph_def.library.gradient.add(gradient_func=function(meta_graph, "traced_save").signature.name)


def restore_by_saving(meta_graph):
    meta_graph.saver_def.restore_op_name = meta_graph.saver_def.save_tensor_name


def exchange_functions(meta_graph):
    function(meta_graph, "signature_wrapper").attr["api_implements"].s = b"sample"


def drop_the_objects(meta_graph):
    meta_graph.ClearField("object_graph_def")


def name_a_missing_saver(meta_graph):
    meta_graph.saver_def.restore_op_name = "nothing"


CHANGES = [
    read_another_file, name_a_constant_file, serve_the_file_name, serve_the_saving, save_before_serving,
    call_the_saving_in_a_function, call_the_saving_by_a_list, name_the_saving_in_the_object_graph, save_as_the_gradient,
    restore_by_saving, exchange_functions, drop_the_objects, name_a_missing_saver,
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_checked_graph_rejects_other_use_of_the_saver(edited, change):
    with pytest.raises(ValueError):
        checked_graph(edited(change), EXPORT_OPERATIONS)


@pytest.mark.parametrize("content", [b"", b"\xff" * 50, b"text"])
def test_checked_graph_rejects_other_bytes(tmp_path, content):
    (tmp_path / "saved_model.pb").write_bytes(content)
    with pytest.raises(ValueError):
        checked_graph(tmp_path, EXPORT_OPERATIONS)


def test_regular_files_rejects_fifo_and_device(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("nowhere")
    (tmp_path / "folder" / "file").write_bytes(b"123")
    assert {(path, size) for path, size, _ in regular_files(tmp_path)} >= {(str(tmp_path / "folder" / "file"), 3)}
    (tmp_path / "device").symlink_to("/dev/zero")
    with pytest.raises(UserError, match="device: is a pipe, a socket or a device"):
        regular_files(tmp_path)
