#!/usr/bin/env python3
"""Traffic between versions: what a slow mirror costs the primary, how a rollout ends, how soon a bandit finds the
better arm, and what choosing a version costs a request.

    python3 tests/bench/traffic.py            some twenty minutes; as `run.py --only traffic`, with its options
    python3 tests/bench/traffic.py --quick    short: to see that it works, not for figures
"""

import collections
import http.client
import itertools
import json
import random
import shutil
import signal
import sys
import time

from processes import ROOT, Failure, Host, load, output
from swaps import Aside, infer_body, times, varint, verdict
from tables import figure, median, percent, table

DIGITS = ROOT / "models/digits/1/model.onnx"
TINY = ROOT / "tests/fixtures/models/tiny/1"
COMPONENTS = ("good", "slow", "fails-one-in-five")
# What `slow` counts to, and what it is made to count to here.
COUNTS, COUNTS_HERE = 10_000_000, 40_000_000
PATIENCE = 300
# The targets.
SLOWER, SHADOW, SEEN_BY, FOUND, CHOOSING = 50, 1.05, 0.02, 2000, 1.05
# A shadow's phases: the primary alone before and after the mirror, to tell chance from effect.
ALONE = {"strategy": "pinned", "version": "1"}
MIRRORED = {"strategy": "shadow", "primary": "1", "mirror": "2"}
PHASES = {
    "alone": ALONE,
    "default": MIRRORED,
    "again": ALONE,
    "unbounded": MIRRORED | {"budget": "100%", "max_in_flight": 4},
}
MIRRORS = {"again": "none, once more", "default": "budget 5 %, 1 in flight", "unbounded": "budget 100 %, 4 in flight"}
PACED, CLOSED = 400, 4
# Users of a rollout: so many, who ask so often a second together, by so many threads.
USERS, USERS_RATE, THREADS = 1000, 800, 8
BAD, GOOD, UNTIMED = "fails on 20 %", "the same as stable", "the same, `latency_ratio: null`"
ARMS = {"worse": ("1", 0.5), "better": ("2", 0.7)}
WINDOW, SHARE, AFTERWARDS, FEEDBACK_RATE, GIVE_UP = 200, 0.9, 1000, 200, 20_000


class Amounts:
    """How long and how often."""

    def __init__(self, quick):
        self.seconds, self.rounds = (2, 1) if quick else (10, 5)
        self.hold, self.rollouts, self.seeds = ("1s", 1, 1) if quick else ("5s", 3, 5)
        self.turns, self.costs = ("6s", 1) if quick else ("8s", 9)


class Client:
    """One kept connection to a host."""

    def __init__(self, host):
        self.connection = http.client.HTTPConnection("127.0.0.1", host.port, timeout=60)

    def ask(self, method, path, body=None, headers=()):
        """Status, headers, and the body."""
        self.connection.request(method, path, body, dict(headers))
        answer = self.connection.getresponse()
        return answer.status, answer.headers, answer.read()

    def expect(self, method, path, body=None, headers=()):
        """The answer's JSON, of a request that must succeed."""
        status, _, text = self.ask(method, path, json.dumps(body) if body is not None else None, headers)
        if status != 200:
            raise Failure(f"{method} {path}: {status} {text[:500].decode(errors='replace')}")
        return json.loads(text) if text else None

    def set_traffic(self, model, traffic):
        self.expect("PUT", f"/admin/models/{model}/traffic", traffic, {"content-type": "application/json"})

    def status(self, model):
        return self.expect("GET", f"/admin/models/{model}/traffic")["status"]


def digits(place, components, second):
    """A models folder with `digits`: version 1's plugin behaves, version 2's is given. Version 1 answers."""
    models = place / "models"
    for version, plugin in (("1", "good"), ("2", second)):
        folder = models / "digits" / version
        folder.mkdir(parents=True)
        shutil.copy(DIGITS, folder / "model.onnx")
        shutil.copy(components / f"{plugin}.wasm", folder / "plugin.wasm")
    (models / "digits/model.yaml").write_text(json.dumps({"versions": {"latest": 2}, "traffic": ALONE}))
    return models


