"""What it costs to ask who asks: a tiny model's requests to a host that wants credentials, against the same requests to
one that does not, in turns."""

import base64
import hashlib
import hmac
import json
import shutil
import time

from processes import ROOT, Host, load, output
from tables import table

CLIENTS = (1, 64)
SECRET = b"0123456789abcdef0123456789abcdef"
# More than any run asks for: the cost is that of counting.
LIMITS = ["limits.identity.requests=1000000/s", "limits.identity.concurrent=100000", "limits.identity.bytes=1GiB/s"]
LIMITS += ["limits.model.requests=1000000/s", "limits.model.concurrent=100000", "limits.model.bytes=1GiB/s"]


def measure(setup, folder):
    models = folder / "auth-models"
    shutil.copytree(ROOT / "tests/fixtures/models/tiny", models / "tiny")
    jwks, keys = folder / "jwks.json", folder / "keys.yaml"
    jwks.write_text(json.dumps({"keys": [{"kty": "oct", "alg": "HS256", "k": base64url(SECRET)}]}))
    made = json.loads(output([setup.nuke, "keys", "create", "bench", "--scope", "predict:*", "--json", "--file", keys]))
    token, key = ["--token", hs256()], ["--api-key", made["key"]]
    auth = [f"auth.jwt.jwks={jwks}", f"auth.api_keys.file={keys}"]
    ways = [
        ("token, verified before", auth, token),
        ("token, verified each time (HS256)", [*auth, "auth.jwt.cache=0ms"], token),
        ("API key", auth, key),
        ("token and all limits", [*auth, *LIMITS], token),
    ]
    rows = []
    with Host(setup, models, folder / "open.log", folder / "cache", ["log.access=false"]) as plain:
        for at, (name, settings, credentials) in enumerate(ways):
            log = folder / f"auth-{at}.log"
            with Host(setup, models, log, folder / "cache", ["log.access=false", *settings]) as host:
                rows += [one(setup, host, plain, name, credentials, clients) for clients in CLIENTS]
    return {"rows": rows}


def one(setup, host, plain, name, credentials, clients):
    row = load(
        setup, "--url", host.url, "--infer", "tiny", *credentials, "--concurrency", clients, "--duration",
        f"{setup.seconds}s", "--warmup", "1s", "--baseline", f"{plain.url}/v2/models/tiny/infer", "--slice", "1s",
    )  # fmt: skip
    return {
        "name": name,
        "clients": clients,
        "p50_us": [row[side]["service_time"]["p50_us"] for side in ("measured", "baseline")],
        "ratio": row["ratio"]["throughput"],
        "ratios": row["ratio"]["throughput_by_turn"],
    }


def base64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def hs256():
    """A token for a day."""
    claims = {"sub": "bench", "exp": int(time.time()) + 86400, "scope": "predict:*"}
    parts = [base64url(json.dumps(part).encode()) for part in ({"alg": "HS256", "typ": "JWT"}, claims)]
    message = ".".join(parts)
    return f"{message}.{base64url(hmac.new(SECRET, message.encode(), hashlib.sha256).digest())}"


def markdown(result):
    columns = ["shown", "clients", "with / without (requests a second)", "(turns)", "p50 with µs", "p50 without µs"]
    rows = []
    for row in result["rows"]:
        turns = f"{min(row['ratios']):.2f} to {max(row['ratios']):.2f}"
        rows.append([row["name"], row["clients"], f"{row['ratio']:.2f}", turns, *row["p50_us"]])
    return table(columns, rows)
