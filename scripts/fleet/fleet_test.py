#!/usr/bin/env python3
"""Signed prompts over a real Mosquitto: what boxes take and refuse, and every fault of a broker that was thought of.

    scripts/fleet/fleet_test.py target/release/edge-rlp [WORDS OF A TEST'S NAME | --quick]

Mosquitto, its clients, openssl and minisign must be installed (scripts/fleet-test.sh does that). Everything stays on loopback.
"""

import atexit
import functools
import http.server
import json
import os
import pathlib
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "home"))
from support import Mosquitto, Process, Served, SlowLine, certificates, filled, quick, run, wait  # noqa: E402

BINARY = pathlib.Path(sys.argv[1]).resolve()
GROUP = "shops/north"
PROMPT, CANARY = f"edge-rlp-fleet/prompt/{GROUP}/shelf", f"edge-rlp-fleet/canary/{GROUP}/shelf"
MAGIC = b"\x89RLF\r\n\x1a\n"

ROOT = pathlib.Path(tempfile.mkdtemp(prefix="fleet-"))
atexit.register(shutil.rmtree, ROOT, ignore_errors=True)


def command(*arguments, home, env=None, check=0):
    """What the program prints as JSON."""
    ran = subprocess.run(
        [BINARY, *arguments, "--json", "--home", home], capture_output=True, text=True, timeout=300,
        env={**os.environ, **(env or {})},
    )
    assert check is None or ran.returncode == check, (ran.returncode, ran.stdout, ran.stderr)
    return [json.loads(line) for line in ran.stdout.splitlines()], ran.stderr


@functools.cache
def made():
    """Pictures, an owner with a key and two prompts, and a stranger with a key; or why there are none, in a sentence."""
    pictures, owner, stranger = ROOT / "pictures", ROOT / "owner", ROOT / "stranger"
    try:
        command("demo", "--out", pictures, "--condition", "peephole", "--shots", "8", "--test", "2", home=owner)
        for name, seed in (("shelf", "1"), ("second", "2")):
            command("adapt", "--images", pictures, "--prompt", name, "--seed", seed, "--steps", "40", "--force", home=owner)
        (key,), _ = command("fleet", "keygen", "--no-password", home=owner)
        command("fleet", "keygen", "--no-password", home=stranger)
    except subprocess.TimeoutExpired as late:
        return f"`{late.cmd[1]}` took longer than {late.timeout:.0f} s: is {BINARY} an optimised program (cargo build --release)?"
    except (AssertionError, OSError) as error:
        return str(error)
    shutil.copytree(owner / "prompts", stranger / "prompts")
    return pictures, owner, stranger, key["public_key"]


def material():
    """What `made` made. Where it could not, no test can run, and each would wait as long to find that out: this ends them all."""
    found = made()
    if isinstance(found, str):
        sys.exit(f"no test can run, for what they are about could not be made: {found}")
    return found


def publish(broker, name="shelf", *more, home=None, check=0, url=None, timeout="10s"):
    owner = home or material()[1]
    arguments = ("fleet", "publish", name, "--group", GROUP, "--region", "shelf", "--timeout", timeout)
    return command(*arguments, "--broker", url or broker.url, *more, home=owner, check=check)


def rollback(broker, *more, check=0):
    arguments = ("fleet", "rollback", "shelf", "--group", GROUP, "--timeout", "10s", "--broker", broker.url)
    return command(*arguments, *more, home=material()[1], check=check)


def status(broker, *more, check=0):
    arguments = ("fleet", "status", "--group", GROUP, "--timeout", "10s", "--broker", broker.url)
    return {of["box"]: of for of in command(*arguments, *more, home=material()[1], check=check)[0]}


