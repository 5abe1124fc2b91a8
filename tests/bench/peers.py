"""A photo (640 x 427, JPEG) to five labels at 16 clients, with the plugin in the sandbox, against what people write
themselves: Pillow and onnxruntime in Python, one process for each core, without any server before them."""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import time

from processes import ROOT, CORES, Failure, Host, cpu_seconds, load
from tables import median, percent, table

PHOTO = ROOT / "tests/fixtures/photos/rocket.jpg"
BUNDLE = ROOT / "models/image-classifier/1"
CLIENTS = 16
PACKAGES = "import numpy, onnxruntime, PIL"


def measure(setup, folder):
    python = interpreter()
    models = folder / "peer-models"
    shutil.copytree(BUNDLE, models / "image-classifier/1")
    (models / "image-classifier/model.yaml").write_text(f"workers: {{min: {CORES}, max: {CORES}}}\n")
    peers, hosts = [peer(setup, python)], []
    with Host(setup, models, folder / "peers.log", folder / "cache") as host:
        for _ in range(max(2, setup.rounds)):
            hosts.append(served(setup, host))
            peers.append(peer(setup, python))
            hosts[-1]["ratio"] = hosts[-1]["per_s"] / ((peers[-2]["per_s"] + peers[-1]["per_s"]) / 2)
    labels = {tuple(run["labels"]) for run in peers} | {tuple(answer) for answer in [hosts[0]["labels"]]}
    return {"peer": peers, "host": hosts, "labels": [list(answer) for answer in sorted(labels)]}


def interpreter():
    """A Python that has the packages: NUKE_TEST_PYTHON, this one, or that of `cargo xtask setup`."""
    cache = pathlib.Path(os.environ.get("NUKE_CACHE", pathlib.Path.home() / ".cache/nuke"))
    found = [os.environ.get("NUKE_TEST_PYTHON"), sys.executable, *cache.glob("venv-*/bin/python")]
    for python in filter(None, found):
        if subprocess.run([str(python), "-c", PACKAGES], capture_output=True, check=False).returncode == 0:
            return str(python)
    raise Failure("no Python with numpy, onnxruntime and pillow: `cargo xtask setup` makes one, or set NUKE_TEST_PYTHON")


def peer(setup, python):
    """As many processes as cores, each with a loop of its own."""
    command = [python, __file__, str(PHOTO), str(BUNDLE), str(setup.seconds)]
    runs = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(CORES)]
    try:
        told = [run.communicate()[0] for run in runs]
    finally:
        for run in runs:
            if run.poll() is None:
                run.kill()
                run.wait()
    if any(run.returncode for run in runs):
        raise Failure(f"{' '.join(command)} failed")
    told = [json.loads(text) for text in told]
    return {
        "per_s": sum(one["count"] / one["seconds"] for one in told),
        "cpu_us": sum(one["cpu_s"] for one in told) / sum(one["count"] for one in told) * 1e6,
        "median_us": median([one["median_us"] for one in told]),
        "labels": told[0]["labels"],
    }


def served(setup, host):
    cpu, count = cpu_seconds(host.pid), host.served()
    row = load(
        setup, "--url", host.url, "--predict", "image-classifier", "--body", PHOTO, "--concurrency", CLIENTS,
        "--duration", f"{setup.seconds}s", "--warmup", "1s",
    )  # fmt: skip
    count = max(1, host.served() - count)
    answer = json.loads(subprocess.run(
        [str(setup.nuke), "predict", "--url", host.url, "image-classifier", str(PHOTO), "--json"],
        capture_output=True, text=True, check=True,
    ).stdout)  # fmt: skip
    return {
        "per_s": row["measured"]["throughput_per_s"],
        "median_us": row["measured"]["service_time"]["p50_us"],
        "cpu_us": (cpu_seconds(host.pid) - cpu) / count * 1e6,
        "generator": row["generator_cpu_s"] / (row["wall_s"] * CORES),
        "labels": labels_of(answer)[:1],
    }


def labels_of(answer):
    """The labels of an answer, the first first, wherever it keeps them."""
    if isinstance(answer, dict):
        if "label" in answer:
            return [answer["label"]]
        answer = list(answer.values())
    return [label for item in answer for label in labels_of(item)] if isinstance(answer, list) else []


def markdown(result):
    def middle(runs, name):
        return median([run[name] for run in runs])

    peers, hosts = result["peer"], result["host"]
    ratios = [run["ratio"] for run in hosts]
    columns = ["by", "photos/s", "/ Python", "(rounds)", "CPU ms a photo", "median ms"]
    rows = [["Pillow + onnxruntime", middle(peers, "per_s"), "1", "-", middle(peers, "cpu_us") / 1e3]]
    rows[-1] += [middle(peers, "median_us") / 1e3]
    spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
    rows.append([f"host, {CLIENTS} clients", middle(hosts, "per_s"), f"{median(ratios):.2f}", spread])
    rows[-1] += [middle(hosts, "cpu_us") / 1e3, middle(hosts, "median_us") / 1e3]
    share = percent(middle(hosts, "generator"))
    answers = " and ".join(", ".join(answer) for answer in result["labels"])
    text = (
        f"{CORES} processes of Python with a session each and no server, {CORES} workers in the host; the host's load "
        f"generator takes {share} of the cores. First label of all: {answers}."
    )
    return f"{text}\n\n{table(columns, rows)}"


def classify(photo, bundle, seconds):
    """The loop of one process: decode, resize, crop, normalise, run, softmax, five labels as JSON."""
    import io

    import numpy
    import onnxruntime
    from PIL import Image

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    model = pathlib.Path(bundle) / "model.onnx"
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    labels = (pathlib.Path(bundle) / "labels.txt").read_text().splitlines()
    body = pathlib.Path(photo).read_bytes()

    def once():
        picture = Image.open(io.BytesIO(body)).convert("RGB")
        scale = 256 / min(picture.size)
        width, height = (round(side * scale) for side in picture.size)
        picture = picture.resize((width, height), Image.Resampling.BILINEAR)
        left, top = (width - 224) // 2, (height - 224) // 2
        pixels = numpy.asarray(picture.crop((left, top, left + 224, top + 224)), dtype=numpy.float32)
        tensor = ((pixels - 127) / 128).transpose(2, 0, 1)[None]
        logits = session.run(None, {"input": numpy.ascontiguousarray(tensor)})[0][0]
        powers = numpy.exp(logits - logits.max())
        shares = powers / powers.sum()
        best = numpy.argsort(shares)[::-1][:5]
        return json.dumps([{"label": labels[index], "probability": float(shares[index])} for index in best])

    once()
    times, begun, cpu = [], time.perf_counter(), time.process_time()
    while time.perf_counter() - begun < seconds:
        before = time.perf_counter()
        answer = once()
        times.append(time.perf_counter() - before)
    elapsed, cpu = time.perf_counter() - begun, time.process_time() - cpu
    middle = sorted(times)[len(times) // 2]
    told = {"count": len(times), "seconds": elapsed, "cpu_s": cpu, "median_us": middle * 1e6}
    print(json.dumps(told | {"labels": labels_of(json.loads(answer))[:1]}))


if __name__ == "__main__":
    classify(sys.argv[1], sys.argv[2], float(sys.argv[3]))
