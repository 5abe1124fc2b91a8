#!/usr/bin/env python3
"""Workers in processes of their own: what that costs a request, what kills do, and what memory each worker takes.

    python3 tests/bench/isolation.py            some ten minutes; as `run.py --only isolation`, with its options
    python3 tests/bench/isolation.py --quick    short: to see that it works, not for figures
"""

import json
import os
import pathlib
import random
import shutil
import signal
import sys
import time

from processes import ROOT, Failure, Host, ask, load
from swaps import Aside
from tables import figure, median, table

TINY = ROOT / "tests/fixtures/models/tiny/1/model.onnx"
LITE = ROOT / "models/image-classifier/1/model.onnx"
# For each model: the clients that ask at a time.
CLIENTS = {"tiny": (1, 16, 64), "lite": (1, 4)}
WORKERS = (1, 2, 4)
KILLS, PAUSE = 100, (0.02, 0.4)


def place(models, name, source, workers):
    folder = models / name
    (folder / "1").mkdir(parents=True)
    shutil.copy(source, folder / "1/model.onnx")
    settings = {"workers": workers, "queue": {"timeout": "60s"}}
    (folder / "model.yaml").write_text(json.dumps(settings))


def workers_of(host):
    """The processes of a host's workers."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except (OSError, IndexError):
            continue
        if parent == host.pid and words[1:2] == [b"worker"]:
            found.append(int(entry.name))
    return sorted(found)


def costs(setup, folder):
    """The same requests to the same model in the host and in a process, in turns of one run."""
    models = folder / "models"
    for name, source in (("tiny", TINY), ("lite", LITE)):
        place(models, f"{name}-thread", source, {"isolation": "thread"})
        place(models, f"{name}-process", source, {"isolation": "process"})
    rows = []
    with Host(setup, models, folder / "costs.log", folder / "cache", ["log.access=false"]) as host:
        for name, clients in CLIENTS.items():
            rows += [cost(setup, host, name, count) for count in clients]
    return rows


def cost(setup, host, name, clients):
    row = load(
        setup, "--url", host.url, "--infer", f"{name}-process", "--encoding", "binary", "--concurrency", clients,
        "--duration", f"{setup.seconds}s", "--warmup", "1s", "--slice", "1s",
        "--baseline", f"{host.url}/v2/models/{name}-thread/infer",
    )  # fmt: skip
    sides = ("measured", "baseline")
    return {
        "name": name,
        "clients": clients,
        "per_s": [row[side]["throughput_per_s"] for side in sides],
        "p50_us": [row[side]["service_time"]["p50_us"] for side in sides],
        "p99_us": [row[side]["service_time"]["p99_us"] for side in sides],
        "ratio": row["ratio"]["throughput"],
        "ratios": row["ratio"]["throughput_by_turn"],
    }


def kills(setup, folder):
    """Kills one of two workers after the other, at random moments, under load; a neighbour is asked as well."""
    models, count = folder / "models", 10 if setup.quick else KILLS
    place(models, "apart", TINY, {"isolation": "process", "min": 2, "max": 2})
    place(models, "neighbour", TINY, {"isolation": "thread"})
    chance = random.Random(1)
    with Host(setup, models, folder / "kills.log", folder / "cache", ["log.access=false"]) as host:

        def kill(over):
            done = 0
            while done < count and not over.is_set():
                there = workers_of(host)
                if there:
                    os.kill(chance.choice(there), signal.SIGKILL)
                    done += 1
                time.sleep(chance.uniform(*PAUSE))
            return done

        quiet = asked(setup, host, "neighbour", setup.seconds)
        seconds = int(count * sum(PAUSE) / 2) + 2
        with Aside(lambda _: asked(setup, host, "neighbour", seconds)) as beside, Aside(kill) as killer:
            measured = asked(setup, host, "apart", seconds)
        _, body = ask(host.port, "/metrics") or (0, b"")
        deaths = [line for line in body.decode().splitlines() if line.startswith("nuke_worker_deaths_total{")]
        return {
            "kills": killer.result,
            "deaths": sum(float(line.rpartition(" ")[2]) for line in deaths),
            "rows": {"apart": measured, "neighbour, meanwhile": beside.result, "neighbour, before": quiet},
        }


def asked(setup, host, model, seconds):
    row = load(
        setup, "--url", host.url, "--infer", model, "--encoding", "binary", "--rate", 100, "--concurrency", 16,
        "--duration", f"{seconds}s",
    )["measured"]  # fmt: skip
    times = row["response_time"]
    return {"requests": row["requests"], "failed": row["failed"], "p50_us": times["p50_us"], "p99_us": times["p99_us"]}


def memory(setup, folder):
    """What each worker's process takes, and what it shares."""
    rows = []
    for count in WORKERS:
        here = folder / str(count)
        place(here / "models", "lite", LITE, {"isolation": "process", "min": count, "max": count})
        with Host(setup, here / "models", here / "host.log", folder / "cache") as host:
            load(setup, "--url", host.url, "--infer", "lite", "--concurrency", 2 * count, "--duration", "2s")
            processes = [sizes(pid) for pid in workers_of(host)]
        if len(processes) != count:
            raise Failure(f"{len(processes)} workers of {count}")
        rows.append({"workers": count} | {key: [one[key] for one in processes] for key in processes[0]})
    return rows


def sizes(pid):
    """MiB of a process: in memory, its part of what it shares, its own, and what it has of shared memory."""
    fields = {}
    for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, value = line.split(":")
        fields[name] = int(value.split()[0]) / 1024
    return {"rss": fields["Rss"], "pss": fields["Pss"], "own": fields["Pss_Anon"], "shared": fields["Pss_Shmem"]}


def turns(ratios):
    """The least and the largest of the turns; a short run of a slow model has none that is whole."""
    there = [ratio for ratio in ratios or () if ratio is not None]
    return f"{min(there):.2f} to {max(there):.2f}" if there else "-"


def measure(setup, folder):
    result = {}
    for name, part in (("costs", costs), ("kills", kills), ("memory", memory)):
        (folder / name).mkdir()
        result[name] = part(setup, folder / name)
    return result


def markdown(result):
    columns = ["model", "clients", "process req/s", "thread req/s", "process / thread", "(turns)"]
    columns += ["process p50 µs", "thread p50 µs", "process p99 µs", "thread p99 µs"]
    rows = [
        [row["name"], row["clients"], *row["per_s"], figure(row["ratio"], 2), turns(row["ratios"])]
        + [*row["p50_us"], *row["p99_us"]]
        for row in result["costs"]
    ]
    killed = result["kills"]
    kill_rows = [
        [name, row["requests"], row["failed"], row["p50_us"], row["p99_us"]] for name, row in killed["rows"].items()
    ]
    memory_rows = [
        [row["workers"], sum(row["pss"]), median(row["pss"]), median(row["own"]), median(row["shared"]), median(row["rss"])]
        for row in result["memory"]
    ]
    return "\n\n".join([
        "A model in a process of its own against the same in the host, one worker each, in turns of one run.",
        table(columns, rows),
        f"{killed['kills']} random kills (SIGKILL) of the two workers of `apart`, {figure(killed['deaths'])} deaths "
        "noticed, at 100 requests a second.",
        table(["model", "requests", "failed", "p50 µs", "p99 µs"], kill_rows),
        "Memory of the workers of one model of 18.5 MB (EfficientNet-Lite0), MiB; of each the median.",
        table(["workers", "PSS of all", "PSS", "private", "part of the shared", "RSS"], memory_rows),
    ])


if __name__ == "__main__":
    import run

    sys.exit(run.main(["--only", "isolation", *sys.argv[1:]]))
