#!/usr/bin/env python3
"""A model on a GPU against the same model on the cores: one image end to end, and the throughput of batches.

    python3 tests/bench/gpu.py                       some minutes, on a machine with an NVIDIA GPU
    python3 tests/bench/gpu.py --device cuda:1       another one than cuda:0
    python3 tests/bench/gpu.py --model FILE.onnx     another model for the throughput

Needs Python alone, a host that is built, the sample plugins, and `nuke runtime install --cuda`. Without a GPU it says
`skipped: no CUDA device` and why, and ends with code 0. What was published for a GPU, and is to be beaten, is one image
within 80 ms end to end."""

import argparse
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

from memory import CLASSIFIER, Model
from processes import ROOT, Failure, Host, ask, load
from tables import table

BUNDLE = ROOT / "models/image-classifier/1"
PHOTO = BUNDLE / "samples/coffee.png"
CLAIM_MS = 80


def why_not(setup):
    """Why the device cannot be used, as the host has it; None if it can."""
    printed = subprocess.run([setup.nuke, "runtime", "status"], capture_output=True, text=True, check=False)
    for line in printed.stdout.splitlines():
        if line.startswith("GPU: none can be used: "):
            return line.removeprefix("GPU: none can be used: ")
    return None if printed.returncode == 0 else printed.stderr.strip()


def device_of(host, model):
    """Where the host says that the model runs."""
    status, body = ask(host.port, f"/admin/models/{model}") or (0, b"")
    if status != 200:
        raise Failure(f"/admin/models/{model} answers {status}")
    return json.loads(body)["versions"][-1].get("device", {})


def bundle(folder, workers):
    """The sample classifier with its plugin, to be served on a device."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(BUNDLE, folder / "image-classifier" / "1")
    (folder / "image-classifier" / "model.yaml").write_text(f"workers: {json.dumps(workers)}\n")
    return folder


def photos(setup, folder):
    """One photo after the other: latency from the request to the labels."""
    rows = []
    for device in ("cpu", setup.device):
        models = bundle(folder / "models", {"device": device})
        with Host(setup, models, folder / "host.log", folder / "cache") as host:
            placed = device_of(host, "image-classifier")
            if placed.get("name") != device:
                raise Failure(f"the model runs on {placed}, and was to run on {device}")
            row = load(
                setup, "--url", host.url, "--predict", "image-classifier", "--body", PHOTO, "--concurrency", 1,
                "--duration", setup.duration,
            )  # fmt: skip
            latency = row["measured"]["service_time"]
            rows.append([device, latency["p50_us"] / 1e3, latency["p99_us"] / 1e3])
    return rows


def throughput(setup, folder):
    """Tensors in, without a plugin: requests a second by how many ask at a time."""
    rows = []
    for device in ("cpu", setup.device):
        workers = {"device": device} if device != "cpu" else {"device": device, "max": setup.cores}
        model = Model(folder / "models", setup.model, workers)
        with Host(setup, model.models, folder / "host.log", folder / "cache") as host:
            for clients in (1, 16, 64):
                row = load(
                    setup, "--url", host.url, "--infer", "model", "--concurrency", clients, "--duration", setup.duration,
                )  # fmt: skip
                measured = row["measured"]
                rows.append([device, clients, measured["throughput_per_s"], measured["service_time"]["p50_us"] / 1e3])
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nuke", type=pathlib.Path, default=ROOT / "target/release/nuke")
    parser.add_argument("--plugins", type=pathlib.Path, default=ROOT / "target/plugins")
    parser.add_argument("--model", type=pathlib.Path, default=CLASSIFIER)
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--cores", type=int, default=2, help="workers on the cores")
    parser.add_argument("--quick", action="store_true")
    setup = parser.parse_args()
    setup.failures, setup.duration = [], "2s" if setup.quick else "15s"
    # Any device goes through the same code: so the script can be tried without a GPU.
    reason = why_not(setup) if setup.device.startswith("cuda") else None
    if reason:
        print(f"skipped: no CUDA device: {reason}")
        return 0
    with tempfile.TemporaryDirectory(prefix="nuke-gpu-") as name:
        folder = pathlib.Path(name)
        rows = photos(setup, folder)
        print(f"One photo, end to end\n\n{table(['device', 'p50 ms', 'p99 ms'], rows)}\n")
        met = "met" if rows[-1][1] <= CLAIM_MS else "missed"
        print(f"Within {CLAIM_MS} ms on {setup.device}: {met}\n")
        columns = ["device", "clients", "requests/s", "p50 ms"]
        print(f"Tensors in, {setup.model.name}\n\n{table(columns, throughput(setup, folder))}")
    for failure in setup.failures:
        print(failure)
    return 1 if setup.failures else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Failure as failure:
        sys.exit(f"gpu.py: {failure}")