def tinies(place, traffics):
    """A models folder with two versions of `tiny` by each name, and that traffic."""
    for name, traffic in traffics.items():
        for version in ("1", "2"):
            shutil.copytree(TINY, place / "models" / name / version)
        text = json.dumps({"versions": {"latest": 2}, "traffic": traffic})
        (place / "models" / name / "model.yaml").write_text(text)
    return place / "models"


def measure(setup, folder):
    amounts, components = Amounts(setup.quick), folder / "components"
    components.mkdir()
    output([setup.component, components, *COMPONENTS])
    slow_down(components / "slow.wasm")
    return {
        "shadow": shadow(setup, folder / "shadow", components, amounts),
        "rollouts": rollouts(setup, folder / "rollouts", components, amounts),
        "hold": amounts.hold,
        "bandit": bandit(setup, folder / "bandit", amounts),
        "choosing": choosing(setup, folder / "choosing", amounts),
    }


def slow_down(component):
    """Lets it count further: the number is there once, as an instruction `i32.const`."""
    number = lambda count: b"\x41" + varint(count)  # noqa: E731
    code = component.read_bytes()
    if code.count(number(COUNTS)) != 1 or len(number(COUNTS)) != len(number(COUNTS_HERE)):
        raise Failure(f"{component.name} does not count to {COUNTS} once")
    component.write_bytes(code.replace(number(COUNTS), number(COUNTS_HERE)))


def shadow(setup, place, components, amounts):
    """The primary alone and with its mirror in turns, round after round; paced, then in a closed loop."""
    models, body = digits(place, components, "slow"), place / "body.txt"
    body.write_text("x")
    asking = ["--predict", "digits", "--body", body, "--content-type", "text/plain"]
    with Host(setup, models, place / "host.log", place / "cache", ["log.access=false"]) as host:
        asking = ["--url", host.url, *asking]
        each = [load(setup, *asking, "--version", version, "--requests", 300) for version in ("1", "2")]
        alone = [times(row, "service_time")[0] for row in each]
        length = ["--duration", f"{amounts.seconds}s", "--warmup", "1s"]
        loads = {
            f"{PACED} a second": (["--rate", PACED], "response_time"),
            f"{CLOSED} clients": (["--concurrency", CLOSED], "service_time"),
        }
        rounds = {name: [] for name in loads}
        for _ in range(amounts.rounds):
            for name, (how, side) in loads.items():
                run = lambda: load(setup, *asking, *how, *length)  # noqa: B023, E731
                rounds[name].append({phase: one_phase(host, phase, run, side) for phase in PHASES})
    return {"alone_us": alone, "rounds": rounds}


def one_phase(host, phase, run, side):
    """p50 and p99 of the primary, and the copies that were made and not made."""
    client = Client(host)
    client.set_traffic("digits", PHASES[phase])
    time.sleep(0.5)  # Copies of the phase before come to their end.
    before = client.status("digits").get("shadow") or {"copied": 0, "skipped": 0, "different": 0}
    row = run()
    after = Client(host).status("digits").get("shadow") or before
    counts = {name: after[name] - before[name] for name in ("copied", "skipped", "different")}
    return {"us": times(row, side), "per_s": row["measured"]["throughput_per_s"], **counts}


