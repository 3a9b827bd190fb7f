// Attention as a heat map, in the colors of `sagan attend`.

export const HEAT_OPACITY = 0.55;

// From no attention to the most: Matplotlib's inferno.
const STOPS = [
  [0, 0, 4], [31, 12, 72], [87, 16, 110], [137, 34, 106], [188, 55, 84],
  [227, 89, 51], [249, 142, 9], [249, 203, 53], [252, 255, 164],
];

function heatColor(level) {
  const place = level * (STOPS.length - 1);
  const i = Math.min(STOPS.length - 2, Math.floor(place));
  return STOPS[i].map((channel, k) => channel + (place - i) * (STOPS[i + 1][k] - channel));
}

/** Returns the legend's background, a CSS gradient. */
export function heatGradient() {
  return `linear-gradient(to right, ${STOPS.map((stop) => `rgb(${stop.join(" ")})`).join(", ")})`;
}

/** Draws a map of height * width keys, with one more pixel on each side, since smoothing fades the edges. */
export function heatCanvas(row, [height, width], brightest) {
  const canvas = new OffscreenCanvas(width + 2, height + 2);
  const pixels = new ImageData(width + 2, height + 2);
  const inside = (index, count) => Math.min(count - 1, Math.max(0, index - 1));
  for (let y = 0; y < height + 2; y++) {
    for (let x = 0; x < width + 2; x++) {
      const color = heatColor(row[inside(y, height) * width + inside(x, width)] / brightest);
      pixels.data.set([...color, 255], 4 * (y * (width + 2) + x));
    }
  }
  canvas.getContext("2d").putImageData(pixels, 0, 0);
  return canvas;
}
