"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const $ = id => document.getElementById(id);
const canvas = $("canvas");
const context = canvas.getContext("2d");
const state = {picture: 0, layer: 0, row: 0, column: 0, locked: false};
const images = data.pictures.map(picture =>
  Object.assign(new Image(), {src: "data:image/png;base64," + picture.png}),
);
const scoresCache = new Map();
const decodeBase64 = text => Uint8Array.from(atob(text), c => c.charCodeAt(0));

function decodeFloat16(bits) {
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  return exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -24 * fraction;
}

// Returns a Float32Array of queries * keys.
async function decodeScores(picture, layer) {
  const {keys: keyShape, queries: queryShape, levels, highest: encodedHighest} = data.layers[layer];
  const keys = keyShape[0] * keyShape[1];
  const queries = queryShape[0] * queryShape[1];
  const compressed = new Blob([decodeBase64(data.pictures[picture].maps[layer])]);
  const stream = compressed.stream().pipeThrough(new DecompressionStream("deflate"));
  const values = new Uint8Array(await new Response(stream).arrayBuffer());
  const highestBytes = decodeBase64(encodedHighest[picture]);
  const scores = new Float32Array(queries * keys);
  for (let q = 0; q < queries; q++) {
    const highest = decodeFloat16(highestBytes[2 * q] | (highestBytes[2 * q + 1] << 8));
    for (let k = 0; k < keys; k++) {
      const i = q * keys + k;
      if (q) values[i] += values[i - keys]; // differences of neighboring queries, modulo 256
      scores[i] = (values[i] / (levels - 1)) ** 2 * highest;
    }
  }
  return scores;
}

function cachedScores(picture, layer) {
  const key = picture + "/" + layer;
  if (!scoresCache.has(key)) scoresCache.set(key, decodeScores(picture, layer));
  return scoresCache.get(key);
}

// Finds the 3x3 keys with the most attention, or the strongest key of a map of at most 4x4 keys: their sum, its multiple
// of a uniform map's, and their center of mass as fractions of the image.
function strongestRegion(map, h, w) {
  const reach = Math.max(h, w) > 4 ? 1 : 0;
  const total = map.reduce((sum, score) => sum + score, 0);
  let best = -1;
  let region = null;
  for (let r = 0; r < h; r++)
    for (let c = 0; c < w; c++) {
      let [sum, y, x, count] = [0, 0, 0, 0];
      for (let i = Math.max(0, r - reach); i <= Math.min(h - 1, r + reach); i++)
        for (let j = Math.max(0, c - reach); j <= Math.min(w - 1, c + reach); j++) {
          const a = map[i * w + j];
          sum += a;
          y += a * (i + 0.5);
          x += a * (j + 0.5);
          count++;
        }
      if (sum > best) {
        best = sum;
        region = {share: sum / total, contrast: (sum * h * w) / (total * count), y: y / sum / h, x: x / sum / w};
      }
    }
  return region;
}

// The color of a level from 0 to 1: [red, green, blue].
function heatColor(level) {
  const {stops} = data.heat;
  const place = level * (stops.length - 1);
  const i = Math.min(stops.length - 2, Math.floor(place));
  return stops[i].map((channel, k) => channel + (place - i) * (stops[i + 1][k] - channel));
}

// A picture in gray with full contrast, but not too dark, so that it is seen under the map and hue belongs to the map.
const grayPictures = new Map();
function grayPicture(image) {
  if (grayPictures.has(image)) return grayPictures.get(image);
  const gray = document.createElement("canvas");
  [gray.width, gray.height] = [image.naturalWidth, image.naturalHeight];
  const grayContext = gray.getContext("2d");
  grayContext.drawImage(image, 0, 0);
  const pixels = grayContext.getImageData(0, 0, gray.width, gray.height);
  const values = Float32Array.from({length: pixels.data.length / 4}, (_, i) =>
    0.299 * pixels.data[4 * i] + 0.587 * pixels.data[4 * i + 1] + 0.114 * pixels.data[4 * i + 2]);
  const [low, high] = [values.reduce((a, b) => Math.min(a, b)), values.reduce((a, b) => Math.max(a, b))];
  const {darkest} = data.heat;
  values.forEach((value, i) => {
    const level = high > low ? (value - low) / (high - low) : value / 255;
    pixels.data.fill(darkest + (255 - darkest) * level, 4 * i, 4 * i + 3);
  });
  grayContext.putImageData(pixels, 0, 0);
  grayPictures.set(image, gray);
  return gray;
}

