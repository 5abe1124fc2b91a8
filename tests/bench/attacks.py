#!/usr/bin/env python3
"""Attacks a host and watches an honest client meanwhile; prints the table of docs/security.md.

    python3 tests/bench/attacks.py --nuke target/release/nuke             all attacks, some five minutes
    python3 tests/bench/attacks.py --nuke … --seconds 5 --only pings      some of them, short

Needs Python alone, and ONNX Runtime (`cargo xtask setup`). The attackers are processes of their own on the same
cores as the host: what the honest client feels of that is in the figures. Everything is started on the loopback and
ended by its process id.
"""

import argparse
import json
import multiprocessing
import pathlib
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time

from processes import ROOT, Failure, Host, ask, free_port, memory_mib
from tables import table

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
INFER = "/v2/models/tiny/infer"
GET = b"GET /v2/health/live HTTP/1.1\r\nhost: x\r\n\r\n"


def frame(kind, flags, stream, payload=b""):
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def field(name, value):
    return bytes([0, len(name)]) + name.encode() + bytes([len(value)]) + value.encode()


def head(path):
    return b"".join(field(*pair) for pair in ((":method", "GET"), (":scheme", "http"), (":path", path), (":authority", "x")))


def connect(port):
    try:
        stream = socket.create_connection(("127.0.0.1", port), timeout=5)
        stream.setblocking(False)
        return stream
    except OSError:
        return None


def send(stream, data):
    """Whether the connection still stands after as much of the data as fits was sent."""
    try:
        stream.send(data)
    except BlockingIOError:
        return True
    except OSError:
        return False
    try:
        while stream.recv(65536):
            pass
        return False
    except BlockingIOError:
        return True
    except OSError:
        return False


def hold(port, stop, count, first, drip, pause=0.1):
    """So many connections that begin with `first` and go on with `drip`; who is ended comes again."""
    streams = [None] * count
    while not stop.is_set():
        for at, stream in enumerate(streams):
            if stop.is_set():
                return
            if stream is None or (drip and not send(stream, drip)):
                if stream:
                    stream.close()
                streams[at] = connect(port)
                if streams[at]:
                    send(streams[at], first)
        time.sleep(pause)


def flood(port, stop, settings, make):
    """One HTTP/2 connection after the other, each with as many of these bytes as it bears."""
    while not stop.is_set():
        stream = connect(port)
        if not stream:
            time.sleep(0.01)
            continue
        stream.setblocking(True)
        stream.settimeout(1)
        reader = threading.Thread(target=drain, args=(stream,), daemon=True)
        reader.start()
        try:
            stream.sendall(PREFACE + frame(4, 0, 0, settings))
            number = 1
            while not stop.is_set():
                data, number = make(number)
                stream.sendall(data)
        except OSError:
            pass
        stream.close()


def drain(stream):
    try:
        while stream.recv(1 << 16):
            pass
    except (OSError, ValueError):
        pass


def post(length):
    return f"POST {INFER} HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n".encode()


def slow_heads(port, _, stop):
    hold(port, stop, 2000, b"GET /v2 HTTP/1.1\r\nx: ", b"y")


def silent(port, _, stop):
    hold(port, stop, 2000, b"", b"")


def slow_bodies(port, _, stop):
    hold(port, stop, 900, post(100_000), b" ")


def large_bodies(port, _, stop):
    hold(port, stop, 200, post(64 << 20), b" " * (1 << 20), pause=0)


def deep_json(port, _, stop):
    body = b'{"inputs": ' + b"[" * 1_000_000
    whole(port, stop, post(len(body)) + body)


def long_numbers(port, _, stop):
    body = b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [' + b"9" * 4_000_000 + b"]}]}"
    whole(port, stop, post(len(body)) + body)


def large_heads(port, _, stop):
    whole(port, stop, b"GET /v2 HTTP/1.1\r\nhost: x\r\nx: " + b"y" * 400_000 + b"\r\n\r\n")


def whole(port, stop, data):
    """One request after the other, each on a connection of its own."""
    while not stop.is_set():
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=5) as stream:
                stream.sendall(data)
                stream.shutdown(socket.SHUT_WR)
                drain(stream)
        except OSError:
            pass


