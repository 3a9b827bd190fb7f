// Runs a generator, a TFLite file, in the browser with LiteRT.js.

import { loadAndCompile, loadLiteRt, Tensor } from "@litertjs/core";
import { HEAT_OPACITY, heatCanvas, heatGradient } from "./heat.js";
import { drawLatent, laterSeed } from "./latents.js";
import { formatLink, parseLink } from "./link.js";

const THUMBNAILS = 8;
const SLIDER_RANGE = 4; // standard deviations of the latent
const TIMED_RUNS = 30; // latest runs in the displayed median
const NO_TRUNCATION = 6;
const LINK_DELAY = 150; // ms; browsers refuse an address that changes too often

const $ = (id) => document.getElementById(id);
const nextFrame = () => new Promise((resolve) => setTimeout(resolve));

const state = {
  description: null, // model.json
  model: null,
  seed: 0,
  offsets: [], // values of the sliders
  query: null, // [x, y] of the pointer, in [0, 1)
  picture: null, // {image, maps}; maps is null until a position is queried
  stale: false, // the controls have changed since the picture was generated
  thumbnails: [], // canvases to draw
  working: false, // a generator run or a loading is in progress
  times: [],
};

function selectedLabel() {
  return state.description.num_classes === null ? null : Number($("class").value);
}

function selectedLatent(seed) {
  // The right end of the slider means no truncation.
  const { max, value } = $("truncation");
  return drawLatent(seed, Number(value) >= Number(max) ? NO_TRUNCATION : Number(value), state.description.latent_dim);
}

function movedLatent() {
  const latent = selectedLatent(state.seed);
  state.description.directions.forEach((direction, i) => {
    for (let j = 0; j < latent.length; j++) latent[j] += state.offsets[i] * direction[j];
  });
  return latent;
}

/** Runs the generator. Returns {image: Float32Array, name of an attention layer: Float32Array, ...}. */
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

/** Draws an image with values in [-1, 1] on a canvas, rounded as on the server. */
function drawImage(image, canvas) {
  const [height, width, channels] = state.description.image_shape;
  const pixels = new ImageData(width, height);
  for (let i = 0; i < width * height; i++) {
    for (let k = 0; k < 3; k++) {
      pixels.data[4 * i + k] = Math.round((image[channels * i + (channels === 1 ? 0 : k)] + 1) * 127.5);
    }
    pixels.data[4 * i + 3] = 255;
  }
  Object.assign(canvas, { width, height });
  canvas.getContext("2d").putImageData(pixels, 0, 0);
}

/** Returns [height, width] of a grid of `count` cells, which has the aspect of the image. */
function gridOf(count) {
  const [height, width] = state.description.image_shape;
  const rows = Math.round(Math.sqrt((count * height) / width));
  return [rows, count / rows];
}

/** Returns the attention map of the queried position, that position, and the query and key grids, [height, width]. */
export function queriedRow() {
  const name = $("layer").value;
  const map = state.picture?.maps?.[name];
  if (!map || !state.query) return null;
  const [queries, keys] = state.description.attention[name];
  const [queryGrid, keyGrid] = [gridOf(queries), gridOf(keys)];
  const [column, line] = positionIn(queryGrid, state.query);
  const start = (line * queryGrid[1] + column) * keys;
  return { row: map.subarray(start, start + keys), queryGrid, keyGrid, column, line };
}

/** Returns [column, row] of a point, [x, y] in [0, 1), in a grid, [height, width]. */
function positionIn([height, width], [x, y]) {
  return [Math.min(width - 1, Math.floor(x * width)), Math.min(height - 1, Math.floor(y * height))];
}

function showLegend(row, brightest) {
  $("legend").hidden = row === null;
  if (row === null) return;
  const total = row.reduce((a, b) => a + b);
  const percent = Number(((100 * brightest) / total).toPrecision(3));
  $("highest").textContent = `${percent} % on one key, ${((brightest * row.length) / total).toFixed(1)} × uniform`;
}

function drawOverlay() {
  const canvas = $("overlay");
  const [width, height] = [canvas.clientWidth, canvas.clientHeight].map((side) => Math.round(side * devicePixelRatio));
  Object.assign(canvas, { width, height });
  const queried = queriedRow();
  $("image").classList.toggle("gray", queried !== null); // so that hue belongs to the map
  if (!queried) return showLegend(null);
  const { row, queryGrid, keyGrid, column, line } = queried;
  const brightest = row.reduce((a, b) => Math.max(a, b));
  showLegend(row, brightest);
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  const [keyHeight, keyWidth] = [height / keyGrid[0], width / keyGrid[1]];
  context.globalAlpha = HEAT_OPACITY;
  const heat = heatCanvas(row, keyGrid, brightest);
  context.drawImage(heat, -keyWidth, -keyHeight, width + 2 * keyWidth, height + 2 * keyHeight);
  context.globalAlpha = 1;
  const [x, y] = [((column + 0.5) / queryGrid[1]) * width, ((line + 0.5) / queryGrid[0]) * height];
  const radius = Math.max(height / queryGrid[0] / 2, 6 * devicePixelRatio);
  for (const [color, lineWidth] of [["black", 4], ["white", 2]]) {
    context.beginPath();
    context.arc(x, y, radius, 0, 2 * Math.PI);
    context.strokeStyle = color;
    context.lineWidth = lineWidth * devicePixelRatio;
    context.stroke();
  }
}

