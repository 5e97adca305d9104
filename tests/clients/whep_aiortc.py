#!/usr/bin/python3
"""A WHEP viewer on aiortc, which shares no code with GStreamer or libwebrtc.

usage: whep_aiortc.py URL [--seconds N] [--pli-per-second N] [--stats-every S] [--vanish]
                      [--bearer TOKEN] [--trickle]

It stays for N seconds, or until SIGTERM. With --trickle, its offer is without candidates, and they
follow in a PATCH. Prints one JSON object a line:
  {"event": "answer", "status": 201, "location": "...", "sdp": "...", "ms": since the offer}
  {"event": "patched", "status": 204}
  {"event": "connected", "ms": since the offer}
  {"event": "frame", "number": stamped frame number or null, "latency_ms": capture to decoded}
  {"event": "stats", "bytes": of the transport, SRTP's headers and all, "lost": RTP packets}
  {"event": "done", "frames": N, "delete_status": status or null}
  {"event": "failed", "why": "...", and where it was refused "status": N, "retry_after": "N"}
"""

import argparse
import asyncio
import json
import signal
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

from aiortc import RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError


def say(event, **fields):
    print(json.dumps({"event": event, **fields}), flush=True)


def request(method, url, body=None, headers={}):
    data = body.encode() if body else None
    try:
        asked = urllib.request.Request(url, data=data, headers=headers, method=method)
        with urllib.request.urlopen(asked, timeout=10) as answer:
            return answer.status, dict(answer.headers), answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, dict(error.headers), error.read().decode()


def read_stamp(frame):
    """(frame number, capture time in ms since the epoch), or (None, None)."""
    plane = frame.planes[0]
    luma, stride, side = memoryview(plane), plane.line_size, frame.width // 160
    rows = []
    for row in range(2):
        bits, y = 0, row * side + side // 2
        for column in range(64):
            bits = bits << 1 | (luma[y * stride + column * side + side // 2] >= 126)
        rows.append(bits)
    if rows[0] != rows[1] ^ (1 << 64) - 1:
        return None, None
    return rows[0] & 0xFFFF, rows[0] >> 16


async def flood_pli(receiver, per_second):
    while True:
        for ssrc in list(receiver._RTCRtpReceiver__remote_streams):
            await receiver._send_rtcp_pli(ssrc)
        await asyncio.sleep(1 / per_second)


async def watch(track, counts):
    while True:
        try:
            frame = await track.recv()
        except MediaStreamError:
            return
        number, captured = read_stamp(frame)
        counts["frames"] += 1
        latency = None if captured is None else round(time.time() * 1000 - captured)
        say("frame", number=number, latency_ms=latency)


async def tell_stats(connection, every):
    while True:
        await asyncio.sleep(every)
        report = list((await connection.getStats()).values())
        bytes = sum(one.bytesReceived for one in report if one.type == "transport")
        lost = sum(one.packetsLost for one in report if one.type == "inbound-rtp")
        say("stats", bytes=bytes, lost=lost)


def fragment(sdp):
    """What an offer says of ICE in its first section (RFC 8840)."""
    section = sdp[sdp.index("m=") :].splitlines()
    kept = ("m=", "a=mid:", "a=ice-ufrag:", "a=ice-pwd:", "a=candidate:", "a=end-of-candidates")
    return "".join(f"{line}\r\n" for line in section if line.startswith(kept))


def without_candidates(sdp):
    dropped = ("a=candidate:", "a=end-of-candidates")
    lines = sdp.splitlines()
    return "".join(f"{line}\r\n" for line in lines if not line.startswith(dropped))


async def main(options):
    credentials = {"Authorization": f"Bearer {options.bearer}"} if options.bearer else {}

    async def ask(method, url, body=None, **headers):
        headers = {name.replace("_", "-"): value for name, value in headers.items()} | credentials
        return await loop.run_in_executor(None, request, method, url, body, headers)

    connection = RTCPeerConnection()
    counts, tasks = {"frames": 0}, []
    connected = asyncio.Event()
    connection.addTransceiver("video", direction="recvonly")
    loop = asyncio.get_running_loop()

    @connection.on("track")
    def on_track(track):
        tasks.append(asyncio.ensure_future(watch(track, counts)))

    @connection.on("connectionstatechange")
    def on_state():
        if connection.connectionState == "connected":
            connected.set()

    await connection.setLocalDescription(await connection.createOffer())
    asked = time.monotonic()
    sdp = connection.localDescription.sdp
    offer = without_candidates(sdp) if options.trickle else sdp
    status, headers, body = await ask("POST", options.url, offer, Content_Type="application/sdp")
    passed = lambda: round((time.monotonic() - asked) * 1000)
    headers = {name.lower(): value for name, value in headers.items()}
    if status != 201:
        say("failed", why=body, status=status, retry_after=headers.get("retry-after"))
        return 1
    location = urllib.parse.urljoin(options.url, headers.get("location", ""))
    say("answer", status=status, location=location, sdp=body, ms=passed())
    await connection.setRemoteDescription(RTCSessionDescription(body, "answer"))
    if options.trickle:
        kind, etag = "application/trickle-ice-sdpfrag", headers.get("etag", "")
        patched = await ask("PATCH", location, fragment(sdp), Content_Type=kind, If_Match=etag)
        say("patched", status=patched[0])
    await asyncio.wait_for(connected.wait(), 15)
    say("connected", ms=passed())
    if options.pli_per_second:
        receiver = connection.getTransceivers()[0].receiver
        tasks.append(asyncio.ensure_future(flood_pli(receiver, options.pli_per_second)))
    if options.stats_every:
        tasks.append(asyncio.ensure_future(tell_stats(connection, options.stats_every)))
    told = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, told.set)
    await asyncio.wait([asyncio.ensure_future(told.wait())], timeout=options.seconds)
    deleted = None
    if not options.vanish:
        deleted, _, _ = await ask("DELETE", location)
    for task in tasks:
        task.cancel()
    say("done", frames=counts["frames"], delete_status=deleted)
    await asyncio.wait_for(connection.close(), 5)
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--pli-per-second", type=float, default=0)
    parser.add_argument("--stats-every", type=float, default=0)
    parser.add_argument("--vanish", action="store_true")
    parser.add_argument("--bearer")
    parser.add_argument("--trickle", action="store_true")
    try:
        sys.exit(asyncio.run(main(parser.parse_args())))
    except Exception as error:
        say("failed", why=repr(error))
        sys.exit(1)