const heat = document.createElement("canvas");
function drawHeat(map, h, w) {
  const highest = Math.max(...map, 1e-12);
  // One more cell on each side, since smoothing fades the edges.
  heat.width = w + 2;
  heat.height = h + 2;
  const heatContext = heat.getContext("2d");
  const pixels = heatContext.createImageData(w + 2, h + 2);
  for (let r = 0; r < h + 2; r++)
    for (let c = 0; c < w + 2; c++) {
      const i = Math.min(h - 1, Math.max(0, r - 1)) * w + Math.min(w - 1, Math.max(0, c - 1));
      pixels.data.set([...heatColor(map[i] / highest), 255], 4 * (r * (w + 2) + c));
    }
  heatContext.putImageData(pixels, 0, 0);
  context.save();
  context.globalAlpha = data.heat.opacity;
  context.beginPath();
  context.rect(0, 0, canvas.width, canvas.height);
  context.clip();
  context.imageSmoothingEnabled = true;
  context.imageSmoothingQuality = "high";
  const [dx, dy] = [canvas.width / w, canvas.height / h];
  context.drawImage(heat, -dx, -dy, canvas.width + 2 * dx, canvas.height + 2 * dy);
  context.restore();
  return highest;
}

// Mean distance in px between the query and what it attends to, and the number of keys that a uniform map of the same
// entropy has.
function summarize(map, h, w, from, image) {
  const total = map.reduce((sum, score) => sum + score, 0);
  let [distance, entropy] = [0, 0];
  map.forEach((score, k) => {
    const share = score / total;
    const [dy, dx] = [(Math.floor(k / w) + 0.5) / h - from.y, ((k % w) + 0.5) / w - from.x];
    distance += share * Math.hypot(image.naturalHeight * dy, image.naturalWidth * dx);
    if (share > 0) entropy -= share * Math.log2(share);
  });
  return {total, distance, effectiveKeys: 2 ** entropy};
}

let latestDrawing = 0;
async function draw() {
  const drawing = ++latestDrawing;
  const layer = data.layers[state.layer];
  const image = images[state.picture];
  const [scores] = await Promise.all([cachedScores(state.picture, state.layer), image.decode()]);
  if (drawing !== latestDrawing) return; // replaced by a later one
  const [H, W] = layer.queries;
  const [h, w] = layer.keys;
  const {naturalWidth, naturalHeight} = image;
  document.documentElement.style.setProperty("--aspect", naturalWidth / naturalHeight);
  const width = Math.max(1, Math.round(canvas.clientWidth * (window.devicePixelRatio || 1)));
  const height = Math.max(1, Math.round((width * naturalHeight) / naturalWidth));
  if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
  const query = state.row * W + state.column;
  const map = scores.subarray(query * h * w, (query + 1) * h * w);
  const from = {y: (state.row + 0.5) / H, x: (state.column + 0.5) / W};
  const to = strongestRegion(map, h, w);
  context.imageSmoothingEnabled = Math.min(naturalWidth, naturalHeight) > 128;
  context.drawImage(grayPicture(image), 0, 0, width, height);
  const highest = drawHeat(map, h, w);
  const standsOut = to.contrast >= data.heat.stands_out;
  if (standsOut) drawArrow(from, to);
  drawDot(from);
  const {total, distance, effectiveKeys} = summarize(map, h, w, from, image);
  const formatPosition = p => `${Math.floor(p.x * naturalWidth)}, ${Math.floor(p.y * naturalHeight)} px`;
  $("from").textContent = formatPosition(from);
  $("to").textContent = standsOut ? formatPosition(to) : "nothing stands out";
  $("share").textContent = (100 * to.share).toFixed(0) + " %";
  const percent = Number(((100 * highest) / total).toPrecision(3));
  $("highest").textContent = `${percent} % on one key, ${((highest * h * w) / total).toFixed(1)} × uniform`;
  $("distance").textContent = distance.toFixed(1) + " px";
  $("spread").textContent = effectiveKeys.toFixed(1) + ` of ${h * w} keys`;
  $("gamma").textContent = layer.gamma.toFixed(3);
  $("note").textContent = layer.reduced
    ? `Maps are reduced to ${H}×${W} positions and ${h}×${w} keys to keep the file small.`
    : "";
  Object.assign(window.explorer, {state: {...state}, map: Array.from(map), from, to, standsOut, drawn: drawing});
}

