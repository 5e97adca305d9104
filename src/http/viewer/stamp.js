// The stamp that the simulated camera burns into its pictures: two rows of 64 squares in the
// top-left corner, most significant bit first, white is one. First row: 48 bits of capture time in
// milliseconds since the Unix epoch, 16 bits of frame number. Second row: its complement.

const COLUMNS = 64;
const ROWS = 2;
const SQUARES_PER_WIDTH = 160;
const PIXELS = 2; // each square is read as 2 x 2 pixels
const TIME_BITS = 48;

/** A reader of stamps; it copies only the strip that the stamp lies in. */
export function stampReader() {
  const canvas = document.createElement("canvas");
  canvas.width = COLUMNS * PIXELS;
  canvas.height = ROWS * PIXELS;
  const context = canvas.getContext("2d", { willReadFrequently: true, alpha: false });

  /** The stamp in what `video` shows now as `{unixMs, frame}`, or null where there is none. */
  return function read(video) {
    const side = video.videoWidth / SQUARES_PER_WIDTH;
    if (!context || side < 1) return null;
    // A picture that was scaled has squares of a fractional side, one that was made at this
    // size has them rounded down.
    return readAt(video, side) ?? (Number.isInteger(side) ? null : readAt(video, Math.floor(side)));
  };

  function readAt(video, side) {
    context.drawImage(video, 0, 0, side * COLUMNS, side * ROWS, 0, 0, canvas.width, canvas.height);
    return decode(context.getImageData(0, 0, canvas.width, canvas.height).data);
  }
}

/** The stamp in the pixels (RGBA) of the strip, or null where the two rows contradict. */
export function decode(pixels) {
  let unixMs = 0;
  let frame = 0;
  for (let column = 0; column < COLUMNS; column++) {
    const bit = brightness(pixels, column, 0) > 127 ? 1 : 0;
    const check = brightness(pixels, column, 1) > 127 ? 1 : 0;
    if (bit === check) return null;
    if (column < TIME_BITS) unixMs = unixMs * 2 + bit;
    else frame = frame * 2 + bit;
  }
  return { unixMs, frame };
}

function brightness(pixels, column, row) {
  let sum = 0;
  for (let y = row * PIXELS; y < (row + 1) * PIXELS; y++) {
    for (let x = column * PIXELS; x < (column + 1) * PIXELS; x++) {
      // The stamp is grey: green alone tells, and carries most of the luma.
      sum += pixels[(y * COLUMNS * PIXELS + x) * 4 + 1];
    }
  }
  return sum / (PIXELS * PIXELS);
}