def churn(port, _, stop):
    while not stop.is_set():
        stream = connect(port)
        if stream:
            stream.close()


def resets(port, _, stop):
    def make(number):
        ids = range(number, number + 40, 2)
        data = b"".join(frame(1, 5, one, head("/v2")) + frame(3, 0, one, (8).to_bytes(4, "big")) for one in ids)
        return data, number + 40

    flood(port, stop, b"", make)


def continuations(port, _, stop):
    def make(number):
        more = frame(9, 0, 1, field("x", "y" * 100) * 100)
        return (frame(1, 1, 1, head("/v2")) if number == 1 else b"") + more, number + 1

    flood(port, stop, b"", make)


def pings(port, _, stop):
    data = frame(6, 0, 0, b"12345678") * 100
    flood(port, stop, b"", lambda number: (data, number))


def settings(port, _, stop):
    data = frame(4, 0, 0) * 100
    flood(port, stop, b"", lambda number: (data, number))


def untaken(port, _, stop):
    asks = b"".join(frame(1, 5, one, head("/metrics")) for one in range(1, 400, 2))
    first = PREFACE + frame(4, 0, 0, bytes([0, 4, 0, 0, 0, 0])) + asks
    hold(port, stop, 200, first, frame(6, 0, 0, b"12345678"), pause=1)


def stalled_handshakes(_, port, stop):
    hold(port, stop, 1000, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"", pause=0.5)


def handshakes(_, port, stop):
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    while not stop.is_set():
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=5) as plain:
                context.wrap_socket(plain).close()
        except OSError:
            pass


ATTACKS = {
    "silent": ("2000 connections that send nothing", silent),
    "slow-heads": ("2000 connections, a byte of a head every 0.1 s each (slowloris)", slow_heads),
    "slow-bodies": ("900 connections, a byte of a body every 0.1 s each", slow_bodies),
    "churn": ("connections that are opened and closed", churn),
    "large-heads": ("heads of 400 kB", large_heads),
    "large-bodies": ("200 connections that fill bodies of 64 MiB", large_bodies),
    "deep-json": ("JSON of a million levels", deep_json),
    "long-numbers": ("numbers of four million digits", long_numbers),
    "resets": ("HTTP/2: requests that are taken back at once (rapid reset)", resets),
    "continuations": ("HTTP/2: a head without an end (CONTINUATION)", continuations),
    "pings": ("HTTP/2: pings", pings),
    "settings": ("HTTP/2: settings", settings),
    "untaken": ("HTTP/2: 200 answers on each of 200 connections, and no window", untaken),
    "stalled-handshakes": ("TLS: 1000 handshakes that stall", stalled_handshakes),
    "handshakes": ("TLS: handshakes and nothing else", handshakes),
}


class Honest(threading.Thread):
    """A client that asks for inference, each time on a connection of its own: nobody keeps a place for it."""

    BODY = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 16], "data": [0.5] * 16}]})

    def __init__(self, port):
        super().__init__()
        self.port, self.times, self.failed = port, [], 0
        self.done = threading.Event()
        self.body = self.BODY.encode()

    def request(self):
        return f"POST {INFER} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(self.body)}\r\n\r\n".encode() + self.body

    def ask(self, stream):
        stream.sendall(self.request())
        answer = b""
        while b"\r\n\r\n" not in answer:
            chunk = stream.recv(65536)
            if not chunk:
                raise OSError("closed")
            answer += chunk
        if not answer.startswith(b"HTTP/1.1 200"):
            raise OSError(answer[:200])

    def run(self):
        while not self.done.wait(0.005):
            began = time.monotonic()
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=10) as stream:
                    self.ask(stream)
                    self.times.append(time.monotonic() - began)
            except OSError:
                self.failed += 1

    def quantile(self, share):
        ordered = sorted(self.times) or [float("nan")]
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000


