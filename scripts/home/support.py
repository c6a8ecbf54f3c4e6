"""A Mosquitto and the program on loopback, each started and stopped as a test needs it."""

import contextlib
import inspect
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback

BOX = "shop"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait(what, seen, seconds=120):
    """What `seen` returns once that is true."""
    end = time.monotonic() + seconds
    while True:
        found = seen()
        if found:
            return found
        if time.monotonic() > end:
            raise AssertionError(f"no {what} within {seconds} s")
        time.sleep(0.05)


class Mosquitto:
    """A broker in a folder of its own."""

    def __init__(self, *options, port=None, persistent=True):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="mosquitto-"))
        # Mosquitto gives up root's rights and must read and write there all the same.
        self.folder.chmod(0o777)
        self.port = port or free_port()
        lines = [f"listener {self.port} 127.0.0.1", f"log_dest file {self.folder}/log"]
        if not any("password_file" in option for option in options):
            lines.append("allow_anonymous true")
        if persistent:
            lines += ["persistence true", f"persistence_location {self.folder}/", "autosave_interval 1"]
        self.config = self.folder / "mosquitto.conf"
        self.config.write_text("\n".join([*lines, *options]) + "\n")
        self.process = None

    @property
    def url(self):
        return f"mqtt://127.0.0.1:{self.port}"

    def start(self):
        self.process = subprocess.Popen(
            ["mosquitto", "-c", self.config], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

        def listens():
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", self.port)) == 0

        wait("Mosquitto", listens)
        return self

    def stop(self, how=signal.SIGTERM):
        if self.process:
            self.process.send_signal(how)
            self.process.wait(10)
            self.process = None

    def pause(self):
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self):
        self.process.send_signal(signal.SIGCONT)

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        if self.process:
            self.process.send_signal(signal.SIGCONT)
            self.stop(signal.SIGKILL)
        shutil.rmtree(self.folder, ignore_errors=True)

    def log(self):
        return (self.folder / "log").read_text(errors="replace")

    def publish(self, topic, payload=None, file=None, retain=False, login=()):
        what = ["-f", file] if file else ["-m", payload] if payload else ["-n"]
        command = ["mosquitto_pub", "-h", "127.0.0.1", "-p", str(self.port), "-q", "1", "-t", topic]
        subprocess.run([*command, *what, *(["-r"] if retain else []), *login], check=True, timeout=30)

    def retained(self, topic, login=()):
        """What is retained at `topic`, or nothing."""
        command = ["mosquitto_sub", "-h", "127.0.0.1", "-p", str(self.port), "-t", topic, "-C", "1", "-W", "1"]
        got = subprocess.run([*command, "--retained-only", "-N", *login], capture_output=True, timeout=30)
        return got.stdout.decode(errors="replace").strip()


class SlowLine:
    """A line to a port of this machine that carries so many bytes a second in each direction."""

    def __init__(self, port, pace):
        self.port, self.pace = port, pace
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"mqtt://127.0.0.1:{self.listening.getsockname()[1]}"
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                near, _ = self.listening.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self.port))
            for source, target in ((near, far), (far, near)):
                threading.Thread(target=self.carry, args=(source, target), daemon=True).start()

    def carry(self, source, target):
        try:
            while part := source.recv(self.pace // 10):
                time.sleep(len(part) / self.pace)
                target.sendall(part)
        except OSError:
            pass
        for end in (source, target):
            end.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listening.close()


class Listener:
    """Hears everything below `topic`, with the time at which it came."""

    def __init__(self, broker, topic="#", login=()):
        command = ["mosquitto_sub", "-h", "127.0.0.1", "-p", str(broker.port), "-t", topic, "-F", "%U %r %t %p"]
        self.file = tempfile.TemporaryFile()
        self.process = subprocess.Popen([*command, *login], stdout=self.file, stderr=subprocess.DEVNULL)
        time.sleep(0.3)

    def heard(self, topic):
        """The payloads that came at `topic`, oldest first."""
        self.file.seek(0)
        lines = self.file.read().decode(errors="replace").splitlines()
        messages = [line.split(" ", 3) for line in lines]
        return [message[3] for message in messages if len(message) == 4 and message[2] == topic]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def filled(broker):
    """Takes all connections that a broker with `max_connections 1` has left, which are up to three: Mosquitto 2.0 counts twice who
    goes, as whoever has looked whether it listens."""
    with contextlib.ExitStack() as listeners:
        for _ in range(3):
            listeners.enter_context(Listener(broker))
        wait("the refusal", lambda: "max_connections exceeded" in broker.log())
        yield


class Process:
    """A process with a `folder` of its own, where what it says is in `err`; both are gone after `with`."""

    def said(self):
        return (self.folder / "err").read_text()

    def end(self, how=signal.SIGTERM):
        self.process.send_signal(how)
        return self.process.wait(20)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


class Program(Process):
    """`edge-rlp classify` on drawn pictures, reporting to a broker."""

    def __init__(self, binary, url, *flags, every="200ms", env=None, home=None):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="edge-rlp-"))
        labels = "airplane apple banana bell bicycle book bottle bus butterfly cactus car cat".split()
        (self.folder / "labels.txt").write_text("\n".join(labels) + "\n")
        self.out = open(self.folder / "out", "w")
        self.err = open(self.folder / "err", "w")
        command = [binary, "classify", "--camera", "demo", "--labels", self.folder / "labels.txt", "--json"]
        command += ["--every", every, "--home", home or self.folder / "home", "--mqtt", url, "--mqtt-box", BOX]
        self.process = subprocess.Popen(
            [*command, *flags], stdout=self.out, stderr=self.err, env={**os.environ, **(env or {})}
        )

    def labels(self):
        lines = (self.folder / "out").read_text().splitlines()
        return [json.loads(line)["label"] for line in lines if line.endswith("}")]


