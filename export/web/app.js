// The page: runs a generator, a TFLite file, with LiteRT.js in the visitor's browser.

import { loadAndCompile, loadLiteRt, Tensor } from "@litertjs/core";
import { drawLatent } from "./latents.js";

const GALLERY = 8; // thumbnails
const REACH = 4; // range of a slider, in standard deviations of the latent
const TIMES = 30; // recent runs for the median time

const at = (id) => document.getElementById(id);
const nextFrame = () => new Promise((resolve) => setTimeout(resolve));

const state = {
  description: null, // model.json
  model: null,
  seed: 0,
  offsets: [], // slider values
  query: null, // pointer position [x, y] in [0, 1)
  picture: null, // {image, maps}; maps is null until the pointer enters
  stale: false, // the picture does not match the controls
  thumbnails: [], // canvases still to draw
  working: false,
  times: [],
};

function chosenLabel() {
  return state.description.num_classes === null ? null : Number(at("class").value);
}

function chosenLatent(seed) {
  // The right end of the slider is the full distribution.
  const { max, value } = at("truncation");
  return drawLatent(seed, Number(value) >= Number(max) ? 6 : Number(value), state.description.latent_dim);
}

function movedLatent() {
  const latent = chosenLatent(state.seed);
  state.description.directions.forEach((direction, i) => {
    for (let j = 0; j < latent.length; j++) latent[j] += state.offsets[i] * direction[j];
  });
  return latent;
}

/** Runs the generator; returns {image: Float32Array, name of an attention layer: Float32Array, ...}. */
export async function generate(latent, label, signature = "serving_default") {
  const inputs = { latent: new Tensor(latent, [1, latent.length]) };
  if (label !== null) inputs.label = new Tensor(Int32Array.of(label), [1]);
  const outputs = await state.model.run(signature, inputs);
  const arrays = {};
  for (const [name, tensor] of Object.entries(outputs)) {
    arrays[name] = tensor.toTypedArray().slice();
    tensor.delete();
  }
  for (const tensor of Object.values(inputs)) tensor.delete();
  return arrays;
}

/** Draws an image, values in [-1, 1], on a canvas; rounds as the server does. */
function show(image, canvas) {
  const [height, width, channels] = state.description.image_shape;
  const pixels = new ImageData(width, height);
  for (let i = 0; i < width * height; i++) {
    for (let k = 0; k < 3; k++) {
      pixels.data[4 * i + k] = Math.round((image[channels * i + (channels === 1 ? 0 : k)] + 1) * 127.5);
    }
    pixels.data[4 * i + 3] = 255;
  }
  canvas.width = width;
  canvas.height = height;
  canvas.getContext("2d").putImageData(pixels, 0, 0);
}

/** Returns the attention map of the position under the pointer, and the sides of the query and key grids. */
export function queriedRow() {
  const name = at("layer").value;
  const map = state.picture?.maps?.[name];
  if (!map || !state.query) return null;
  const [queries, keys] = state.description.attention[name];
  const [side, keySide] = [Math.sqrt(queries), Math.sqrt(keys)];
  const [column, line] = state.query.map((one) => Math.min(side - 1, Math.floor(one * side)));
  const start = (line * side + column) * keys;
  return { row: map.subarray(start, start + keys), side, keySide, column, line };
}

function drawOverlay() {
  const canvas = at("overlay");
  const size = Math.round(canvas.clientWidth * devicePixelRatio);
  canvas.width = canvas.height = size;
  const queried = queriedRow();
  if (!queried) return;
  const { row, side, keySide, column, line } = queried;
  const brightest = row.reduce((a, b) => Math.max(a, b));
  const heat = new OffscreenCanvas(keySide, keySide);
  const pixels = new ImageData(keySide, keySide);
  row.forEach((score, i) => {
    const share = score / brightest;
    pixels.data.set([255, 110 + 145 * share, 40 + 160 * share ** 3, 235 * share], 4 * i);
  });
  heat.getContext("2d").putImageData(pixels, 0, 0);
  const context = canvas.getContext("2d");
  context.fillStyle = "rgb(0 0 0 / 45%)";
  context.fillRect(0, 0, size, size);
  context.imageSmoothingQuality = "high";
  context.drawImage(heat, 0, 0, size, size);
  const [x, y] = [column, line].map((one) => ((one + 0.5) / side) * size);
  const radius = Math.max(size / side / 2, 6 * devicePixelRatio);
  for (const [colour, width] of [["black", 4], ["white", 2]]) {
    context.beginPath();
    context.arc(x, y, radius, 0, 2 * Math.PI);
    context.strokeStyle = colour;
    context.lineWidth = width * devicePixelRatio;
    context.stroke();
  }
}

