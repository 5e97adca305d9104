// The latency of the last minute as two lines: on screen, and received.

const SPAN_MS = 60_000;
const STEPS_MS = [20, 40, 60, 100, 160, 200, 300, 500, 1000, 2000, 5000, 10_000];

/** A graph on `canvas`; `add` takes a point, `draw` shows what there is. */
export function latencyGraph(canvas) {
  const context = canvas.getContext("2d");
  const points = [];

  function add(now, shown, received) {
    points.push({ at: now, shown, received });
    while (points.length > 0 && points[0].at < now - SPAN_MS) points.shift();
  }

  function draw(now) {
    const { width, height } = fit(canvas, context);
    if (width === 0) return;
    const style = getComputedStyle(canvas);
    const colour = (name) => style.getPropertyValue(name);
    const seen = points.flatMap((point) => [point.shown, point.received]).filter(Number.isFinite);
    const top = scale(Math.max(10, ...seen));
    const x = (at) => width - ((now - at) / SPAN_MS) * width;
    const y = (value) => height - 1 - (Math.max(0, value) / top) * (height - 12);
    context.clearRect(0, 0, width, height);
    rules(context, width, y, top, colour);
    fill(context, points, x, y, height, colour("--accent-soft"));
    line(context, points, "received", x, y, colour("--second"));
    line(context, points, "shown", x, y, colour("--accent"));
  }

  return { add, draw, clear: () => points.splice(0) };
}

function scale(highest) {
  return STEPS_MS.find((step) => step >= highest * 1.08) ?? highest * 1.1;
}

/** Gives the canvas the pixels of its place on the page, at the screen's density. */
function fit(canvas, context) {
  const density = window.devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  const [across, down] = [Math.round(width * density), Math.round(height * density)];
  if (canvas.width !== across || canvas.height !== down) {
    canvas.width = across;
    canvas.height = down;
  }
  context.setTransform(density, 0, 0, density, 0, 0);
  return { width, height };
}

function rules(context, width, y, top, colour) {
  context.lineWidth = 1;
  context.strokeStyle = colour("--line");
  context.fillStyle = colour("--muted");
  context.font = "11px system-ui, sans-serif";
  for (const value of [0, top / 2, top]) {
    const at = Math.round(y(value)) + 0.5;
    context.beginPath();
    context.moveTo(0, at);
    context.lineTo(width, at);
    context.stroke();
    if (value > 0) context.fillText(`${value} ms`, 2, at - 3);
  }
}

function line(context, points, name, x, y, colour) {
  context.beginPath();
  let drawing = false;
  for (const point of points) {
    if (!Number.isFinite(point[name])) {
      drawing = false; // a gap is shown as a gap
      continue;
    }
    if (drawing) context.lineTo(x(point.at), y(point[name]));
    else context.moveTo(x(point.at), y(point[name]));
    drawing = true;
  }
  context.lineWidth = 1.75;
  context.lineJoin = "round";
  context.strokeStyle = colour;
  context.stroke();
}

function fill(context, points, x, y, height, colour) {
  context.fillStyle = colour;
  let run = [];
  const flush = () => {
    if (run.length > 1) {
      context.beginPath();
      context.moveTo(x(run[0].at), height);
      for (const point of run) context.lineTo(x(point.at), y(point.shown));
      context.lineTo(x(run[run.length - 1].at), height);
      context.fill();
    }
    run = [];
  };
  for (const point of points) {
    if (Number.isFinite(point.shown)) run.push(point);
    else flush();
  }
  flush();
}