class Served(Process):
    """`edge-rlp serve` with this configuration, and prompts that have labels and were not trained."""

    def __init__(self, binary, config, prompts, home=None):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="edge-rlp-"))
        self.home = pathlib.Path(home or self.folder / "home")
        for prompt, labels in prompts.items():
            self.write_labels(prompt, labels)
        self.file = self.folder / "edge-rlp.toml"
        self.file.write_text(config)
        self.err = open(self.folder / "err", "w")
        command = [binary, "serve", "--config", self.file, "--home", self.home, "--listen", "127.0.0.1:0"]
        self.process = subprocess.Popen(command, stdout=self.err, stderr=self.err)

    def write_labels(self, prompt, labels):
        folder = self.home / "shots" / prompt
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "labels.txt").write_text("\n".join(labels) + "\n")

    def relabel(self, prompt, labels):
        self.write_labels(prompt, labels)
        self.process.send_signal(signal.SIGHUP)

    def config(self):
        return self.file.read_text()

    def configure(self, config):
        self.file.write_text(config)
        self.process.send_signal(signal.SIGHUP)


STATUS = f"edge-rlp/{BOX}/demo/status"
STATE = f"edge-rlp/{BOX}/demo/whole/state"


def changes(labels):
    """Labels, less those that are the same as the one before."""
    return [label for index, label in enumerate(labels) if index == 0 or labels[index - 1] != label]


def certificates():
    """An authority, a broker's certificate for localhost, a client's, and another authority."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="certificates-"))
    folder.chmod(0o755)

    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], check=True, capture_output=True, cwd=folder)

    for authority in ("ca", "other"):
        openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", f"/CN={authority}",
                "-keyout", f"{authority}.key", "-out", f"{authority}.pem")
    for name, alternative in (("localhost", "DNS:localhost"), ("elsewhere", "DNS:elsewhere.example"), ("client", "DNS:client")):
        openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr")
        (folder / "ext").write_text(f"subjectAltName={alternative}\n")
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "30",
                "-extfile", "ext", "-out", f"{name}.pem")
    for file in folder.iterdir():
        file.chmod(0o644)
    return folder


def quick(test):
    """Marks a test that `--quick` runs: together they take a minute."""
    test.is_quick = True
    return test


def run(names, words):
    """Runs the tests among `names` whose own name has these words, or with `--quick` those so marked, and ends with how that went."""
    only_quick = words == ["--quick"]
    wanted = "" if only_quick else " ".join(words).replace(" ", "_")
    tests = [
        (name, test)
        for name, test in names.items()
        if name.startswith("test_") and wanted in name and not inspect.signature(test).parameters
        if not only_quick or hasattr(test, "is_quick")
    ]
    if not tests:
        sys.exit(f"no test has {wanted!r} in its name")
    passed, failed = 0, 0
    for name, test in tests:
        start = time.monotonic()
        try:
            test()
            passed += 1
            print(f"ok      {name[5:]} ({time.monotonic() - start:.1f} s)", flush=True)
        except Exception:
            failed += 1
            print(f"FAILED  {name[5:]}", flush=True)
            traceback.print_exc()
    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed else 0)
