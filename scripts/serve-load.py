#!/usr/bin/env python3
"""Load on `edge-rlp serve`, all of it on this machine: fake cameras that send motion JPEG over HTTP, viewers of moving
pictures, clients of the API, one who labels and one who listens to events.

    scripts/serve-load.py --binary target/release/edge-rlp --cameras 16 --viewers 8 --clients 50 --seconds 600

Needs Python and Pillow. Prints a table: how long naming took (from the process's own histogram, which tells buckets), how long
the API took, what viewers got, what was lost, and the memory, each minute and in all. Exit code 1 where something was lost
(a request that failed, a camera that is not live, a stream of pictures or events that ended or left something out, a labelled
picture that was confirmed and is not there) and where, in a run of three minutes or more, the memory of the last minute is
more than a tenth above that of the second.
"""

import argparse, asyncio, io, json, os, random, re, subprocess, sys, tempfile, time


def pictures(width, height, count, still):
    from PIL import Image, ImageDraw

    made = []
    for index in range(count):
        if still:
            random.seed(1)
        picture = Image.effect_noise((width, height), 30).convert("RGB")
        draw = ImageDraw.Draw(picture)
        for _ in range(6):
            x, y = random.randrange(width), random.randrange(height)
            colour = tuple(random.randrange(256) for _ in range(3))
            draw.ellipse([x, y, x + 120, y + 90], fill=colour)
        out = io.BytesIO()
        picture.save(out, "JPEG", quality=85)
        made.append(out.getvalue())
    return made


async def cameras(made, rates):
    """Cameras of all names; `rates` are those that do not send as many pictures a second as the rest, which is under None."""

    async def send(reader, writer):
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            rate = rates.get(head.split()[1].decode().lstrip("/"), rates[None])
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=b\r\n\r\n")
            index = random.randrange(len(made))
            while True:
                jpeg = made[index % len(made)]
                writer.write(b"--b\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(jpeg) + jpeg + b"\r\n")
                await writer.drain()
                index += 1
                await asyncio.sleep(1 / rate)
        except (ConnectionError, asyncio.CancelledError, asyncio.IncompleteReadError):
            pass

    server = await asyncio.start_server(send, "127.0.0.1", 0)
    return server, server.sockets[0].getsockname()[1]


class Load:
    def __init__(self, port):
        self.port, self.failed, self.latencies, self.frames, self.events = port, [], [], [], 0
        self.confirmed = []

    async def request(self, path, body=None):
        began = time.monotonic()
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        head = f"{'GET' if body is None else 'POST'} {path} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nConnection: close\r\n"
        if body is not None:
            head += f"Content-Type: image/jpeg\r\nContent-Length: {len(body)}\r\n"
        writer.write(head.encode() + b"\r\n" + (body or b""))
        answer = await asyncio.wait_for(reader.read(-1), 30)
        writer.close()
        self.latencies.append(time.monotonic() - began)
        if not re.match(rb"HTTP/1.1 20[01] ", answer):
            raise RuntimeError(f"{path}: {answer[:60]!r}")
        return answer.split(b"\r\n\r\n", 1)[1]

    async def labeller(self, made, until):
        while time.monotonic() < until:
            await asyncio.sleep(2)
            try:
                answer = await self.request("/api/v1/prompts/load/shots?label=mug", random.choice(made))
                self.confirmed += re.findall(rb'"id": ?"([^"]+)"', answer)
            except Exception as error:
                self.failed.append(f"labelling: {error}")

    async def missing(self):
        """Labelled pictures that were confirmed, and are not listed or cannot be had."""
        listed = {shot["id"] for shot in json.loads(await self.request("/api/v1/prompts/load/shots"))}
        gone = [shot.decode() for shot in self.confirmed if shot.decode() not in listed]
        for shot in self.confirmed:
            await self.request(f"/api/v1/prompts/load/shots/{shot.decode()}.jpg")
        return gone

    async def listener(self, until):
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(f"GET /api/v1/events HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\n\r\n".encode())
        while time.monotonic() < until:
            try:
                line = await asyncio.wait_for(reader.readline(), 30)
            except asyncio.TimeoutError:
                line = b""
            if not line:
                self.failed.append("the stream of events ended")
                break
            if line.startswith(b"event: lost"):
                self.failed.append("events were left out")
            self.events += line.startswith(b"event: ")
        writer.close()

    async def client(self, names, until):
        paths = ["/api/v1/cameras", "/api/v1/prompts", "/api/v1/recent?limit=5", "/metrics", "/healthz"]
        while time.monotonic() < until:
            await asyncio.sleep(random.uniform(0.5, 1.5))
            path = random.choice(paths + [f"/api/v1/cameras/{random.choice(names)}/snapshot.jpg?width=320"])
            try:
                await self.request(path)
            except Exception as error:
                self.failed.append(str(error))

    async def viewer(self, name, until):
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        path = f"/api/v1/cameras/{name}/stream.mjpeg?fps=10&width=640"
        writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\n\r\n".encode())
        count, began = 0, time.monotonic()
        while time.monotonic() < until:
            try:
                part = await asyncio.wait_for(reader.read(1 << 16), 15)
            except asyncio.TimeoutError:
                part = b""
            if not part:
                self.failed.append(f"the stream of {name} ended")
                break
            count += part.count(b"Content-Type: image/jpeg")
        self.frames.append(count / (time.monotonic() - began))
        writer.close()


def quantile(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(share * len(values)))] if values else float("nan")