function showTime() {
  const sorted = [...state.times].sort((a, b) => a - b);
  const runs = sorted.length > 1 ? ` (median of ${sorted.length})` : "";
  $("time").textContent = `${sorted[sorted.length >> 1].toFixed(1)} ms per image on this machine${runs}`;
}

async function generateTimed(latent, label) {
  const start = performance.now();
  const outputs = await generate(latent, label);
  state.times = [...state.times, performance.now() - start].slice(-TIMED_RUNS);
  showTime();
  return outputs;
}

async function updatePicture() {
  state.stale = false;
  const [latent, label] = [movedLatent(), selectedLabel()];
  if (state.query && $("layer").options.length) {
    const { image, ...maps } = await generate(latent, label, "attention");
    state.picture = { image, maps };
  } else {
    state.picture = { ...(await generateTimed(latent, label)), maps: null };
  }
  drawImage(state.picture.image, $("image"));
  drawOverlay();
  clearTimeout(linkTimer);
  linkTimer = setTimeout(() => history.replaceState(null, "", formatLink(controlled())), LINK_DELAY);
}

let linkTimer = null;

/** What the controls say, as a state of link.js. */
function controlled() {
  const { seed, offsets } = state;
  return { seed, label: selectedLabel(), truncation: $("truncation").value, offsets, weights: $("variant").value };
}

/** Moves the controls to what an address says. */
function followLink(hash) {
  const { min, max } = $("truncation");
  const linked = parseLink(hash, controlled(), {
    classes: $("class").options.length,
    truncation: [Number(min), Number(max)],
    offset: SLIDER_RANGE,
    weights: state.description.files.map((file) => file.path),
  });
  state.seed = $("seed").value = linked.seed;
  if (linked.label !== null) $("class").value = linked.label;
  $("truncation").value = linked.truncation;
  setDirections(linked.offsets);
  $("variant").value = linked.weights;
}

/** Saves the picture, pixel by pixel, as a PNG file. */
function download() {
  const names = [state.description.name, $("class").selectedOptions[0]?.text, "seed", state.seed];
  const file = names.filter((name) => name !== undefined).join("_").replace(/[^\p{L}\p{N}_.-]+/gu, "-");
  $("image").toBlob((blob) => {
    const url = URL.createObjectURL(blob);
    Object.assign(document.createElement("a"), { href: url, download: `${file}.png` }).click();
    setTimeout(() => URL.revokeObjectURL(url));
  });
}