class Users:
    """Users who ask `digits` at a steady rate, each known by a header; what each got, and when."""

    def __init__(self, host):
        self.host, self.answers = host, []
        self.threads = [Aside(self.work(number)) for number in range(THREADS)]

    def work(self, number):
        def asking(over):
            client, chance, gap = Client(self.host), random.Random(number), THREADS / USERS_RATE
            due = time.monotonic() + gap * number / THREADS
            while not over.wait(max(0, due - time.monotonic())):
                user, sent = chance.randrange(USERS), time.monotonic()
                headers = {"x-user": f"user {user}", "content-type": "text/plain"}
                status, answered, _ = client.ask("POST", "/predict/digits", b"x", headers)
                self.answers.append((sent, user, status, answered.get("x-nuke-model-version")))
                # Who is late does not hurry to catch up for longer than a moment.
                due = max(due + gap, sent - 1)

        return asking

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        for thread in self.threads:
            thread.over.set()
        for thread in self.threads:
            thread.__exit__()


def rollouts(setup, place, components, amounts):
    """Each canary so many times, every time with a host of its own."""
    canaries = {BAD: ("fails-one-in-five", {}), GOOD: ("good", {}), UNTIMED: ("good", {"latency_ratio": None})}
    places = (place / str(number) for number in itertools.count())
    return {
        name: [rollout(setup, next(places), components, *canary, amounts) for _ in range(amounts.rollouts)]
        for name, canary in canaries.items()
    }


def rollout(setup, place, components, canary, gates, amounts):
    """One rollout with the default steps, to its end, and what its users saw of it."""
    models = digits(place, components, canary)
    traffic = {"strategy": "rollout", "stable": "1", "canary": "2", "hold": amounts.hold, "gates": gates}
    traffic["sticky"] = "header:x-user"
    with Host(setup, models, place / "host.log", place / "cache", ["log.access=false"]) as host, Users(host) as users:
        client = Client(host)
        time.sleep(2)
        began = time.monotonic()
        client.set_traffic("digits", traffic)
        step, status = 0, client.status("digits")["rollout"]
        while status["phase"] == "running":
            if time.monotonic() - began > PATIENCE:
                raise Failure(f"a rollout that had not ended after {PATIENCE} s: {status['reason']}")
            step = status["step"]
            time.sleep(0.02)
            status = client.status("digits")["rollout"]
        ended, stood = time.monotonic(), client.status("digits")
        time.sleep(2)
    during = [answer for answer in users.answers if began <= answer[0] < ended]
    failed = [answer for answer in during if answer[2] != 200]
    latency = {arm["name"]: arm.get("latency") for arm in stood["arms"]}
    # A request that was under way when the rollout ended may yet have met the canary.
    later = [answer for answer in users.answers if answer[0] > ended + 0.25]
    return {
        "phase": status["phase"], "reason": status["reason"], "step": step, "took_s": ended - began,
        "latency_s": latency, "requests": len(during), "canary": sum(version == "2" for *_, version in during),
        "failed": len(failed), "users": len({user for _, user, *_ in failed}),
        "failed_later": sum(answer[2] != 200 for answer in later),
        "wrong_later": sum(answer[3] != ("2" if status["phase"] == "promoted" else "1") for answer in later),
    }  # fmt: skip


def bandit(setup, place, amounts):
    """Rewards by chance, posted after each answer: how many requests until the better arm has most of them."""
    arms = {name: {"version": version} for name, (version, _) in ARMS.items()}
    traffic = {"strategy": "bandit", "arms": arms, "reward": "feedback"}
    models = tinies(place, {f"tiny-{seed}": traffic for seed in range(1, amounts.seeds + 1)})
    with Host(setup, models, place / "host.log", place / "cache", ["log.access=false"]) as host:
        return [one_bandit(host, seed) for seed in range(1, amounts.seeds + 1)]


