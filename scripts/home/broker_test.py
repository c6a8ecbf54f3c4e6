#!/usr/bin/env python3
"""Reports of `edge-rlp classify --mqtt` to a real Mosquitto: what arrives, and every fault of a broker that was thought of.

    scripts/home/broker_test.py target/release/edge-rlp [WORDS OF A TEST'S NAME | --quick]

Mosquitto, its clients and openssl must be installed (scripts/home-test.sh does that). Everything stays on loopback.
"""

import json
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

from support import BOX, STATE, STATUS, Listener, Mosquitto, Program, Served, SlowLine, certificates, changes, filled, quick, run, wait

BINARY = pathlib.Path(sys.argv[1]).resolve()


def program(broker, *flags, url=None, **more):
    return Program(BINARY, url or broker.url, *flags, **more)


def online(broker):
    wait("online", lambda: broker.retained(STATUS) == "online")


def states_are_those_that_are_printed(version):
    with Mosquitto() as broker, Listener(broker) as listener, program(broker, "--mqtt-version", version) as box:
        wait("ten states", lambda: len(changes(listener.heard(STATE))) >= 10, 60)
        assert box.end() == 0, box.said()
        time.sleep(0.3)
        heard, printed = changes(listener.heard(STATE)), changes(box.labels())
        # Until the box knows that no other one has its name it keeps the newest state alone.
        pieces = [printed[start : start + len(heard)] for start in range(min(len(printed), 12))]
        assert heard in pieces, (heard, printed)
        assert len(printed) - pieces.index(heard) - len(heard) <= 1, (heard, printed)
        events = [json.loads(event) for event in listener.heard(f"edge-rlp/{BOX}/demo/whole/event")]
        assert [event["to"] for event in events] == printed[: len(events)], (events, printed)
        attributes = json.loads(broker.retained(f"edge-rlp/{BOX}/demo/whole/attributes"))
        assert set(attributes) == {"score", "top", "prompt", "generation"}, attributes
        assert broker.retained(STATUS) == "offline"


def test_states_in_version_3():
    states_are_those_that_are_printed("3")


@quick
def test_states_in_version_5():
    states_are_those_that_are_printed("5")


def test_a_broker_that_comes_later():
    broker = Mosquitto()
    try:
        with program(broker) as box:
            wait("the warning", lambda: "nothing listens there" in box.said())
            wait("frames all the same", lambda: len(box.labels()) > 3)
            broker.start()
            online(broker)
            wait("the word", lambda: "reports arrive again" in box.said())
    finally:
        broker.__exit__()


def restarted(persistent, how):
    with Mosquitto(persistent=persistent) as broker, program(broker) as box:
        online(broker)
        broker.stop(how)
        count = len(box.labels())
        wait("frames while it is away", lambda: len(box.labels()) > count + 5)
        broker.start()
        with Listener(broker) as listener:
            online(broker)
            gap = wait("the gap", lambda: listener.heard(f"edge-rlp/{BOX}/demo/gap"))
            gap = json.loads(gap[0])
            assert gap["from"] < gap["until"] and gap["lost"] == 0, gap
            label = wait("a state", lambda: listener.heard(STATE))[-1]
            assert label in box.labels()
            assert broker.retained("homeassistant/device/#"), "discovery is there again"


@quick
def test_a_restart():
    restarted(True, signal.SIGTERM)


def test_a_restart_that_forgets_everything():
    restarted(False, signal.SIGKILL)


def test_a_broker_that_hangs_slows_nothing():
    with Mosquitto() as broker, program(broker, "--mqtt-snapshots", every="100ms") as box:
        online(broker)
        start, before = time.monotonic(), len(box.labels())
        time.sleep(5)
        usual = (len(box.labels()) - before) / (time.monotonic() - start)
        broker.pause()
        start, before = time.monotonic(), len(box.labels())
        time.sleep(10)
        hung = (len(box.labels()) - before) / (time.monotonic() - start)
        broker.go_on()
        print(f"    {usual:.1f} frames a second, {hung:.1f} while the broker hangs")
        assert hung > 0.8 * usual, (usual, hung)
        newest = lambda: broker.retained(STATE).strip() == box.labels()[-1]
        wait("the newest state", newest, 60)


def test_a_wrong_password():
    folder = pathlib.Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    passwords = folder / "passwords"
    passwords.touch()
    subprocess.run(["mosquitto_passwd", "-b", passwords, "box", "r1ght-pw"], check=True)
    passwords.chmod(0o644)
    with Mosquitto(f"password_file {passwords}") as broker:
        url = broker.url.replace("://", "://box@")
        login = ("-u", "box", "-P", "r1ght-pw")
        for version in ("3", "5"):
            flags = ("--mqtt-version", version)
            with program(broker, *flags, url=url, env={"EDGE_RLP_MQTT_PASSWORD": "wr0ng-pw"}) as box:
                wait("the warning", lambda: "refuses the user or the password" in box.said())
                assert "wr0ng" not in box.said()
            with program(broker, *flags, url=url, env={"EDGE_RLP_MQTT_PASSWORD": "r1ght-pw"}) as box:
                wait("online", lambda: broker.retained(STATUS, login) == "online")
                assert box.end() == 0


def test_a_user_who_may_not_write_there():
    folder = pathlib.Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    rules = folder / "acl"
    rules.write_text("topic read #\n")
    with Mosquitto(f"acl_file {rules}") as broker, program(broker) as box:
        wait("the warning", lambda: f"read and write edge-rlp/{BOX}/demo/#" in box.said())


