"""A TLS client on Python's own ssl: what a handshake agrees on, and load on new and kept connections.

    tls_client.py agree PORT CA     prints what was agreed on for each offer, as JSON
    tls_client.py load PORT CA      asks until its input ends, and prints whose certificate it sees again and again,
                                    then counts and failures as JSON
"""

import http.client
import json
import socket
import ssl
import sys
import threading


def context(ca, alpn=(), version=None):
    made = ssl.create_default_context(cafile=ca)
    if alpn:
        made.set_alpn_protocols(list(alpn))
    if version:
        made.minimum_version = made.maximum_version = version
    return made


def shake(port, made):
    with socket.create_connection(("127.0.0.1", port), timeout=30) as plain:
        with made.wrap_socket(plain, server_hostname="localhost") as secure:
            return [secure.version(), secure.selected_alpn_protocol()]


def agree(port, ca):
    told = {}
    for offer in (["h2", "http/1.1"], ["http/1.1"], [], ["spdy/3"]):
        try:
            told[",".join(offer)] = shake(port, context(ca, offer))
        except (ssl.SSLError, ConnectionError):
            told[",".join(offer)] = "refused"
    told["1.2"] = shake(port, context(ca, ["h2"], ssl.TLSVersion.TLSv1_2))
    try:
        old = context(ca, [], None)
        old.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
        old.maximum_version = ssl.TLSVersion.TLSv1_1
        old.set_ciphers("ALL:@SECLEVEL=0")
        told["1.1"] = shake(port, old)
    except (ssl.SSLError, ConnectionError, ValueError):
        told["1.1"] = "refused"
    asked = http.client.HTTPSConnection("localhost", port, context=context(ca), timeout=30)
    asked.request("GET", "/v2/health/live")
    told["status"] = asked.getresponse().status
    return told


# Answers on new connections and on kept ones for which the load says a line.
EACH = 5


class Load:
    """New connections on some threads, kept ones on others; everything that goes wrong is noted."""

    def __init__(self, port, ca):
        self.port, self.context = port, context(ca)
        self.stop = threading.Event()
        self.lock = threading.Lock()
        self.told = {"new": 0, "kept": 0, "reconnects": 0, "failed": [], "subjects": []}
        self.subject, self.next = None, EACH

    def connect(self):
        made = http.client.HTTPSConnection("localhost", self.port, context=self.context, timeout=30)
        made.connect()
        names = dict(pair[0] for pair in made.sock.getpeercert()["subject"])
        with self.lock:
            self.subject = names["commonName"]
            if self.subject not in self.told["subjects"]:
                self.told["subjects"].append(self.subject)
        return made

    def ask(self, connection, kind):
        connection.request("GET", "/v2/health/live")
        answer = connection.getresponse()
        answer.read()
        with self.lock:
            self.told[kind] += 1
            if answer.status != 200:
                self.told["failed"].append(f"{kind}: {answer.status}")
            if answer.will_close:
                self.told["reconnects"] += 1
            if min(self.told["new"], self.told["kept"]) >= self.next:
                self.next += EACH
                print(self.subject, flush=True)

    def fresh(self):
        while not self.stop.is_set():
            try:
                connection = self.connect()
                self.ask(connection, "new")
                connection.close()
            except Exception as error:  # whatever it is, the test has to see it
                with self.lock:
                    self.told["failed"].append(f"new: {error!r}")

    def kept(self):
        try:
            connection = self.connect()
            while not self.stop.wait(0.005):
                self.ask(connection, "kept")
        except Exception as error:
            with self.lock:
                self.told["failed"].append(f"kept: {error!r}")

    def run(self):
        threads = [threading.Thread(target=way) for way in (self.fresh, self.fresh, self.kept, self.kept)]
        for thread in threads:
            thread.start()
        sys.stdin.read()
        self.stop.set()
        for thread in threads:
            thread.join()
        return self.told


def main():
    what, port, ca = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    print(json.dumps(agree(port, ca) if what == "agree" else Load(port, ca).run()))


if __name__ == "__main__":
    main()
