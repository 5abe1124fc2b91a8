"""gRPC against HTTP: the same tensors to the same models in every form, one request after another.

What is told first is the host's own processor time for a request, which does not depend on the client: a client of
gRPC in Python costs more than the host does. Forms take turns, so that all see the same machine.
"""

import json
import os
import shutil

from processes import ROOT, Failure, Host, cpu_seconds, output
from tables import figure, median, table

FORMS = ("HTTP binary", "HTTP JSON", "gRPC raw", "gRPC typed", "gRPC stream")
# The model and the shape of its input: 64 bytes there and 16 back, 600 kB each way.
CASES = {"tiny": [1, 16], "big": [1, 3, 224, 224]}


def python():
    """The Python that has grpcio."""
    path = os.environ.get("NUKE_TEST_PYTHON")
    if not path:
        raise Failure("set NUKE_TEST_PYTHON to a Python with tests/python/requirements.txt: it has the client of gRPC")
    return path


def measure(setup, folder):
    models = folder / "protocol-models"
    for model in CASES:
        shutil.copytree(ROOT / f"tests/fixtures/models/{model}", models / model)
    found = {}
    with Host(setup, models, folder / "protocols.log", folder / "cache", ["log.access=false"]) as host:
        for _ in range(setup.rounds):
            for model, shape in CASES.items():
                for form in FORMS:
                    turn = one(setup, host, form, model, shape)
                    found.setdefault(model, {}).setdefault(form, []).append(turn)
    return found


def one(setup, host, form, model, shape):
    """One client of one form for some seconds."""
    before = (cpu_seconds(host.pid), host.served())
    script = ROOT / "tests/bench/protocols_client.py"
    printed = output([python(), script, host.port, form, model, json.dumps(shape), setup.seconds])
    after = (cpu_seconds(host.pid), host.served())
    turn = json.loads(printed)
    turn["cpu_us"] = (after[0] - before[0]) / max(1, after[1] - before[1]) * 1e6
    return turn


def markdown(result):
    columns = ["form", "bytes sent", "host CPU µs", "to HTTP binary", "(turns)", "p50 µs in the client", "to HTTP binary"]
    parts = []
    for model, forms in result.items():
        rows = []
        base = forms[FORMS[0]]
        for form, turns in forms.items():
            ratios = [turn["cpu_us"] / other["cpu_us"] for turn, other in zip(turns, base)]
            waits = [turn["p50_us"] / other["p50_us"] for turn, other in zip(turns, base)]
            rows.append(
                [form, turns[0]["bytes"], median([turn["cpu_us"] for turn in turns]), f"{median(ratios):.2f}"]
                + [f"{min(ratios):.2f} to {max(ratios):.2f}", median([turn["p50_us"] for turn in turns])]
                + [f"{median(waits):.2f}"]
            )
        count = sum(turn["requests"] for turns in forms.values() for turn in turns)
        parts.append(f"`{model}`, one client, {figure(count)} requests:\n\n{table(columns, rows)}")
    return "\n\n".join(parts)
