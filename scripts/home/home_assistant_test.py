#!/usr/bin/env python3
"""Home Assistant core as the client of what `edge-rlp classify --mqtt` reports to a real Mosquitto.

    VENV/bin/python scripts/home/home_assistant_test.py target/release/edge-rlp

VENV has PyPI's `homeassistant` (scripts/home-test.sh makes one). Home Assistant runs in this process: its core, its registries
and its MQTT integration as they are, without the pages of its frontend. The broker is added as a person does, by its
configuration flow. Everything stays on loopback.
"""

import asyncio
import json
import logging
import pathlib
import shutil
import signal
import sys
import tempfile
import time
import traceback

from homeassistant import bootstrap, config_entries, core, loader
from homeassistant.const import __version__
from homeassistant.core_config import async_process_ha_core_config
from homeassistant.helpers import device_registry, entity_registry
from homeassistant.setup import async_setup_component

from support import BOX, Mosquitto, Program, Served, free_port

BINARY = pathlib.Path(sys.argv[1]).resolve()
FOLDER = pathlib.Path(tempfile.mkdtemp(prefix="home-assistant-"))


class Complaints(logging.Handler):
    """What Home Assistant complains of, of MQTT's."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.said = []

    def emit(self, record):
        if "mqtt" in record.name:
            self.said.append(record.getMessage())


# What there is in Home Assistant, for people.
STATES = list
COMPLAINTS = Complaints()
logging.getLogger().addHandler(COMPLAINTS)


async def start():
    """Home Assistant with what it has kept in its folder."""
    global STATES
    (FOLDER / "configuration.yaml").touch()
    hass = core.HomeAssistant(str(FOLDER))
    STATES = lambda: [f"{state.entity_id}: {state.state[:40]}" for state in hass.states.async_all()]
    loader.async_setup(hass)
    hass.config.skip_pip = True
    config = {"http": {"server_host": ["127.0.0.1"], "server_port": free_port()}}
    hass.config_entries = config_entries.ConfigEntries(hass, config)
    await loader.async_get_custom_components(hass)
    await bootstrap.async_load_base_functionality(hass)
    for domain in bootstrap.CORE_INTEGRATIONS:
        assert await async_setup_component(hass, domain, config), domain
    await async_process_ha_core_config(hass, {})
    assert await async_setup_component(hass, "mqtt", config)
    await hass.async_start()
    return hass


async def add_broker(hass, broker):
    flow = await hass.config_entries.flow.async_init("mqtt", context={"source": "user"})
    given = {"broker": "127.0.0.1", "port": broker.port}
    done = await hass.config_entries.flow.async_configure(flow["flow_id"], given)
    assert done["type"] == "create_entry", done


async def until(what, seen, seconds=120):
    end = time.monotonic() + seconds
    while True:
        found = seen()
        if found:
            return found
        if time.monotonic() > end:
            raise AssertionError(f"no {what} within {seconds} s; Home Assistant says: {COMPLAINTS.said}; there are {STATES()}")
        await asyncio.sleep(0.05)


def entity(hass, kind, name, box=BOX):
    """The state of what has this unique name, if it is there."""
    known = entity_registry.async_get(hass).async_get_entity_id(kind, "mqtt", f"edge-rlp_{box}_{name}")
    return known and hass.states.get(known)


def label(hass):
    return entity(hass, "sensor", "demo_whole_label")


async def follows(hass, box, changes=4):
    """The label in Home Assistant is that of the camera, again and again."""
    seen = set()
    end = time.monotonic() + 180
    while len(seen) < changes:
        assert time.monotonic() < end, seen
        state = await until("the camera's label", lambda: label(hass) and box.labels() and label(hass).state == box.labels()[-1])
        seen.add(label(hass).state)
        await asyncio.sleep(0.3)
    return seen


async def test(broker, hass, box):
    print(f"Home Assistant {__version__}")
    await add_broker(hass, broker)
    await until("a label", lambda: label(hass) and label(hass).state != "unavailable")
    state = label(hass)
    assert state.attributes["device_class"] == "enum" and "cat" in state.attributes["options"], state
    seen = await follows(hass, box)
    attributes = label(hass).attributes
    assert 0 <= attributes["score"] <= 1 and attributes["top"][0]["label"], attributes
    passed(f"a camera appears, and its label follows: {', '.join(sorted(seen))}")

    assert entity(hass, "binary_sensor", "demo_problem").state == "off"
    event = entity(hass, "event", "demo_whole_change")
    assert event.attributes["event_type"] == "changed" and event.attributes["to"], event
    image = await until("a picture", lambda: entity(hass, "image", "demo_whole_image"))
    found = hass.data["image"].get_entity(image.entity_id)
    picture = await until("its bytes", lambda: found._last_image)
    assert picture[:2] == b"\xff\xd8", picture[:20]
    passed(f"problem, change and a picture of {len(picture)} bytes")

    devices = device_registry.async_get(hass)
    device = devices.async_get_device({("mqtt", f"edge-rlp_{BOX}_demo")})
    assert (device.name, device.manufacturer, device.model) == (f"{BOX} demo", "edge-rlp", "camera"), device
    passed(f"one device: {device.name}, {device.model}, version {device.sw_version}")

    for how in (signal.SIGTERM, signal.SIGKILL):
        await asyncio.to_thread(broker.stop, how)
        await until("unavailable", lambda: label(hass).state == "unavailable")
        await asyncio.to_thread(broker.start)
        await until("it again", lambda: label(hass).state != "unavailable")
        await follows(hass, box, 2)
    passed("both survive a restart of the broker, also an unclean one")
    return hass


async def power_cut(hass, box):
    await asyncio.to_thread(box.end, signal.SIGKILL)
    await until("unavailable", lambda: label(hass).state == "unavailable")
    passed("a box without power is unavailable")


HALL = """[mqtt]
url = "{url}"
box = "hall"
page = "http://hall.local:8080/"

