"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const $ = id => document.getElementById(id);
const canvas = $("canvas"),
  pen = canvas.getContext("2d");
const state = {picture: 0, layer: 0, row: 0, column: 0, held: false};
const images = data.pictures.map(p => {
  const i = new Image();
  i.src = "data:image/png;base64," + p.png;
  return i;
});
const unpacked = new Map();
const bytes = text => Uint8Array.from(atob(text), c => c.charCodeAt(0));

function half(bits) {
  // float16
  const e = (bits >> 10) & 31,
    f = bits & 1023;
  return e ? 2 ** (e - 15) * (1 + f / 1024) : 2 ** -24 * f;
}

async function unpack(picture, layer) {
  // -> Float32Array of queries times keys
  const key = picture + "/" + layer;
  if (!unpacked.has(key))
    unpacked.set(
      key,
      (async () => {
        const L = data.layers[layer],
          keys = L.keys[0] * L.keys[1],
          queries = L.queries[0] * L.queries[1];
        const stream = new Blob([bytes(data.pictures[picture].maps[layer])])
          .stream()
          .pipeThrough(new DecompressionStream("deflate"));
        const packed = new Uint8Array(await new Response(stream).arrayBuffer());
        const raw = bytes(L.highest[picture]),
          scores = new Float32Array(queries * keys);
        for (let q = 0; q < queries; q++) {
          const highest = half(raw[2 * q] | (raw[2 * q + 1] << 8));
          for (let k = 0; k < keys; k++) {
            const i = q * keys + k;
            if (q) packed[i] += packed[i - keys]; // differences, modulo 256
            scores[i] = (packed[i] / (L.levels - 1)) ** 2 * highest;
          }
        }
        return scores;
      })(),
    );
  return unpacked.get(key);
}

function strongest(map, h, w) {
  // the 3x3 keys that hold the most: their centre of mass, as shares of the picture
  let best = -1,
    found = null;
  for (let r = 0; r < h; r++)
    for (let c = 0; c < w; c++) {
      let sum = 0,
        y = 0,
        x = 0;
      for (let i = Math.max(0, r - 1); i <= Math.min(h - 1, r + 1); i++)
        for (let j = Math.max(0, c - 1); j <= Math.min(w - 1, c + 1); j++) {
          const a = map[i * w + j];
          sum += a;
          y += a * (i + 0.5);
          x += a * (j + 0.5);
        }
      if (sum > best) {
        best = sum;
        found = {share: sum, y: y / sum / h, x: x / sum / w};
      }
    }
  return found;
}

const shade = document.createElement("canvas");
function overlay(map, h, w, size) {
  const order = Float32Array.from(map).sort();
  const top = Math.max(order[Math.floor(0.98 * (order.length - 1))], order[order.length - 1] / 3, 1e-12);
  // One cell more on each side: smoothing would else fade the rim of the picture.
  shade.width = w + 2;
  shade.height = h + 2;
  const ctx = shade.getContext("2d"),
    pixels = ctx.createImageData(w + 2, h + 2);
  for (let r = 0; r < h + 2; r++)
    for (let c = 0; c < w + 2; c++) {
      const i = Math.min(h - 1, Math.max(0, r - 1)) * w + Math.min(w - 1, Math.max(0, c - 1));
      pixels.data[4 * (r * (w + 2) + c) + 3] = 255 * 0.72 * (1 - Math.min(1, map[i] / top));
    }
  ctx.putImageData(pixels, 0, 0);
  pen.save();
  pen.beginPath();
  pen.rect(0, 0, size, size);
  pen.clip();
  pen.imageSmoothingEnabled = true;
  pen.imageSmoothingQuality = "high";
  pen.drawImage(shade, -size / w, -size / h, (size * (w + 2)) / w, (size * (h + 2)) / h);
  pen.restore();
}