def histogram(metrics):
    """Cumulated counts of all cameras by the upper end of the bucket."""
    found = {}
    for end, count in re.findall(r'edge_rlp_naming_seconds_bucket\{[^}]*le="([^"]+)"\} (\d+)', metrics):
        found[float(end.replace("+Inf", "inf"))] = found.get(float(end.replace("+Inf", "inf")), 0) + int(count)
    return found


def between(before, after, share):
    """The quantile in a bucket, its ends in milliseconds."""
    counts = {end: after[end] - before.get(end, 0) for end in after}
    wanted, low = share * counts[float("inf")], 0.0
    for end in sorted(counts):
        if counts[end] >= wanted:
            return f"{1000 * low:.0f} to {1000 * end:.0f} ms"
        low = end
    return "?"


def processor_time(pid):
    """Seconds of a core that the process has taken."""
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def of_camera(metrics, name, camera):
    found = re.search(rf'^{name}\{{camera="{camera}"[^}}]*\}} ([0-9.e+]+)$', metrics, re.M)
    return float(found.group(1)) if found else 0.0


def shares(first, last, cameras, seconds):
    """What was looked at and dropped of the pictures that some cameras sent, a second and camera: least, most, and the share."""
    def grown(name, camera):
        return of_camera(last, name, camera) - of_camera(first, name, camera)

    named = [grown("edge_rlp_frames_total", camera) / seconds for camera in cameras]
    sent = sum(grown("edge_rlp_frames_captured_total", camera) for camera in cameras)
    dropped = sum(grown("edge_rlp_frames_dropped_total", camera) for camera in cameras)
    return f"{min(named):.2f} to {max(named):.2f}; {dropped / max(1, sent):.1%}"


def figure(metrics, name):
    return sum(float(value) for value in re.findall(rf"^{name}(?:\{{[^}}]*\}})? ([0-9.e+]+)$", metrics, re.M))


