"""From the start of the process to its first readiness, with nothing compiled and with everything, and
the memory that it holds."""

import shutil

from processes import ROOT, Host, compare, load, memory_mib, verdicts_of
from tables import median, table

PHOTO = ROOT / "models/image-classifier/1/samples/coffee.png"
MODEL = "image-classifier"
REQUESTS = 1000
COLD = "sample bundles, nothing compiled or validated"
WARM = "sample bundles, compiled and validated before"


def measure(setup, folder):
    empty = folder / "no-models"
    empty.mkdir()
    samples = ROOT / "models"
    times = {"no models": [], COLD: [], WARM: []}
    loads = {"cold": [], "warm": []}
    cache = folder / "start-cache"
    start(setup, samples, folder, cache)  # The first one reads the files from the disk.
    for _ in range(setup.starts):
        times["no models"].append(start(setup, empty, folder, cache).ready_after)
        shutil.rmtree(cache)
        shutil.rmtree(verdicts_of(cache), ignore_errors=True)
        for kind, name in (("cold", COLD), ("warm", WARM)):
            host = start(setup, samples, folder, cache)
            times[name].append(host.ready_after)
            ready = host.events("the version is ready")
            loads[kind].append({f"{event['model']} {event['version']}": event["took_ms"] for event in ready})
    opened = [compare(setup, "open") for _ in range(setup.starts)]
    return {"times": times, "loads": loads, "opened": opened, "memory": memory(setup, samples, folder, cache)}


def start(setup, models, folder, cache):
    """A host that was ready once, and has been stopped."""
    with Host(setup, models, folder / "start.log", cache) as host:
        return host


def memory(setup, models, folder, cache):
    """Resident memory after the start and after many photos."""
    with Host(setup, models, folder / "memory.log", cache) as host:
        seen = {"after the start": memory_mib(host.pid)}
        for name in (f"after {REQUESTS} photos", f"after {2 * REQUESTS} photos"):
            load(
                setup, "--url", host.url, "--predict", MODEL, "--version", "1", "--body", PHOTO, "--concurrency", "4",
                "--requests", REQUESTS, "--warmup", "0s",
            )  # fmt: skip
            seen[name] = memory_mib(host.pid)
    return seen


def markdown(result):
    times = result["times"].items()
    millis = [[name, *(kind(values) * 1e3 for kind in (median, min, max))] for name, values in times]
    first = result["opened"][0]
    opened = {name: median([run[name]["took_ms"] for run in result["opened"]]) for name in first}
    session = next(took for name, took in opened.items() if f"{MODEL}/1" in name)
    warm = median(result["times"][WARM]) * 1e3
    parts = [
        ["to ready, compiled before", warm],
        *([f"of it, in a process of its own: opening {name}", took] for name, took in opened.items()),
        [f"to ready without opening the session of {MODEL}", warm - session],
    ]
    for kind, runs in result["loads"].items():
        for model in sorted(runs[0]):
            name = f"loading {model} as the host's log has it, {kind}"
            parts.append([name, median([run[model] for run in runs])])
    memory_rows = [[name, size["rss"], size["own"], size["peak"]] for name, size in result["memory"].items()]
    return "\n\n".join([
        f"{len(next(iter(result['times'].values())))} starts of each kind in turn; files in the page cache.",
        table(["start to ready, ms", "median", "least", "most"], millis),
        table(["", "ms, median"], parts),
        table(["memory, MiB", "resident", "of it not files", "most so far"], memory_rows),
    ])
