#!/usr/bin/env python3
"""Trains the two versions of models/co2-forecast: 1 is an LSTM, 2 a patch transformer.

    pip install numpy onnx onnxruntime statsmodels torch
    python train_co2_forecast.py [--out DIR]

Both read a year of weekly CO2 concentrations in ppm, `series` FP32 [batch, 52, 1], and forecast the
quarter that follows, `forecast` FP32 [batch, 13]. The series is the one that statsmodels brings along
(Mauna Loa, 1958 to 2001, public domain). The last 15 % of it are held back, and both models are measured
there against rules of thumb and a linear regression.

Without --out it compares with what is committed: the exit code says whether the fresh models' errors and
forecasts are within TOLERANCE. Another version of torch or another processor gives other weights, so the
files are not the same byte for byte. With --out it writes DIR/1/model.onnx and DIR/2/model.onnx.

torch only trains; the graphs are written operator by operator (opset 17).
"""

import argparse
import csv
import hashlib
import importlib.util
import math
import pathlib
import sys
import time

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

COMMITTED = pathlib.Path(__file__).resolve().parent.parent / "co2-forecast"
SERIES_SHA256 = "16695fa2786e53414e5a6b54767a3fdf5de99cfbc68617f69d1362d92776a92f"

WEEKS = 52
HORIZON = 13
HELD_BACK = 0.15
# Values go through the networks as differences from the window's last one, in units of this many ppm.
PPM = 3.0
TOLERANCE = {"error": 0.03, "forecast": 0.25}  # ppm: of the mean error, of the mean distance of forecasts

HIDDEN = 48
WIDTH, HEADS, BLOCKS, PATCH = 32, 4, 2, 4
PATCHES = WEEKS // PATCH
EPSILON = 1e-5


class Lstm(nn.Module):
    """One layer, read out after the last week."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(1, HIDDEN, batch_first=True)
        self.out = nn.Linear(HIDDEN, HORIZON)

    def forward(self, scaled):
        states, _ = self.lstm(scaled)
        return self.out(states[:, -1])


class Block(nn.Module):
    """Attention and a feed-forward layer, each on normalised input and with a residual."""

    def __init__(self):
        super().__init__()
        self.norm_1, self.norm_2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.project = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.expand, self.contract = nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(2 * WIDTH, WIDTH)

    def forward(self, patches):
        batch = len(patches)
        qkv = self.qkv(self.norm_1(patches)).reshape(batch, PATCHES, 3, HEADS, WIDTH // HEADS)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        weights = torch.softmax(query @ key.transpose(-1, -2) / math.sqrt(WIDTH // HEADS), -1)
        mixed = (weights @ value).transpose(1, 2).reshape(batch, PATCHES, WIDTH)
        patches = patches + self.project(mixed)
        return patches + self.contract(torch.relu(self.expand(self.norm_2(patches))))


class Transformer(nn.Module):
    """Thirteen patches of four weeks, two blocks, one linear layer over all patches."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(PATCH, WIDTH)
        self.position = nn.Parameter(torch.randn(1, PATCHES, WIDTH) * 0.02)
        self.blocks = nn.ModuleList([Block() for _ in range(BLOCKS)])
        self.norm = nn.LayerNorm(WIDTH)
        self.out = nn.Linear(PATCHES * WIDTH, HORIZON)

    def forward(self, scaled):
        patches = self.embed(scaled.reshape(-1, PATCHES, PATCH)) + self.position
        for block in self.blocks:
            patches = block(patches)
        return self.out(self.norm(patches).flatten(1))


def read_series():
    """The weekly values in ppm, gaps filled in a straight line, and how many were missing in the held-back part."""
    found = importlib.util.find_spec("statsmodels")
    if found is None:
        sys.exit("statsmodels is missing: pip install statsmodels")
    content = (pathlib.Path(found.origin).parent / "datasets" / "co2" / "co2.csv").read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if digest != SERIES_SHA256:
        sys.exit(f"co2.csv of statsmodels: sha-256 should be {SERIES_SHA256}, got {digest}")
    rows = list(csv.DictReader(content.decode().splitlines()))
    values = np.array([float(row["co2"]) if row["co2"] else np.nan for row in rows])
    known = np.flatnonzero(~np.isnan(values))
    start = int(len(values) * (1 - HELD_BACK))
    print(
        f"{len(values)} weeks from {rows[0]['date']} to {rows[-1]['date']}, {len(values) - len(known)} missing; held"
        f" back from {rows[start]['date']} on, {np.isnan(values[start:]).sum()} missing"
    )
    return np.interp(np.arange(len(values)), known, values[known]).astype(np.float32), start


def windows(series):
    """Every run of 52 + 13 weeks."""
    return np.lib.stride_tricks.sliding_window_view(series, WEEKS + HORIZON).copy()