class Box(Process):
    """`edge-rlp fleet follow` with a home of its own."""

    def __init__(self, broker, *flags, name="shop-1", shots=0, url=None, home=None, trusted=None):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="edge-rlp-box-"))
        self.home = home or self.folder / "home"
        if shots:
            pictures = material()[0]
            number = 0
            for label in sorted((pictures / "train").iterdir()):
                kept = self.home / "shots/default" / label.name
                kept.mkdir(parents=True)
                for file in sorted(label.iterdir())[:shots]:
                    number += 1
                    shutil.copy(file, kept / f"{number:06}.jpg")
        self.out, self.err = open(self.folder / "out", "w"), open(self.folder / "err", "w")
        arguments = [BINARY, "fleet", "follow", "shelf=default", "--group", GROUP, "--name", name, "--json"]
        arguments += ["--trusted", trusted or material()[3], "--home", self.home, "--broker", url or broker.url]
        self.process = subprocess.Popen([*arguments, *flags], stdout=self.out, stderr=self.err)

    def news(self, code=None):
        lines = (self.folder / "out").read_text().splitlines()
        news = [json.loads(line) for line in lines if line.endswith("}")]
        return [of for of in news if code is None or of["code"] == code]

    def has(self, code, count=1):
        return wait(f"{code} in {self.news()} {self.said()}", lambda: len(self.news(code)) >= count and self.news(code)[-1], 60)

    def generations(self):
        listed, _ = command("prompt", "list", home=self.home)
        return {of["prompt"]: of["sequence"] for of in listed}.get("default", 0)


def frame(signature, body):
    return MAGIC + struct.pack("<HHI", 1, len(signature), len(body)) + signature + body


def kept_notice(generation, home=None):
    """The bytes of a notice as they were published."""
    owner = home or material()[1]
    (file,) = (owner / "fleet/published").rglob(f"{generation:09}.rlpf")
    return file.read_bytes()


def retain(broker, content, topic=PROMPT, retain=True, login=()):
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        broker.publish(topic, file=file.name, retain=retain, login=login)


@quick
def test_a_prompt_is_published_taken_and_reported_on():
    with Mosquitto() as broker, Box(broker, shots=3) as box:
        box.has("connected")
        (published,), _ = publish(broker)
        accepted = box.has("accepted")
        assert "own pictures" in accepted["said"], accepted
        print(f"    {accepted['said']}")
        seen = wait("the report", lambda: (status(broker).get("shop-1") or {}).get("regions"))[0]
        assert seen["generation"] == published["generation"] and seen["state"] == "accepted", seen
        assert seen["before"] <= seen["after"] and seen["pictures"] == 36, seen
        assert status(broker)["shop-1"]["online"] is True
        box.end()
        wait("offline", lambda: status(broker)["shop-1"]["online"] is False)


def test_a_box_that_ends_uncleanly_is_offline():
    with Mosquitto() as broker, Box(broker) as box:
        wait("online", lambda: status(broker, check=None).get("shop-1", {}).get("online") is True)
        box.end(signal.SIGKILL)
        wait("offline", lambda: status(broker)["shop-1"]["online"] is False)


def test_a_box_that_comes_later_takes_what_is_kept_once():
    with Mosquitto() as broker:
        publish(broker)
        with Box(broker, "--once") as box:
            assert box.process.wait(60) == 0, box.said()
            assert box.news("unjudged"), box.news()
            with Box(broker, "--once", home=box.home) as again:
                assert again.process.wait(60) == 0, again.said()
                assert [of["code"] for of in again.news()] == ["connected"], again.news()
            assert box.generations() == 1


def test_versions_3_and_5_meet():
    with Mosquitto() as broker, Box(broker, "--mqtt-version", "5") as box:
        publish(broker)
        box.has("unjudged")
        publish(broker, "second", "--mqtt-version", "5")
        box.has("unjudged", 2)
        assert status(broker, "--mqtt-version", "5")["shop-1"]["online"]


@quick
def test_a_rollback_brings_the_earlier_prompt_back_and_its_replay_is_refused():
    with Mosquitto() as broker, Box(broker) as box:
        (first,), _ = publish(broker)
        box.has("unjudged")
        (second,), _ = publish(broker, "second")
        box.has("unjudged", 2)
        (back,), _ = rollback(broker)
        assert back["prompt_digest"] == first["prompt_digest"] and back["generation"] == second["generation"] + 1, back
        box.has("restored")
        retain(broker, kept_notice(second["generation"]))
        assert "old one was sent again" in box.has("older")["said"]
        shown, _ = command("prompt", "show", "default", home=box.home)
        assert shown[0]["digest"] == first["prompt_digest"]


