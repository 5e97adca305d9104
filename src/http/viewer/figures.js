// What is measured of the picture: latency by the stamp in it or by its capture time, frame rate,
// bitrate, loss. Times are `performance.now()` milliseconds unless a name says `unix`.

import { stampReader } from "./stamp.js";

const SAMPLES_MAX = 2000;
const STAMP_EVERY_MS = 100;
const STAMP_MISSES_MAX = 30;
const STAMP_RETRY_MS = 3000;
const RECENT_MS = 1000;
const LATENCY_MS_MAX = 60_000;
const NTP_TO_UNIX_MS = 2_208_988_800_000;

/**
 * Watches the frames of `video`. `clock()` gives what to add to `performance.now()` to get the
 * server's Unix time in milliseconds, or null while it is not known. With `measure`, the stamp of
 * every frame is read and kept.
 */
export function figures(video, clock, measure) {
  const readStamp = stampReader();
  const samples = [];
  const recent = []; // the frames of the last second: {at, shown, received}
  const latest = empty();
  let receiver = null;
  let before = null;
  let stampAt = 0;
  let stampMisses = 0;
  let lastFrameAt = 0;

  function onFrame(now, frame) {
    video.requestVideoFrameCallback(onFrame);
    lastFrameAt = performance.now();
    latest.frames += 1;
    latest.presentedFrames = frame.presentedFrames;
    const found = fromStamp(now, frame) ?? fromCaptureTime(frame);
    recent.push({ at: now, shown: found?.shown, received: found?.received });
    while (recent[0].at < now - RECENT_MS) recent.shift();
  }

  function fromStamp(now, frame) {
    if (!measure && now < stampAt) return null;
    stampAt = now + (stampMisses < STAMP_MISSES_MAX ? STAMP_EVERY_MS : STAMP_RETRY_MS);
    const stamp = readStamp(video);
    const offset = clock();
    if (!stamp || offset === null) {
      stampMisses += 1;
      return null;
    }
    const found = latency(stamp.unixMs - offset, frame);
    if (!found) return null;
    stampMisses = 0;
    latest.source = "stamp";
    if (measure) keep(sample(stamp, offset, frame, found));
    return found;
  }

  /** By the capture time that the server sends beside the pictures (abs-capture-time). */
  function fromCaptureTime(frame) {
    if (latest.source === "stamp" && stampMisses < STAMP_MISSES_MAX) return null;
    const offset = clock();
    const told = receiver?.getSynchronizationSources?.().find(
      (source) => source.captureTimestamp && source.rtpTimestamp === frame.rtpTimestamp,
    );
    const found =
      (told && offset !== null
        ? latency(told.captureTimestamp - NTP_TO_UNIX_MS - offset, frame)
        : null) ?? (frame.captureTime ? latency(frame.captureTime, frame) : null);
    if (found) latest.source = "capture time";
    return found;
  }

  function keep(one) {
    samples.push(one);
    if (samples.length > SAMPLES_MAX) samples.shift();
  }

  /** Brings the figures up to date from the connection's statistics; about once a second. */
  async function poll(connection) {
    const report = await connection.getStats();
    let inbound = null;
    let pair = null;
    for (const one of report.values()) {
      if (one.type === "inbound-rtp" && one.kind === "video") inbound = one;
      if (one.type === "candidate-pair" && one.nominated && one.state === "succeeded") pair = one;
    }
    if (pair?.currentRoundTripTime !== undefined) latest.rttMs = pair.currentRoundTripTime * 1000;
    if (inbound) update(inbound);
  }

  function update(inbound) {
    const had = before;
    before = inbound;
    latest.framesDecoded = inbound.framesDecoded ?? 0;
    latest.framesDropped = inbound.framesDropped ?? 0;
    latest.packetsLost = inbound.packetsLost ?? 0;
    latest.freezes = inbound.freezeCount ?? 0;
    latest.decoder = inbound.decoderImplementation ?? null;
    if (!had || had.id !== inbound.id) return;
    const seconds = (inbound.timestamp - had.timestamp) / 1000;
    if (seconds <= 0) return;
    latest.bitrateBps = ((inbound.bytesReceived - had.bytesReceived) * 8) / seconds;
    latest.fps = (inbound.framesDecoded - had.framesDecoded) / seconds;
    const lost = Math.max(0, inbound.packetsLost - had.packetsLost);
    const arrived = inbound.packetsReceived - had.packetsReceived;
    latest.lossPercent = lost + arrived > 0 ? (lost * 100) / (lost + arrived) : 0;
  }

  /** The latest figures; latencies are medians over the last second. */
  function stats() {
    const now = performance.now();
    const fresh = recent.filter((frame) => frame.at > now - RECENT_MS);
    return {
      ...latest,
      shownMs: median(fresh.map((frame) => frame.shown)),
      receivedMs: median(fresh.map((frame) => frame.received)),
      width: video.videoWidth,
      height: video.videoHeight,
      lastFrameAgeMs: lastFrameAt === 0 ? null : now - lastFrameAt,
    };
  }

  function reset(nextReceiver) {
    receiver = nextReceiver;
    before = null;
    stampMisses = 0;
    lastFrameAt = 0;
    recent.length = 0;
    Object.assign(latest, empty(), { frames: latest.frames });
  }

  /** Frames that stopped while the page was hidden did not stop: callbacks did. */
  const forgive = () => { if (lastFrameAt !== 0) lastFrameAt = performance.now(); };

  if (video.requestVideoFrameCallback) video.requestVideoFrameCallback(onFrame);
  return { poll, stats, reset, forgive, samples: () => samples.slice(), clear: () => samples.splice(0) };
}

function empty() {
  return {
    frames: 0, presentedFrames: 0, framesDecoded: 0, framesDropped: 0, freezes: 0, packetsLost: 0,
    fps: null, bitrateBps: null, lossPercent: null, rttMs: null, decoder: null, source: null,
  };
}

/** From `captured` to received and to shown; null where the clocks plainly do not agree. */
function latency(captured, frame) {
  const shown = shownAt(frame) - captured;
  const received = frame.receiveTime ? frame.receiveTime - captured : undefined;
  return Math.abs(shown) < LATENCY_MS_MAX ? { shown, received } : null;
}

/**
 * When the frame is expected on the screen. Chromium may name a refresh that had begun before the
 * frame was handed to the compositor; a frame is never shown before that.
 */
function shownAt(frame) {
  return Math.max(frame.expectedDisplayTime, frame.presentationTime);
}

function sample(stamp, offset, frame, found) {
  const unix = (time) => (time === undefined ? null : time + offset);
  return {
    frame: stamp.frame,
    unixMs: stamp.unixMs,
    receivedMs: found.received ?? null,
    shownMs: found.shown,
    receivedUnixMs: unix(frame.receiveTime),
    shownUnixMs: unix(shownAt(frame)),
    expectedDisplayUnixMs: unix(frame.expectedDisplayTime),
    presentedUnixMs: unix(frame.presentationTime),
    decodeMs: frame.processingDuration === undefined ? null : frame.processingDuration * 1000,
    presentedFrames: frame.presentedFrames,
    rtpTimestamp: frame.rtpTimestamp ?? null,
    width: frame.width,
    height: frame.height,
  };
}

function median(values) {
  const known = values.filter(Number.isFinite).sort((a, b) => a - b);
  return known.length > 0 ? known[known.length >> 1] : null;
}