async def run(arguments):
    made = pictures(arguments.width, arguments.height, 20, arguments.still)
    names = [f"cam{index}" for index in range(arguments.cameras)]
    fast = names[: arguments.fast]
    server, camera_port = await cameras(made, {None: arguments.rate, **dict.fromkeys(fast, arguments.fast_rate)})
    motion = f"motion = {arguments.motion}\n" if arguments.motion else ""
    with tempfile.TemporaryDirectory() as home:
        with open(f"{home}/edge-rlp.toml", "w") as file:
            for name in names:
                file.write(f'[[camera]]\nname = "{name}"\nsource = "http://127.0.0.1:{camera_port}/{name}"\nevery = "20ms"\nprompt = "load"\n{motion}\n')
        os.makedirs(f"{home}/shots/load")
        with open(f"{home}/shots/load/labels.txt", "w") as file:
            file.write("mug\nfish\nkey\ntree\nhouse\nempty\n")
        process = subprocess.Popen([arguments.binary, "serve", "--home", home, "--listen", "127.0.0.1:0", *(["--threads", arguments.threads] if arguments.threads else [])], stderr=subprocess.PIPE, text=True)
        try:
            line = ""
            while "://" not in line:
                line = process.stderr.readline()
                if not line:
                    sys.exit("it did not start")
            asyncio.get_running_loop().run_in_executor(None, process.stderr.read)
            load = Load(int(re.search(r":(\d+)/", line).group(1)))
            print(f"{arguments.cameras} cameras of {arguments.width} x {arguments.height} at {arguments.rate}/s, {arguments.viewers} viewers, {arguments.clients} clients, {arguments.seconds} s", flush=True)
            while any(camera["state"] != "live" for camera in json.loads(await load.request("/api/v1/cameras"))):
                await asyncio.sleep(0.5)
            await asyncio.sleep(5)
            load.latencies.clear()
            first = (await load.request("/metrics")).decode()
            spent = processor_time(process.pid)
            until = time.monotonic() + arguments.seconds
            memory, minutes, began = [], [], time.monotonic()

            async def remember():
                while time.monotonic() < until:
                    memory.append(figure((await load.request("/metrics")).decode(), "edge_rlp_resident_memory_bytes"))
                    minute = int((time.monotonic() - began) / 60)
                    if minute > len(minutes):
                        minutes.append(memory[-1])
                        print(f"after {minute} min: {memory[-1] / 1e6:.0f} MB, {len(load.latencies)} requests, {len(load.failed)} failed", flush=True)
                    await asyncio.sleep(max(1, min(10, arguments.seconds / 20)))

            work = [load.client(names, until) for _ in range(arguments.clients)]
            work += [load.viewer(names[index % len(names)], until) for index in range(arguments.viewers)]
            work += [load.labeller(made, until), load.listener(until)]
            await asyncio.gather(remember(), *work)
            minutes.append(memory[-1])
            gone = await load.missing()
            last = (await load.request("/metrics")).decode()
            spent = processor_time(process.pid) - spent
            states = json.loads(await load.request("/api/v1/cameras"))
        finally:
            process.terminate()
            process.wait(20)
    dead = [camera["name"] for camera in states if camera["state"] != "live"]
    before, after = histogram(first), histogram(last)
    named = after[float("inf")] - before[float("inf")]
    rows = [
        ("pictures named, a second and camera", f"{named / arguments.seconds / arguments.cameras:.2f}"),
        ("processor time", f"{spent / arguments.seconds:.2f} cores"),
        ("dropped of those sent", f"{(figure(last, 'edge_rlp_frames_dropped_total') - figure(first, 'edge_rlp_frames_dropped_total')) / max(1, figure(last, 'edge_rlp_frames_captured_total') - figure(first, 'edge_rlp_frames_captured_total')):.1%}"),
        ("naming, median", between(before, after, 0.5)),
        ("naming, 95 %", between(before, after, 0.95)),
        ("naming, 99 %", between(before, after, 0.99)),
        ("requests", str(len(load.latencies))),
        ("requests, median", f"{1000 * quantile(load.latencies, 0.5):.0f} ms"),
        ("requests, 95 %", f"{1000 * quantile(load.latencies, 0.95):.0f} ms"),
        ("requests, 99 %", f"{1000 * quantile(load.latencies, 0.99):.0f} ms"),
        ("pictures that a viewer got, a second", f"{sum(load.frames) / max(1, len(load.frames)):.1f}"),
        ("events", str(load.events)),
        ("labelled pictures confirmed; gone", f"{len(load.confirmed)}; {len(gone)}"),
        ("failed", str(len(load.failed))),
        ("cameras that are not live", str(len(dead))),
        ("memory at the start, highest, at the end", " / ".join(f"{value / 1e6:.0f} MB" for value in (memory[0], max(memory), memory[-1]))),
    ]
    if fast:
        rows.insert(1, (f"of these the {len(fast)} fast: named; dropped", shares(first, last, fast, arguments.seconds)))
        rows.insert(2, (f"of these the {len(names) - len(fast)} slow: named; dropped", shares(first, last, names[len(fast) :], arguments.seconds)))
    print("\n| | |\n|---|---|")
    for name, value in rows:
        print(f"| {name} | {value} |")
    for failure in load.failed[:5]:
        print(failure)
    grown = len(minutes) > 2 and minutes[-1] > 1.1 * minutes[1]
    if grown:
        print(f"memory grew from {minutes[1] / 1e6:.0f} to {minutes[-1] / 1e6:.0f} MB")
    return 1 if load.failed or dead or gone or grown else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default="target/release/edge-rlp")
    parser.add_argument("--cameras", type=int, default=16)
    parser.add_argument("--viewers", type=int, default=8)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--threads", help="as edge-rlp has it")
    parser.add_argument("--rate", type=float, default=5)
    parser.add_argument("--fast", type=int, default=0, help="so many cameras send --fast-rate pictures a second")
    parser.add_argument("--fast-rate", type=float, default=30)
    parser.add_argument("--motion", type=int, help="the sensitivity: pictures are named where something moves")
    parser.add_argument("--still", action="store_true", help="nothing moves: all pictures show the same, under other noise")
    parser.add_argument("--width", type=int, default=640)
    parser.add_argument("--height", type=int, default=480)
    sys.exit(asyncio.run(run(parser.parse_args())))