def test_encryption_and_wrong_certificates():
    keys = certificates()

    def broker(name, *more):
        return Mosquitto(f"cafile {keys}/ca.pem", f"certfile {keys}/{name}.pem", f"keyfile {keys}/{name}.key", *more)

    def run(of, said, *flags):
        with program(of, *flags, url=f"mqtts://localhost:{of.port}") as box:
            wait(said, lambda: said in box.said())

    with broker("localhost") as encrypted:
        for version in ("3", "5"):
            run(encrypted, "reports arrive", "--mqtt-ca", keys / "ca.pem", "--mqtt-version", version)
        run(encrypted, "no authority that is trusted here", "--mqtt-ca", keys / "other.pem")
        run(encrypted, "no authority that is trusted here")
        with program(encrypted) as box:
            wait("a sentence", lambda: "perhaps it wants an encrypted one" in box.said())
    with broker("elsewhere") as wrong:
        run(wrong, "for another name", "--mqtt-ca", keys / "ca.pem")
    with broker("localhost", "require_certificate true") as strict:
        flags = ("--mqtt-ca", keys / "ca.pem")
        run(strict, "client's certificate", *flags)
        run(strict, "reports arrive", *flags, "--mqtt-cert", keys / "client.pem", "--mqtt-key", keys / "client.key")
    with Mosquitto() as plain:
        run(plain, "no TLS on that port", "--mqtt-ca", keys / "ca.pem")


def test_a_message_of_10_mb():
    with tempfile.NamedTemporaryFile() as file, Mosquitto() as broker, program(broker) as box:
        file.write(b"x" * (10 << 20))
        file.flush()
        online(broker)
        # Each program listens there.
        broker.publish(f"edge-rlp/{BOX}/demo/owner", file=file.name, retain=True)
        wait("the warning", lambda: "a message of 10485" in box.said())
        wait("the reports", lambda: "reports arrive again" in box.said())
        online(broker)
        count = len(box.labels())
        wait("frames", lambda: len(box.labels()) > count + 5)
        assert box.process.poll() is None
        broker.publish(f"edge-rlp/{BOX}/demo/index", file=file.name, retain=True)
        with open(f"/proc/{box.process.pid}/status") as status:
            peak = [line for line in status if line.startswith("VmHWM")]
        print(f"    {peak[0].strip()}")
        box.end()
        # Its next start reads it first.
        with program(broker) as again:
            wait("the reports", lambda: "reports arrive" in again.said())
            online(broker)


@quick
def test_malformed_messages():
    with Mosquitto() as broker, program(broker) as box:
        online(broker)
        for payload in ("{", "null", '{"instance":1}', "\x00\x01", '{"topics":["#"],"devices":{"#":{}}}', "[" * 500):
            for topic in ("owner", "index", "claim"):
                if "\x00" not in payload:
                    broker.publish(f"edge-rlp/{BOX}/demo/{topic}", payload, retain=True)
        count = len(box.labels())
        wait("frames", lambda: len(box.labels()) > count + 5)
        assert "panic" not in box.said() and box.end() == 0, box.said()
        assert broker.retained(STATUS) == "offline"
        with program(broker) as again:
            online(broker)
            assert "warning" not in again.said(), again.said()


@quick
def test_two_boxes_of_one_name():
    with Mosquitto() as broker, program(broker) as first:
        online(broker)
        with Listener(broker) as listener, program(broker, "--mqtt-version", "5") as second:
            wait("the refusal", lambda: "under the same name" in second.said())
            assert second.end(signal.SIGKILL) != 0
            time.sleep(1)
            assert "offline" not in listener.heard(STATUS), "the end of the second is not the first one's"
        assert "same name" not in first.said() and first.end() == 0


def test_a_command_waits_for_a_box_that_is_away():
    config = """[mqtt]\nurl = "{url}"\nbox = "shop"\nversion = {version}\n
[[camera]]\nname = "demo"\nsource = "demo"\nprompt = "things"\n"""
    for version in (3, 5):
        with Mosquitto() as broker:
            served = lambda: Served(BINARY, config.format(url=broker.url, version=version), {"things": ["cat", "car"]}, home=home)
            with tempfile.TemporaryDirectory() as home:
                with served() as box:
                    wait("online", lambda: broker.retained(f"edge-rlp/{BOX}/status") == "online")
                    box.end(signal.SIGKILL)
                wait("offline", lambda: broker.retained(f"edge-rlp/{BOX}/status") == "offline")
                broker.publish(f"edge-rlp/{BOX}/demo/whole/train", "PRESS")
                with served() as box:
                    wait("the command", lambda: "region whole: Train" in box.said())


@quick
def test_a_box_that_loses_its_power():
    with Mosquitto() as broker, program(broker) as box:
        online(broker)
        box.end(signal.SIGKILL)
        wait("offline", lambda: broker.retained(STATUS) == "offline")
        with program(broker):
            online(broker)


def test_a_broker_that_is_full():
    with Mosquitto("max_connections 1") as broker:
        with filled(broker), program(broker) as box:
            wait("the warning", lambda: "closed the connection" in box.said())
            before = len(box.labels())
            wait("that naming goes on", lambda: len(box.labels()) > before + 5)


def test_a_broker_on_a_slow_line():
    with Mosquitto() as broker, SlowLine(broker.port, 4000) as line:
        with Program(BINARY, line.url) as box:
            online(broker)
            wait("that naming goes on", lambda: len(box.labels()) > 20)
            # The newest state wins: it is not minutes behind.
            wait("the newest", lambda: broker.retained(STATE).strip() == box.labels()[-1])


def test_a_broker_that_takes_small_messages_only():
    with Mosquitto("message_size_limit 4000") as broker, program(broker, "--mqtt-snapshots") as box:
        online(broker)
        label = wait("states", lambda: broker.retained(STATE).strip())
        assert label and box.process.poll() is None


run(globals(), sys.argv[2:])
