// The page: choices, notices, keys, and the figures on show.
//
// For tests, `window.lensline` gives:
//   stats()    the latest figures: state, title, detail, camera, rendition, frames, framesDecoded,
//              fps, bitrateBps, lossPercent, packetsLost, rttMs, width, height, source ("stamp" or
//              "capture time"), shownMs and receivedMs (medians of the last second),
//              lastFrameAgeMs, clockOffsetMs (server's Unix time less performance.now()),
//              clockTripMs.
//   samples()  with ?measure=1, the last 2,000 frames: frame (modulo 65536) and unixMs as stamped
//              into the pixels; receivedMs and shownMs, from then to received and to shown;
//              receivedUnixMs, presentedUnixMs (handed to the compositor),
//              expectedDisplayUnixMs and shownUnixMs (the later of those two) by the server's
//              clock; decodeMs, presentedFrames, rtpTimestamp, width, height.
//   clear()    forgets the samples.

import { figures as measureFigures } from "./figures.js";
import { latencyGraph } from "./graph.js";
import { link as makeLink, ours, sentence } from "./link.js";

const LIST_RETRY_MS = 3000;
const FIGURES_EVERY_MS = 250;
const STATS_EVERY_MS = 1000;
const DESCRIBE_EVERY_MS = 5000;

const byId = (id) => document.getElementById(id);
const query = new URLSearchParams(location.search);
const video = byId("video");
const main = byId("main");
const choice = { camera: query.get("camera"), rendition: query.get("rendition") };
const graph = latencyGraph(byId("graph"));
let cameras = [];
let iceServers = [];
let shown = { state: "connecting", title: "Connecting", detail: "" };

const link = makeLink({
  video,
  target: () => choice,
  iceServers: () => iceServers,
  onState: show,
  onReceiver: (receiver) => { figures.reset(receiver); graph.clear(); },
  frameAge: () => figures.stats().lastFrameAgeMs,
});
const figures = measureFigures(video, link.clock.offset, query.get("measure") === "1");

/* Notices */

const PILLS = { connecting: "Connecting", live: "Live", stalled: "No picture", waiting: "Away", ended: "Ended", blocked: "Paused" };
const ACTIONS = { waiting: "Try now", ended: "Join again", blocked: "Play" };

function show(next) {
  const told = `${shown.title}. ${shown.detail}`;
  shown = next;
  const { state, title, detail, until } = next;
  byId("state").dataset.state = state === "live" ? "live" : state === "connecting" ? "connecting" : "away";
  byId("state-text").textContent = PILLS[state];
  byId("notice").hidden = state === "live";
  byId("spinner").hidden = state !== "connecting";
  byId("notice-title").textContent = state === "connecting" && choice.camera ? `Connecting to ${choice.camera}` : title;
  byId("notice-detail").textContent = detail;
  byId("action").textContent = ACTIONS[state] ?? "";
  byId("action").hidden = !(state in ACTIONS);
  byId("notice-wait").hidden = !until && state !== "stalled";
  countDown();
  // Only what changed is spoken; "connecting" between two tries is not news.
  const tell = `${title}. ${detail}`;
  if (tell !== told && !(state === "connecting" && until === undefined && told !== ". ")) byId("announce").textContent = tell;
}

function countDown() {
  const { state, until } = shown;
  const wait = byId("notice-wait");
  if (state === "stalled") wait.textContent = "The picture returns by itself.";
  else if (until) wait.textContent = `Trying again in ${Math.max(0, Math.ceil((until - Date.now()) / 1000))} s`;
}

function act() {
  if (shown.state === "blocked") video.play().then(() => show({ state: "live", title: "Live", detail: "" }), () => {});
  else start();
}

/* Choices */

/** The cameras there are, then the picture; tried again until the server answers. */
async function start() {
  link.stop();
  show({ state: "connecting", title: "Connecting", detail: "" });
  try {
    const response = await fetch(ours("/api/v1/cameras"), { cache: "no-store", signal: AbortSignal.timeout(4000) });
    const said = await response.json();
    if (!response.ok) throw { title: "Not let in", detail: sentence(said.detail) };
    ({ cameras, ice_servers: iceServers } = said);
  } catch ({ title = "Server unreachable", detail }) {
    detail ??= "No answer from the server. Is it running, and is the network up?";
    show({ state: "waiting", title, detail, until: Date.now() + LIST_RETRY_MS });
    startTimer = setTimeout(start, LIST_RETRY_MS);
    return;
  }
  if (cameras.length === 0) return show({ state: "ended", title: "No camera", detail: "The server has no camera." });
  choice.camera ??= cameras[0].id;
  offerChoices();
  link.connect();
}
let startTimer = null;

