"""A tiny model (4 -> 16 -> 3) over HTTP as others have published it: wrk on one core, 1, 16 and 64 clients,
v2 JSON and binary, beside a bare echo of the same bodies in the same run. `--against FILE` holds a second `nuke`
against the first, in turns."""

import json
import os
import re
import shutil
import struct
import subprocess

from processes import ROOT, Echo, Failure, Host, cpu_seconds, load
from tables import figure, median, table

CLIENTS = (1, 16, 64)
PATH = "/v2/models/mlp/infer"
# Triton 2.51, onnxruntime backend, JSON, on a machine of two cores with wrk on one of them: requests a second, and
# p50 in microseconds where it was told.
PUBLISHED = {1: (None, 280), 16: (13_700, None), 64: (18_500, None)}
LUA = """wrk.method = "POST"
wrk.body = "%s"
%s
function done(summary, latency, requests)
  io.stderr:write(string.format('{"requests":%%d,"us":%%d,"p50":%%f,"p99":%%f,"errors":%%d}',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.status + summary.errors.timeout))
end
"""


def bodies():
    """Body and headers of each encoding."""
    values = [0.5, -1.25, 2.0, 0.125]
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 4]}
    as_json = json.dumps({"inputs": [{**tensor, "data": values}]}).encode()
    head = {"inputs": [{**tensor, "parameters": {"binary_data_size": 16}}], "parameters": {"binary_data_output": True}}
    head = json.dumps(head).encode()
    binary = head + struct.pack("<4f", *values)
    return {
        "json": (as_json, {"content-type": "application/json"}),
        "binary": (
            binary,
            {"content-type": "application/octet-stream", "inference-header-content-length": str(len(head))},
        ),
    }


def script(folder, name, body, headers):
    """wrk's script for one kind of request."""
    text = "".join(f"\\{byte:03d}" for byte in body)
    lines = "\n".join(f'wrk.headers["{key}"] = "{value}"' for key, value in headers.items())
    path = folder / f"{name}.lua"
    path.write_text(LUA % (text, lines))
    return path


def by_wrk(side, path, lua, clients, seconds):
    """One run of wrk on the last core."""
    core = max(os.sched_getaffinity(0))
    command = ["wrk", "-t1", f"-c{clients}", f"-d{seconds}s", "--timeout", "30s", "-s", lua, f"{side.url}{path}"]
    command = [str(word) for word in command]
    run = subprocess.run(
        command, capture_output=True, text=True, check=False, preexec_fn=lambda: os.sched_setaffinity(0, {core})
    )
    found = re.search(r"\{.*\}", run.stderr)
    if run.returncode != 0 or not found:
        raise Failure(f"{' '.join(command)} ended with code {run.returncode}:\n{run.stdout}{run.stderr}")
    told = json.loads(found.group())
    if told["errors"]:
        raise Failure(f"{told['errors']} of {told['requests']} requests of wrk to {side.url}{path} failed")
    return {"per_s": told["requests"] / told["us"] * 1e6, "p50_us": told["p50"], "p99_us": told["p99"]}


def by_bench(setup, side, path, request, clients, seconds, folder):
    """The same by `nuke bench`, which is not held to one core: where there is no wrk."""
    body, headers = request
    file = folder / "body"
    file.write_bytes(body)
    words = [word for key, value in headers.items() for word in ("--header", f"{key}: {value}")]
    row = load(
        setup, "--url", side.url, "--path", path, "--body", file, *words, "--concurrency", clients,
        "--duration", f"{seconds}s", "--warmup", "0s",
    )  # fmt: skip
    times = row["measured"]["service_time"]
    return {"per_s": row["measured"]["throughput_per_s"], "p50_us": times["p50_us"], "p99_us": times["p99_us"]}


def measure(setup, folder):
    models = folder / "mlp-models"
    shutil.copytree(ROOT / "tests/fixtures/models/mlp", models / "mlp")
    tool = "wrk" if shutil.which("wrk") else "nuke bench"
    against = getattr(setup, "against", None)
    rows = []
    with Echo(setup, folder / "echo.log") as echo, Host(setup, models, folder / "mlp.log", folder / "cache") as host:
        sides = {"host": (host, PATH), "echo": (echo, "/")}
        other = None
        try:
            if against:
                other = Host(setup, models, folder / "other.log", folder / "cache", nuke=against)
                sides["other"] = (other, PATH)
            for encoding, request in bodies().items():
                for clients in CLIENTS:
                    rows.append(one(setup, folder, tool, sides, encoding, request, clients))
        finally:
            if other:
                other.stop()
    return {"tool": tool, "rows": rows, "against": str(against) if against else None}


def one(setup, folder, tool, sides, encoding, request, clients):
    """All sides in turns, under the same load; the order turns round each time."""
    lua = script(folder, encoding, *request)
    runs = {name: [] for name in sides}
    for turn in range(max(2, setup.rounds)):
        for name, (side, path) in list(sides.items())[:: 1 if turn % 2 == 0 else -1]:
            before = (cpu_seconds(side.pid), side.served())
            if tool == "wrk":
                run = by_wrk(side, path, lua, clients, setup.seconds)
            else:
                run = by_bench(setup, side, path, request, clients, setup.seconds, folder)
            served = max(1, side.served() - before[1])
            run["cpu_us"] = (cpu_seconds(side.pid) - before[0]) / served * 1e6
            runs[name].append(run)
    middle = {
        name: {key: median([run[key] for run in of_one]) for key in of_one[0]} for name, of_one in runs.items()
    }
    return {"encoding": encoding, "clients": clients, "runs": runs, **middle}


def markdown(result):
    columns = ["tensors as", "clients", "req/s", "/ echo", "/ published", "p50 µs", "p99 µs", "CPU µs a request"]
    columns += ["echo req/s", "echo p50 µs", "echo CPU µs"]
    with_other = bool(result["against"])
    columns += ["other req/s", "/ other", "/ other by turns", "other p50 µs", "other CPU µs"] if with_other else []
    rows = []
    for row in result["rows"]:
        host, echo = row["host"], row["echo"]
        published, p50 = PUBLISHED[row["clients"]]
        ratio = host["per_s"] / published if published else None
        shown = f"{ratio:.2f}" if ratio else f"p50 {host['p50_us'] / p50:.2f}" if p50 else "-"
        rows.append([row["encoding"], row["clients"], host["per_s"], f"{host['per_s'] / echo['per_s']:.2f}", shown])
        rows[-1] += [host["p50_us"], host["p99_us"], host["cpu_us"], echo["per_s"], echo["p50_us"], echo["cpu_us"]]
        if with_other:
            other = row["other"]
            pairs = [a["per_s"] / b["per_s"] for a, b in zip(row["runs"]["host"], row["runs"]["other"])]
            rows[-1] += [other["per_s"], f"{host['per_s'] / other['per_s']:.3f}"]
            rows[-1] += [f"{min(pairs):.2f} to {max(pairs):.2f}", other["p50_us"], other["cpu_us"]]
    note = (
        f"Load by {result['tool']}" + (" on one core" if result["tool"] == "wrk" else " (wrk is not installed)")
        + "; the host is free to use all. */ published*: over Triton 2.51 with onnxruntime on another machine of two "
        f"cores with wrk on one of them: p50 {figure(PUBLISHED[1][1])} µs at one client, "
        f"{figure(PUBLISHED[16][0])} a second at 16, {figure(PUBLISHED[64][0])} at 64."
    )
    return f"{note}\n\n{table(columns, rows)}"