// Marks have the same size in pictures of any aspect.
const markUnit = () => Math.min(canvas.width, canvas.height) / 400;
const toCanvas = position => [position.x * canvas.width, position.y * canvas.height];

function drawDot(from) {
  const unit = markUnit();
  for (const [radius, color] of [[7, "rgba(0,0,0,.7)"], [6.2, "#fff"], [state.locked ? 5.4 : 4.6, "#1e90ff"]]) {
    context.fillStyle = color;
    context.beginPath();
    context.arc(...toCanvas(from), radius * unit, 0, 7);
    context.fill();
  }
}

function drawArrow(from, to) {
  const unit = markUnit();
  const [start, end] = [toCanvas(from), toCanvas(to)];
  const length = Math.hypot(end[0] - start[0], end[1] - start[1]);
  context.lineCap = "butt";
  context.lineJoin = "round";
  for (const [outline, color] of [[2.4 * unit, "rgba(0,0,0,.7)"], [0, "#fff"]]) {
    context.strokeStyle = context.fillStyle = color;
    if (length > 14 * unit) {
      const dx = (end[0] - start[0]) / length;
      const dy = (end[1] - start[1]) / length;
      const neck = [end[0] - dx * 11 * unit, end[1] - dy * 11 * unit];
      context.lineWidth = 3 * unit + outline;
      context.beginPath();
      context.moveTo(...start);
      context.lineTo(...neck);
      context.stroke();
      context.lineWidth = outline;
      context.beginPath();
      context.moveTo(...end);
      context.lineTo(neck[0] - dy * 6 * unit, neck[1] + dx * 6 * unit);
      context.lineTo(neck[0] + dy * 6 * unit, neck[1] - dx * 6 * unit);
      context.closePath();
      context.fill();
      if (outline) context.stroke();
    } else {
      // The position attends to itself: a ring instead of an arrow without length.
      context.lineWidth = 2.5 * unit + outline;
      context.beginPath();
      context.arc(...end, 13 * unit, 0, 7);
      context.stroke();
    }
  }
}

const clamp = (value, count) => Math.max(0, Math.min(count - 1, value));

function moveTo(row, column) {
  const [H, W] = data.layers[state.layer].queries;
  state.row = clamp(row, H);
  state.column = clamp(column, W);
  return draw();
}

function moveToEvent(event) {
  const box = canvas.getBoundingClientRect();
  const [H, W] = data.layers[state.layer].queries;
  moveTo(
    Math.floor(((event.clientY - box.top) / box.height) * H),
    Math.floor(((event.clientX - box.left) / box.width) * W),
  );
}

function choose(picture) {
  state.picture = (picture + data.pictures.length) % data.pictures.length;
  $("class").value = data.pictures[state.picture].class;
  fillLatents();
  $("latent").value = state.picture;
  [...$("all").children].forEach((button, i) => button.setAttribute("aria-pressed", i === state.picture));
  return draw();
}