def one_bandit(host, seed):
    """The requests that it took, those among them that went to the worse arm, and the better one's share of those
    that came then."""
    client, chance, body = Client(host), random.Random(seed), infer_body("tiny")
    last, found, worse, better_after = collections.deque(maxlen=WINDOW), None, 0, 0
    began = time.monotonic()
    for count in range(1, GIVE_UP + 1):
        status, headers, text = client.ask("POST", f"/v2/models/tiny-{seed}/infer", body)
        arm = headers.get("x-nuke-traffic-arm")
        if status != 200 or arm not in ARMS:
            raise Failure(f"a bandit's answer: {status}, arm {arm}, {text[:500].decode(errors='replace')}")
        reward = {"arm": arm, "reward": float(chance.random() < ARMS[arm][1])}
        client.expect("POST", f"/admin/models/tiny-{seed}/feedback", reward, {"content-type": "application/json"})
        last.append(arm == "better")
        if found is None:
            worse += arm == "worse"
            found = count if len(last) == WINDOW and sum(last) > SHARE * WINDOW else None
        else:
            better_after += arm == "better"
            if count == found + AFTERWARDS:
                return {"seed": seed, "requests": found, "worse": worse, "afterwards": better_after / AFTERWARDS}
        time.sleep(max(0, began + count / FEEDBACK_RATE - time.monotonic()))
    return {"seed": seed, "requests": found, "worse": worse, "afterwards": None}


def choosing(setup, place, amounts):
    """A v2 request with other traffic against `latest`, in turns of a second within one run."""
    split = {"strategy": "split", "weights": {"1": 1, "2": 1}, "sticky": "header:x-user"}
    latest = {"strategy": "latest"}
    models = tinies(place, {"latest": latest, "again": latest, "split": split})
    rows = {"again": [], "split": []}
    with Host(setup, models, place / "host.log", place / "cache", ["log.access=false"]) as host:
        for turn in range(amounts.costs):
            for name in rows:
                rows[name].append(one_choice(setup, host, name, amounts.turns, f"user {turn}"))
    return rows


def one_choice(setup, host, name, seconds, user):
    """p50 of both sides."""
    row = load(
        setup, "--url", host.url, "--infer", name, "--header", f"x-user: {user}", "--concurrency", 1,
        "--duration", seconds, "--warmup", "1s", "--baseline", "/v2/models/latest/infer", "--slice", "500ms",
    )  # fmt: skip
    return [row[side]["service_time"]["p50_us"] for side in ("measured", "baseline")]


def markdown(result):
    slow, fast = (figure(value / 1e3) for value in reversed(result["shadow"]["alone_us"]))
    slower = result["shadow"]["alone_us"][1] / result["shadow"]["alone_us"][0]
    return "\n\n".join([
        f"**Shadow.** The primary's p99 with a mirror, over its p99 without one (the mean of before and after); median "
        f"of the rounds. Alone, the primary takes {fast} ms, the mirror {slow} ms (p50): {slower:.0f} times as long; "
        f"at least {SLOWER} wanted: {verdict(slower >= SLOWER)}.",
        shadow_table(result["shadow"]["rounds"]),
        f"**Rollout.** Steps 1, 10, 50, 100 %, `hold: {result['hold']}`, default gates but where it says otherwise; "
        f"{USERS} users by header, {USERS_RATE} requests a second. Target: the bad canary is rolled back in its first "
        f"step, seen by at most {percent(SEEN_BY)} of the users, and by nobody afterwards; a good one is promoted.",
        rollout_table(result["rollouts"]),
        reasons(result["rollouts"]),
        f"**Bandit.** Rewards of 1 with a chance of {ARMS['better'][1]} and {ARMS['worse'][1]}, posted after each of "
        f"{FEEDBACK_RATE} requests a second. Requests until the better arm has more than {percent(SHARE)} of the last "
        f"{WINDOW} ({WINDOW} is the least there can be), and its share of the {AFTERWARDS} after them.",
        bandit_table(result["bandit"]),
        "**Choosing.** p50 of a v2 request to `tiny`, 1 client, over that of a model with `strategy: latest` in the "
        "same run; median of the runs. The first row is chance: both sides are the same.",
        choosing_table(result["choosing"]),
    ])  # fmt: skip


def over_alone(one_round, phase, at):
    """A phase's figure over the primary's own: the mean of before and after; of these two, over each other."""
    before, after = (one_round[name]["us"][at] for name in ("alone", "again"))
    return after / before if phase == "again" else one_round[phase]["us"][at] / ((before + after) / 2)


