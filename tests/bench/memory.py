#!/usr/bin/env python3
"""Memory of a host: what ten workers of one model cost with shared weights and without, and what is left after a
large batch by how the arena is set.

    python3 tests/bench/memory.py                        some minutes
    python3 tests/bench/memory.py --model FILE.onnx      another model than the sample classifier
    python3 tests/bench/memory.py --workers 4 --quick    short: to see that it works, not for figures

Needs Python alone, and a host that is built (`cargo build --release`). Every figure is of a host of its own."""

import argparse
import http.client
import json
import pathlib
import shutil
import sys
import tempfile
import time

from processes import ROOT, Failure, Host, load, memory_mib
from tables import figure, table

CLASSIFIER = ROOT / "models/image-classifier/1/model.onnx"
TINY = ROOT / "tests/fixtures/models/tiny/1/model.onnx"
WIDTHS = {"FP32": 4, "INT64": 8, "INT32": 4, "UINT8": 1, "FP16": 2}
# How the arena may be set, by the row's name.
ARENAS = {
    "shrink: auto": {"shrink": "auto"},
    "shrink: always": {"shrink": "always"},
    "shrink: never": {"shrink": "never"},
    "enabled: false": {"enabled": "false"},
}
LARGE, OPEN = 32, 32


class Model:
    """A model in a folder of its own, with what says how it is served."""

    def __init__(self, folder, file, workers):
        self.models = folder
        target = folder / "model" / "1"
        shutil.rmtree(folder, ignore_errors=True)
        target.mkdir(parents=True)
        shutil.copy(file, target / "model.onnx")
        (target.parent / "model.yaml").write_text(f"workers: {json.dumps(workers)}\n")


def proportional_mib(pid):
    """The process's part of the memory that it maps: what is shared counts by its share."""
    lines = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def ask(host, items, times=1):
    """Requests of so many items, with zeros and in binary."""
    connection = http.client.HTTPConnection("127.0.0.1", host.port, timeout=300)
    connection.request("GET", "/v2/models/model")
    inputs = json.loads(connection.getresponse().read())["inputs"]
    tensors, data = [], b""
    for spec in inputs:
        shape = [items if place == 0 and size < 0 else OPEN if size < 0 else size for place, size in enumerate(spec["shape"])]
        length = WIDTHS[spec["datatype"]]
        for size in shape:
            length *= size
        parameters = {"binary_data_size": length}
        tensors.append({"name": spec["name"], "datatype": spec["datatype"], "shape": shape, "parameters": parameters})
        data += bytes(length)
    head = json.dumps({"inputs": tensors, "parameters": {"binary_data_output": True}}).encode()
    headers = {"Inference-Header-Content-Length": str(len(head)), "content-type": "application/octet-stream"}
    for _ in range(times):
        connection.request("POST", "/v2/models/model/infer", body=head + data, headers=headers)
        answer = connection.getresponse()
        text = answer.read()
        if answer.status != 200:
            raise Failure(f"a request of {items} items: {answer.status} {text[:200]}")
    connection.close()


def weights(setup, folder):
    """Memory of one worker and of many, with the weights shared and not."""
    rows = []
    for workers in (1, setup.workers):
        for shared in (False, True):
            options = {"min": workers, "max": workers, "share_weights": shared, "device": "cpu"}
            model = Model(folder / "models", setup.model, options)
            with Host(setup, model.models, folder / "host.log", folder / "cache") as host:
                ask(host, 1, 4 * workers)
                # What loading has freed is given back a moment later.
                time.sleep(3)
                seen = memory_mib(host.pid)
                rows.append([workers, "shared" if shared else "each its own", seen["rss"], proportional_mib(host.pid), seen["own"], host.ready_after])
    return rows


def arenas(setup, folder):
    """Memory before, right after and some time after one large request."""
    rows = []
    for name, arena in ARENAS.items():
        model = Model(folder / "models", setup.model, {"arena": arena, "device": "cpu"})
        with Host(setup, model.models, folder / "host.log", folder / "cache") as host:
            ask(host, 1, 20)
            time.sleep(2)
            before = memory_mib(host.pid)["own"]
            ask(host, LARGE)
            # What was freed is given back a moment later.
            time.sleep(2)
            after = memory_mib(host.pid)["own"]
            ask(host, 1, 20)
            rows.append([name, before, after, memory_mib(host.pid)["own"]])
    return rows


def latencies(setup, folder):
    """Latency of a tiny model by how the arena is set, in turns."""
    seen = {name: [] for name in ARENAS}
    for _ in range(setup.rounds):
        for name, arena in ARENAS.items():
            model = Model(folder / "models", TINY, {"arena": arena, "device": "cpu"})
            with Host(setup, model.models, folder / "host.log", folder / "cache", ("log.access=false",)) as host:
                row = load(setup, "--url", host.url, "--infer", "model", "--duration", setup.duration, "--concurrency", 1)
                seen[name].append(row["measured"]["service_time"]["p50_us"])
    return [[name, min(values), sorted(values)[len(values) // 2], max(values)] for name, values in seen.items()]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nuke", type=pathlib.Path, default=ROOT / "target/release/nuke")
    parser.add_argument("--model", type=pathlib.Path, default=CLASSIFIER)
    parser.add_argument("--workers", type=int, default=10)
    parser.add_argument("--quick", action="store_true")
    setup = parser.parse_args()
    setup.failures, setup.rounds, setup.duration = [], 1 if setup.quick else 5, "1s" if setup.quick else "4s"
    with tempfile.TemporaryDirectory(prefix="nuke-memory-") as name:
        folder = pathlib.Path(name)
        # The plugins are not needed here.
        setup.plugins = folder / "plugins"
        setup.plugins.mkdir()
        size = setup.model.stat().st_size / 1e6
        print(f"{setup.model.name}, {figure(size)} MB; MiB after {4} requests for each worker\n")
        print(table(["workers", "weights", "resident", "proportional", "of it not files", "to ready, s"], weights(setup, folder)))
        columns = ["arena", "before", f"after {LARGE} items", "20 requests later"]
        print(f"\nOne worker; MiB that are not files\n\n{table(columns, arenas(setup, folder))}")
        columns = ["arena", "least", "median", "most"]
        print(f"\nA tiny model, one client; p50 in µs, {setup.rounds} turns\n\n{table(columns, latencies(setup, folder))}")
    for failure in setup.failures:
        print(failure)
    return 1 if setup.failures else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Failure as failure:
        sys.exit(f"memory.py: {failure}")
