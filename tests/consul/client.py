"""Registers, reports, finds and deregisters with py-consul, while a proxy balances over what it registers.

Usage: client.py CONSUL PROXY SERVICE_PORT. CONSUL and PROXY are host:port; PROXY is where calls to `ledger` go.
"""

import sys
import threading
import time

import consul
import requests
from consul import Check

server, proxy, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
host, _, http = server.partition(":")
client = consul.Consul(host=host, port=int(http))


def until(what, question):
    deadline = time.monotonic() + 20
    while not question():
        assert time.monotonic() < deadline, f"after 20 s still not: {what}"
        time.sleep(0.05)


def healthy(service, **how):
    return [entry["Service"]["ID"] for entry in client.health.service(service, passing=True, **how)[1]]


def through_proxy():
    answer = requests.get(f"http://{proxy}/", timeout=10)
    return answer.text if answer.status_code == 200 else answer.status_code


def change_while_waiting(change, **how):
    """What a blocking query answers, and that it does so because of `change`."""
    index, _ = client.health.service("ledger")
    answers = []

    def wait():
        waiting = consul.Consul(host=host, port=int(http))
        answers.append(waiting.health.service("ledger", index=index, wait="60s", **how))

    thread = threading.Thread(target=wait)
    began = time.monotonic()
    thread.start()
    change()
    thread.join(20)
    assert not thread.is_alive() and time.monotonic() - began < 20
    assert int(answers[0][0]) > int(index), answers
    return answers[0][1]


assert client.status.leader() == server
assert client.catalog.datacenters() == ["dc1"]
assert client.agent.self()["Config"]["Datacenter"] == "dc1"

# A proxy that registered itself.
until("payments is found", lambda: healthy("payments") == ["payments-1"])
(payments,) = client.health.service("payments")[1]
assert payments["Service"]["Address"] == "127.0.0.1" and payments["Service"]["Port"] > 0
assert payments["Service"]["Meta"]["version"] == "v7", payments
assert "payments" in client.catalog.services()[1]

# Registered, and nobody has said yet that it is well.
assert through_proxy() == 503
ledger = {"service_id": "ledger-1", "port": port, "tags": ["blue"], "meta": {"team": "money"}}
assert client.agent.service.register("ledger", check=Check.ttl("60s"), **ledger)
assert client.agent.services()["ledger-1"]["Tags"] == ["blue"]
assert client.agent.checks()["service:ledger-1"]["Status"] == "critical"
assert client.catalog.services()[1]["ledger"] == ["blue"]
assert healthy("ledger") == []

found = change_while_waiting(lambda: client.agent.check.ttl_pass("service:ledger-1", notes="all is well"))
assert found[0]["Checks"][0]["Output"] == "all is well", found
assert healthy("ledger", tag="blue") == ["ledger-1"] and healthy("ledger", tag="red") == []
until("the proxy sends requests to it", lambda: through_proxy() == "the ledger")

assert client.agent.check.ttl_warn("service:ledger-1")
assert healthy("ledger") == [] and through_proxy() == "the ledger"
assert client.agent.check.ttl_fail("service:ledger-1")
until("the proxy leaves it out", lambda: through_proxy() == 503)
assert client.agent.check.ttl_pass("service:ledger-1")
until("the proxy has it again", lambda: through_proxy() == "the ledger")

# A check that is not reported in time.
lapse = lambda: client.agent.check.register("alive", Check.ttl("1s"), service_id="ledger-1", check_id="alive")
assert lapse() and client.agent.check.ttl_pass("alive")
found = change_while_waiting(lambda: None)
status = {check["CheckID"]: check["Status"] for check in found[0]["Checks"]}
assert status == {"alive": "critical", "service:ledger-1": "passing"}, found
assert [check["CheckID"] for check in client.health.state("critical")[1]] == ["alive"]
assert client.agent.check.deregister("alive")
assert [check["CheckID"] for check in client.health.checks("ledger")[1]] == ["service:ledger-1"]

# Checks that are run by the server.
url = f"http://127.0.0.1:{port}/"
for name, check, well in [
    ("by-http", Check.http(url, "1s", timeout="2s"), True),
    ("by-tcp", Check.tcp("127.0.0.1", port, "1s"), True),
    ("ill", Check.http(url + "nowhere", "1s"), False),
]:
    assert client.agent.service.register(name, port=port, check=check)
    until(f"{name} is checked", lambda: client.agent.checks()[f"service:{name}"]["Output"] != "")
    assert healthy(name) == ([name] if well else []), client.health.service(name)
    assert client.agent.service.deregister(name)
try:
    client.agent.service.register("by-grpc", port=port, check=Check.grpc(f"127.0.0.1:{port}", "1s"))
    raise SystemExit("a check by gRPC was taken")
except consul.exceptions.BadRequest as refusal:
    assert "gRPC checks are not run here" in str(refusal), refusal

assert [node["ServiceID"] for node in client.catalog.service("ledger")[1]] == ["ledger-1"]
assert change_while_waiting(lambda: client.agent.service.deregister("ledger-1")) == []
assert "ledger" not in client.catalog.services()[1]
until("the proxy has heard of it", lambda: through_proxy() == 503)
assert not client.agent.service.deregister("ledger-1")
print("done")
