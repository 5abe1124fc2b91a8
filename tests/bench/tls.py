"""What TLS costs: the same requests at the two listeners of one host, in turns, and handshakes by themselves."""

import shutil
import socket
import ssl
import statistics
import time

from processes import CORES, ROOT, Host, cpu_seconds, free_port, load, output
from tables import percent, table

CLIENTS = (1, 16, 64)
BODIES = {"64 bytes of tensor (tiny)": ("tiny", CLIENTS), "602 kB each way (big)": ("big", (1, 16))}


def measure(setup, folder):
    models, secure = folder / "tls-models", free_port()
    for model in ("tiny", "big"):
        shutil.copytree(ROOT / f"tests/fixtures/models/{model}", models / model)
    output([setup.nuke, "tls", "self-signed", "--out", folder / "tls"])
    cert = folder / "tls/cert.pem"
    settings = [f"server.https=127.0.0.1:{secure}", f"tls.cert={cert}", f"tls.key={folder}/tls/key.pem"]
    with Host(setup, models, folder / "tls.log", folder / "cache", [*settings, "log.access=false"]) as host:
        sides = (f"https://127.0.0.1:{secure}", host.url)
        rows = [
            one(setup, host, sides, cert, name, model, clients, http2)
            for name, (model, all_clients) in BODIES.items()
            for clients in all_clients
            for http2 in (False, True)
        ]
        shakes = handshakes(setup, host, secure, cert)
    return {"rows": rows, "handshakes": shakes}


def one(setup, host, sides, cert, name, model, clients, http2):
    """TLS and plain in turns, under the same load."""
    before = cpu_seconds(host.pid)
    row = load(
        setup, "--url", sides[0], "--ca", cert, "--infer", model, "--concurrency", clients,
        "--duration", f"{setup.seconds}s", "--warmup", "1s", "--slice", "1s",
        "--baseline", f"{sides[1]}/v2/models/{model}/infer", *(["--http2"] if http2 else []),
    )  # fmt: skip
    return {
        "name": name,
        "http": "h2" if http2 else "HTTP/1.1",
        "clients": clients,
        "per_s": [row[side]["throughput_per_s"] for side in ("measured", "baseline")],
        "p50_us": [row[side]["service_time"]["p50_us"] for side in ("measured", "baseline")],
        "p99_us": [row[side]["service_time"]["p99_us"] for side in ("measured", "baseline")],
        "ratio": row["ratio"]["throughput"],
        "ratios": row["ratio"]["throughput_by_turn"],
        "host_cpu_s": cpu_seconds(host.pid) - before,
        "generator": row["generator_cpu_s"] / (row["wall_s"] * CORES),
    }


def handshakes(setup, host, port, cert):
    """A connection, a handshake if it has one, and one answer: medians, and the host's own processor time."""
    context = ssl.create_default_context(cafile=str(cert))
    rounds = 200 * setup.rounds
    old = ssl.create_default_context(cafile=str(cert))
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    told = {}
    for name, at, way in (("plain", host.port, None), ("TLS 1.3", port, context), ("TLS 1.2", port, old)):
        times, before = [], cpu_seconds(host.pid)
        for _ in range(rounds):
            began = time.perf_counter()
            ask(at, way)
            times.append((time.perf_counter() - began) * 1e6)
        told[name] = {"p50_us": statistics.median(times), "cpu_us": (cpu_seconds(host.pid) - before) / rounds * 1e6}
    return told


def ask(port, context):
    with socket.create_connection(("127.0.0.1", port), timeout=10) as plain:
        stream = context.wrap_socket(plain, server_hostname="localhost") if context else plain
        stream.sendall(b"GET /v2/health/live HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        while stream.recv(4096):
            pass


def markdown(result):
    columns = ["request", "HTTP", "clients", "TLS req/s", "plain req/s", "TLS / plain", "(turns)", "TLS p50 µs"]
    columns += ["plain p50 µs", "generator's share of the cores"]
    rows = []
    for row in result["rows"]:
        turns = f"{min(row['ratios']):.2f} to {max(row['ratios']):.2f}"
        rows.append(
            [row["name"], row["http"], row["clients"], *row["per_s"], f"{row['ratio']:.2f}", turns, *row["p50_us"]]
            + [percent(row["generator"])]
        )
    plain = result["handshakes"]["plain"]
    shakes = [
        [name, seen["p50_us"], f"{seen['p50_us'] / plain['p50_us']:.1f}", seen["cpu_us"]]
        for name, seen in result["handshakes"].items()
    ]
    lines = [table(columns, rows), "", "A connection of its own for one answer, from Python:", ""]
    lines.append(table(["", "p50 µs", "over plain", "host CPU µs"], shakes))
    return "\n".join(lines)
