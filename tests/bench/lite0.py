"""EfficientNet-Lite0 with tensors in and out (600 kB each request): the host against a loop in one process with the
same threads and sessions."""

import shutil

from processes import ROOT, CORES, Host, compare, cpu_seconds, load
from tables import median, percent, table

MODEL = "models/image-classifier/1/model.onnx"
# Enough to keep every worker busy while answers are on their way.
CLIENTS = 2 * CORES


def measure(setup, folder):
    models = folder / "lite0-models"
    version = models / "lite0/1"
    version.mkdir(parents=True)
    shutil.copy(ROOT / MODEL, version)
    (models / "lite0/model.yaml").write_text(f"workers: {{min: {CORES}, max: {CORES}}}\n")
    loops, hosts = [loop(setup)], []
    with Host(setup, models, folder / "lite0.log", folder / "cache") as host:
        for _ in range(max(2, setup.rounds)):
            hosts.append(served(setup, host))
            loops.append(loop(setup))
            hosts[-1]["ratio"] = hosts[-1]["per_s"] / ((loops[-2]["per_s"] + loops[-1]["per_s"]) / 2)
    return {"loop": loops, "host": hosts}


def loop(setup):
    words = ("--model", ROOT / MODEL, "--threads", CORES, "--seconds", setup.seconds)
    row = compare(setup, "tensors", *words)["Session::run"]
    return {name: row[name] for name in ("per_s", "cpu_us", "median_us")}


def served(setup, host):
    cpu, count = cpu_seconds(host.pid), host.served()
    row = load(
        setup, "--url", host.url, "--infer", "lite0", "--concurrency", CLIENTS, "--duration", f"{setup.seconds}s",
        "--warmup", "1s",
    )  # fmt: skip
    count = max(1, host.served() - count)
    return {
        "per_s": row["measured"]["throughput_per_s"],
        "median_us": row["measured"]["service_time"]["p50_us"],
        "cpu_us": (cpu_seconds(host.pid) - cpu) / count * 1e6,
        "generator": row["generator_cpu_s"] / (row["wall_s"] * CORES),
    }


def markdown(result):
    def middle(runs, name):
        return median([run[name] for run in runs])

    loops, hosts = result["loop"], result["host"]
    ratios = [run["ratio"] for run in hosts]
    left = [run["ratio"] / (1 - run["generator"]) for run in hosts]
    cpu = middle(hosts, "cpu_us")
    columns = ["by", "req/s", "/ loop", "(rounds)", "CPU ms a request", "loop's CPU / CPU", "generator's share of the cores"]
    columns += ["/ loop on the cores left"]
    rows = [["loop in one process", middle(loops, "per_s"), "1", "-", middle(loops, "cpu_us") / 1e3, "1", "-", "-"]]
    spread = f"{percent(min(ratios))} to {percent(max(ratios))}"
    rows.append(["host", middle(hosts, "per_s"), percent(median(ratios)), spread, cpu / 1e3])
    rows[-1] += [percent(middle(loops, "cpu_us") / cpu), percent(middle(hosts, "generator")), percent(median(left))]
    text = f"{CORES} threads in the loop, {CORES} workers in the host, {CLIENTS} clients on the same cores, binary tensors."
    return f"{text}\n\n{table(columns, rows)}"