function showTime() {
  const sorted = [...state.times].sort((a, b) => a - b);
  const runs = sorted.length > 1 ? ` (median of ${sorted.length})` : "";
  at("time").textContent = `${sorted[sorted.length >> 1].toFixed(1)} ms per image on this machine${runs}`;
}

async function timed(latent, label) {
  const start = performance.now();
  const outputs = await generate(latent, label);
  state.times = [...state.times, performance.now() - start].slice(-TIMES);
  showTime();
  return outputs;
}

async function paint() {
  state.stale = false;
  const [latent, label] = [movedLatent(), chosenLabel()];
  if (state.query && at("layer").options.length) {
    const { image, ...maps } = await generate(latent, label, "attention");
    state.picture = { image, maps };
  } else {
    state.picture = { ...(await timed(latent, label)), maps: null };
  }
  show(state.picture.image, at("image"));
  drawOverlay();
}

// A single loop runs the generator, large picture first. Changes during a run are not queued; the loop picks them up
// when the run ends.
async function work() {
  if (state.working) return;
  state.working = true;
  try {
    while (state.stale || state.thumbnails.length) {
      if (state.stale) {
        await paint();
      } else {
        const { canvas, seed } = state.thumbnails.shift();
        show((await timed(chosenLatent(seed), chosenLabel())).image, canvas);
      }
      await nextFrame();
    }
  } catch (error) {
    report(error);
  } finally {
    state.working = false;
  }
}

function refresh() {
  state.stale = true;
  work();
}

function refreshAll() {
  at("truncation-value").textContent =
    at("truncation").value === at("truncation").max ? "none" : Number(at("truncation").value).toFixed(2);
  state.thumbnails = [...at("gallery").children].map((button, i) => {
    const seed = state.seed + i + 1;
    button.dataset.seed = seed;
    button.title = `Seed ${seed}`;
    button.setAttribute("aria-label", button.title);
    return { canvas: button.firstChild, seed };
  });
  refresh();
}

function setSeed(seed) {
  state.seed = seed;
  at("seed").value = seed;
  refreshAll();
}

function point(query) {
  state.query = query;
  if (query && !state.picture?.maps) refresh();
  else drawOverlay();
}

function resetDirections() {
  state.offsets.fill(0);
  for (const label of at("directions").querySelectorAll("label")) {
    label.querySelector("input").value = 0;
    label.querySelector("output").textContent = "0.0";
  }
}

function addOptions(select, pairs) {
  select.append(...pairs.map(([value, text]) => new Option(text, value)));
}

function build() {
  const description = state.description;
  document.title = at("name").textContent = description.name;
  const [height, width] = description.image_shape;
  at("about").textContent =
    `A Self-Attention GAN of ${width} × ${height} px, trained on ${description.training.data ?? "unknown data"}. ` +
    "It runs in this page, on your machine; nothing is sent anywhere.";
  at("made").textContent =
    `Training step ${description.training.step ?? "unknown"}. Exported ${description.exported_at}.`;
  const classes = description.num_classes ?? 0;
  const names = description.class_names ?? Array.from({ length: classes }, (_, i) => `class ${i}`);
  addOptions(at("class"), names.map((one, i) => [i, one]));
  at("class-row").hidden = classes === 0;
  const layers = Object.keys(description.attention);
  addOptions(at("layer"), layers.map((one) => [one, one.replace("_", " at ")]));
  at("layer-row").hidden = layers.length < 2;
  at("hint").hidden = layers.length === 0;
  addOptions(at("variant"), description.files.map((one) => [one.path, `${one.variant}, ${megabytes(one.bytes)} MB`]));
  state.offsets = description.directions.map((_, i) => addDirection(i));
  at("directions").hidden = state.offsets.length === 0;
  for (let i = 0; i < GALLERY; i++) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(document.createElement("canvas"));
    button.addEventListener("click", () => setSeed(Number(button.dataset.seed)));
    at("gallery").append(button);
  }
}