let turn = 0;
async function draw() {
  const mine = ++turn,
    L = data.layers[state.layer],
    image = images[state.picture];
  const [scores] = await Promise.all([unpack(state.picture, state.layer), image.decode()]);
  if (mine !== turn) return; // a later move has overtaken this one
  const [H, W] = L.queries,
    [h, w] = L.keys,
    px = image.naturalWidth;
  const side = Math.max(1, Math.round(canvas.clientWidth * (window.devicePixelRatio || 1)));
  if (canvas.width !== side) canvas.width = canvas.height = side;
  const q = state.row * W + state.column,
    map = scores.subarray(q * h * w, (q + 1) * h * w);
  pen.imageSmoothingEnabled = px > 128;
  pen.drawImage(image, 0, 0, side, side);
  overlay(map, h, w, side);
  const from = {y: (state.row + 0.5) / H, x: (state.column + 0.5) / W},
    to = strongest(map, h, w);
  arrow(from, to, side);
  let sum = 0,
    distance = 0,
    entropy = 0;
  for (let k = 0; k < h * w; k++) sum += map[k];
  for (let k = 0; k < h * w; k++) {
    const a = map[k] / sum;
    distance += a * px * Math.hypot((Math.floor(k / w) + 0.5) / h - from.y, ((k % w) + 0.5) / w - from.x);
    if (a > 0) entropy -= a * Math.log2(a);
  }
  const at = p => `${Math.floor(p.x * px)}, ${Math.floor(p.y * px)} px`;
  $("from").textContent = at(from);
  $("to").textContent = at(to);
  $("share").textContent = ((100 * to.share) / sum).toFixed(0) + " %";
  $("distance").textContent = distance.toFixed(1) + " px";
  $("spread").textContent = (2 ** entropy).toFixed(1) + ` of ${h * w} keys`;
  $("gamma").textContent = L.gamma.toFixed(3);
  $("note").textContent = L.reduced
    ? `Maps are reduced to ${H}×${W} positions and ${h}×${w} keys to keep the file small.`
    : "";
  Object.assign(window.explorer, {state: {...state}, map: Array.from(map), from, to, drawn: mine});
}

function arrow(from, to, side) {
  const u = side / 400,
    a = [from.x * side, from.y * side],
    b = [to.x * side, to.y * side];
  const length = Math.hypot(b[0] - a[0], b[1] - a[1]);
  pen.lineCap = "butt";
  pen.lineJoin = "round";
  for (const [grow, colour] of [
    [2.4 * u, "rgba(0,0,0,.7)"],
    [0, "#fff"],
  ]) {
    pen.strokeStyle = pen.fillStyle = colour;
    if (length > 14 * u) {
      const dx = (b[0] - a[0]) / length,
        dy = (b[1] - a[1]) / length,
        n = [b[0] - dx * 11 * u, b[1] - dy * 11 * u];
      pen.lineWidth = 3 * u + grow;
      pen.beginPath();
      pen.moveTo(...a);
      pen.lineTo(...n);
      pen.stroke();
      pen.lineWidth = grow;
      pen.beginPath();
      pen.moveTo(...b);
      pen.lineTo(n[0] - dy * 6 * u, n[1] + dx * 6 * u);
      pen.lineTo(n[0] + dy * 6 * u, n[1] - dx * 6 * u);
      pen.closePath();
      pen.fill();
      if (grow) pen.stroke();
    } else {
      pen.lineWidth = 2.5 * u + grow;
      pen.beginPath();
      pen.arc(...b, 13 * u, 0, 7);
      pen.stroke();
    }
  }
  for (const [radius, colour] of [
    [7, "rgba(0,0,0,.7)"],
    [6.2, "#fff"],
    [state.held ? 5.4 : 4.6, "#ff7a1a"],
  ]) {
    pen.fillStyle = colour;
    pen.beginPath();
    pen.arc(...a, radius * u, 0, 7);
    pen.fill();
  }
}