[[camera]]
name = "door"
source = "demo"
every = "1s"
prompt = "things" # what is seen here

[[camera]]
name = "till"
source = "demo:fog"
every = "1s"
prompt = "things"
"""


async def whole_box(broker, hass):
    """`serve`: a box with its cameras, what can be set, and what disappears."""
    with Served(BINARY, HALL.format(url=broker.url), {"things": ["cat", "car", "bus"], "night": ["moon", "star"]}) as served:
        seen = lambda kind, name: entity(hass, kind, name, "hall")
        known = lambda: seen("sensor", "door_whole_label") and seen("sensor", "till_whole_label")
        await until("both cameras", lambda: known() and known().state in ("cat", "car", "bus", "unknown"))
        options = await until("the labels", lambda: seen("sensor", "door_whole_label").attributes.get("options"))
        await until("all labels", lambda: seen("sensor", "door_whole_label").attributes["options"] == ["cat", "car", "bus", "unknown"])
        devices = device_registry.async_get(hass)
        box = devices.async_get_device({("mqtt", "edge-rlp_hall")})
        door = devices.async_get_device({("mqtt", "edge-rlp_hall_door")})
        assert door.via_device_id == box.id and box.configuration_url == "http://hall.local:8080/", (box, door)
        assert seen("binary_sensor", "connection").state == "on"
        passed(f"a box with two cameras, whose options are {', '.join(options)}")

        number = seen("number", "door_whole_threshold").entity_id
        await hass.services.async_call("number", "set_value", {"entity_id": number, "value": 35}, blocking=True)
        await until("the threshold", lambda: hass.states.get(number).state in ("35", "35.0"))
        select = seen("select", "door_whole_prompt").entity_id
        await hass.services.async_call("select", "select_option", {"entity_id": select, "option": "things"}, blocking=True)
        await until("the prompt", lambda: hass.states.get(select).state == "things")
        button = seen("button", "door_whole_train").entity_id
        await hass.services.async_call("button", "press", {"entity_id": button}, blocking=True)
        await until("the training", lambda: "Train" in served.said())
        text = served.config()
        assert "threshold = 0.35" in text and "# what is seen here" in text, text
        passed("threshold, prompt and training are set from Home Assistant, and stand in edge-rlp.toml")

        served.relabel("things", ["cat", "truck", "bus"])
        await until("the new label", lambda: "truck" in seen("sensor", "door_whole_label").attributes["options"])
        assert "car" not in seen("sensor", "door_whole_label").attributes["options"]
        # What the door shows waits a moment for Home Assistant to know the label.
        await until("a state among them", lambda: seen("sensor", "door_whole_label").state in ("cat", "truck", "bus", "unknown"))
        passed("a label that was renamed has its new name, and the old one is gone")

        served.configure(text.split("[[camera]]\nname = \"till\"")[0])
        await until("no till", lambda: seen("sensor", "till_whole_label") is None and devices.async_get_device({("mqtt", "edge-rlp_hall_till")}) is None)
        assert seen("sensor", "door_whole_label").state != "unavailable"
        passed("a camera that was removed has disappeared, with its device")
        await asyncio.to_thread(served.end, signal.SIGKILL)
        await until("unavailable", lambda: seen("sensor", "door_whole_label").state == "unavailable")
        passed("an unclean end of the box makes its cameras unavailable")


async def main():
    hass = await start()
    with Mosquitto() as broker:
        with Program(BINARY, broker.url, "--mqtt-snapshots", every="1s") as box:
            await test(broker, hass, box)
            await hass.async_stop(force=True)
            hass = await start()
            await until("a label", lambda: label(hass) and label(hass).state not in ("unavailable", "unknown"))
            await follows(hass, box, 2)
            passed("it survives a restart of Home Assistant")
            await power_cut(hass, box)
        with Program(BINARY, broker.url, every="1s") as box:
            await until("it again", lambda: label(hass).state != "unavailable")
            await follows(hass, box, 2)
            passed("it comes back with the box, without being added again")
            await until("no picture", lambda: entity(hass, "image", "demo_whole_image") is None)
            assert entity_registry.async_get(hass).async_get_entity_id("image", "mqtt", f"edge-rlp_{BOX}_demo_whole_image") is None
            passed("pictures that are no longer sent have disappeared")
            with Program(BINARY, broker.url, every="1s") as second:
                await until("the refusal", lambda: "under the same name" in second.said())
                await asyncio.to_thread(second.end, signal.SIGKILL)
                await asyncio.sleep(1)
                assert label(hass).state != "unavailable"
                await follows(hass, box, 2)
            passed("a second box of the same name changes nothing")
            assert await asyncio.to_thread(box.end) == 0
            await until("unavailable", lambda: label(hass).state == "unavailable")
            passed("a box that was stopped is unavailable")
        await whole_box(broker, hass)
        await hass.async_stop(force=True)
    complaints = [said for said in COMPLAINTS.said if "onnection" not in said and "isconnect" not in said]
    assert not complaints, complaints
    passed("Home Assistant complains of nothing")


COUNT = 0


def passed(what):
    global COUNT
    COUNT += 1
    print(f"ok      {what}", flush=True)


failed = 0
try:
    asyncio.run(main())
except Exception:
    failed = 1
    print("FAILED", flush=True)
    traceback.print_exc()
shutil.rmtree(FOLDER, ignore_errors=True)
print(f"{COUNT} passed, {failed} failed")
sys.exit(failed)
