"""Models on demand: what the first request of a cold model takes against a warm one, and the memory of many models
with and without a budget."""

import http.client
import itertools
import random
import shutil
import time

from processes import ROOT, Host, memory_mib
from swaps import BUNDLES, PHOTO, infer_body
from tables import median, percent, table

MODELS = ("tiny", "digits", "image-classifier")
# Copies of the image classifier, how many of them the budget has room for, and what the host takes one to use.
COPIES, ROOM = 20, 5
FOOTPRINT_MIB = 73


def measure(setup, folder):
    return {"first": first(setup, folder), "memory": memory(setup, folder)}


class Client:
    """One kept connection."""

    def __init__(self, host):
        self.connection = http.client.HTTPConnection("127.0.0.1", host.port, timeout=120)

    def predict(self, model, kind):
        """Seconds until the answer was there, and milliseconds of it that were spent on a load."""
        body = PHOTO.read_bytes() if kind == "image-classifier" else infer_body(kind)
        began = time.monotonic()
        self.connection.request("POST", f"/predict/{model}", body)
        answer = self.connection.getresponse()
        text = answer.read()
        if answer.status != 200:
            raise ValueError(f"{model}: {answer.status}: {text[:300]!r}")
        waited = answer.getheader("x-nuke-load-wait-ms")
        return time.monotonic() - began, None if waited is None else int(waited)


def first(setup, folder):
    """Each model cold and warm in turn: it lies idle for longer than it may after each round."""
    place = folder / "on-demand"
    for model in MODELS:
        shutil.copytree(BUNDLES[model], place / model / "1")
    settings = ["repository.load=lazy", "repository.idle=300ms", "log.access=false"]
    rows = {model: {"cold": [], "load": [], "warm": []} for model in MODELS}
    with Host(setup, place, folder / "on-demand.log", folder / "on-demand-cache", settings) as host:
        client = Client(host)
        for round_number, model in itertools.product(range(1 + setup.starts), MODELS):
            took, waited = client.predict(model, model)
            warm = [client.predict(model, model)[0] for _ in range(9)]
            # The first round compiles the plugin.
            if round_number > 0 and waited is not None:
                rows[model]["cold"].append(took)
                rows[model]["load"].append(waited / 1e3)
                rows[model]["warm"].append(median(warm))
            time.sleep(0.8)
    return rows


def memory(setup, folder):
    """Many copies of one bundle, asked at random: resident memory, the most there was, and how often one had to be
    loaded."""
    place = folder / "many"
    for number in range(COPIES):
        shutil.copytree(BUNDLES["image-classifier"], place / f"copy-{number}" / "1")
    rows = []
    for name, settings in (
        ("eager", []),
        ("lazy, no budget", ["repository.load=lazy"]),
        (f"lazy, room for {ROOM}", ["repository.load=lazy", f"repository.memory={ROOM * FOOTPRINT_MIB}MiB"]),
    ):
        log, cache = folder / "many.log", folder / "on-demand-cache"
        with Host(setup, place, log, cache, [*settings, "log.access=false"]) as host:
            start, client, draw = memory_mib(host.pid), Client(host), random.Random(1)
            answers = [
                client.predict(f"copy-{draw.randrange(COPIES)}", "image-classifier")
                for _ in range(10 * setup.starts)
            ]
            time.sleep(2)
            end = memory_mib(host.pid)
        loads = sum(waited is not None for _, waited in answers)
        rows.append({
            "name": name, "ready_s": host.ready_after, "start": start["rss"], "end": end["rss"],
            "peak": end["peak"], "requests": len(answers), "loads": loads,
            "p50_s": median([took for took, _ in answers]), "most_s": max(took for took, _ in answers),
        })  # fmt: skip
    return rows


def markdown(result):
    firsts = [
        [model, *(median(row[kind]) * 1e3 for kind in ("cold", "load", "warm")),
         median(row["cold"]) / median(row["warm"])]
        for model, row in result["first"].items() if row["cold"]
    ]  # fmt: skip
    memories = [
        [row["name"], row["ready_s"], row["start"], row["end"], row["peak"],
         percent(row["loads"] / row["requests"]), row["p50_s"] * 1e3, row["most_s"] * 1e3]
        for row in result["memory"]
    ]  # fmt: skip
    head = ["", "to ready s", "MiB at the start", "MiB at the end", "MiB at most", "requests that waited for a load"]
    return "\n\n".join([
        "The first request of a model that is not in memory, and those after it; medians, compiled and validated "
        "before.",
        table(["model", "first ms", "of it the load ms", "warm ms", "ratio"], firsts),
        f"{COPIES} copies of the image classifier ({(ROOT / 'models/image-classifier/1/model.onnx').stat().st_size / 1e6:.1f} "
        "MB each), one client, a copy at random for each photo.",
        table([*head, "p50 ms", "slowest ms"], memories),
    ])