function setLayer(layer) {
  const [oldH, oldW] = data.layers[state.layer].queries;
  state.layer = (layer + data.layers.length) % data.layers.length;
  $("layer").value = state.layer;
  const [H, W] = data.layers[state.layer].queries;
  return moveTo(Math.floor(((state.row + 0.5) / oldH) * H), Math.floor(((state.column + 0.5) / oldW) * W));
}

const picturesOfClass = name => [...data.pictures.keys()].filter(i => data.pictures[i].class === name);

function fillLatents() {
  const options = picturesOfClass($("class").value).map(i => new Option("seed " + data.pictures[i].seed, i));
  $("latent").replaceChildren(...options);
}

function makeThumbnail(picture, i) {
  const text = (picture.class ? picture.class + ", " : "") + "seed " + picture.seed;
  const button = Object.assign(document.createElement("button"), {title: text, onclick: () => choose(i)});
  button.append(Object.assign(new Image(), {src: images[i].src, alt: text}));
  return button;
}

function fillControls() {
  const classes = [...new Set(data.pictures.map(picture => picture.class))];
  $("class").replaceChildren(...classes.map(name => new Option(name, name)));
  if (classes.length < 2) $("class-field").style.display = "none";
  const layerTexts = data.layers.map(({network, name}) => `${network}, ${name.replace("attention_", "")} px`);
  $("layer").replaceChildren(...layerTexts.map((text, i) => new Option(text, i)));
  const seeds = picturesOfClass(classes[0]).length;
  // One row of thumbnails per class.
  if (classes.length > 1 && seeds < 7) $("all").style.gridTemplateColumns = `repeat(${Math.max(seeds, 4)}, 1fr)`;
  $("all").replaceChildren(...data.pictures.map(makeThumbnail));
}

function fillLegend() {
  const {stops, opacity, darkest} = data.heat;
  const gray = 128 + darkest / 2; // of a picture of medium lightness
  const blended = stops.map(stop => `rgb(${stop.map(channel => opacity * channel + (1 - opacity) * gray).join(" ")})`);
  $("bar").style.background = `linear-gradient(to right, ${blended.join(", ")})`;
}

function listen() {
  canvas.addEventListener("pointermove", event => {
    if (!state.locked || event.buttons) moveToEvent(event);
  });
  canvas.addEventListener("pointerdown", event => {
    canvas.setPointerCapture(event.pointerId);
    // Touch needs no lock: a lifted finger sends no more moves.
    if (event.pointerType === "mouse") state.locked = !state.locked;
    moveToEvent(event);
  });
  $("class").onchange = () => {
    // The same latent in another class, if there is one.
    const {seed} = data.pictures[state.picture];
    const candidates = picturesOfClass($("class").value);
    choose(candidates.find(i => data.pictures[i].seed === seed) ?? candidates[0]);
  };
  $("latent").onchange = () => choose(+$("latent").value);
  $("layer").onchange = () => setLayer(+$("layer").value);
  addEventListener("keydown", event => {
    if (event.target.tagName === "SELECT" || event.ctrlKey || event.metaKey || event.altKey) return;
    const step = {ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1]}[event.key];
    if (step) moveTo(state.row + step[0], state.column + step[1]);
    else if (event.key === "n") choose(state.picture + 1);
    else if (event.key === "p") choose(state.picture - 1);
    else if (event.key === "l") setLayer(state.layer + 1);
    else return;
    state.locked = true; // or a resting mouse would move the position back
    event.preventDefault();
  });
  addEventListener("resize", draw);
}

window.explorer = {choose, moveTo, setLayer};
$("title").textContent = data.title;
document.title = "Attention, " + data.title;
fillControls();
fillLegend();
listen();
const [height, width] = data.layers[0].queries;
state.row = height >> 1;
state.column = width >> 2;
choose(0);
