"""What schemathesis cannot find out by itself: how to send an SDP, and that a session must have been
opened before it can be asked about, changed or left."""

import collections
import itertools
import threading
import time
import urllib.error
import urllib.request

import schemathesis
from schemathesis.generation import GenerationMode

OFFER = (
    "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n"
    "m=video 9 UDP/TLS/RTP/SAVPF 96\r\nc=IN IP4 0.0.0.0\r\na=mid:0\r\na=recvonly\r\na=rtcp-mux\r\n"
    "a=ice-ufrag:abcd\r\na=ice-pwd:abcdefghijklmnopqrstuv\r\na=setup:actpass\r\n"
    f"a=fingerprint:sha-256 {':'.join(['AB'] * 32)}\r\n"
    "a=rtpmap:96 H264/90000\r\n"
    "a=fmtp:96 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f\r\n"
)
FRAGMENT = (
    "a=ice-ufrag:abcd\r\na=ice-pwd:abcdefghijklmnopqrstuv\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\n"
    "a=mid:0\r\na=candidate:1 1 UDP 2130706431 127.0.0.1 9 typ host\r\n"
)
turns = collections.defaultdict(itertools.count)
opened = threading.local()


@schemathesis.serializer("application/sdp", "application/trickle-ice-sdpfrag")
def text(ctx, value):
    """A string as it is; what is none as schemathesis writes it, to be refused."""
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")


def ask(request):
    """The answer's headers; nothing where a limit is reached or what is asked for is not there."""
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.headers
    except urllib.error.HTTPError as error:
        if error.code not in (404, 409, 429, 503):
            raise
        return None


def session(base_url, headers):
    """Id and ETag of a session that is there, if one can be had."""
    had = getattr(opened, "session", None)
    if had and ask(urllib.request.Request(f"{base_url}/api/v1/sessions/{had[0]}", headers=headers)):
        return had
    headers = {**headers, "Content-Type": "application/sdp"}
    for _ in range(40):
        answer = ask(urllib.request.Request(f"{base_url}/whep/sim", OFFER.encode(), headers))
        if answer:
            opened.session = answer["Location"].rsplit("/", 1)[1], answer["ETag"]
            return opened.session
        # The camera restarts, as another case asked for, or joins come too fast.
        time.sleep(0.5)
    return None


@schemathesis.hook
def before_call(ctx, case, kwargs):
    """The first fitting case of each operation, and then every other, is made to be about something
    that is there."""
    if case.meta is None or case.meta.generation.mode != GenerationMode.POSITIVE:
        return
    if next(turns[case.method, case.path]) % 2:
        return
    if "camera" in case.path_parameters:
        case.path_parameters["camera"] = "sim"
    if case.path == "/api/v1/cameras/{id}":
        case.path_parameters["id"] = "sim"
    if case.path == "/whep/{camera}" and case.method == "POST":
        case.body = OFFER
    name = {"/whep/{camera}/{session}": "session", "/api/v1/sessions/{id}": "id"}.get(case.path)
    if name is None:
        return
    credentials = {key: value for key, value in case.headers.items() if key == "Authorization"}
    found = session(case.operation.base_url.rstrip("/"), credentials)
    if found is None:
        return
    case.path_parameters[name], etag = found
    if case.method == "PATCH":
        case.headers["If-Match"] = etag
        case.body = FRAGMENT
