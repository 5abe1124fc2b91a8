"""The image pipeline over HTTP, through both builds of the plugin, against a native loop in one process."""

import shutil

from processes import ROOT, CORES, Host, compare, cpu_seconds, load
from tables import median, percent, table

PHOTOS = ("coffee.png", "rocket.jpg")
BUILDS = ("image-classify", "image-classify-wasm")
# Enough to keep every worker busy while answers are on their way.
CLIENTS = 2 * CORES


def measure(setup, folder):
    models = folder / "photo-models"
    for build in BUILDS:
        bundle = models / build
        shutil.copytree(ROOT / "models/image-classifier", bundle)
        manifest = bundle / "1/bundle.yaml"
        manifest.write_text(manifest.read_text().replace("plugin: image-classify@", f"plugin: {build}@"))
        (bundle / "model.yaml").write_text(f"versions: [1]\nworkers: {{max: {CORES}}}\n")
    with Host(setup, models, folder / "photos.log", folder / "cache") as host:
        return [one(setup, host, photo) for photo in PHOTOS]


def one(setup, host, photo):
    """Rounds of native, host kernels, pure WebAssembly; each is held against the natives around it."""
    path = ROOT / "tests/fixtures/photos" / photo
    natives, builds = [native(setup, path)], {build: [] for build in BUILDS}
    for _ in range(setup.rounds):
        for build in BUILDS:
            builds[build].append(served(setup, host, build, path))
            natives.append(native(setup, path))
            around = (natives[-2]["per_s"] + natives[-1]["per_s"]) / 2
            builds[build][-1]["ratio"] = builds[build][-1]["per_s"] / around
    return {"photo": photo, "native": natives, **builds}


def native(setup, path):
    rows = compare(setup, "photos", "--photo", path, "--threads", CORES, "--seconds", setup.seconds)
    return {name: rows["photo to labels"][name] for name in ("per_s", "cpu_us", "median_us")}


def served(setup, host, build, path):
    cpu, count = cpu_seconds(host.pid), host.served()
    row = load(
        setup, "--url", host.url, "--predict", build, "--body", path, "--concurrency", CLIENTS,
        "--duration", f"{setup.seconds}s", "--warmup", "1s",
    )  # fmt: skip
    count = host.served() - count
    return {
        "per_s": row["measured"]["throughput_per_s"],
        "median_us": row["measured"]["service_time"]["p50_us"],
        "cpu_us": (cpu_seconds(host.pid) - cpu) / max(1, count) * 1e6,
        "generator_us": row["generator_cpu_s"] / max(1, count) * 1e6,
        "generator": row["generator_cpu_s"] / (row["wall_s"] * CORES),
    }


def markdown(result):
    columns = ["photo", "by", "photos/s", "/ native", "(rounds)", "CPU ms a photo", "native CPU / CPU"]
    columns += ["generator's CPU ms a photo", "generator's share of the cores", "/ native on the cores left"]
    rows = []
    for photo in result:
        middle = lambda runs, name: median([run[name] for run in runs])  # noqa: E731
        natives = photo["native"]
        rows.append([photo["photo"], "native loop", middle(natives, "per_s"), "1", "-"])
        rows[-1] += [middle(natives, "cpu_us") / 1e3, "1", "-", "-", "-"]
        for build in BUILDS:
            runs = photo[build]
            ratios = [run["ratio"] for run in runs]
            left = [run["ratio"] / (1 - run["generator"]) for run in runs]
            cpu = middle(runs, "cpu_us")
            rows.append([photo["photo"], build, middle(runs, "per_s"), percent(median(ratios))])
            rows[-1] += [f"{percent(min(ratios))} to {percent(max(ratios))}", cpu / 1e3]
            rows[-1] += [percent(middle(natives, "cpu_us") / cpu), middle(runs, "generator_us") / 1e3]
            rows[-1] += [percent(middle(runs, "generator")), percent(median(left))]
    shared = f"{CLIENTS} clients on the same cores"
    text = f"{CORES} threads in the native loop, {CORES} workers in the host, {shared}."
    return f"{text}\n\n{table(columns, rows)}"
