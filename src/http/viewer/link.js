// One viewing session: WebSocket signalling, the peer connection, and coming back when it breaks.
//
// States: connecting, live, stalled (connected, but no frames come), waiting (for the next try),
// ended (no further try without the viewer).

const PING_EVERY_MS = 2000;
const PING_BURST = 5;
const PING_BURST_EVERY_MS = 120;
const CLOCK_WINDOW_MS = 120_000;
const SILENCE_MS = 8000;
const CONNECT_TIMEOUT_MS = 12_000;
const BACKOFF_MS = 500;
const BACKOFF_MS_MAX = 15_000;
const STALLED_MS = 2000;
const STALLED_ASK_EVERY_MS = 2000;
const STALLED_GIVE_UP_MS = 8000;
const PROBLEM_PREFIX = "urn:lensline:problem:";

/**
 * Keeps `target()` (`{camera, rendition}`) on `video`. `onState({state, title, detail, until})`
 * hears every change; `onReceiver` gets the receiver of every new connection;
 * `frameAge()` gives the milliseconds since the last frame, or null.
 */
export function link({ video, target, iceServers, onState, onReceiver, frameAge }) {
  let attempt = null;
  let failures = 0;
  let retry = null;
  const clock = serverClock();

  function connect() {
    clearTimeout(retry);
    stop();
    const { camera, rendition } = target();
    onState({ state: "connecting", title: "Connecting", detail: "" });
    attempt = open(camera, rendition);
  }

  function stop() {
    clearTimeout(retry);
    attempt?.close();
    attempt = null;
  }

  /** Waits before the next try: longer each time, never all viewers at once. */
  function wait(title, detail, leastMs = 0) {
    stop();
    const backoff = Math.min(BACKOFF_MS_MAX, BACKOFF_MS * 2 ** Math.min(failures, 10));
    const delay = Math.max(leastMs, backoff) * (0.75 + Math.random() * 0.5);
    failures += 1;
    onState({ state: "waiting", title, detail, until: Date.now() + delay });
    retry = setTimeout(connect, delay);
  }

  function end(title, detail) {
    stop();
    onState({ state: "ended", title, detail });
  }

  function live() {
    failures = 0;
    onState({ state: "live", title: "Live", detail: "" });
  }

  function open(camera, rendition) {
    const handlers = { live, onState, onReceiver, frameAge, clock };
    const failed = async (problem) => {
      if (attempt !== session) return;
      stop();
      const { verdict, title, detail, leastMs } = await judge(problem, camera);
      if (attempt !== null) return; // the viewer chose something else meanwhile
      if (verdict === "end") end(title, detail);
      else wait(title, detail, leastMs);
    };
    const session = attemptSession({ video, camera, rendition, iceServers: iceServers() }, handlers, failed);
    return session;
  }

  return { connect, stop, clock, connection: () => attempt?.connection ?? null };
}

