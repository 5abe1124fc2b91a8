"""Answers that are remembered: a hit in memory against `/v2/health/live`; a hit in Redis against inference, and against
a bare read of the same size with the same client; requests by Zipf's law with room for a part of the answers; and what
looking for an answer that is not there costs."""

import json
import os
import shutil

from processes import ROOT, Child, Failure, Host, ask, compare, free_port, load
from tables import percent, table

CLIENTS = (1, 16)
TINY = ROOT / "tests/fixtures/models/tiny/1"
LITE0 = ROOT / "models/image-classifier/1/model.onnx"
# Its runs of so many pictures take about a millisecond: the column of the model without a cache says how long.
DIGITS, PICTURES = ROOT / "models/digits/1", 16
ROOMS = (0.1, 0.5, 1.0)
HOUR, NONE = "cache: {ttl: 1h}\n", ""
# Nothing is a hit for longer than a request takes, and all of it is stored.
BRIEF = "cache: {ttl: 1ms}\n"
SETTINGS = ["log.access=false"]


class Redis(Child):
    """A redis-server of this run alone, that writes nothing to disk."""

    def __init__(self, folder, *arguments):
        program = os.environ.get("NUKE_TEST_REDIS") or shutil.which("redis-server")
        if not program:
            raise Failure("no redis-server: install it, or name it by NUKE_TEST_REDIS")
        self.port = free_port()
        folder.mkdir(exist_ok=True)
        command = [program, "--bind", "127.0.0.1", "--port", self.port, "--save", "", "--appendonly", "no"]
        with (folder / "redis.out").open("wb") as out:
            super().__init__([*command, "--dir", folder, *arguments], folder / "redis.log", stdout=out)

    @property
    def settings(self):
        return ["cache.redis.host=127.0.0.1", f"cache.redis.port={self.port}"]


def models(folder, name, cache):
    """A folder of the three models, whose answers are remembered or not."""
    made = folder / f"cache-models-{name}"
    for model, source in (("tiny", TINY), ("digits", DIGITS)):
        shutil.copytree(source, made / model / "1")
    (made / "lite0/1").mkdir(parents=True)
    shutil.copy(LITE0, made / "lite0/1")
    for model in ("tiny", "digits", "lite0"):
        (made / model / "model.yaml").write_text(cache)
    return made


def measure(setup, folder):
    remembering, brief, plain = (models(folder, *kind) for kind in (("hour", HOUR), ("brief", BRIEF), ("none", NONE)))

    def host(name, served, *settings):
        return Host(setup, served, folder / f"cache-{name}.log", folder / "cache", [*SETTINGS, *settings])

    with host("plain", plain) as without:
        with host("memory", remembering) as memory:
            hits = [hit(setup, memory, model, clients) for model in ("tiny", "lite0") for clients in CLIENTS]
        with Redis(folder / "redis") as redis:
            with host("redis", remembering, "cache.memory=0", *redis.settings) as shared:
                redis_hits = [against(setup, shared, without, model, 1) for model in ("tiny", "lite0")]
            bare = compare(setup, "redis", "--port", redis.port, "--seconds", setup.seconds)
            with host("brief", brief) as memory, host("brief-redis", brief, *redis.settings) as shared:
                misses = [
                    {"name": name, **against(setup, side, without, model, 1, "--distinct", 64)}
                    for model in ("tiny", "digits")
                    for name, side in (("memory", memory), ("memory and Redis", shared))
                ]
        return {
            "hits": hits,
            "redis": redis_hits,
            "bare": bare,
            "zipf": zipf(setup, lambda name, room: host(name, remembering, *room), without),
            "misses": misses,
        }


def times(setup):
    return ("--duration", f"{setup.seconds}s", "--warmup", "1s", "--slice", "1s")


def sides(row):
    return {
        "p50_us": [row[side]["service_time"]["p50_us"] for side in ("measured", "baseline")],
        "mean_us": [row[side]["service_time"]["mean_us"] for side in ("measured", "baseline")],
        "per_s": [row[side]["throughput_per_s"] for side in ("measured", "baseline")],
        "ratio": row["ratio"]["throughput"],
        "ratios": row["ratio"]["throughput_by_turn"],
        "share": row["measured"]["cache_hit_share"],
    }


