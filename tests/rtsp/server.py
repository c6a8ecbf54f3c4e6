#!/usr/bin/env python3
"""A camera that speaks RTSP, on loopback: GStreamer's server with drawn pictures.

usage: rtsp_server.py PORT [--codec h264|h265|jpeg] [--size WxH] [--rate N] [--key N] [--user NAME --password WORD]
                      [--digest md5|sha256] [--resize-after SECONDS WxH] [--stall-after SECONDS] [--loss SHARE]
                      [--switch SECONDS]

It prints "ready" once it listens, and serves /stream. Needs gir1.2-gst-rtsp-server-1.0 and GStreamer's plugins.
"""
import argparse

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtsp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtsp, GstRtspServer

parser = argparse.ArgumentParser()
parser.add_argument("port")
parser.add_argument("--codec", default="h264")
parser.add_argument("--size", default="320x240")
parser.add_argument("--rate", type=int, default=15)
parser.add_argument("--key", type=int, default=15, help="frames from one key frame to the next")
parser.add_argument("--user")
parser.add_argument("--password")
parser.add_argument("--digest", default="md5")
parser.add_argument("--resize-after", nargs=2)
parser.add_argument("--stall-after", type=float)
parser.add_argument("--loss", type=float, default=0, help="share of the RTP packets that are dropped")
parser.add_argument("--switch", type=float, help="seconds after which it shows another card, again and again; prints the time")
parser.add_argument("--picture", help="a JPEG that is shown in place of a test card")
arguments = parser.parse_args()

Gst.init(None)
width, height = arguments.size.split("x")
ENCODERS = {
    "h264": f"x264enc tune=zerolatency speed-preset=ultrafast key-int-max={arguments.key} ! video/x-h264,profile=baseline "
    "! rtph264pay name=pay0 pt=96 config-interval=-1",
    "h265": f"x265enc tune=zerolatency speed-preset=ultrafast key-int-max={arguments.key} ! rtph265pay name=pay0 pt=96 config-interval=-1",
    "jpeg": "jpegenc ! rtpjpegpay name=pay0 pt=26",
}
source = "videotestsrc is-live=true name=source"
if arguments.picture:
    source = f"filesrc location={arguments.picture} ! jpegdec ! imagefreeze is-live=true name=source"
encoder = ENCODERS[arguments.codec]
pipeline = (
    f"( {source} ! videoconvert ! videoscale ! videorate ! capsfilter name=caps "
    f"caps=video/x-raw,format=I420,width={width},height={height},framerate={arguments.rate}/1 ! identity name=tap ! {encoder} )"
)


def configure(_, media):
    element = media.get_element()
    if arguments.resize_after:
        seconds, size = arguments.resize_after
        wide, high = size.split("x")
        caps = Gst.Caps.from_string(f"video/x-raw,format=I420,width={wide},height={high},framerate={arguments.rate}/1")
        GLib.timeout_add(int(float(seconds) * 1000), lambda: element.get_by_name("caps").set_property("caps", caps))
    if arguments.stall_after:
        pad = element.get_by_name("tap").get_static_pad("src")
        drop = lambda *_: Gst.PadProbeReturn.DROP
        GLib.timeout_add(int(arguments.stall_after * 1000), lambda: pad.add_probe(Gst.PadProbeType.BUFFER, drop) and False)
    if arguments.switch:
        import itertools
        import time

        watched = [True]
        media.connect("unprepared", lambda _: watched.clear())
        source, cards = element.get_by_name("source"), itertools.cycle(["white", "smpte"])

        def switch():
            if not watched:
                return False
            source.set_property("pattern", next(cards))
            print(time.time(), flush=True)
            return True

        GLib.timeout_add(int(arguments.switch * 1000), switch)
    if arguments.loss:
        import random

        # Packets are lost behind the payloader, as on a network.
        pad = element.get_by_name("pay0").get_static_pad("src")

        def lose(_, info):
            return Gst.PadProbeReturn.DROP if random.random() < arguments.loss else Gst.PadProbeReturn.OK

        pad.add_probe(Gst.PadProbeType.BUFFER, lose)


server = GstRtspServer.RTSPServer()
server.set_address("127.0.0.1")
server.set_service(arguments.port)
factory = GstRtspServer.RTSPMediaFactory()
factory.set_launch(pipeline)
factory.set_shared(False)
factory.connect("media-configure", configure)
if arguments.user:
    auth = GstRtspServer.RTSPAuth()
    auth.set_supported_methods(GstRtsp.RTSPAuthMethod.DIGEST if arguments.digest != "basic" else GstRtsp.RTSPAuthMethod.BASIC)
    token = GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", "watcher")
    if arguments.digest == "basic":
        auth.add_basic(GstRtspServer.RTSPAuth.make_basic(arguments.user, arguments.password), token)
    else:
        auth.add_digest(arguments.user, arguments.password, token)
    server.set_auth(auth)
    permissions = GstRtspServer.RTSPPermissions()
    permissions.add_permission_for_role("watcher", "media.factory.access", True)
    permissions.add_permission_for_role("watcher", "media.factory.construct", True)
    factory.set_permissions(permissions)
server.get_mount_points().add_factory("/stream", factory)
server.attach(None)
print("ready", flush=True)
GLib.MainLoop().run()