def shadow_table(loads):
    columns = ["load", "mirror", "req/s", "p50 ms", "p99 ms", "p50 ratio", "p99 ratio", "(rounds)", "copies"]
    columns += ["not made", f"<= {SHADOW} x"]
    cells = []
    for name, rounds in loads.items():
        first = median([one["alone"]["per_s"] for one in rounds])
        millis = [median([one["alone"]["us"][at] for one in rounds]) / 1e3 for at in (0, 1)]
        cells.append([name, "none", first, *millis, "1", "1", "-", "-", "-", "-"])
        for phase, mirror in MIRRORS.items():
            middle = lambda of: median([of(one[phase]) for one in rounds])  # noqa: B023, E731
            millis = [middle(lambda run: run["us"][at]) / 1e3 for at in (0, 1)]  # noqa: B023
            by_round = [[over_alone(one, phase, at) for one in rounds] for at in (0, 1)]
            ratios = [median(values) for values in by_round]
            copies = ["-", "-"] if phase == "again" else [sum(one[phase][key] for one in rounds) for key in
                                                           ("copied", "skipped")]  # fmt: skip
            cells.append([name, mirror, middle(lambda run: run["per_s"]), *millis])
            cells[-1] += [*(f"{value:.2f}" for value in ratios), spread(by_round[1]), *copies]
            cells[-1].append(verdict(ratios[1] <= SHADOW) if phase == "default" else "-")
    return table(columns, cells)


def spread(values):
    return f"{min(values):.2f} to {max(values):.2f}"


def rollout_table(rollouts):
    columns = ["canary", "outcome", "at step", "after s", "requests", "of the canary", "failures seen"]
    columns += ["users who saw one", "failures later", "target"]
    cells = []
    for name, runs in rollouts.items():
        for run in runs:
            is_met = run["wrong_later"] == run["failed_later"] == 0
            if name != BAD:
                is_met = is_met and run["phase"] == "promoted" and run["failed"] == 0
            else:
                is_met = is_met and run["phase"] == "rolled_back" and run["step"] <= 1
                is_met = is_met and run["users"] <= SEEN_BY * USERS
            cells.append([name, run["phase"].replace("_", " "), run["step"], run["took_s"], run["requests"]])
            cells[-1] += [run["canary"], run["failed"], run["users"], run["failed_later"], verdict(is_met)]
    return table(columns, cells)


def reasons(rollouts):
    """In the host's words."""
    words = [f"- {name}: `{run['reason']}`" for name, runs in rollouts.items() for run in runs]
    return "\n".join(dict.fromkeys(words))


def bandit_table(runs):
    columns = ["seed", "requests", "of them to the worse arm", "share afterwards", f"<= {FOUND}"]
    cells = []
    for run in runs:
        found = run["requests"] or f"more than {GIVE_UP}"
        cells.append([str(run["seed"]), found, run["worse"], percent(run["afterwards"])])
        cells[-1].append(verdict(bool(run["requests"]) and run["requests"] <= FOUND))
    return table(columns, cells)


def choosing_table(rows):
    names = {"again": "`latest`, another model", "split": "`split` of two, `sticky: header:x-user`"}
    columns = ["traffic", "p50 µs", "`latest` p50 µs", "ratio", "(runs)", f"<= {CHOOSING} x"]
    cells = []
    for name, runs in rows.items():
        ratios = [measured / baseline for measured, baseline in runs]
        sides = [median([run[side] for run in runs]) for side in (0, 1)]
        cells.append([names[name], *sides, f"{median(ratios):.3f}", spread(ratios)])
        cells[-1].append(verdict(median(ratios) <= CHOOSING) if name == "split" else "-")
    return table(columns, cells)


if __name__ == "__main__":
    import run

    # Whatever ends this script, what it started is ended first.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(run.main(["--only", "traffic", *sys.argv[1:]]))