/** One attempt, from the offer to whatever ends it; calls `failed` at most once. */
function attemptSession({ video, camera, rendition, iceServers }, handlers, failed) {
  const connection = new RTCPeerConnection({ iceServers, bundlePolicy: "max-bundle" });
  const scheme = location.protocol === "https:" ? "wss:" : "ws:";
  const query = rendition ? `?rendition=${encodeURIComponent(rendition)}` : "";
  const socket = new WebSocket(`${scheme}//${location.host}/ws/${encodeURIComponent(camera)}${query}`);
  const timers = [];
  let over = false;
  let heard = performance.now();
  let connected = false;
  let stalledSince = null;
  let askedAt = 0;

  function close() {
    over = true;
    timers.splice(0).forEach(clearInterval);
    socket.onmessage = socket.onclose = socket.onerror = null;
    socket.close();
    connection.onconnectionstatechange = connection.onicecandidate = connection.ontrack = null;
    connection.close();
  }

  function fail(problem) {
    if (!over) failed(problem);
  }

  function say(type, data) {
    if (socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify({ type, data }));
  }

  const transceiver = connection.addTransceiver("video", { direction: "recvonly" });
  preferH264(transceiver);
  hurry(transceiver.receiver);

  connection.ontrack = ({ track, receiver, streams }) => {
    hurry(receiver);
    handlers.onReceiver(receiver);
    video.srcObject = streams[0] ?? new MediaStream([track]);
    video.play().catch((error) => {
      // Other errors tell that the next connection has taken the element over already.
      if (error.name === "NotAllowedError" && !over) handlers.onState({ state: "blocked", title: "Ready to play", detail: "" });
    });
  };
  connection.onicecandidate = ({ candidate }) => say("ice-candidate", candidate?.toJSON() ?? null);
  connection.onconnectionstatechange = () => {
    if (connection.connectionState === "connected") connected = true;
    if (connection.connectionState === "failed") fail({ kind: "path-lost" });
  };

  socket.onopen = async () => {
    try {
      await connection.setLocalDescription();
      say("offer", { type: "offer", sdp: connection.localDescription.sdp });
      for (let i = 0; i < PING_BURST; i++) timers.push(setTimeout(ping, i * PING_BURST_EVERY_MS));
      timers.push(setInterval(ping, PING_EVERY_MS));
    } catch (error) {
      fail({ kind: "browser", detail: String(error) });
    }
  };
  socket.onclose = () => fail({ kind: "socket-closed" });
  socket.onmessage = async ({ data }) => {
    heard = performance.now();
    try {
      await hear(JSON.parse(data));
    } catch (error) {
      fail({ kind: "browser", detail: String(error) });
    }
  };

  async function hear({ type, data }) {
    if (type === "answer") await connection.setRemoteDescription({ type: "answer", sdp: data.sdp });
    else if (type === "ice-candidate") await takeCandidate(data);
    else if (type === "pong") handlers.clock.take(data.t, performance.now(), data.server_ms);
    else if (type === "error") fail({ ...data, kind: data.type.replace(PROBLEM_PREFIX, "") });
  }

  async function takeCandidate(data) {
    // One candidate that this browser cannot use does not spoil the others.
    await connection.addIceCandidate(data?.candidate ? data : undefined).catch(() => {});
  }

  const ping = () => say("ping", { t: performance.now() });

  const started = performance.now();
  timers.push(setInterval(watch, 250));
  function watch() {
    if (document.hidden) {
      heard = performance.now(); // timers are throttled while hidden: judge nothing
      return;
    }
    const now = performance.now();
    const age = handlers.frameAge();
    const flowing = connected && age !== null && age < STALLED_MS && !video.paused;
    if (now - heard > SILENCE_MS) return fail({ kind: "silence" });
    if (flowing) return flow();
    if (connected && video.srcObject && video.paused) return; // waits for the viewer to press play
    if (!session.live && now - started > CONNECT_TIMEOUT_MS) return fail({ kind: "no-picture" });
    if (session.live && age >= STALLED_MS) stall(now);
  }

  function flow() {
    if (!session.live || stalledSince !== null) handlers.live();
    session.live = true;
    stalledSince = null;
  }

  /** Frames stopped: the camera's fault is waited out, the session survives it. */
  async function stall(now) {
    stalledSince ??= now;
    if (now - askedAt < STALLED_ASK_EVERY_MS) return;
    askedAt = now;
    const said = await askCamera(camera);
    if (over || stalledSince === null) return;
    if (said.away) {
      stalledSince = performance.now(); // from its return on, the picture has its time anew
      handlers.onState({ state: "stalled", title: "Camera lost", detail: sentence(said.away) });
    } else if (said.unreachable) {
      handlers.onState({ state: "stalled", title: "Server unreachable", detail: "No answer from the server." });
    } else {
      handlers.onState({ state: "stalled", title: "Picture stands still", detail: "No frames are coming through." });
    }
    if (performance.now() - stalledSince > STALLED_GIVE_UP_MS) fail({ kind: "no-picture" });
  }

  const session = { close, connection, live: false };
  return session;
}

