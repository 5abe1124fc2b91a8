"""What the host adds: a tiny model's requests against a bare echo of the same bodies, and against the
model's own loop without any server."""

import shutil

from processes import ROOT, CORES, Echo, Host, compare, cpu_seconds, load
from tables import figure, percent, table

CLIENTS = (1, 16, 64)


def measure(setup, folder):
    models = folder / "tiny-models"
    shutil.copytree(ROOT / "tests/fixtures/models/tiny", models / "tiny")
    runs = [compare(setup, "tensors", "--seconds", setup.seconds / 2)["Session::run"]]
    rows = []
    with Echo(setup, folder / "echo.log") as echo:
        with Host(setup, models, folder / "tiny.log", folder / "cache") as host:
            for encoding in ("binary", "json"):
                rows += [one(setup, host, echo, encoding, clients) for clients in CLIENTS]
        with Host(setup, models, folder / "quiet.log", folder / "cache", ["log.access=false"]) as host:
            rows += [one(setup, host, echo, "binary", clients, ", no access log") for clients in CLIENTS]
    runs.append(compare(setup, "tensors", "--seconds", setup.seconds / 2)["Session::run"])
    in_process = min(runs, key=lambda run: run["median_us"])
    return {"in_process": in_process, "rows": rows}


def one(setup, host, echo, encoding, clients, note=""):
    """The host and the echo in turns, under the same load."""
    sides = (host, echo)
    before = [(cpu_seconds(side.pid), side.served()) for side in sides]
    row = load(
        setup, "--url", host.url, "--infer", "tiny", "--encoding", encoding, "--concurrency", clients,
        "--duration", f"{setup.seconds}s", "--warmup", "1s", "--baseline", f"{echo.url}/", "--slice", "1s",
    )  # fmt: skip
    after = [(cpu_seconds(side.pid), side.served()) for side in sides]
    cpu = [(now[0] - then[0]) / max(1, now[1] - then[1]) * 1e6 for then, now in zip(before, after)]
    return {
        "name": f"{encoding}{note}",
        "clients": clients,
        "body_bytes": row["request"]["body_bytes"],
        "per_s": [row[side]["throughput_per_s"] for side in ("measured", "baseline")],
        "p50_us": [row[side]["service_time"]["p50_us"] for side in ("measured", "baseline")],
        "p99_us": [row[side]["service_time"]["p99_us"] for side in ("measured", "baseline")],
        "cpu_us": cpu,
        "ratio": row["ratio"]["throughput"],
        "ratios": row["ratio"]["throughput_by_turn"],
        "generator": row["generator_cpu_s"] / (row["wall_s"] * CORES),
    }


def markdown(result):
    run = result["in_process"]
    columns = ["tensors as", "clients", "host req/s", "echo req/s", "host / echo", "(turns)", "host p50 µs"]
    columns += ["echo p50 µs", "host adds µs", "host CPU µs", "echo CPU µs", "generator's share of the cores"]
    rows = []
    for row in result["rows"]:
        adds = row["p50_us"][0] - row["p50_us"][1] - run["median_us"]
        turns = f"{min(row['ratios']):.2f} to {max(row['ratios']):.2f}"
        rows.append(
            [row["name"], row["clients"], *row["per_s"], f"{row['ratio']:.2f}", turns, *row["p50_us"]]
            + [adds if row["clients"] == 1 else "-", *row["cpu_us"], percent(row["generator"])]
        )
    firsts = result["rows"][: 2 * len(CLIENTS) : len(CLIENTS)]
    bodies = ", ".join(f"{row['body_bytes']} bytes as {row['name']}" for row in firsts)
    lines = [
        f"In process, one thread: `Session::run` takes {figure(run['median_us'])} µs (median), "
        f"{figure(run['per_s'])} runs a second. Requests: {bodies}.",
        "",
        table(columns, rows),
    ]
    return "\n".join(lines)