def test_withdrawn_is_what_was_there_before():
    with Mosquitto() as broker, Box(broker) as box:
        publish(broker)
        box.has("unjudged")
        command("fleet", "withdraw", "shelf", "--group", GROUP, "--broker", broker.url, home=material()[1])
        assert "had no prompt before" in box.has("withdrawn")["said"]


def test_canaries_first():
    names = [f"shop-{number}" for number in range(12)]
    with Mosquitto() as broker:
        boxes = [Box(broker, name=name) for name in names]
        try:
            for box in boxes:
                box.has("connected")
            publish(broker, "shelf", "--canary", "30%")
            for box in boxes:
                wait("an answer", lambda box=box: box.news("waits") or box.news("unjudged"))
            first = [name for name, box in zip(names, boxes) if box.news("unjudged")]
            assert 0 < len(first) < 12, first
            print(f"    30 % of 12 boxes are {len(first)}")
            publish(broker)
            for box in boxes:
                wait("all", lambda box=box: box.news("unjudged") or box.news("accepted"))
            assert not broker.retained(CANARY)
        finally:
            for box in boxes:
                box.__exit__()


@quick
def test_every_stranger_is_refused_and_told():
    pictures, owner, stranger, _ = material()
    with Mosquitto() as broker, Box(broker) as box:
        box.has("connected")
        (first,), _ = publish(broker)
        box.has("unjudged")
        notice = kept_notice(first["generation"])
        signature = notice[16 : 16 + struct.unpack("<H", notice[10:12])[0]]
        body = notice[16 + len(signature) :]
        retain(broker, (owner / "prompts/second.rlp").read_bytes())
        box.has("unsigned")
        retain(broker, frame(b"", body))
        box.has("unsigned", 2)
        retain(broker, frame(signature, body.replace(b"publish", b"rollbac", 1)))
        box.has("forged")
        for nonsense in (b"hello", b"{}", notice[:-1], notice + b"x", os.urandom(4000), MAGIC):
            retain(broker, nonsense)
        box.has("malformed", 6)
        retain(broker, notice + b"x" * 70_000)
        box.has("too-large")
        # The broker keeps what anybody gives it; the boxes do not take it.
        (told,), said = publish(broker, home=stranger)
        assert told["not_trusted_by"] == ["shop-1"] and "shop-1 will refuse it" in said, (told, said)
        box.has("unknown-key")
        (shown,), _ = command("prompt", "show", "default", home=box.home)
        assert shown["digest"] == first["prompt_digest"]
        assert box.generations() == 1
        seen = status(broker)["shop-1"]["regions"][0]
        assert "does not trust" in seen["trouble"], seen
        # What comes next from the owner is taken all the same.
        publish(broker, "second")
        box.has("unjudged", 2)
        assert status(broker)["shop-1"]["regions"][0]["trouble"] is None


def of_another_model(owner):
    """Keeps the prompt `shelf` as `other`, as if it had been made on a model that no box has."""
    other = ROOT / "other.json"
    command("prompt", "export", "shelf", other, "--force", home=owner)
    record = json.loads(other.read_text())
    record["model"]["fingerprint"] = "ab" * 32
    other.write_text(json.dumps(record))
    command("prompt", "import", other, "--name", "other", "--force", home=owner)