def train(network, seen, steps, rate):
    """Fits a network to differences from each window's last value."""
    scaled = torch.from_numpy((seen - seen[:, WEEKS - 1 : WEEKS]) / np.float32(PPM))
    optimizer = torch.optim.AdamW(network.parameters(), rate, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, steps)
    for _ in range(steps):
        rows = scaled[torch.randint(len(scaled), (64,))]
        noisy = rows[:, :WEEKS] + torch.randn(len(rows), WEEKS) * 0.1
        loss = nn.functional.smooth_l1_loss(network(noisy[:, :, None]), rows[:, WEEKS:], beta=0.1)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return network.eval()


class Graph:
    """Collects nodes and weights, from `series` to `forecast`."""

    def __init__(self):
        self.nodes = []
        self.initializers = []

    def constant(self, name, value):
        array = value.detach().numpy() if isinstance(value, torch.Tensor) else value
        self.initializers.append(numpy_helper.from_array(np.array(array, order="C"), name))
        return name

    def node(self, operator, inputs, output, **attributes):
        self.nodes.append(helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output

    def integers(self, name, *values):
        return self.constant(name, np.array(values, np.int64))

    def linear(self, source, layer, name):
        weights = self.constant(name + ".W", layer.weight.detach().T)
        product = self.node("MatMul", [source, weights], name + ".product")
        return self.node("Add", [product, self.constant(name + ".B", layer.bias)], name)

    def norm(self, source, layer, name):
        inputs = [source, self.constant(name + ".W", layer.weight), self.constant(name + ".B", layer.bias)]
        return self.node("LayerNormalization", inputs, name, axis=-1, epsilon=EPSILON)

    def reshape(self, source, name, *shape):
        return self.node("Reshape", [source, self.integers(name + ".shape", *shape)], name)

    def scaled(self):
        """The window as the networks see it; `last` [batch, 1, 1] is kept for the end."""
        last = self.node("Gather", ["series", self.integers("last.index", -1)], "last", axis=1)
        ppm = self.constant("ppm", np.array(PPM, np.float32))
        return self.node("Div", [self.node("Sub", ["series", last], "centred"), ppm], "scaled")

    def finish(self, source, name):
        """Back to ppm: the model's bytes."""
        ppm = self.node("Mul", [source, "ppm"], "difference")
        last = self.reshape("last", "last.flat", -1, 1)
        self.nodes.append(helper.make_node("Add", [ppm, last], ["forecast"], name="forecast"))
        value = helper.make_tensor_value_info
        inputs = [value("series", TensorProto.FLOAT, ["batch", WEEKS, 1])]
        outputs = [value("forecast", TensorProto.FLOAT, ["batch", HORIZON])]
        graph = helper.make_graph(self.nodes, name, inputs, outputs, self.initializers)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.checker.check_model(model, full_check=True)
        return model.SerializeToString(deterministic=True)


def lstm_model(network):
    """The LSTM as ONNX, whose gates come in another order than torch's."""
    graph = Graph()

    def gates(tensor):
        update, forget, cell, output = tensor.detach().numpy().reshape(4, HIDDEN, -1)
        return np.concatenate([update, output, forget, cell])

    lstm = network.lstm
    biases = np.concatenate([gates(lstm.bias_ih_l0), gates(lstm.bias_hh_l0)]).reshape(1, -1)
    steps = graph.node("Transpose", [graph.scaled()], "steps", perm=[1, 0, 2])
    inputs = [
        steps,
        graph.constant("lstm.W", gates(lstm.weight_ih_l0)[None]),
        graph.constant("lstm.R", gates(lstm.weight_hh_l0)[None]),
        graph.constant("lstm.B", biases),
    ]
    graph.nodes.append(helper.make_node("LSTM", inputs, ["", "state"], name="lstm", hidden_size=HIDDEN))
    state = graph.node("Squeeze", ["state", graph.integers("state.axis", 0)], "state.flat")
    return graph.finish(graph.linear(state, network.out, "out"), "co2_lstm")


def block_model(graph, block, current, name):
    """One block of the transformer."""
    qkv = graph.linear(graph.norm(current, block.norm_1, name + ".norm_1"), block.qkv, name + ".qkv")
    qkv = graph.reshape(qkv, name + ".heads", 0, PATCHES, 3, HEADS, WIDTH // HEADS)
    qkv = graph.node("Transpose", [qkv], name + ".split", perm=[2, 0, 3, 1, 4])
    query, key, value = (
        graph.node("Gather", [qkv, graph.constant(f"{name}.{part}.index", np.array(index))], f"{name}.{part}", axis=0)
        for index, part in enumerate(["query", "key", "value"])
    )
    turned = graph.node("Transpose", [key], name + ".turned", perm=[0, 1, 3, 2])
    root = graph.constant(name + ".root", np.array(math.sqrt(WIDTH // HEADS), np.float32))
    scores = graph.node("Div", [graph.node("MatMul", [query, turned], name + ".scores"), root], name + ".scaled")
    weights = graph.node("Softmax", [scores], name + ".weights", axis=-1)
    mixed = graph.node("MatMul", [weights, value], name + ".mixed")
    mixed = graph.node("Transpose", [mixed], name + ".joined", perm=[0, 2, 1, 3])
    mixed = graph.reshape(mixed, name + ".flat", 0, PATCHES, WIDTH)
    current = graph.node("Add", [current, graph.linear(mixed, block.project, name + ".project")], name + ".attended")
    wide = graph.linear(graph.norm(current, block.norm_2, name + ".norm_2"), block.expand, name + ".expand")
    wide = graph.node("Relu", [wide], name + ".relu")
    return graph.node("Add", [current, graph.linear(wide, block.contract, name + ".contract")], name)


def transformer_model(network):
    """The transformer as ONNX."""
    graph = Graph()
    patches = graph.reshape(graph.scaled(), "patches", -1, PATCHES, PATCH)
    patches = graph.linear(patches, network.embed, "embed")
    current = graph.node("Add", [patches, graph.constant("position", network.position)], "placed")
    for index, block in enumerate(network.blocks):
        current = block_model(graph, block, current, f"blocks.{index}")
    flat = graph.reshape(graph.norm(current, network.norm, "norm"), "flat", -1, PATCHES * WIDTH)
    return graph.finish(graph.linear(flat, network.out, "out"), "co2_transformer")


def forecast(model, past):
    """What ONNX Runtime makes of windows of 52 weeks."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return session.run(["forecast"], {"series": past[:, :, None]})[0]


def error(forecasts, unseen):
    """Mean absolute error in ppm."""
    return float(np.abs(forecasts - unseen[:, WEEKS:]).mean())


def baselines(series, start, seen, unseen):
    """What the models have to beat, by name."""
    past = unseen[:, :WEEKS]
    year_before = past[:, :HORIZON]
    training = series[:start]
    growth = (training[WEEKS:] - training[:-WEEKS]).mean()
    # The rise over the last year, by the means of four weeks; it looks four weeks further back than the models.
    firsts = np.arange(start - WEEKS, start - WEEKS + len(unseen))
    rise = past[:, -4:].mean(axis=1) - np.array([series[first - 4 : first].mean() for first in firsts])

    def design(rows):
        return np.c_[rows[:, :WEEKS] - rows[:, WEEKS - 1 : WEEKS], np.ones(len(rows))].astype(np.float64)

    last = seen[:, WEEKS - 1 : WEEKS]
    weights = np.linalg.lstsq(design(seen), seen[:, WEEKS:] - last, rcond=None)[0]
    return {
        "the last value": np.repeat(past[:, -1:], HORIZON, axis=1),
        "the year before": year_before,
        "the year before + mean yearly growth": year_before + growth,
        "the year before + the last year's growth": year_before + rise[:, None],
        "linear regression on the 52 values": design(unseen) @ weights + past[:, -1:],
    }


def make_models(seen):
    """Both models' bytes, by version."""
    models = {}
    for version, network, steps, rate, export in [
        ("1", Lstm, 1200, 3e-3, lstm_model),
        ("2", Transformer, 700, 2e-3, transformer_model),
    ]:
        torch.manual_seed(0)
        started = time.monotonic()
        network = train(network(), seen, steps, rate)
        models[version] = export(network)
        check_export(network, models[version], seen)
        count = sum(parameter.numel() for parameter in network.parameters())
        took = time.monotonic() - started
        print(f"version {version}: {count} parameters, {len(models[version])} bytes, trained in {took:.1f} s")
    return models


def check_export(network, model, rows):
    """Stops if the graph computes something else than the network it was written from."""
    past = rows[:100, :WEEKS]
    last = past[:, -1:]
    with torch.no_grad():
        expected = network(torch.from_numpy((past - last) / np.float32(PPM))[:, :, None]).numpy() * PPM + last
    apart = float(np.abs(forecast(model, past) - expected).max())
    if apart > 1e-3:
        sys.exit(f"the ONNX graph is {apart} ppm off the network it was written from")


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--out", type=pathlib.Path, help="write 1/model.onnx and 2/model.onnx into this folder")
    options = arguments.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    series, start = read_series()
    seen, unseen = windows(series[:start]), windows(series[start - WEEKS :])
    for name, forecasts in baselines(series, start, seen, unseen).items():
        print(f"{name}: mean absolute error {error(forecasts, unseen):.3f} ppm")
    same = True
    for version, model in make_models(seen).items():
        fresh = forecast(model, unseen[:, :WEEKS])
        print(f"version {version}: mean absolute error {error(fresh, unseen):.3f} ppm")
        if options.out:
            folder = options.out / version
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "model.onnx").write_bytes(model)
            continue
        committed = forecast((COMMITTED / version / "model.onnx").read_bytes(), unseen[:, :WEEKS])
        errors = abs(error(fresh, unseen) - error(committed, unseen))
        apart = float(np.abs(fresh - committed).mean())
        equal = errors <= TOLERANCE["error"] and apart <= TOLERANCE["forecast"]
        same &= equal
        print(
            f"version {version}: errors {errors:.4f} ppm apart, forecasts {apart:.4f}:"
            f" {'as committed' if equal else 'DIFFERS from what is committed'}"
        )
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