// One loop makes all runs, the large picture first. Changes during a run are not queued; the loop sees them afterwards.
async function work() {
  if (state.working || state.model === null) return;
  state.working = true;
  try {
    while (state.stale || state.thumbnails.length) {
      if (state.stale) await updatePicture();
      else {
        const { canvas, seed } = state.thumbnails.shift();
        drawImage((await generateTimed(selectedLatent(seed), selectedLabel())).image, canvas);
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
  $("truncation-value").textContent =
    $("truncation").value === $("truncation").max ? "none" : Number($("truncation").value).toFixed(2);
  state.thumbnails = [...$("gallery").children].map((button, i) => {
    const seed = laterSeed(state.seed, i + 1);
    button.dataset.seed = seed;
    button.title = `Seed ${seed}`;
    button.setAttribute("aria-label", button.title);
    return { canvas: button.firstChild, seed };
  });
  refresh();
}

function setSeed(seed) {
  state.seed = $("seed").value = seed;
  refreshAll();
}

function setQuery(query) {
  state.query = query;
  if (query && $("layer").options.length && !state.picture?.maps) refresh();
  else drawOverlay();
}

function setDirections(offsets) {
  [...$("directions").querySelectorAll("label")].forEach((label, i) => {
    label.querySelector("input").value = offsets[i];
    state.offsets[i] = Number(label.querySelector("input").value); // on the slider's steps
    label.querySelector("output").textContent = state.offsets[i].toFixed(1);
  });
}

const resetDirections = () => setDirections(state.offsets.map(() => 0));

function addOptions(select, pairs) {
  select.append(...pairs.map(([value, text]) => new Option(text, value)));
}

function buildControls() {
  const description = state.description;
  $("name").textContent = description.name;
  document.title = `${description.name}, a Self-Attention GAN of ${description.training.data ?? "unknown data"}`;
  const [height, width] = description.image_shape;
  document.documentElement.style.setProperty("--aspect", width / height);
  $("about").textContent =
    `A Self-Attention GAN of ${width} × ${height} px, trained on ${description.training.data ?? "unknown data"}. ` +
    "It runs in this page on your machine; no data is sent.";
  $("made").textContent =
    `Training step ${description.training.step ?? "unknown"}. Exported ${description.exported_at}.`;
  const classes = description.num_classes ?? 0;
  const names = description.class_names ?? Array.from({ length: classes }, (_, i) => `class ${i}`);
  addOptions($("class"), names.map((name, i) => [i, name]));
  $("class-row").hidden = classes === 0;
  const layers = Object.keys(description.attention);
  addOptions($("layer"), layers.map((layer) => [layer, layer.replace("_", " at ")]));
  $("layer-row").hidden = layers.length < 2;
  $("hint").hidden = layers.length === 0;
  const describeFile = ({ variant, bytes }) => `${variant}, ${(bytes / 1e6).toFixed(1)} MB`;
  addOptions($("variant"), description.files.map((file) => [file.path, describeFile(file)]));
  state.offsets = description.directions.map(() => 0);
  description.directions.forEach((_, i) => addDirection(i));
  $("directions").hidden = state.offsets.length === 0;
  for (let i = 0; i < THUMBNAILS; i++) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(document.createElement("canvas"));
    button.addEventListener("click", () => setSeed(Number(button.dataset.seed)));
    $("gallery").append(button);
  }
}

function addDirection(i) {
  const label = document.createElement("label");
  const slider = Object.assign(document.createElement("input"), {
    type: "range", min: -SLIDER_RANGE, max: SLIDER_RANGE, step: 0.1, value: 0,
  });
  const output = document.createElement("output");
  output.textContent = "0.0";
  slider.addEventListener("input", () => {
    state.offsets[i] = Number(slider.value);
    output.textContent = state.offsets[i].toFixed(1);
    refresh();
  });
  label.append(state.description.direction_names[i], slider, output);
  $("directions").append(label);
}

function listen() {
  $("new").addEventListener("click", () => {
    resetDirections();
    setSeed(Math.floor(Math.random() * 1e6));
  });
  $("seed").addEventListener("change", () => {
    const seed = Number($("seed").value);
    setSeed(Number.isSafeInteger(seed) && seed >= 0 ? seed : state.seed);
  });
  $("class").addEventListener("change", refreshAll);
  $("truncation").addEventListener("input", refreshAll);
  $("reset").addEventListener("click", () => {
    resetDirections();
    refresh();
  });
  $("download").addEventListener("click", download);
  $("layer").addEventListener("change", drawOverlay);
  const reload = () => loadModel($("variant").value).then(refreshAll, report);
  $("variant").addEventListener("change", reload);
  addEventListener("hashchange", ({ newURL }) => {
    const weights = $("variant").value;
    followLink(new URL(newURL).hash); // linkTimer may have replaced location.hash since
    if ($("variant").value === weights) refreshAll();
    else reload();
  });
  const overlay = $("overlay");
  const pointAt = (event) => {
    const box = overlay.getBoundingClientRect();
    const clamp = (fraction) => Math.min(Math.max(fraction, 0), 1 - 1e-9);
    setQuery([clamp((event.clientX - box.left) / box.width), clamp((event.clientY - box.top) / box.height)]);
  };
  overlay.addEventListener("pointerdown", pointAt);
  overlay.addEventListener("pointermove", pointAt);
  // The map stays when a finger is lifted.
  overlay.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && setQuery(null));
  overlay.addEventListener("blur", () => setQuery(null));
  overlay.addEventListener("keydown", (event) => {
    const [dx, dy] =
      { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key] ?? [0, 0];
    if (event.key === "Escape") return setQuery(null);
    if (!dx && !dy) return;
    event.preventDefault();
    const queries = state.description.attention[$("layer").value]?.[0];
    const [rows, columns] = queries ? gridOf(queries) : [1, 1];
    const [x, y] = state.query ?? [0.5, 0.5];
    const step = (from, by, count) => (Math.min(count - 1, Math.max(0, Math.floor(from * count) + by)) + 0.5) / count;
    setQuery([step(x, dx, columns), step(y, dy, rows)]);
  });
  new ResizeObserver(drawOverlay).observe(overlay);
}

async function loadModel(path) {
  $("time").textContent = "Loading the generator …";
  while (state.working) await nextFrame();
  state.working = true; // no runs while it loads
  try {
    state.model?.delete();
    state.model = null; // until another file is loaded
    state.model = await loadAndCompile(path, { accelerator: "wasm" });
    state.times = [];
    $("problem").hidden = true; // of a file that was chosen before
  } finally {
    state.working = false;
  }
}

function report(error) {
  console.error(error);
  $("problem").hidden = false;
  $("time").textContent = "";
  $("problem").textContent = `The generator cannot run here: ${error?.message ?? error}`;
}

async function start() {
  const response = await fetch("model.json");
  if (!response.ok) throw new Error(`model.json: ${response.status} ${response.statusText}`);
  state.description = await response.json();
  buildControls();
  followLink(location.hash);
  $("bar").style.background = heatGradient();
  await loadLiteRt("./litert/wasm/");
  listen(); // before the weights: if they cannot be loaded, others can be chosen
  await loadModel($("variant").value);
  refreshAll();
}

// For tests and the browser's console.
window.sagan = { state, generate, drawLatent, queriedRow, ready: start() };
window.sagan.ready.catch(report);