def test_for_another_region_group_or_model():
    with Mosquitto() as broker, Box(broker) as box:
        box.has("connected")
        owner = material()[1]
        elsewhere = ("fleet", "publish", "shelf", "--broker", broker.url, "--timeout", "10s")
        command(*elsewhere, "--group", GROUP, "--region", "door", home=owner)
        command(*elsewhere, "--group", "shops/south", "--region", "shelf", home=owner)
        for topic in (f"edge-rlp-fleet/prompt/{GROUP}/door", "edge-rlp-fleet/prompt/shops/south/shelf"):
            got = subprocess.run(
                ["mosquitto_sub", "-p", str(broker.port), "-t", topic, "-C", "1", "-N", "-W", "5"], capture_output=True
            ).stdout
            retain(broker, got)
        box.has("other-region")
        box.has("other-group")
        of_another_model(owner)
        publish(broker, "other")
        assert "this box has default" in box.has("other-model")["said"]


class Web(http.server.ThreadingHTTPServer):
    """A folder over HTTP on loopback."""

    def __init__(self, folder):
        class Handler(http.server.SimpleHTTPRequestHandler):
            def log_message(self, *_):
                pass

        super().__init__(("127.0.0.1", 0), functools.partial(Handler, directory=folder))
        self.url = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, daemon=True).start()


