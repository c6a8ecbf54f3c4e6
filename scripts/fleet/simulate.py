#!/usr/bin/env python3
"""Many boxes against one Mosquitto on loopback: how long until all have what is published, and what it costs.

    scripts/fleet/simulate.py [BOXES] [BYTES OF A NOTICE]

A box here is a connection that says what a real one says (`src/fleet/member.rs`): it connects with a last will, listens at the
two topics of its region, says that it is online, acknowledges a notice and reports, everything at least once (QoS 1). It verifies
and judges nothing: that is each box's own processor. It ends by itself after ten minutes at the latest. Bytes are those of the
loopback interface, with all headers of TCP and IP, over all boxes.
"""

import asyncio
import json
import pathlib
import resource
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "home"))
from support import Mosquitto  # noqa: E402

BOXES = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
NOTICE = int(sys.argv[2]) if len(sys.argv) > 2 else 11_500
GROUP, REGION = "shops/north", "shelf"
AT_ONCE = 200
LIMIT = 600


def text(content):
    content = content if isinstance(content, bytes) else content.encode()
    return len(content).to_bytes(2, "big") + content


def packet(head, body):
    length, rest = b"", len(body)
    while True:
        rest, digit = divmod(rest, 128)
        length += bytes([digit | (0x80 if rest else 0)])
        if not rest:
            return bytes([head]) + length + body


async def read_packet(reader):
    head = (await reader.readexactly(1))[0]
    length = shift = 0
    while True:
        byte = (await reader.readexactly(1))[0]
        length |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            return head, await reader.readexactly(length)


def publish(topic, payload, number):
    return packet(0x33, text(topic) + number.to_bytes(2, "big") + payload)


class Client:
    def __init__(self, name, port):
        self.name, self.port = name, port
        self.got, self.reported = None, None
        self.waiting = {}

    async def connect(self):
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
        will = text(f"edge-rlp-fleet/online/{self.name}/{GROUP}") + text("offline")
        self.writer.write(packet(0x10, text("MQTT") + bytes([4, 0b0010_1110]) + (300).to_bytes(2, "big") + text(self.name) + will))
        head, body = await read_packet(self.reader)
        assert head == 0x20 and body[1] == 0, (head, body)
        topics = [f"edge-rlp-fleet/{channel}/{GROUP}/{REGION}" for channel in ("prompt", "canary")]
        for number, topic in enumerate(topics, 1):
            self.writer.write(packet(0x82, number.to_bytes(2, "big") + text(topic) + b"\x01"))
        self.writer.write(publish(f"edge-rlp-fleet/online/{self.name}/{GROUP}", b"online", 3))
        self.online = asyncio.get_running_loop().create_future()
        self.task = asyncio.create_task(self.listen())
        await self.online

    async def listen(self):
        while True:
            head, body = await read_packet(self.reader)
            if head >> 4 == 3:
                length = int.from_bytes(body[:2], "big")
                if body[2 : 2 + length].startswith(b"edge-rlp-fleet/prompt"):
                    self.got = time.monotonic()
                    self.writer.write(packet(0x40, body[2 + length : 4 + length]))
                    self.writer.write(publish(f"edge-rlp-fleet/report/{self.name}/{GROUP}", report(self.name), 4))
            elif head >> 4 == 4:
                if body == b"\x00\x03":
                    self.online.set_result(None)
                else:
                    self.reported = time.monotonic()

    def ping(self):
        self.writer.write(b"\xc0\x00")


def report(name):
    region = {
        "region": REGION, "prompt": "default", "generation": 7, "state": "accepted",
        "said": "accepted, 71 -> 78 % on 40 own pictures", "before": 0.71, "after": 0.775, "pictures": 40,
        "at_unix": 1795000000, "trouble": None,
    }
    of = {"name": name, "group": GROUP, "program": "0.1.0", "at_unix": 1795000000, "regions": [region]}
    return json.dumps(of, separators=(",", ":")).encode()


def resident(process):
    lines = pathlib.Path(f"/proc/{process.pid}/status").read_text().splitlines()
    of = {line.split()[0]: int(line.split()[1]) for line in lines if line.startswith(("VmRSS", "VmHWM"))}
    return of["VmRSS:"] / 1024, of["VmHWM:"] / 1024


def loopback():
    folder = pathlib.Path("/sys/class/net/lo/statistics")
    return int((folder / "tx_bytes").read_text())


async def until(what, seen):
    end = time.monotonic() + 120
    while not seen():
        assert time.monotonic() < end, f"no {what} within 120 s"
        await asyncio.sleep(0.02)


async def simulate(broker):
    clients = [Client(f"shop-{number:05}", broker.port) for number in range(BOXES)]
    empty, _ = resident(broker.process)
    print(f"broker without a box: {empty:.1f} MiB")
    start, before = time.monotonic(), loopback()
    for first in range(0, BOXES, AT_ONCE):
        await asyncio.gather(*(client.connect() for client in clients[first : first + AT_ONCE]))
    connected, _ = resident(broker.process)
    joined = (loopback() - before) / BOXES
    print(f"{BOXES} boxes connected in {time.monotonic() - start:.1f} s, {joined:.0f} bytes each")
    print(f"broker with them: {connected:.1f} MiB, {1024 * (connected - empty) / BOXES:.1f} KiB a box")

    await asyncio.sleep(1)
    before = loopback()
    reader, writer = await asyncio.open_connection("127.0.0.1", broker.port)
    writer.write(packet(0x10, text("MQTT") + bytes([4, 2]) + (60).to_bytes(2, "big") + text("office")))
    await read_packet(reader)
    start = time.monotonic()
    writer.write(publish(f"edge-rlp-fleet/prompt/{GROUP}/{REGION}", b"n" * NOTICE, 1))
    await until("notice at all boxes", lambda: all(client.got for client in clients))
    times = sorted(client.got - start for client in clients)
    await until("report of all boxes", lambda: all(client.reported for client in clients))
    reported = max(client.reported for client in clients) - start
    share = {percent: times[max(0, BOXES * percent // 100 - 1)] for percent in (50, 99, 100)}
    spoken = (loopback() - before) / BOXES
    print(f"a notice of {NOTICE} bytes: " + ", ".join(f"{percent} % after {at:.2f} s" for percent, at in share.items()))
    print(f"all reports are in after {reported:.2f} s; {spoken:.0f} bytes a box for both")
    after, peak = resident(broker.process)
    print(f"broker then: {after:.1f} MiB, {peak:.1f} MiB at most")

    await asyncio.sleep(1)
    before = loopback()
    for client in clients:
        client.ping()
    await asyncio.sleep(3)
    ping = (loopback() - before) / BOXES
    hourly = len(report(clients[0].name)) + 2 * 66 + 80 + 60
    day = 288 * ping + 24 * hourly
    print(f"silence: {ping:.0f} bytes every 300 s; a report an hour, about {hourly} bytes: {day / 1024:.0f} KiB a box a day")
    print(f"a day with one notice and one connection: {(day + spoken + joined) / 1024:.0f} KiB a box")


def main():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = BOXES + 1000
    if hard != resource.RLIM_INFINITY and hard < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted))
        except (ValueError, PermissionError):
            sys.exit(f"{BOXES} boxes need {wanted} open files, and {hard} are allowed: raise `ulimit -n`, or simulate fewer boxes")
    else:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    with Mosquitto("max_connections -1", persistent=False) as broker:
        asyncio.run(asyncio.wait_for(simulate(broker), LIMIT))


main()