def hit(setup, host, model, clients):
    """The same request again and again, in turns with one that asks for nothing."""
    row = load(
        setup, "--url", host.url, "--infer", model, "--concurrency", clients, *times(setup), "--baseline",
        "/v2/health/live", "--baseline-method", "GET",
    )  # fmt: skip
    return {"model": model, "clients": clients, **sides(row)}


def against(setup, host, other, model, clients, *more):
    """The same requests to two hosts, in turns."""
    batch = ("--batch", PICTURES) if model == "digits" else ()
    row = load(
        setup, "--url", host.url, "--infer", model, *batch, "--concurrency", clients, *times(setup), *more,
        "--baseline", f"{other.url}/v2/models/{model}/infer",
    )  # fmt: skip
    return {"model": model, "clients": clients, **sides(row)}


def zipf(setup, host, without):
    """What a part of the answers' room gets of the hits. How much room all of them take is asked first."""
    distinct = 200 if setup.quick else 2000
    words = ("--distinct", distinct, "--zipf", "1")
    with host("all", []) as full:
        load(
            setup, "--url", full.url, "--infer", "digits", "--batch", PICTURES, "--distinct", distinct, "--requests",
            distinct * 12, "--concurrency", 16,
        )  # fmt: skip
        _, body = ask(full.port, "/admin/models/digits/cache")
    held = json.loads(body)["memory"]
    # The rare one that was not drawn has its room, too.
    all_bytes = held["bytes"] / max(1, held["entries"]) * distinct
    rows = []
    for room in ROOMS:
        memory = int(all_bytes * room * (1.05 if room == 1 else 1))
        with host(f"room-{room}", [f"cache.memory={memory}"]) as part:
            for clients in CLIENTS:
                # What is to be there for long is there before anything counts.
                fill = ("--requests", distinct * 4, "--concurrency", 16)
                load(setup, "--url", part.url, "--infer", "digits", "--batch", PICTURES, *words, *fill)
                rows.append({"room": room, **against(setup, part, without, "digits", clients, *words)})
    return {"distinct": distinct, "entry_bytes": all_bytes / distinct, "rows": rows}


def turns(row):
    return f"{min(row['ratios']):.2f} to {max(row['ratios']):.2f}"


def markdown(result):
    columns = ["a hit in memory", "clients", "hit p50 µs", "health p50 µs", "hit / health (requests a second)", "(turns)"]
    rows = [[r["model"], r["clients"], *r["p50_us"], f"{r['ratio']:.2f}", turns(r)] for r in result["hits"]]
    parts = [table(columns, rows)]

    columns = ["a hit in Redis", "hit p50 µs", "inference p50 µs", "hit / inference (requests a second)", "(turns)", "hits"]
    rows = [[r["model"], *r["p50_us"], f"{r['ratio']:.2f}", turns(r), percent(r["share"])] for r in result["redis"]]
    parts.append(table(columns, rows))
    rows = [[name, row["best_us"], row["median_us"], row["p95_us"]] for name, row in result["bare"].items()]
    parts.append(table(["Redis alone, by the host's own client", "best µs", "median µs", "p95 µs"], rows))

    zipf_rows = result["zipf"]
    columns = ["room", "clients", "hits", "mean µs", "mean without a cache µs", "with / without (requests a second)", "(turns)"]
    rows = [
        [percent(r["room"]), r["clients"], percent(r["share"]), *r["mean_us"], f"{r['ratio']:.2f}", turns(r)]
        for r in zipf_rows["rows"]
    ]
    text = f"{zipf_rows['distinct']} different requests by Zipf's law (s = 1), {zipf_rows['entry_bytes']:.0f} bytes an answer."
    parts.append(f"{text}\n\n{table(columns, rows)}")

    columns = ["a miss", "looked for in", "p50 µs", "p50 without a cache µs", "with / without (requests a second)", "(turns)", "hits"]
    rows = [
        [r["model"], r["name"], *r["p50_us"], f"{r['ratio']:.2f}", turns(r), percent(r["share"])]
        for r in result["misses"]
    ]
    parts.append(table(columns, rows))
    return "\n\n".join(parts)
