#!/usr/bin/env python3
"""What clients notice while versions are swapped: tail latency against a quiet host, the time from a rename to
the first answer, memory after many swaps, and another model's load.

    python3 tests/bench/swaps.py            some ten minutes; as `run.py --only swaps`, with its options
    python3 tests/bench/swaps.py --quick    short: to see that it works, not for figures
"""

import http.client
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

from processes import ROOT, Child, Failure, Host, ask, load, memory_mib, output
from tables import figure, median, percent, table

PHOTO = ROOT / "models/image-classifier/1/samples/coffee.png"
BUNDLES = {
    "tiny": ROOT / "tests/fixtures/models/tiny/1",
    "digits": ROOT / "models/digits/1",
    "image-classifier": ROOT / "models/image-classifier/1",
}
# What each is asked, and how often a second: together less than half of two cores.
REQUESTS = {
    "tiny": (["--infer", "tiny"], 300),
    "digits": (["--infer", "digits"], 200),
    "image-classifier": (["--predict", "image-classifier", "--body", PHOTO], 25),
}
CLIENTS = 32
TAIL, FIRST_ANSWER, MEMORY = 1.2, 1.0, 0.10
ANOTHER_BYTES = 23_000_000
PATIENCE = 60


class Amounts:
    """How long and how often."""

    def __init__(self, quick):
        self.paced, self.closed, self.rounds = (3, 2, 1) if quick else (20, 8, 3)
        self.firsts = 2 if quick else 9
        self.marks = (20, 40) if quick else (20, 100, 250, 500)


class Folder:
    """A models folder, into which versions are renamed."""

    def __init__(self, place):
        self.models, self.place = place / "models", place
        self.versions = {}
        self.numbers = itertools.count()
        self.models.mkdir(parents=True)

    def bundle(self, model):
        """A copy of the bundle in this file system, once; versions are links to its files."""
        kept = self.place / "bundles" / model
        if not kept.exists():
            shutil.copytree(BUNDLES[model], kept)
        return kept

    def stage(self, model, source=None):
        """A whole version beside the models, to be renamed."""
        staged = self.place / f"staged-{next(self.numbers)}"
        shutil.copytree(source or self.bundle(model), staged, copy_function=os.link)
        return staged

    def drop(self, model, staged):
        """Renames it into place as the next version; returns the version and the moment."""
        version = self.versions.get(model, 0) + 1
        (self.models / model).mkdir(exist_ok=True)
        moment = time.monotonic()
        staged.rename(self.models / model / str(version))
        self.versions[model] = version
        return version, moment

    def remove(self, model, version):
        gone = self.place / f"gone-{next(self.numbers)}"
        (self.models / model / str(version)).rename(gone)
        shutil.rmtree(gone)

    def fill(self):
        for model in BUNDLES:
            self.drop(model, self.stage(model))


class Asker:
    """One kept connection to a host."""

    def __init__(self, host):
        self.connection = http.client.HTTPConnection("127.0.0.1", host.port, timeout=30)

    def ask(self, method, path, body=None):
        """Status and the version that answered."""
        self.connection.request(method, path, body)
        answer = self.connection.getresponse()
        answer.read()
        return answer.status, answer.getheader("x-nuke-model-version")

    def first_answer(self, model, version, since):
        """Waits until this version answers who names none; seconds from `since`."""
        ready = f"/v2/models/{model}/versions/{version}/ready"
        body = PHOTO.read_bytes() if model == "image-classifier" else infer_body(model)
        path = f"/predict/{model}"
        while time.monotonic() - since < PATIENCE:
            if self.ask("GET", ready)[0] == 200 and self.ask("POST", path, body) == (200, str(version)):
                return time.monotonic() - since
            time.sleep(0.001)
        raise Failure(f"{model} {version} did not answer within {PATIENCE} s")


def infer_body(model):
    name, size = {"tiny": ("x", 16), "digits": ("X", 64)}[model]
    tensor = {"name": name, "datatype": "FP32", "shape": [1, size], "data": [0] * size}
    return json.dumps({"inputs": [tensor]}).encode()


