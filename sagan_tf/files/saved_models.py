"""Checks of SavedModels that are not trusted: a graph is a program, so its operations must be on a list.

Allowed are the operations that the exports of this package need, which compute and have no effect outside the model.
To read its variables, a SavedModel of TensorFlow 2 also has one function that saves them and one that restores them;
these may access files, and nothing else may call them.
"""

import itertools
import os
from pathlib import Path

from sagan_tf.files.untrusted import check_kind

EXPORT_OPERATIONS = frozenset({
    "Acos", "AddV2", "All", "Assert", "BatchMatMulV2", "BiasAdd", "BitwiseOr", "Cast", "ConcatV2", "Const",
    "Conv2D", "Conv2DBackpropInput", "EncodePng", "Equal", "Erf", "Erfinv", "Greater", "GreaterEqual",
    "Identity", "If", "IsFinite", "LeftShift", "Less", "LessEqual", "LogicalAnd", "MatMul", "MaxPool",
    "Maximum", "Minimum", "Mul", "Neg", "NoOp", "Pack", "PartitionedCall", "Placeholder",
    "PlaceholderWithDefault", "Range", "Rank", "ReadVariableOp", "RealDiv", "Relu", "Reshape",
    "ResizeNearestNeighbor", "ResourceGather", "Round", "Rsqrt", "SelectV2", "Shape", "Sin", "Size", "Softmax",
    "SplitV", "Square", "Squeeze", "StatefulPartitionedCall", "StatelessRandomUniformFullIntV2",
    "StatelessRandomUniformV2", "StatelessWhile", "StridedSlice", "StringJoin", "Sub", "Sum", "Tanh",
    "TensorListFromTensor", "TensorListGetItem", "TensorListReserve", "TensorListSetItem", "TensorListStack",
    "Transpose", "VarHandleOp",
})  # fmt: skip
# What Inception and usual image classifiers need besides: arithmetic, and variables of the model itself.
FEATURE_OPERATIONS = EXPORT_OPERATIONS | {
    "Abs", "Add", "AddN", "Any", "ArgMax", "AssignVariableOp", "AvgPool", "BatchMatMul", "BatchMatMulV3",
    "BatchNormWithGlobalNormalization", "BatchToSpaceND", "BroadcastTo", "CheckNumerics", "ClipByValue", "Concat",
    "DepthToSpace", "DepthwiseConv2dNative", "DisableCopyOnRead", "Einsum", "Elu", "Erfc", "Exp", "ExpandDims",
    "Fill", "Floor", "FloorDiv", "FloorMod", "FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3", "GatherV2",
    "IdentityN", "LRN", "LeakyRelu", "Log", "Log1p", "LogicalNot", "LogicalOr", "Max", "MaxPoolV2", "Mean", "Min",
    "MirrorPad", "NotEqual", "OnesLike", "Pad", "PadV2", "Pow", "Prod", "Reciprocal", "Relu6", "ResizeBicubic",
    "ResizeBilinear", "ReverseV2", "ScaleAndTranslate", "Select", "Selu", "Sigmoid", "Slice", "Softplus",
    "Softsign", "SpaceToBatchND", "SpaceToDepth", "Split", "Sqrt", "SquaredDifference", "StatelessIf",
    "StopGradient", "Tile", "Unpack", "VarIsInitializedOp", "While", "ZerosLike",
}  # fmt: skip
_SAVE_OPERATIONS = frozenset({
    "Const", "DisableCopyOnRead", "Identity", "MergeV2Checkpoints", "NoOp", "Pack", "ReadVariableOp", "SaveV2",
    "Select", "ShardedFilename", "StaticRegexFullMatch", "StringJoin",
})  # fmt: skip
_MAX_GRAPH_BYTES = 2**31 - 1  # of a protobuf message
_RESTORE_OPERATIONS = frozenset({"AssignVariableOp", "Const", "Identity", "NoOp", "RestoreV2"})


def regular_files(folder):
    """Returns a frozenset of (path, size, modification time) of all files, to compare with a later one.

    Raises:
        UserError: One is a pipe, a socket or a device.
    """
    states = set()
    for parent, _, names in os.walk(folder, onerror=_raise):
        for path in (os.path.join(parent, name) for name in names):
            check_kind(path)
            try:
                status = os.stat(path)
            except OSError:  # a broken or circular link
                status = os.lstat(path)
            states.add((path, status.st_size, status.st_mtime_ns))
    return frozenset(states)