const clamp = (v, n) => Math.max(0, Math.min(n - 1, v));
function moveTo(row, column) {
  const [H, W] = data.layers[state.layer].queries;
  state.row = clamp(row, H);
  state.column = clamp(column, W);
  return draw();
}
function moveToEvent(event) {
  const box = canvas.getBoundingClientRect(),
    [H, W] = data.layers[state.layer].queries;
  moveTo(
    Math.floor(((event.clientY - box.top) / box.height) * H),
    Math.floor(((event.clientX - box.left) / box.width) * W),
  );
}
canvas.addEventListener("pointermove", e => {
  if (!state.held || e.buttons) moveToEvent(e);
});
canvas.addEventListener("pointerdown", e => {
  canvas.setPointerCapture(e.pointerId);
  // A finger leaves the picture when it lifts, and the position stays by itself.
  if (e.pointerType === "mouse") state.held = !state.held;
  moveToEvent(e);
});

function choose(picture) {
  state.picture = (picture + data.pictures.length) % data.pictures.length;
  const p = data.pictures[state.picture];
  $("class").value = p.class;
  fillLatents();
  $("latent").value = state.picture;
  [...$("all").children].forEach((b, i) => b.setAttribute("aria-pressed", i === state.picture));
  return draw();
}
function setLayer(layer) {
  const before = data.layers[state.layer].queries;
  state.layer = (layer + data.layers.length) % data.layers.length;
  $("layer").value = state.layer;
  const [H, W] = data.layers[state.layer].queries;
  return moveTo(Math.floor(((state.row + 0.5) / before[0]) * H), Math.floor(((state.column + 0.5) / before[1]) * W));
}
const option = (value, text) => {
  const o = document.createElement("option");
  o.value = value;
  o.textContent = text;
  return o;
};
function fillLatents() {
  const mine = data.pictures.map((p, i) => [p, i]).filter(([p]) => p.class === $("class").value);
  $("latent").replaceChildren(...mine.map(([p, i]) => option(i, "seed " + p.seed)));
}
const classes = [...new Set(data.pictures.map(p => p.class))];
$("class").replaceChildren(...classes.map(c => option(c, c)));
$("class-field").hidden = classes.length < 2;
if (classes.length < 2) $("class-field").style.display = "none";
$("layer").replaceChildren(
  ...data.layers.map((l, i) => option(i, `${l.network}, ${l.name.replace("attention_", "")} px`)),
);
const seeds = data.pictures.filter(p => p.class === classes[0]).length;
// A row a class.
if (classes.length > 1 && seeds < 7) $("all").style.gridTemplateColumns = `repeat(${Math.max(seeds, 4)}, 1fr)`;
$("class").onchange = () => {
  const seed = data.pictures[state.picture].seed; // the same latent in another class, where there is one
  const mine = data.pictures.map((p, i) => i).filter(i => data.pictures[i].class === $("class").value);
  choose(mine.find(i => data.pictures[i].seed === seed) ?? mine[0]);
};
$("latent").onchange = () => choose(+$("latent").value);
$("layer").onchange = () => setLayer(+$("layer").value);
$("all").replaceChildren(
  ...data.pictures.map((p, i) => {
    const button = document.createElement("button"),
      image = new Image();
    image.src = images[i].src;
    image.alt = (p.class ? p.class + ", " : "") + "seed " + p.seed;
    button.title = image.alt;
    button.append(image);
    button.onclick = () => choose(i);
    return button;
  }),
);
addEventListener("keydown", e => {
  if (e.target.tagName === "SELECT" || e.ctrlKey || e.metaKey || e.altKey) return;
  const step = {ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1]}[e.key];
  if (step) moveTo(state.row + step[0], state.column + step[1]);
  else if (e.key === "n") choose(state.picture + 1);
  else if (e.key === "p") choose(state.picture - 1);
  else if (e.key === "l") setLayer(state.layer + 1);
  else return;
  state.held = true; // or the resting mouse would take the position back
  e.preventDefault();
});
addEventListener("resize", draw);
window.explorer = {choose, moveTo, setLayer};
$("title").textContent = data.title;
document.title = "Attention, " + data.title;
const [H0, W0] = data.layers[0].queries;
state.row = H0 >> 1;
state.column = W0 >> 2;
choose(0);