def tiny_model(owner):
    """Imports a small model that no box has as `tiny`, and trains the prompt `of-tiny` for it: the bundle's file."""
    bundle = owner / "models/tiny.rlpm"
    if bundle.exists():
        return bundle
    repository = pathlib.Path(__file__).resolve().parent.parent.parent
    export = ROOT / "tiny"
    shutil.copytree(repository / "tests/fixtures/import/hf-sdpa-ts17", export)
    # CLIP's vocabulary, cut to what the fixture was made with: bytes, bytes that end a word, merges, two ends.
    printable = [*range(33, 127), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    letters = [chr(byte) for byte in printable] + [chr(0x100 + place) for place in range(256 - len(printable))]
    merges = (repository / "models/clip-merges.txt").read_text().splitlines()[:16]
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), *(merge.replace(" ", "") for merge in merges)]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    (export / "vocab.json").write_text(json.dumps({token: place for place, token in enumerate(tokens)}))
    (export / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    (export / "config.json").write_text('{"logit_scale": 20.0, "text_config": {"max_position_embeddings": 12}}')
    (export / "preprocessor_config.json").write_text('{"size": 24, "crop_size": 24, "resample": 3, "do_resize": true}')
    command("model", "import", export, "--name", "tiny", home=owner)
    labels = sorted(label.name for label in (material()[0] / "train").iterdir())
    (ROOT / "short.txt").write_text("".join(f"{name} = {name[:4]}\n" for name in labels))
    arguments = ("--labels", ROOT / "short.txt", "--template", "a {}", "--steps", "40", "--force")
    command("adapt", "--images", material()[0], "--model", "tiny", "--prompt", "of-tiny", *arguments, home=owner)
    return bundle


@quick
def test_a_model_that_is_not_there_is_fetched_and_its_prompt_judged_and_used():
    owner = material()[1]
    bundle = tiny_model(owner)
    web = Web(bundle.parent)
    url = f"{web.url}/tiny.rlpm"
    with Mosquitto() as broker, Box(broker, shots=3) as box:
        box.has("connected")
        (published,), _ = publish(broker, "of-tiny", "--bundle-url", url, "--bundle", bundle)
        accepted = wait("a verdict", lambda: box.news("accepted") or box.news("refused"))[0]
        assert accepted["code"] == "accepted" and "on 36 own pictures" in accepted["said"], accepted
        print(f"    {accepted['said']}")
        (fetched,) = (box.home / "models").glob("*.rlpm")
        assert fetched.read_bytes() == bundle.read_bytes()
        (shown,), _ = command("prompt", "show", "default", home=box.home)
        assert shown["digest"] == published["prompt_digest"]
        picture = next((material()[0] / "test").rglob("*.png"), None) or next((material()[0] / "test").rglob("*.*"))
        answer = command("classify", picture, "--threshold", "0", "--model", fetched, home=box.home)[0][0]
        assert answer["label"] in {of["label"] for of in answer["top"]}, answer
        # It is there now: the same again needs no server.
        web.shutdown()
        publish(broker, "of-tiny", "--bundle-url", url, "--bundle", bundle)
        wait("the next", lambda: "in use already" in box.news("accepted")[-1]["said"])
    web.server_close()


def test_a_server_of_models_that_is_away_is_tried_again():
    owner = material()[1]
    bundle = tiny_model(owner)
    web = Web(bundle.parent)
    web.shutdown()
    web.server_close()
    with Mosquitto() as broker, Box(broker) as box:
        box.has("connected")
        publish(broker, "of-tiny", "--bundle-url", f"{web.url}/tiny.rlpm", "--bundle", bundle)
        assert "could not be fetched" in box.has("trouble")["said"]
        assert "could not be fetched" in status(broker)["shop-1"]["regions"][0]["trouble"]
        assert not list((box.home / "models").glob("*.rlpm"))


def test_what_is_fetched_in_place_of_a_model_is_refused():
    owner = material()[1]
    folder = ROOT / "web"
    folder.mkdir(exist_ok=True)
    (folder / "wrong.rlpm").write_bytes(b"no model")
    shutil.copy(tiny_model(owner), folder / "right.rlpm")
    web = Web(folder)
    with Mosquitto() as broker, Box(broker) as box:
        # What is signed is no model.
        publish(broker, "of-tiny", "--bundle-url", f"{web.url}/wrong.rlpm", "--bundle", folder / "wrong.rlpm")
        assert "no model" in box.has("other-model")["said"], box.news()
        # Another file lies there than was signed, with as many bytes.
        swapped = bytearray((folder / "right.rlpm").read_bytes())
        swapped[-1] ^= 1
        (folder / "swapped.rlpm").write_bytes(swapped)
        publish(broker, "of-tiny", "--bundle-url", f"{web.url}/swapped.rlpm", "--bundle", folder / "right.rlpm")
        assert "SHA-256" in box.has("other-model", 2)["said"], box.news()
        assert not list((box.home / "models").glob("*.rlpm"))
    web.shutdown()
    web.server_close()


@quick
def test_a_broker_that_comes_later_and_one_that_restarts_and_forgets():
    broker = Mosquitto(persistent=False)
    try:
        with Box(broker) as box:
            assert "nothing listens there" in box.has("away")["said"]
            broker.start()
            box.has("connected")
            publish(broker)
            box.has("unjudged")
            broker.stop(signal.SIGKILL)
            box.has("away", 2)
            broker.start()
            box.has("connected", 2)
            # What the box has said is there again, and nothing was published anew.
            wait("the report", lambda: status(broker, check=None).get("shop-1", {}).get("regions"))
            (second,), _ = publish(broker, "second")
            assert second["generation"] > 1, second
            box.has("unjudged", 2)
    finally:
        broker.__exit__()


def test_a_broker_that_is_slow_or_hangs():
    with Mosquitto() as broker, Box(broker) as box:
        box.has("connected")
        broker.pause()
        start = time.monotonic()
        _, said = publish(broker, "shelf", check=1)
        assert "not reached" in said and time.monotonic() - start < 30, said
        broker.go_on()
        publish(broker)
        box.has("unjudged")


def test_a_broker_that_is_full():
    with Mosquitto("max_connections 1") as broker, Box(broker) as box:
        box.has("connected")
        with filled(broker):
            _, said = publish(broker, check=1, timeout="3s")
            assert "not reached" in said, said
        publish(broker)
        box.has("unjudged")
    # One that keeps small messages only keeps none of them; the box goes on with what it has.
    with Mosquitto("message_size_limit 2000") as broker, Box(broker) as box:
        box.has("connected")
        for version in ("3", "5"):
            _, said = publish(broker, "shelf", "--mqtt-version", version, check=1, timeout="5s")
            assert "does not pass the notice on" in said or "not reached" in said, said
        assert not broker.retained(PROMPT) and box.process.poll() is None
        command("fleet", "withdraw", "shelf", "--group", GROUP, "--broker", broker.url, home=material()[1])
        box.has("withdrawn")


def test_a_broker_on_a_slow_line():
    """4 KB a second in each direction: a notice takes seconds, and arrives whole."""
    with Mosquitto() as broker, SlowLine(broker.port, 4000) as line, Box(broker, url=line.url) as box:
        box.has("connected")
        publish(broker)
        box.has("unjudged")
        publish(broker, "second", url=line.url, timeout="60s")
        box.has("unjudged", 2)


def test_a_broker_that_refuses():
    folder = pathlib.Path(tempfile.mkdtemp(prefix="mosquitto-access-"))
    folder.chmod(0o755)
    passwords, rules = folder / "passwords", folder / "rules"
    passwords.touch()
    for user in ("shop-1", "office", "guest"):
        subprocess.run(["mosquitto_passwd", "-b", passwords, user, "secret"], check=True)
    # What docs/fleet.md says: a box reads, and writes only in its own name.
    rules.write_text(
        "user office\ntopic readwrite edge-rlp-fleet/#\n"
        "pattern read edge-rlp-fleet/prompt/#\npattern read edge-rlp-fleet/canary/#\n"
        "pattern write edge-rlp-fleet/report/%u/#\npattern write edge-rlp-fleet/online/%u/#\n"
    )
    for file in (passwords, rules):
        file.chmod(0o644)
    with Mosquitto("allow_anonymous false", f"password_file {passwords}", f"acl_file {rules}") as broker:
        url = f"mqtt://{{}}:secret@127.0.0.1:{broker.port}"
        with Box(broker) as anonymous:
            assert "refuses" in anonymous.has("away")["said"]
        with Box(broker, url=url.format("shop-1")) as box:
            publish(broker, url=url.format("office"))
            box.has("unjudged")
            _, said = publish(broker, "second", url=url.format("guest"), check=1, timeout="5s")
            assert "does not pass the notice on" in said, said
            kept = broker.retained(f"edge-rlp-fleet/report/shop-1/{GROUP}", ("-u", "office", "-P", "secret"))
            assert json.loads(kept)["regions"][0]["state"] == "unjudged", kept
    shutil.rmtree(folder)


def test_wrong_certificates():
    keys = certificates()

    def broker(name):
        return Mosquitto(f"cafile {keys}/ca.pem", f"certfile {keys}/{name}.pem", f"keyfile {keys}/{name}.key")

    with broker("localhost") as encrypted:
        url = f"mqtts://localhost:{encrypted.port}"
        with Box(encrypted, "--broker-ca", keys / "ca.pem", url=url) as box:
            publish(encrypted, "shelf", "--broker-ca", keys / "ca.pem", url=url)
            box.has("unjudged")
        with Box(encrypted, "--broker-ca", keys / "other.pem", url=url) as box:
            assert "no authority that is trusted here" in box.has("away")["said"]
        _, said = publish(encrypted, "shelf", url=url, check=1)
        assert "no authority that is trusted here" in said, said
    with broker("elsewhere") as wrong, Box(wrong, "--broker-ca", keys / "ca.pem", url=f"mqtts://localhost:{wrong.port}") as box:
        assert "for another name" in box.has("away")["said"]


def a_message_of_10_mb(version):
    with Mosquitto() as broker, Box(broker, "--mqtt-version", version) as box:
        publish(broker)
        box.has("unjudged")
        retain(broker, b"x" * (10 << 20), CANARY)
        if version == "3":
            box.has("too-large")
        # All other topics are heard.
        publish(broker, "second", "--mqtt-version", "5")
        box.has("unjudged", 2)
        with open(f"/proc/{box.process.pid}/status") as of_process:
            peak = [line for line in of_process if line.startswith("VmHWM")]
        print(f"    {peak[0].strip()}")
        with Box(broker, "--mqtt-version", version, name="shop-2") as later:
            later.has("unjudged")


@quick
def test_a_message_of_10_mb_in_version_3():
    a_message_of_10_mb("3")


def test_a_message_of_10_mb_in_version_5():
    a_message_of_10_mb("5")


def test_keys_of_minisign_and_keys_for_minisign():
    folder = ROOT / "minisign"
    folder.mkdir(exist_ok=True)
    subprocess.run(["minisign", "-G", "-W", "-p", folder / "m.pub", "-s", folder / "m.key"], check=True, capture_output=True)
    public = (folder / "m.pub").read_text().splitlines()[1]
    with Mosquitto() as broker, Box(broker, trusted=public) as box:
        publish(broker, "shelf", "--key", folder / "m.key")
        box.has("unjudged")
    generations = sorted((material()[1] / "fleet/published").rglob("*.rlpf"))
    notice = generations[-1].read_bytes()
    length = struct.unpack("<H", notice[10:12])[0]
    (folder / "body").write_bytes(notice[16 + length :])
    (folder / "body.minisig").write_bytes(notice[16 : 16 + length])
    verified = subprocess.run(["minisign", "-V", "-p", folder / "m.pub", "-m", folder / "body"], capture_output=True, text=True)
    assert verified.returncode == 0 and "Trusted comment: edge-rlp fleet" in verified.stdout, verified
    # A key that was made here, without a password, signs with the C program as well.
    signed = subprocess.run(
        ["minisign", "-S", "-s", material()[1] / "fleet/fleet.key", "-m", folder / "body", "-x", folder / "own.minisig"],
        capture_output=True, text=True,
    )
    assert signed.returncode == 0, signed
    verified = subprocess.run(
        ["minisign", "-V", "-P", material()[3], "-m", folder / "body", "-x", folder / "own.minisig"], capture_output=True, text=True
    )
    assert verified.returncode == 0, verified


@quick
def test_serve_follows_and_goes_on_with_what_is_published():
    labels = sorted(label.name for label in (material()[0] / "train").iterdir())
    with Mosquitto() as broker:
        config = (
            '[[camera]]\nname = "door"\nsource = "demo:peephole"\nevery = "500ms"\nprompt = "default"\n\n'
            f'[fleet]\nfollow = "{GROUP}"\ntrusted = ["{material()[3]}"]\nname = "shop-9"\n\n'
            f'[fleet.broker]\nurl = "{broker.url}"\n\n[fleet.regions]\nshelf = "default"\n'
        )
        with Served(BINARY, config, {"default": labels}) as box:
            wait("online", lambda: status(broker, check=None).get("shop-9", {}).get("online"))
            publish(broker)
            wait("it is in use", lambda: (box.home / "prompts/default.rlp").exists())
            wait("it is told", lambda: "taken unjudged" in box.said())
            box.configure(config.replace("shop-9", "shop-10"))
            wait("the other name", lambda: status(broker).get("shop-10", {}).get("online"))
            wait("the first is gone", lambda: status(broker)["shop-9"]["online"] is False)
            box.configure(config.replace('trusted = ["RW', 'trusted = ["XX'))
            wait("the fault", lambda: "is no public key" in box.said())
            assert box.end() == 0, box.said()


def test_wrong_usage_is_told_in_a_sentence():
    owner = material()[1]
    with Mosquitto() as broker:
        base = ("fleet", "publish", "shelf", "--broker", broker.url)
        for arguments, part in (
            ((*base, "--group", "shops//north"), "is no group"),
            ((*base, "--group", GROUP, "--canary", "200%"), "is no share"),
            ((*base, "--group", GROUP, "--key", ROOT / "none"), "fleet keygen"),
            ((*base[:-1], "localhost", "--group", GROUP), "write mqtt://HOST"),
            (("fleet", "keygen"), "--no-password"),
            (("fleet", "follow", "a=b", "c=b", "--group", "g", "--trusted", material()[3], "--broker", broker.url), "one region"),
            (("fleet", "follow", "a", "--group", "g", "--trusted", "RWQ", "--broker", broker.url), "is no public key"),
        ):
            _, said = command(*arguments, home=owner, check=2)
            assert part in said, (arguments, said)
        _, said = command("fleet", "keygen", "--no-password", home=owner, check=1)
        assert "--force" in said, said
        _, said = command("fleet", "status", "--group", "nobody", "--broker", broker.url, home=owner, check=3)
        assert "no box has said" in said, said


run(globals(), sys.argv[2:])
