#!/usr/bin/env python3
"""Measures a host against baselines in the same run, and prints Markdown for docs/performance.md.

    python3 tests/bench/run.py                 everything, some seventy minutes
    python3 tests/bench/run.py --quick         everything, short: to see that it works, not for figures
    python3 tests/bench/run.py --only calls    some parts: auth, cache, calls, isolation, lite0, ondemand, overhead, peers,
                                               photos, protocols, start, swaps, tiny, tls, traffic

Needs Python alone, but for protocols, whose client is one with the tests' packages (NUKE_TEST_PYTHON). The sample
plugins and ONNX Runtime must be there (`cargo xtask setup`, `cargo xtask plugins`), and for cache a redis-server
(NUKE_TEST_REDIS, or on the path); the host, the in-process program
(which auth, ondemand, swaps, tls, traffic and protocols do not need) and the maker of components (which traffic alone needs) are
built if no --nuke, --compare and --component are given. Everything is started on the loopback and ended by its
process id.
"""

import argparse
import datetime
import json
import os
import pathlib
import platform
import signal
import subprocess
import sys
import tempfile

import auth
import cache
import isolation
import lite0
import ondemand
import overhead
import peers
import photos
import protocols
import starts
import swaps
import tiny
import tls
import traffic
from processes import CORES, ROOT, Failure, compare, output
from tables import by_name


class Calls:
    """The cost of plugin calls: all of it is measured in process."""

    @staticmethod
    def measure(setup, _):
        calls = compare(setup, "calls", "--calls", setup.calls)
        ways = compare(setup, "preprocess", "--plugins", setup.plugins, "--runs", setup.calls // 10)
        return {"calls": calls, "preprocess": ways}

    @staticmethod
    def markdown(result):
        return f"{by_name(result['calls'])}\n\n{by_name(result['preprocess'])}"


PARTS = {
    "overhead": ("Host overhead, tiny model", overhead),
    "tls": ("TLS", tls),
    "tiny": ("Tiny model, as published", tiny),
    "auth": ("Authentication", auth),
    "cache": ("The answer cache", cache),
    "lite0": ("EfficientNet-Lite0, tensors in", lite0),
    "photos": ("Photo to labels", photos),
    "peers": ("Photo to labels, beside Python", peers),
    "calls": ("Plugin calls and preprocessing", Calls),
    "start": ("Start and memory", starts),
    "swaps": ("Swaps under load", swaps),
    "ondemand": ("Models on demand", ondemand),
    "traffic": ("Traffic", traffic),
    "isolation": ("Processes of their own", isolation),
    "protocols": ("gRPC and HTTP", protocols),
}
# What is measured from outside alone.
WITHOUT_COMPARE = {"auth", "isolation", "ondemand", "peers", "protocols", "swaps", "tls", "traffic"}


def arguments(words):
    as_written = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=as_written)
    parser.add_argument("--only", default=",".join(PARTS), help="parts, separated by commas")
    parser.add_argument("--quick", action="store_true", help="short runs: figures of no worth")
    parser.add_argument("--nuke", type=pathlib.Path, help="the host's binary")
    parser.add_argument("--compare", type=pathlib.Path, help="the in-process program, host/benches/compare")
    parser.add_argument("--component", type=pathlib.Path, help="the example `component` of nuke-tests")
    parser.add_argument("--plugins", type=pathlib.Path, default=ROOT / "target/plugins", help="built plugins")
    parser.add_argument("--against", type=pathlib.Path, help="another `nuke`, for the part tiny: held against --nuke")
    parser.add_argument("--json", type=pathlib.Path, help="also write all figures to this file")
    setup = parser.parse_args(words)
    unknown = set(setup.only.split(",")) - set(PARTS)
    if unknown:
        parser.error(f"--only: no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    setup.failures = []
    amounts = (1, 1, 2, 500) if setup.quick else (5, 3, 7, 5000)
    setup.seconds, setup.rounds, setup.starts, setup.calls = amounts
    return setup


def build(setup):
    """Builds what was not named."""
    parts = set(setup.only.split(","))
    needs_compare = not parts <= WITHOUT_COMPARE
    if not setup.nuke or (needs_compare and not setup.compare):
        made = cargo("--package", "nuke-host", "--bin", "nuke", *(["--bench", "compare"] if needs_compare else []))
        setup.nuke = setup.nuke or made["nuke"]
        setup.compare = setup.compare or made.get("compare")
    if "traffic" in parts and not setup.component:
        setup.component = cargo("--package", "nuke-tests", "--example", "component")["component"]


def cargo(*what):
    """Builds, and returns the programs by name."""
    command = ["cargo", "build", "--release", *what, "--message-format=json-render-diagnostics"]
    built = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=False)
    if built.returncode != 0:
        raise Failure(f"`{' '.join(command)}` failed")
    messages = [json.loads(line) for line in built.stdout.splitlines() if line.startswith(b"{")]
    return {m["target"]["name"]: pathlib.Path(m["executable"]) for m in messages if m.get("executable")}


def ensure_plugins(setup):
    for build_name in photos.BUILDS:
        if not list(setup.plugins.glob(f"{build_name}/*/plugin.wasm")):
            raise Failure(f"no plugin {build_name} in {setup.plugins}; run `cargo xtask plugins`")


def machine(setup):
    """One line that says where and with what the figures were made."""
    cpu = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":")[1].strip() for line in cpu if line.startswith("model name")), "")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    version = output([setup.nuke, "--version"]).strip()
    rustc = output(["rustc", "--version"]).strip()
    load = " ".join(f"{value:.2f}" for value in os.getloadavg())
    date = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    return (
        f"{date} · {model or platform.machine()}, {CORES} cores, {memory:.0f} GiB · {platform.system()} "
        f"{platform.release()} · {version} · {rustc} · load before: {load}"
    )


def main(words=None):
    # Whatever ends this script, what it started is ended first.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    setup = arguments(words)
    try:
        build(setup)
        ensure_plugins(setup)
        if "protocols" in setup.only.split(","):
            protocols.python()
        results = {"machine": machine(setup)}
        print(results["machine"], flush=True)
        with tempfile.TemporaryDirectory(prefix="nuke-bench-") as folder:
            for name in setup.only.split(","):
                title, part = PARTS[name]
                print(f"measuring: {title}", file=sys.stderr, flush=True)
                results[name] = part.measure(setup, pathlib.Path(folder))
                print(f"\n## {title}\n\n{part.markdown(results[name])}", flush=True)
        for failure in setup.failures:
            print(f"\nNot counted: {failure}", flush=True)
        results["failures"] = setup.failures
        if setup.json:
            setup.json.write_text(json.dumps(results, indent=1) + "\n")
    except Failure as failure:
        print(f"run.py: {failure}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