class Aside(threading.Thread):
    """Work that goes on beside a measurement; its failure is that of the measurement."""

    def __init__(self, work):
        super().__init__()
        self.over, self.work, self.result, self.failure = threading.Event(), work, None, None

    def run(self):
        try:
            self.result = self.work(self.over)
        except Exception as failure:  # noqa: BLE001
            self.failure = failure

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.join()
        if self.failure:
            raise self.failure


def swap_all(folder, host):
    """Swaps one model after the other until it is over: the number of swaps."""

    def work(over):
        asker, count = Asker(host), 0
        for model in itertools.cycle(BUNDLES):
            if over.is_set():
                return count
            swap(folder, asker, model)
            count += 1

    return work


def swap(folder, asker, model, source=None):
    """A new version into place, the one before away: seconds to the first answer."""
    version, moment = folder.drop(model, folder.stage(model, source))
    took = asker.first_answer(model, version, moment)
    folder.remove(model, version - 1)
    return took


def measure(setup, folder):
    amounts = Amounts(setup.quick)
    return {
        "tails": tails(setup, folder / "tails", amounts),
        "firsts": [
            row for quiet in ("1s", "200ms") for row in firsts(setup, folder / f"first-{quiet}", amounts, quiet)
        ],
        "memory": memory(setup, folder / "swapped", amounts),
        "another": another(setup, folder / "another", amounts),
    }


def times(row, side="response_time"):
    return [row["measured"][side][name] for name in ("p50_us", "p99_us")]


def tails(setup, place, amounts):
    """Quiet and swaps in turn, round after round: paced load on all models at once, then 32 clients on each."""
    folder = Folder(place)
    folder.fill()
    rows = []
    with Host(setup, folder.models, place / "host.log", place / "cache", ["log.access=false"]) as host:
        rounds = [both(host, folder, lambda: paced(setup, host, amounts.paced)) for _ in range(amounts.rounds)]
        rows += [tail("paced", model, [(q[model], s[model], n) for q, s, n in rounds]) for model in BUNDLES]
        for model in BUNDLES:
            run = lambda: closed(setup, host, model, amounts.closed)  # noqa: B023, E731
            rounds = [both(host, folder, run) for _ in range(amounts.rounds)]
            rows.append(tail(f"{CLIENTS} clients", model, rounds))
    return rows


def both(host, folder, run):
    """A quiet run, then one with swaps: both results and the number of swaps."""
    quiet = run()
    with Aside(swap_all(folder, host)) as swapping:
        swapped = run()
    return quiet, swapped, swapping.result


def paced(setup, host, seconds):
    """All models at their rates at the same time."""
    runs = {}

    def one(model):
        what, rate = REQUESTS[model]
        arguments = ["--url", host.url, *what, "--rate", rate, "--duration", f"{seconds}s", "--warmup", "1s"]
        return lambda _: runs.update({model: times(load(setup, *arguments))})

    asking = [Aside(one(model)) for model in BUNDLES]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.__exit__()
    return runs


def closed(setup, host, model, seconds):
    what, _ = REQUESTS[model]
    arguments = ["--url", host.url, *what, "--concurrency", CLIENTS, "--duration", f"{seconds}s", "--warmup", "1s"]
    return times(load(setup, *arguments), "service_time")


def tail(kind, model, rounds):
    quiet, swapped, swaps = zip(*rounds)
    ratios = [after[1] / before[1] for before, after in zip(quiet, swapped)]
    middle = lambda runs, at: median([run[at] for run in runs])  # noqa: E731
    row = {"load": kind, "model": model, "swaps": sum(swaps), "ratios": ratios}
    row["quiet_us"] = [middle(quiet, 0), middle(quiet, 1)]
    row["swaps_us"] = [middle(swapped, 0), middle(swapped, 1)]
    row["ratio"] = row["swaps_us"][1] / row["quiet_us"][1]
    return row


