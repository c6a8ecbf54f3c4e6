#!/usr/bin/env python3
"""Takes the pictures of docs/home-assistant.md: Home Assistant with its real frontend, a real Mosquitto, `edge-rlp serve` with a
drawn camera, and headless Chromium.

    VENV/bin/python scripts/home/screenshots.py target/release/edge-rlp docs/images

VENV is that of scripts/home-test.sh, and has the `home-assistant-frontend` that its core asks for as well (the version stands in
homeassistant/components/frontend/manifest.json). Chromium and Node must be installed. Everything stays on loopback.
"""

import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request

from support import Mosquitto, Served, free_port, wait

BINARY, OUT = (pathlib.Path(argument).resolve() for argument in sys.argv[1:3])
HERE = pathlib.Path(__file__).resolve().parent
FOLDER = pathlib.Path(tempfile.mkdtemp(prefix="home-assistant-"))
PORT = free_port()
URL = f"http://127.0.0.1:{PORT}"


def ask(path, content=None, token=None, form=False):
    """What Home Assistant answers."""
    body = content and (urllib.parse.urlencode(content) if form else json.dumps(content)).encode()
    headers = {"Content-Type": "application/x-www-form-urlencoded" if form else "application/json"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    with urllib.request.urlopen(urllib.request.Request(URL + path, body, headers), timeout=60) as answer:
        return json.load(answer)


def answers():
    try:
        return ask("/api/onboarding")
    except (urllib.error.URLError, ConnectionError):
        return None


def sign_in():
    """The tokens of a first user; what is asked for besides at a first start is settled."""
    who = {"client_id": f"{URL}/", "name": "Shop", "username": "shop", "password": "not a secret", "language": "en"}
    code = ask("/api/onboarding/users", who)["auth_code"]
    given = {"grant_type": "authorization_code", "client_id": f"{URL}/", "code": code}
    tokens = ask("/auth/token", given, form=True)
    return {**tokens, "hassUrl": URL, "clientId": f"{URL}/", "expires": int(1000 * (time.time() + 1500))}


def add_broker(port, token):
    flow = ask("/api/config/config_entries/flow", {"handler": "mqtt", "show_advanced_options": False}, token)
    given = {"broker": "127.0.0.1", "port": port}
    done = ask(f"/api/config/config_entries/flow/{flow['flow_id']}", given, token)
    assert done["type"] == "create_entry", done


def main():
    (FOLDER / ".storage").mkdir()
    settled = {"version": 4, "minor_version": 1, "key": "onboarding", "data": {"done": ["core_config", "analytics", "integration"]}}
    (FOLDER / ".storage/onboarding").write_text(json.dumps(settled))
    (FOLDER / "configuration.yaml").write_text(
        f"homeassistant:\n  name: Shop\nhttp:\n  server_host: 127.0.0.1\n  server_port: {PORT}\nfrontend:\nconfig:\nhistory:\n"
    )
    home = FOLDER / "edge-rlp"
    taught = ("adapt", "--camera", "demo:peephole", "--prompt", "shelf", "--shots", "8", "--force", "--quiet")
    subprocess.run([BINARY, *taught, "--home", home], check=True, stdout=subprocess.DEVNULL)
    log = open(FOLDER / "log", "w")
    hass = subprocess.Popen([sys.executable, "-m", "homeassistant", "-c", FOLDER, "--skip-pip"], stdout=log, stderr=log)
    try:
        wait(f"Home Assistant; see {FOLDER}/log", answers, 180)
        tokens = sign_in()
        with Mosquitto() as broker:
            add_broker(broker.port, tokens["access_token"])
            config = (
                '[[camera]]\nname = "door"\nsource = "demo:peephole"\nevery = "2s"\nprompt = "shelf"\n\n'
                f'[mqtt]\nurl = "{broker.url}"\nbox = "shop"\nsnapshots = true\npage = "http://shop.local:8080/"\n'
            )
            with Served(BINARY, config, {}, home=home):
                states = lambda: {of["entity_id"]: of["state"] for of in ask("/api/states", token=tokens["access_token"])}
                wait("the camera", lambda: any("shop_door" in name and state not in ("unknown", "unavailable") for name, state in states().items()))
                # A while of history, so that there is something to see.
                time.sleep(40)
                given = json.dumps({"url": URL, "tokens": tokens, "out": str(OUT)})
                subprocess.run(["node", HERE / "screenshots.mjs", given], check=True, timeout=240)
    finally:
        hass.terminate()
        hass.wait(60)
    shutil.rmtree(FOLDER)


main()