function offerChoices() {
  const camera = cameras.find((one) => one.id === choice.camera);
  fill(byId("camera"), cameras.map((one) => one.id), choice.camera);
  const renditions = camera?.renditions ?? [];
  const label = (one) => (one.height ? `${one.name} · ${one.height}p` : one.name);
  fill(byId("rendition"), renditions.map((one) => one.name), choice.rendition ?? "main", renditions.map(label));
  document.title = `${choice.camera} – Lensline`;
}

function fill(select, values, chosen, labels = values) {
  const known = values.includes(chosen);
  const all = known ? values : [chosen, ...values];
  const names = known ? labels : [chosen, ...labels];
  select.replaceChildren(...all.map((value, i) => new Option(names[i], value, false, value === chosen)));
  select.disabled = all.length < 2;
}

function choose(camera, rendition) {
  Object.assign(choice, { camera, rendition });
  const url = new URL(location.href);
  url.searchParams.set("camera", camera);
  if (rendition) url.searchParams.set("rendition", rendition);
  else url.searchParams.delete("rendition");
  history.replaceState(null, "", url);
  clearTimeout(startTimer);
  offerChoices();
  link.connect();
}

/* Figures */

const text = (id, value) => { if (byId(id).textContent !== value) byId(id).textContent = value; };
const number = (value, digits) => (Number.isFinite(value) ? value.toFixed(digits) : "–");
const SOURCES = { stamp: "by the stamp in the picture", "capture time": "by the server's capture time" };

function showFigures() {
  countDown();
  if (document.hidden || byId("figures").hidden) return;
  const now = performance.now();
  const is = figures.stats();
  const known = shown.state === "live" ? is : {};
  graph.add(now, known.shownMs, known.receivedMs);
  graph.draw(now);
  text("latency", number(known.shownMs, 0));
  text("received", number(known.receivedMs, 0));
  text("latency-source", SOURCES[known.source] ?? "not measured yet");
  text("fps", number(known.fps, 0));
  text("bitrate", number(known.bitrateBps / 1e6, 2));
  text("loss", number(known.lossPercent, 1));
  text("rtt", number(known.rttMs ?? link.clock.tripMs() ?? NaN, 1));
  text("size", is.width ? `${is.width} × ${is.height}` : "–");
}

function describe() {
  const { shownMs } = figures.stats();
  const latency = Number.isFinite(shownMs) ? `now ${Math.round(shownMs)} milliseconds` : "not known now";
  byId("graph").setAttribute("aria-label", `Latency of the last minute, ${latency}`);
}

function pollStats() {
  const connection = link.connection();
  // A connection that closes while it is asked has no statistics to give.
  if (connection && !document.hidden) figures.poll(connection).catch(() => {});
}

/* Keys and buttons */

function toggleFigures() {
  const hide = !byId("figures").hidden;
  byId("figures").hidden = hide;
  byId("toggle-figures").setAttribute("aria-pressed", String(!hide));
}

function toggleFull() {
  const done = document.fullscreenElement ? document.exitFullscreen() : main.requestFullscreen?.();
  done?.catch(() => { byId("announce").textContent = "Full screen is not allowed here."; });
  // Phones that know no full screen but for a video itself.
  if (!document.fullscreenElement && !main.requestFullscreen) video.webkitEnterFullscreen?.();
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("select, input")) return;
  const key = event.key.toLowerCase();
  if (key === "f") toggleFull();
  else if (key === "i") toggleFigures();
});
document.addEventListener("fullscreenchange", () => {
  byId("toggle-full").setAttribute("aria-pressed", String(Boolean(document.fullscreenElement)));
});
document.addEventListener("visibilitychange", () => {
  if (document.hidden) return;
  figures.forgive();
  if (shown.state === "waiting") act();
});
window.addEventListener("online", () => { if (shown.state === "waiting") act(); });
window.addEventListener("pagehide", () => link.stop());
window.addEventListener("pageshow", (event) => { if (event.persisted) start(); });
video.addEventListener("resize", () => {
  if (video.videoWidth) byId("stage").style.setProperty("--aspect", `${video.videoWidth} / ${video.videoHeight}`);
});
byId("stage").addEventListener("dblclick", toggleFull);
byId("toggle-figures").addEventListener("click", toggleFigures);
byId("toggle-full").addEventListener("click", toggleFull);
byId("action").addEventListener("click", act);
byId("choices").addEventListener("submit", (event) => event.preventDefault());
byId("camera").addEventListener("change", (event) => choose(event.target.value, null));
byId("rendition").addEventListener("change", (event) => choose(choice.camera, event.target.value));

window.lensline = {
  stats: () => ({
    ...figures.stats(), ...shown, ...choice,
    clockOffsetMs: link.clock.offset(), clockTripMs: link.clock.tripMs(),
  }),
  samples: figures.samples,
  clear: figures.clear,
};

setInterval(showFigures, FIGURES_EVERY_MS);
setInterval(pollStats, STATS_EVERY_MS);
setInterval(describe, DESCRIBE_EVERY_MS);
start();