def firsts(setup, place, amounts, quiet):
    """From the rename to the first answer, nobody else asking; with and without a manifest."""
    folder = Folder(place)
    folder.fill()
    settings = [f"repository.quiet={quiet}"]
    published, rows = place / "published", []
    published.mkdir()
    with Host(setup, folder.models, place / "host.log", place / "cache", settings) as host:
        asker = Asker(host)
        for model in ("tiny", "image-classifier"):
            size = sum(file.stat().st_size for file in folder.bundle(model).rglob("*") if file.is_file())
            output([setup.nuke, "publish", folder.bundle(model), published, "--model", model])
            for manifest, source in ((False, None), (True, published / model / "1")):
                took = [swap(folder, asker, model, source) for _ in range(amounts.firsts)]
                rows.append({"model": model, "bytes": size, "manifest": manifest, "quiet": quiet, "took_s": took})
    return rows


def memory(setup, place, amounts):
    """Resident memory after so many swaps under a light load; one in ten is of the large bundle."""
    folder, seen = Folder(place), {}
    folder.fill()
    settings = ["repository.quiet=20ms", "log.access=false"]
    with Host(setup, folder.models, place / "host.log", place / "cache", settings) as host:
        asker = Asker(host)
        asking = [setup.nuke, "bench", "--url", host.url, "--infer", "tiny", "--rate", "100", "--duration", "1h"]
        with Child(asking, place / "bench.log", stdout=subprocess.DEVNULL) as bench:
            for count in range(1, amounts.marks[-1] + 1):
                swap(folder, asker, "image-classifier" if count % 10 == 0 else ("tiny", "digits")[count % 2])
                if count in amounts.marks:
                    time.sleep(3)
                    seen[count] = memory_mib(host.pid)
            bench.ensure_running()
    return seen


def another_model(folder):
    """The image classifier's network with a weight more that nobody uses: 23 MB of ONNX."""
    network = (BUNDLES["image-classifier"] / "model.onnx").read_bytes()
    count = max(0, ANOTHER_BYTES - len(network)) // 4
    weight = field(1, count) + field(2, 1) + field(8, b"ballast") + field(9, os.urandom(4 * count))
    # Two serialised messages behind each other are one, with the fields of both.
    staged = folder.place / "bundles" / "another"
    staged.mkdir(parents=True)
    (staged / "model.onnx").write_bytes(network + field(7, field(5, weight)))
    return staged