/** What a failure means to the person in front of the page, and when to try again. */
async function judge(problem, camera) {
  const kind = problem?.kind;
  if (kind === "browser") return { verdict: "end", title: "This browser cannot play it", detail: problem.detail };
  if (kind === "no-h264") {
    return { verdict: "end", title: "This browser cannot play it", detail: "The camera sends H.264, which the browser does not take." };
  }
  if (kind === "session-ended" && problem.end === "operator") {
    return { verdict: "end", title: "Session ended", detail: "The operator of the server ended this session." };
  }
  const leastMs = (problem?.retry_after_s ?? 0) * 1000;
  if (kind === "limit-reached" || kind === "busy" || kind === "too-many-messages") {
    return { verdict: "wait", title: "No place free", detail: sentence(problem.detail), leastMs };
  }
  if (kind === "stopping") return { verdict: "wait", title: "Server is restarting", detail: "It was asked to stop.", leastMs };
  const said = await askCamera(camera);
  if (said.unreachable) return { verdict: "wait", title: "Server unreachable", detail: "No answer from the server. Is it running, and is the network up?" };
  if (said.unknown) return { verdict: "wait", title: "No such camera", detail: `The server has no camera “${camera}”.`, leastMs: 5000 };
  if (said.forbidden) return { verdict: "end", title: "Not for you", detail: sentence(said.forbidden) };
  if (said.refused) return { verdict: "wait", title: "Not let in", detail: sentence(said.refused), leastMs: 2000 };
  if (said.away) return { verdict: "wait", title: "Camera lost", detail: sentence(said.away), leastMs };
  if (kind === "no-picture" || kind === "path-lost") {
    return { verdict: "wait", title: "No picture came through", detail: "The server answers, but its media does not reach this browser. A firewall may block UDP." };
  }
  return { verdict: "wait", title: "Connection lost", detail: problem?.detail ? sentence(problem.detail) : "" };
}

/** An address of this server. Not relative: a page that was opened as http://name:password@host/ may
 *  not fetch relative to itself (Fetch, "includes credentials"), but the browser knows the password. */
export function ours(path) {
  return new URL(path, location.origin);
}

/** What the server says of the camera now: nothing to complain of, or one of four complaints. */
async function askCamera(camera) {
  try {
    const response = await fetch(ours(`/api/v1/cameras/${encodeURIComponent(camera)}`), {
      cache: "no-store",
      signal: AbortSignal.timeout(3000),
    });
    const said = await response.json();
    if (response.status === 404) return { unknown: true };
    if (response.status === 403) return { forbidden: said.detail };
    if (!response.ok) return { refused: said.detail ?? response.statusText };
    return said.ready ? {} : { away: said.reason ?? "no frames" };
  } catch {
    return { unreachable: true };
  }
}

/** The server's clock by pings: of those of the last minutes, the quickest is the truest. */
function serverClock() {
  let samples = [];
  return {
    take(sent, received, serverMs) {
      if (!Number.isFinite(sent) || !Number.isFinite(serverMs)) return;
      samples = samples.filter((one) => received - one.received < CLOCK_WINDOW_MS);
      samples.push({ received, trip: received - sent, offset: serverMs - (sent + received) / 2 });
    },
    /** What to add to `performance.now()`; null before the first pong. */
    offset() {
      if (samples.length === 0) return null;
      return samples.reduce((best, one) => (one.trip < best.trip ? one : best)).offset;
    },
    tripMs: () => (samples.length === 0 ? null : Math.min(...samples.map((one) => one.trip))),
  };
}

/** Show every frame as soon as it can be: no jitter buffer beyond what is needed. */
function hurry(receiver) {
  if ("jitterBufferTarget" in receiver) receiver.jitterBufferTarget = 0;
  if ("playoutDelayHint" in receiver) receiver.playoutDelayHint = 0;
}

function preferH264(transceiver) {
  const all = RTCRtpReceiver.getCapabilities?.("video")?.codecs ?? [];
  const mode1 = (codec) => /packetization-mode=1/.test(codec.sdpFmtpLine ?? "");
  const h264 = all.filter((codec) => /h264/i.test(codec.mimeType) && mode1(codec));
  const rest = all.filter((codec) => /\/rtx$/i.test(codec.mimeType));
  if (h264.length > 0) transceiver.setCodecPreferences?.([...h264, ...rest]);
}

export function sentence(text) {
  const clean = String(text ?? "").trim();
  if (clean === "") return "";
  return clean[0].toUpperCase() + clean.slice(1) + (/[.!?]$/.test(clean) ? "" : ".");
}