def _raise(error):
    raise error


def checked_graph(folder, operations):
    """Reads the graph of a SavedModel of TensorFlow 2 and checks it before anything runs.

    Args:
        folder: Path of the SavedModel.
        operations: Names of the operations that may run.

    Returns:
        MetaGraphDef without the function that saves the variables.

    Raises:
        UserError: One of its files is a pipe, a socket or a device.
        ValueError: It is not such a SavedModel, has other operations, or restores its variables in another way.
        OSError: The file cannot be read.
    """
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    regular_files(folder)
    path = Path(folder) / "saved_model.pb"
    if path.stat().st_size > _MAX_GRAPH_BYTES:
        raise ValueError(f"{path} is too large for a graph.")
    try:
        model = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    except DecodeError:
        raise ValueError("saved_model.pb is not a SavedModel.") from None
    if len(model.meta_graphs) != 1 or not model.meta_graphs[0].object_graph_def.nodes:
        raise ValueError("it does not have exactly one graph in the format of TensorFlow 2.")
    meta_graph = model.meta_graphs[0]
    functions = meta_graph.graph_def.library.function
    if any("api_implements" in function.attr for function in functions):  # TensorFlow may exchange such functions
        raise ValueError("its functions have `api_implements`, which is not accepted.")
    restore = _saver_functions(meta_graph)
    nodes = itertools.chain(
        meta_graph.graph_def.node,
        *(function.node_def for function in functions if function.signature.name != restore),
    )
    unknown = sorted({node.op for node in nodes} - set(operations))
    if unknown:
        raise ValueError(f"its graph has {', '.join(unknown[:10])}; only operations that just compute are accepted.")
    return meta_graph


def _saver_functions(meta_graph):
    """Removes the function that saves; returns the name of the one that restores, None without variables."""
    saver, graph = meta_graph.saver_def, meta_graph.graph_def
    if not saver.restore_op_name:
        return None
    nodes = {node.name: node for node in graph.node}
    try:
        save, restore = nodes[_node(saver.save_tensor_name)], nodes[_node(saver.restore_op_name)]
        by_name = {function.signature.name: function for function in graph.library.function}
        saving, restoring = (by_name[node.attr["f"].func.name] for node in (save, restore))
    except KeyError as error:
        raise ValueError(f"its saver names {error}, which is missing.") from None
    filename = _node(saver.filename_tensor_name)
    same_call = save.op == restore.op == "StatefulPartitionedCall" and save is not restore and saving is not restoring
    # The loader feeds the file name, so that only the model's own variables can be read.
    own_file = restore.input[:1] == [filename] and filename in nodes and nodes[filename].op == "Placeholder"
    if not same_call or not own_file or not _is_plain(restoring, _RESTORE_OPERATIONS, "RestoreV2"):
        raise ValueError("it restores its variables in a way that is not accepted.")
    if not _is_plain(saving, _SAVE_OPERATIONS):
        raise ValueError("it saves its variables in a way that is not accepted.")
    _refuse_other_uses(meta_graph, (save, restore), (saving, restoring), filename)
    graph.node.remove(save)
    graph.library.function.remove(saving)
    return restoring.signature.name


def _is_plain(function, operations, reader=None):
    """Whether a function has only these operations, and `reader` reads the file that is its first argument."""
    own_file = [argument.name for argument in function.signature.input_arg[:1]]
    return all(
        node.op in operations and (node.op != reader or list(node.input[:1]) == own_file) for node in function.node_def
    )


def _refuse_other_uses(meta_graph, calls, functions, filename):
    """Raises ValueError if anything but its call mentions a function of the saver, its call or its file name."""
    rest = type(meta_graph)()
    rest.CopyFrom(meta_graph)
    for node in calls:
        rest.graph_def.node.remove(node)
    for function in functions:
        rest.graph_def.library.function.remove(function)
    rest.ClearField("saver_def")
    content = rest.SerializeToString()
    signatures = meta_graph.signature_def.values()
    used_nodes = {_node(name) for node in rest.graph_def.node for name in node.input} | {
        _node(info.name) for one in signatures for info in itertools.chain(one.inputs.values(), one.outputs.values())
    }
    private_nodes = {filename, *(node.name for node in calls)}
    if used_nodes & private_nodes or any(function.signature.name.encode() in content for function in functions):
        raise ValueError("its graph calls the functions that save or restore its variables.")


def _node(tensor_name):
    return tensor_name.removeprefix("^").partition(":")[0]