const megabytes = (bytes) => (bytes / 1e6).toFixed(1);

function addDirection(i) {
  const label = document.createElement("label");
  const slider = Object.assign(document.createElement("input"), {
    type: "range", min: -REACH, max: REACH, step: 0.1, value: 0,
  });
  const output = document.createElement("output");
  output.textContent = "0.0";
  slider.addEventListener("input", () => {
    state.offsets[i] = Number(slider.value);
    output.textContent = state.offsets[i].toFixed(1);
    refresh();
  });
  label.append(`${i + 1}`, slider, output);
  at("directions").append(label);
  return 0;
}

function listen() {
  at("new").addEventListener("click", () => {
    resetDirections();
    setSeed(Math.floor(Math.random() * 1e6));
  });
  at("seed").addEventListener("change", () => {
    const seed = Number(at("seed").value);
    setSeed(Number.isSafeInteger(seed) && seed >= 0 ? seed : state.seed);
  });
  at("class").addEventListener("change", refreshAll);
  at("truncation").addEventListener("input", refreshAll);
  at("reset").addEventListener("click", () => {
    resetDirections();
    refresh();
  });
  at("layer").addEventListener("change", drawOverlay);
  at("variant").addEventListener("change", () => loadModel(at("variant").value).then(refreshAll, report));
  const overlay = at("overlay");
  const place = (event) => {
    const box = overlay.getBoundingClientRect();
    const inside = (one) => Math.min(Math.max(one, 0), 1 - 1e-9);
    point([inside((event.clientX - box.left) / box.width), inside((event.clientY - box.top) / box.height)]);
  };
  overlay.addEventListener("pointerdown", place);
  overlay.addEventListener("pointermove", place);
  // After touch, the map stays visible.
  overlay.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && point(null));
  overlay.addEventListener("blur", () => point(null));
  overlay.addEventListener("keydown", (event) => {
    const [dx, dy] =
      { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key] ?? [0, 0];
    if (event.key === "Escape") return point(null);
    if (!dx && !dy) return;
    event.preventDefault();
    const side = Math.sqrt(state.description.attention[at("layer").value]?.[0] ?? 1);
    const [x, y] = state.query ?? [0.5, 0.5];
    const step = (from, by) => (Math.min(side - 1, Math.max(0, Math.floor(from * side) + by)) + 0.5) / side;
    point([step(x, dx), step(y, dy)]);
  });
  new ResizeObserver(drawOverlay).observe(overlay);
}

async function loadModel(path) {
  at("time").textContent = "Loading the generator …";
  while (state.working) await nextFrame();
  state.working = true; // blocks the generator while it loads
  try {
    state.model?.delete();
    state.model = await loadAndCompile(path, { accelerator: "wasm" });
    state.times = [];
  } finally {
    state.working = false;
  }
}

function report(error) {
  console.error(error);
  at("problem").hidden = false;
  at("problem").textContent = `The generator cannot run here: ${error?.message ?? error}`;
}

async function start() {
  const answer = await fetch("model.json");
  if (!answer.ok) throw new Error(`model.json: ${answer.status} ${answer.statusText}`);
  state.description = await answer.json();
  build();
  await loadLiteRt("./litert/wasm/");
  await loadModel(state.description.files[0].path);
  listen();
  refreshAll();
}

// For tests and debugging.
window.sagan = { state, generate, drawLatent, queriedRow, ready: start() };
window.sagan.ready.catch(report);