def field(number, value):
    """A field of a protocol buffer: an integer, or bytes with their length."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def varint(value):
    parts = []
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    return bytes([*parts, value])


def another(setup, place, amounts):
    """Model A under a paced load, quiet and while B is loaded and unloaded over and over."""
    folder, rows = Folder(place), []
    folder.fill()
    source = another_model(folder)
    settings = ["repository.quiet=50ms", "log.access=false"]
    with Host(setup, folder.models, place / "host.log", place / "cache", settings) as host:
        for model in ("tiny", "image-classifier"):
            what, rate = REQUESTS[model]
            arguments = ["--url", host.url, *what, "--rate", rate, "--warmup", "1s"]
            arguments += ["--duration", f"{amounts.paced}s"]
            rounds = []
            for _ in range(amounts.rounds):
                quiet = times(load(setup, *arguments))
                before = len(loads(host))
                with Aside(lambda over: load_again(folder, host, source, over)) as loading:
                    busy = times(load(setup, *arguments))
                took = sum(event["took_ms"] for event in loads(host)[before:]) / 1e3
                rounds.append((quiet, busy, loading.result, took))
            shares = [took / (amounts.paced + 1) for *_, took in rounds]
            row = tail("paced", model, [(quiet, busy, count) for quiet, busy, count, _ in rounds])
            rows.append(row | {"share": median(shares), "bytes": (source / "model.onnx").stat().st_size})
    return rows


def loads(host):
    return [event for event in host.events("the version is ready") if event["model"] == "another"]


def load_again(folder, host, source, over):
    """Drops B, waits until it is ready, takes it away, waits until it is gone."""
    count = 0
    while not over.is_set():
        version, moment = folder.drop("another", folder.stage("another", source))
        path = f"/v2/models/another/versions/{version}/ready"
        until(host, path, 200, moment)
        folder.remove("another", version)
        until(host, path, 404, time.monotonic())
        count += 1
    return count


def until(host, path, status, since):
    while time.monotonic() - since < PATIENCE:
        if (ask(host.port, path) or (0,))[0] == status:
            return
        time.sleep(0.005)
    raise Failure(f"{path} was not {status} within {PATIENCE} s")


def verdict(is_met):
    return "**met**" if is_met else "**missed**"


def markdown(result):
    return "\n\n".join([
        f"p99 while versions are swapped, over the quiet p99 of the same round; target <= {TAIL} x.",
        tail_table(result["tails"], "with swaps", "swaps"),
        f"From the rename to the first answer of the new version; target <= {FIRST_ANSWER:.0f} s for 20 MB.",
        first_table(result["firsts"]),
        f"Memory of the host; target within {percent(MEMORY)} of that after {min(result['memory'], key=int)} swaps.",
        memory_table(result["memory"]),
        another_text(result["another"]),
        tail_table(result["another"], "while B loads", "loads of B"),
    ])


def tail_table(rows, during, counted):
    columns = ["load", "model", counted, "quiet p50 ms", f"{during} p50 ms", "quiet p99 ms", f"{during} p99 ms"]
    columns += ["p99 ratio", "(rounds)", f"<= {TAIL} x"]
    cells = []
    for row in rows:
        (quiet, quiet_tail), (busy, busy_tail) = row["quiet_us"], row["swaps_us"]
        millis = [figure(value / 1e3) for value in (quiet, busy, quiet_tail, busy_tail)]
        turns = f"{min(row['ratios']):.2f} to {max(row['ratios']):.2f}"
        cells.append([row["load"], row["model"], row["swaps"], *millis, f"{row['ratio']:.2f}", turns])
        cells[-1].append(verdict(row["ratio"] <= TAIL))
    return table(columns, cells)


def first_table(rows):
    columns = ["model", "size", "manifest", "`repository.quiet`", "median s", "least s", "most s", "median <= 1 s"]
    cells = []
    for row in rows:
        took = row["took_s"]
        manifest = "`nuke publish`" if row["manifest"] else "none"
        seconds = [f"{value:.2f}" for value in (median(took), min(took), max(took))]
        size = f"{row['bytes'] / 1e6:.1f} MB" if row["bytes"] >= 1e5 else f"{row['bytes']} bytes"
        cells.append([row["model"], size, manifest, row["quiet"], *seconds])
        cells[-1].append(verdict(median(took) <= FIRST_ANSWER))
    return table(columns, cells)


def memory_table(seen):
    counts = sorted(seen, key=int)
    first = seen[counts[0]]
    columns = ["swaps", "resident MiB", "of it not files", "resident ratio", "not files ratio", "within 10 %"]
    cells = []
    for count in counts:
        size = seen[count]
        ratios = [size[name] / first[name] for name in ("rss", "own")]
        cells.append([str(count), size["rss"], size["own"], *(f"{ratio:.2f}" for ratio in ratios)])
        cells[-1].append("-" if count == counts[0] else verdict(ratios[0] <= 1 + MEMORY))
    return table(columns, cells)


def another_text(rows):
    shares = " and ".join(percent(row["share"]) for row in rows)
    return (
        f"Model A at its rate while model B ({rows[0]['bytes'] / 1e6:.1f} MB) is loaded and unloaded over and "
        f"over; B was loading for {shares} of the time."
    )


if __name__ == "__main__":
    import run

    # Whatever ends this script, what it started is ended first.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(run.main(["--only", "swaps", *sys.argv[1:]]))
