#!/usr/bin/env python3
"""Writes the seeds of the fuzz targets that no fixture of the tests serves as. Run in fuzz/, with a built program:

    python3 make_seeds.py ../target/release/edge-rlp
"""

import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

program = sys.argv[1]
here = pathlib.Path(__file__).parent
fixtures = here.parent / "tests/fixtures"


def seed(target, name, content):
    path = here / "seeds" / target / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


# Labels: words, comments, scripts, line ends.
seed("labels", "plain", "mug\nfire_extinguisher\n# comment\n\nok = a closed door\n")
seed("labels", "scripts", "\ufeff猫\r\nкошка = a cat\r\nقطة\r\nकुत्ता\r\n")
seed("labels", "refused", "a/b\n.hidden\na\u202eb\nx = \n")

# A camera's answers: a stream, chunks, a single picture, refusals. The pictures are the smallest that are whole.
jpeg = bytes.fromhex("ffd8ffe000104a46494600010100000100010000ffdb0004000102ffda000300aaff00bbffd9")
part = b"--b\r\nContent-Type: image/jpeg\r\n\r\n" + jpeg + b"\r\n"
head = b"HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=b\r\n"
seed("http_answer", "stream", head + b"\r\n" + part * 2)
chunk = b"%x\r\n%s\r\n" % (len(part), part)
seed("http_answer", "chunks", head + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 2 + b"0\r\n\r\n")
single = b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(jpeg)
seed("http_answer", "single", single + jpeg)
seed("http_answer", "redirect", b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\n\r\n")
seed("http_answer", "login", b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Digest realm=x\r\n\r\n")

# What a camera that speaks RTSP says of its stream, and its packets: [flags, length, payload], whole or in pieces (FU-A).
session = b"\0v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nt=0 0\r\na=control:*\r\n"
video = b"m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=control:rtsp://127.0.0.1/t\r\na=framerate:12.5\r\n"
sets = b"a=fmtp:96 packetization-mode=1;profile-level-id=42C00A;sprop-parameter-sets=Z0LACtoYhsBEAAADAAQAAAMAUDxIqg==,aM4PyA==\r\n"
seed("rtsp", "sdp", session + video + sets)
seed("rtsp", "sdp-h265", session + video.replace(b"H264", b"H265") + b"a=fmtp:96 sprop-vps=QAE=;sprop-sps=QgE=;sprop-pps=RAE=\r\n")
seed("rtsp", "sdp-audio", session + b"m=audio 0 RTP/AVP 97\r\na=rtpmap:97 MPEG4-GENERIC/16000\r\na=fmtp:97 config=1408\r\n" + video)


def packets(stream, piece):
    sent, later = b"\x01", 2
    for unit in [unit.rstrip(b"\0") for unit in stream.split(b"\0\0\1") if unit.rstrip(b"\0")]:
        last = unit[0] & 31 in (1, 5)
        if len(unit) <= piece:
            pieces = [unit]
        else:
            cut = [unit[1:][at : at + piece] for at in range(0, len(unit) - 1, piece)]
            marks = [0x80] + [0] * (len(cut) - 2) + [0x40]
            pieces = [bytes([unit[0] & 0x60 | 28, mark | unit[0] & 31]) + part for mark, part in zip(marks, cut)]
        for index, part in enumerate(pieces):
            end = last and index == len(pieces) - 1
            sent += bytes([end | later]) + len(part).to_bytes(2, "big") + part
            later = 2 if end else 0
    return sent


for name, piece in [("baseline", 1400), ("high", 300)]:
    seed("rtsp", name, packets((fixtures / f"rtsp/{name}.h264").read_bytes(), piece))

# Requests to `serve`: bodies of every kind, names in paths, what stands in heads.
def request(name, line, body=b"", kind="application/json", more=""):
    head = f"{line} HTTP/1.1\r\nHost: localhost\r\n{more}"
    if body:
        head += f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
    seed("serve_request", name, head.encode() + b"\r\n" + body)


api = "/api/v1"
labels = b'{"labels": ["mug", {"label": "fish", "words": "a big fish"}]}'
request("labels", f"PUT {api}/prompts/t/labels", labels)
request("rename", f"POST {api}/prompts/t/labels/rename", b'{"from": "mug", "to": "cup"}')
request("camera", f"PUT {api}/cameras/yard", b'{"source": "demo:fog", "every": "1s", "motion": 50, "prompt": "yard"}')
request("region", f"PUT {api}/cameras/a/regions/mat%20x", b'{"x": 0.1, "y": 0.2, "width": 0.3, "height": 0.4}')
request("capture", f"POST {api}/prompts/t/shots/capture", b'{"camera": "a", "region": "b", "label": "c", "burst": true}')
request("relabel", f"PATCH {api}/prompts/t/shots", b'{"ids": ["17", "18.2"], "label": "empty"}')
request("recent", f"POST {api}/recent/label", b'{"ids": ["door~000001"], "label": "empty"}')
request("rollback", f"POST {api}/prompts/t/rollback", b'{"generation": 3}')
request("token", f"POST {api}/tokens", b'{"name": "ha", "scopes": ["read", "label"]}')
request("picture", f"POST {api}/prompts/t/shots?label=mug", jpeg, "image/jpeg")
request("snapshot", f"GET {api}/cameras/door/snapshot.jpg?region=mat&width=320")
request("shot", f"DELETE {api}/recent/..%2Fa~1")
request("diff", f"GET {api}/prompts/t/diff?from=1&to=2", more="Cookie: a=b; __Host-edge_rlp_session=x\r\n")
request("bearer", "GET /metrics", more="Authorization: Bearer edge-rlp-x\r\nX-Forwarded-For: 10.0.0.1, [::1]:9\r\n")
request("origin", f"DELETE {api}/session", more="Origin: https://[::1]:8080\r\nSec-Fetch-Site: cross-site\r\n")
chunked = b"5\r\n" + labels[:5] + b"\r\n%x\r\n" % len(labels[5:]) + labels[5:] + b"\r\n0\r\n\r\n"
head = f"PUT {api}/prompts/t/labels HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
seed("serve_request", "chunked", head.encode() + b"Transfer-Encoding: chunked\r\n\r\n" + chunked)

# The first byte of a stream is the size of its pieces.
seed("mjpeg", "two", b"\x04" + jpeg + b"between" + jpeg)
seed("mjpeg", "thumbnail", b"\x20" + jpeg[:2] + b"\xff\xe1" + (len(jpeg) + 2).to_bytes(2, "big") + jpeg + jpeg[2:])
seed("mjpeg", "cut", b"\x07" + jpeg[:20] + jpeg)

# A byte-level BPE in Hugging Face's form: bytes, bytes at the end of a word, sixteen merges, start and end.
bytes_as_text = [chr(b) for b in [*range(33, 127), *range(161, 173), *range(174, 256)]]
bytes_as_text += [chr(256 + n) for n in range(256 - len(bytes_as_text))]
merges = [["t", "h"], ["th", "e</w>"], ["a", "n"], ["i", "n"], ["p", "h"], ["o", "t"], ["ph", "ot"], ["phot", "o</w>"]]
merges += [[c, "e</w>"] for c in "bcdfgklm"]
tokens = bytes_as_text + [b + "</w>" for b in bytes_as_text] + ["".join(pair) for pair in merges]
tokens += ["<|startoftext|>", "<|endoftext|>"]
special = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
tokenizer = {
    "version": "1.0",
    "added_tokens": [{"id": tokens.index(t), "content": t, **special} for t in tokens[-2:]],
    "normalizer": {"type": "Lowercase"},
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
    "model": {
        "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": "", "end_of_word_suffix": "</w>",
        "fuse_unk": False, "vocab": {t: i for i, t in enumerate(tokens)}, "merges": [" ".join(pair) for pair in merges],
    },
}
seed("tokenizer", "small.json", json.dumps(tokenizer, separators=(",", ":")))
seed("tokenizer", "text", "a photo of a Schlüssel 猫 <|endoftext|> \U0001f600 12's")

# Prompts as JSON: a small one of each kind.
prompt = {
    "format": "edge-rlp prompt", "version": 1, "model": {"name": "m", "fingerprint": "0f" * 32}, "template": "a photo of a {}.",
    "labels": [{"label": "mug", "words": "mug"}, {"label": "work_glove", "words": "work glove"}],
    "change": {"low_rank": {"u": [[0.5], [-1e-3]], "v": [[0.25, 1.5, -2.0]]}}, "context_singular_values": [2.0, 1.0],
    "seed": 7, "recipe": "an example",
    "metrics": {"zero_shot_accuracy": 0.5, "adapted_accuracy": 0.75, "images": 8, "holdout_images": 4, "steps": 20},
    "calibration": None,
    "provenance": {"device": "d", "seconds": 1.5, "created_unix": 1763769600, "sequence": 1, "restores": None},
}
seed("prompt_json", "low_rank.json", json.dumps(prompt))
prompt["change"] = {"full": [[0.5, 1, 2], [3, 4, 5]]}
seed("prompt_json", "full.json", json.dumps(prompt))

# A whole bundle: the smallest towers of the import tests.
with tempfile.TemporaryDirectory() as folder:
    folder = pathlib.Path(folder)
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    config = {"size": {"shortest_edge": 24}, "crop_size": 24, "image_processor_type": "CLIPImageProcessor"}
    (folder / "preprocessor_config.json").write_text(json.dumps(config))
    (folder / "config.json").write_text(json.dumps({"text_config": {"max_position_embeddings": 12}}))
    for tower in ["visual.onnx", "textual.onnx"]:
        shutil.copy(fixtures / "import/dynamic-int8" / tower, folder)
    flags = ["--force", "--logit-scale", "100", "--name", "tiny", "--home", folder / "home"]
    subprocess.run([program, "model", "import", folder, *flags], check=True)
    seed("bundle", "tiny.rlpm", (folder / "home/models/tiny.rlpm").read_bytes())