def series(port):
    """What the host counts of what it ended and refused, by reason."""
    answer = ask(port, "/metrics")
    found = {}
    for line in answer[1].decode().splitlines() if answer else []:
        for name in ("nuke_http_connections_ended_total{", "nuke_http_refused_total{"):
            if line.startswith(name):
                label, value = line[len(name) :].rsplit(" ", 1)
                found[label.split('"')[1]] = float(value)
    return found


def watch(host, seconds, attack, ports):
    """One attack of so many seconds, with the honest client and the host's memory."""
    stop, before, counted = multiprocessing.Event(), memory_mib(host.pid)["rss"], series(host.port)
    attackers = [multiprocessing.Process(target=attack, args=(*ports, stop)) for _ in range(1 if attack else 0)]
    for attacker in attackers:
        attacker.start()
    time.sleep(1)
    honest, peak = Honest(host.port), before
    honest.start()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        host.ensure_running()
        peak = max(peak, memory_mib(host.pid)["rss"])
        time.sleep(0.1)
    honest.done.set()
    honest.join()
    stop.set()
    for attacker in attackers:
        attacker.join(20)
        if attacker.is_alive():
            attacker.kill()
            attacker.join()
    time.sleep(1)
    now = series(host.port)
    ended = {name: now[name] - counted.get(name, 0) for name in now if now[name] > counted.get(name, 0)}
    return {"honest": honest, "rss": (before, peak, memory_mib(host.pid)["rss"]), "ended": ended}


def row(title, seen, quiet):
    honest, (before, peak, after) = seen["honest"], seen["rss"]
    p50, p99 = honest.quantile(0.5), honest.quantile(0.99)
    outcome = ", ".join(f"{name} {int(count)}" for name, count in sorted(seen["ended"].items())) or "-"
    answered = f"{len(honest.times)} of {len(honest.times) + honest.failed}"
    ratios = [f"{p50:.1f} ({p50 / quiet.quantile(0.5):.1f}x)", f"{p99:.0f} ({p99 / quiet.quantile(0.99):.1f}x)"]
    return [title, outcome, answered, *ratios, f"{before:.0f} / {peak:.0f} / {after:.0f}"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nuke", type=pathlib.Path, default=ROOT / "target/release/nuke")
    parser.add_argument("--plugins", type=pathlib.Path, default=ROOT / "plugins")
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--only", nargs="*", choices=list(ATTACKS), default=list(ATTACKS))
    setup = parser.parse_args()
    setup.nuke = setup.nuke.resolve()
    with tempfile.TemporaryDirectory(prefix="nuke-attacks-") as folder:
        folder = pathlib.Path(folder)
        models, secure = folder / "models", free_port()
        shutil.copytree(ROOT / "tests/fixtures/models/tiny", models / "tiny")
        subprocess.run([setup.nuke, "tls", "self-signed", "--out", folder / "tls"], check=True, stdout=subprocess.DEVNULL)
        settings_of_host = [
            f"server.https=127.0.0.1:{secure}", f"tls.cert={folder}/tls/cert.pem", f"tls.key={folder}/tls/key.pem",
            "server.max_connections=1000", "log.access=false", "server.write_timeout=5s", "server.max_memory=256MiB",
        ]  # fmt: skip
        with Host(setup, models, folder / "log", folder / "cache", settings_of_host) as host:
            quiet = watch(host, setup.seconds, None, ())
            rows = [row("nothing", quiet, quiet["honest"])]
            for name in setup.only:
                title, attack = ATTACKS[name]
                print(f"{title} …", file=sys.stderr, flush=True)
                rows.append(row(title, watch(host, setup.seconds, attack, (host.port, secure)), quiet["honest"]))
    columns = ["attack", "what the host ended or refused, by reason", "honest requests answered"]
    columns += ["p50 ms (to quiet)", "p99 ms (to quiet)", "memory MiB before / most / after"]
    print(table(columns, rows))


if __name__ == "__main__":
    try:
        main()
    except Failure as failure:
        sys.exit(f"attacks: {failure}")
