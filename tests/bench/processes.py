"""Starts, watches and ends the programs that are measured. Everything is ended by its own process id."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
CORES = len(os.sched_getaffinity(0))
TICK = os.sysconf("SC_CLK_TCK")


class Failure(Exception):
    """A measurement that cannot be made; the text says why."""


def free_port():
    """A port of the loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def ask(port, path):
    """Status and body of a GET, or None if nobody answers."""
    request = f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nconnection: close\r\n\r\n"
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as stream:
            stream.sendall(request.encode())
            answer = b"".join(iter(lambda: stream.recv(65536), b""))
    except OSError:
        return None
    head, _, body = answer.partition(b"\r\n\r\n")
    words = head.split(None, 2)
    return (int(words[1]), body) if len(words) > 1 else None


def cpu_seconds(pid):
    """Processor time of a process so far."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def memory_mib(pid):
    """Resident memory: all of it, the process's own part of it, and the most there was."""
    lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    sizes = {line.split(":")[0]: int(line.split()[1]) / 1024 for line in lines if line.endswith(" kB")}
    return {"rss": sizes["VmRSS"], "own": sizes["RssAnon"], "peak": sizes["VmHWM"]}


class Child:
    """A program that runs until it is told to stop."""

    def __init__(self, command, log, **options):
        self.log = pathlib.Path(log)
        self.started = time.monotonic()
        with self.log.open("wb") as stderr:
            self.process = subprocess.Popen([str(word) for word in command], stderr=stderr, **options)
        self.pid = self.process.pid

    def ensure_running(self):
        if self.process.poll() is not None:
            tail = self.log.read_text(errors="replace")[-2000:]
            raise Failure(f"{self.process.args[0]} ended with code {self.process.returncode}:\n{tail}")

    def stop(self):
        """Asks it to end, and makes it after ten seconds."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe:
                pipe.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


def verdicts_of(cache):
    """The folder of what was found good, beside the compile cache of the same host."""
    return cache.with_name(f"{cache.name}-verdicts")


class Host(Child):
    """A running `nuke serve`, ready when the constructor returns."""

    PATIENCE = 120

    def __init__(self, setup, models, log, cache, settings=(), nuke=None):
        self.port = free_port()
        command = [nuke or setup.nuke, "serve", "--http", f"127.0.0.1:{self.port}", "--models", models]
        command += ["--plugins", setup.plugins, "--log-format", "json"]
        caches = (f"plugins.compile_cache={cache}", f"repository.validation.verdicts={verdicts_of(cache)}")
        for setting in (*caches, *settings):
            command += ["--set", setting]
        super().__init__(command, log, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        try:
            self.ready_after = self._wait()
        except BaseException:
            self.stop()
            raise

    def _wait(self):
        """Seconds from the start of the process to the first 200 of its readiness."""
        while time.monotonic() - self.started < self.PATIENCE:
            answer = ask(self.port, "/v2/health/ready")
            if answer and answer[0] == 200:
                return time.monotonic() - self.started
            self.ensure_running()
            time.sleep(0.002)
        raise Failure(f"the host was not ready after {self.PATIENCE} s; its log is {self.log}")

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def events(self, message):
        """The log's lines with this message."""
        lines = self.log.read_text(errors="replace").splitlines()
        events = [json.loads(line) for line in lines if line.startswith("{")]
        return [event for event in events if event.get("message") == message]

    def served(self):
        """Inference requests that were answered so far."""
        _, body = ask(self.port, "/metrics") or (0, b"")
        lines = [line for line in body.decode().splitlines() if line.startswith("nuke_requests_total{")]
        return int(sum(float(line.rpartition(" ")[2]) for line in lines))


class Echo(Child):
    """The bare server that sends each body back."""

    def __init__(self, setup, log):
        pipe = subprocess.PIPE
        super().__init__([setup.compare, "echo"], log, stdin=pipe, stdout=pipe)
        line = self.process.stdout.readline().decode().strip()
        if not line:
            self.process.wait()
            self.ensure_running()
        self.port = int(line.rpartition(":")[2])

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def served(self):
        """Bodies that were sent back so far."""
        return int((ask(self.port, "/") or (0, b"0"))[1])


def output(command):
    """What a program prints."""
    command = [str(word) for word in command]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT)
    try:
        printed, complaint = process.communicate()
    except BaseException:
        process.kill()
        process.wait()
        raise
    if process.returncode != 0:
        text = (printed + complaint).decode(errors="replace")[-2000:]
        raise Failure(f"{' '.join(command)} ended with code {process.returncode}:\n{text}")
    return printed.decode()


def load(setup, *arguments):
    """A run of `nuke bench`: its first row, and the processor time that the generator took. Requests
    that failed are told at the end of all tables; if half of them do, there is nothing to tell."""
    before = os.times()
    report = json.loads(output([setup.nuke, "bench", "--json", "--allow-errors", *arguments]))
    after = os.times()
    row = report["rows"][0]
    row["request"] = report["settings"]["request"]
    row["generator_cpu_s"] = after.children_user + after.children_system
    row["generator_cpu_s"] -= before.children_user + before.children_system
    row["wall_s"] = after.elapsed - before.elapsed
    for side in ("measured", "baseline"):
        failed = row[side]["failed"] if row[side] else 0
        if not failed:
            continue
        text = f"{failed} of {row[side]['requests']} requests failed: {row[side]['first_error']}"
        if failed > row[side]["succeeded"]:
            raise Failure(text)
        setup.failures.append(text)
    return row


def compare(setup, *arguments):
    """A table of the in-process program, by row name."""
    rows = json.loads(output([setup.compare, "--json", *arguments]))["rows"]
    return {name: dict(columns) for name, columns in rows}
