"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const runs = data.runs;
const single = runs.length === 1;
const runNames = runs.map(run => run.name);
const $ = id => document.getElementById(id);

function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes))
    if (name === "text") node.textContent = value;
    else if (name in node && name !== "list") node[name] = value;
    else node.setAttribute(name, value);
  node.append(...children);
  return node;
}

function section(id, title) {
  const node = make("section", {id}, make("h2", {text: title}));
  $("nav").append(make("a", {href: "#" + id, text: title}));
  $("main").append(node);
  return node;
}

// Cells know their column's title, which they show on a small screen.
function table(head, rows) {
  const headRow = head ? [make("tr", {}, ...head.map(text => make("th", {text})))] : [];
  const cell = (text, i) => {
    const node = make("td", {text: text ?? "–"});
    if (head?.[i]) node.dataset.title = head[i];
    return node;
  };
  const bodyRows = rows.map(row => make("tr", {}, ...row.map(cell)));
  return make("div", {className: "table"}, make("table", {}, ...headRow, ...bodyRows));
}

const isShared = ([, ...values]) => values.every(value => value === values[0]);
const count = (number, noun) => `${number} ${noun}${number === 1 ? "" : "s"}`;

function fold(summary, ...children) {
  return make("details", {}, make("summary", {text: summary}), ...children);
}

// Rows of [title, value per run]: those in which the runs differ, and the others folded into one value.
function comparedTable(rows, noun) {
  if (single) return [table(null, rows)];
  const [shared, different] = [rows.filter(isShared), rows.filter(row => !isShared(row))];
  const nodes = different.length ? [table(["", ...runNames], different)] : [];
  if (shared.length)
    nodes.push(fold(`${count(shared.length, noun)} that all runs share`, table(null, shared.map(row => row.slice(0, 2)))));
  return nodes;
}

const formatInteger = number => Math.round(number).toLocaleString("en-US");

function formatNumber(number) {
  if (number == null) return "–";
  if (number === 0) return "0";
  const size = Math.abs(number);
  if (size >= 1e5 || size < 1e-3) return number.toExponential(2);
  return size >= 100 ? number.toFixed(0) : number.toPrecision(3);
}

function formatTime(seconds) {
  for (const [size, unit] of [[86400, "d"], [3600, "h"], [60, "min"]])
    if (seconds >= size) return (seconds / size).toFixed(seconds / size < 10 ? 1 : 0) + " " + unit;
  return seconds.toFixed(0) + " s";
}

// ---- header
// A metric may have the name of a property that every object inherits.
const curveOf = (run, key) => (Object.hasOwn(run.curves, key) ? run.curves[key] : undefined);
const lastValue = (run, key) => curveOf(run, key)?.[1].at(-1) ?? null;
const keys = [...new Set(runs.flatMap(run => Object.keys(run.curves)))];
const standardKeys = [
  "d_loss",
  "g_loss",
  "real_logit",
  "fake_logit",
  "d_accuracy",
  "d_gradient_norm",
  "g_gradient_norm",
  "sample_diversity",
  "images",
  "images_per_second",
  "evaluation_samples",
  "r1",
  "r2",
  "lecam",
  "consistency",
  "ada_p",
  "ada_sign",
  "generator_learning_rate",
  "discriminator_learning_rate",
  "d_skipped",
  "g_skipped",
  "generator_loss_scale",
  "discriminator_loss_scale",
  "generator_skipped_steps",
  "discriminator_skipped_steps",
];
const evaluationKeys = keys.filter(key => !standardKeys.includes(key) && !key.includes("/"));
const keysWithPrefix = prefix => keys.filter(key => key.startsWith(prefix));
const configOf = run => new Map(run.config);

function progress(run) {
  if (run.step === 0) return "No metrics yet.";
  if (run.step >= run.steps) return `All ${formatInteger(run.steps)} steps completed.`;
  const left = run.seconds_left ? `, ${formatTime(run.seconds_left)} left at this speed` : "";
  return `Step ${formatInteger(run.step)} of ${formatInteger(run.steps)}${left}.`;
}

function addTile(value, label, fraction) {
  const bar = fraction == null ? [] : [make("div", {className: "bar"}, make("i", {style: `width:${100 * fraction}%`}))];
  $("tiles").append(make("div", {className: "tile"}, make("b", {text: value}), make("span", {text: label}), ...bar));
}

function addTiles(run) {
  addTile(formatInteger(run.step), `of ${formatInteger(run.steps)} steps`, Math.min(1, run.step / run.steps));
  addTile(formatInteger(run.images), "images seen");
  addTile(run.speed ? formatInteger(run.speed) : "–", "images per second");
  for (const key of evaluationKeys.slice(0, 3)) addTile(formatNumber(lastValue(run, key)), key);
  for (const [key, label] of [["d_loss", "discriminator loss"], ["g_loss", "generator loss"]])
    if (lastValue(run, key) != null) addTile(formatNumber(lastValue(run, key)), label);
  const gamma = keysWithPrefix("gamma/g/").at(-1);
  if (gamma) addTile(formatNumber(lastValue(run, gamma)), "gamma, " + gamma.split("/").slice(2).join("/"));
}

document.title = runNames.join(", ") + ", report";
$("name").textContent = runNames.join("  ·  ");
if (single) {
  const config = configOf(runs[0]);
  const [height, width] = ["height", "width"].map(side => config.get(`data.image_${side}`));
  const isSquare = height == null || height === "null";
  const size = isSquare ? `${config.get("data.image_size")} px` : `${height} px high, ${width} px wide`;
  $("line").textContent = `${config.get("data.name")}, ${size}. ` + progress(runs[0]);
  addTiles(runs[0]);
} else {
  $("main").className = "several";
  $("main").style.setProperty("--runs", runs.length);
  $("line").textContent = `${runs.length} runs side by side`;
  $("tiles").remove();
}

// ---- differences of several runs
if (!single) {
  const node = section("differences", "Differences");
  const head = ["", ...runNames];
  const compared = [
    ...evaluationKeys,
    "d_loss",
    "g_loss",
    "real_logit",
    "fake_logit",
    "d_accuracy",
    ...keysWithPrefix("gamma/"),
  ];
  const hasValue = key => runs.some(run => lastValue(run, key) != null);
  node.append(
    data.differences.length
      ? table(head, data.differences.map(([key, values]) => [key, ...values]))
      : make("p", {className: "faint", text: "The configs differ only in the run folder."}),
    make("h2", {text: "Progress"}),
    ...comparedTable(
      [
        ["step", ...runs.map(run => `${formatInteger(run.step)} of ${formatInteger(run.steps)}`)],
        ["images", ...runs.map(run => formatInteger(run.images))],
        ["images per second", ...runs.map(run => (run.speed ? formatInteger(run.speed) : null))],
        ...compared.filter(hasValue).map(key => [key, ...runs.map(run => formatNumber(lastValue(run, key)))]),
      ],
      "value",
    ),
  );
}

// ---- pictures by step
const contactSheet = run =>
  make(
    "figure",
    {},
    make("img", {src: run.sheet, alt: `Data of ${run.name}`}),
    make("figcaption", {text: `The data, ${configOf(run).get("data.name")}, as the networks see it`}),
  );

function addSlider(node, kind, caption) {
  const shown = runs.filter(run => run[kind].length);
  const steps = [...new Set(shown.flatMap(run => run[kind].map(picture => picture.step)))].sort((a, b) => a - b);
  const last = steps.length - 1;
  const slider = make("input", {type: "range", min: 0, max: last, step: 1, value: last});
  slider.setAttribute("aria-label", `${caption} by step`);
  const output = make("output");
  const play = make("button", {type: "button", text: "Play"});
  const figures = shown.map(run => ({
    run,
    image: make("img", {alt: `${caption} of ${run.name}`}),
    text: make("figcaption"),
  }));
  function show() {
    const step = steps[slider.value];
    output.textContent = "step " + formatInteger(step);
    slider.setAttribute("aria-valuetext", "step " + step);
    for (const {run, image, text} of figures) {
      const picture = run[kind].filter(candidate => candidate.step <= step).at(-1) ?? run[kind][0];
      if (image.src !== picture.src) image.src = picture.src;
      text.textContent = single ? caption : `${run.name}, step ${formatInteger(picture.step)}`;
    }
  }
  let timer = null;
  function stop() {
    clearInterval(timer);
    timer = null;
    play.textContent = "Play";
  }
  play.onclick = () => {
    if (timer) return stop();
    if (+slider.value === last) slider.value = 0;
    show();
    play.textContent = "Stop";
    timer = setInterval(() => {
      slider.value = +slider.value + 1;
      show();
      if (+slider.value === last) stop();
    }, 450);
  };
  slider.oninput = () => {
    stop();
    show();
  };
  show();
  const group = make("div", {className: "film-" + kind});
  if (steps.length > 1) group.append(make("div", {className: "slide"}, play, slider, output));
  group.append(
    make("div", {className: single ? "" : "pair"}, ...figures.map(f => make("figure", {}, f.image, f.text))),
  );
  node.append(group);
}

if (runs.some(run => run.samples.length)) {
  const node = section("samples", single && runs[0].sheet ? "Samples and data" : "Samples");
  const pair = make("div", {className: single ? "pair" : ""});
  node.append(pair);
  addSlider(pair, "samples", "Samples of the averaged generator, with the same latents at every step");
  if (single && runs[0].sheet) pair.append(contactSheet(runs[0]));
  const names = single ? runs[0].class_names : [];
  if (names.length)
    node.append(fold(names.length === 1 ? "1 class" : `${names.length} classes`, make("p", {text: names.join(", ")})));
}
if (runs.some(run => run.attention.length))
  addSlider(
    section("attention", "Attention"),
    "attention",
    "Five positions of an image and what each attends to, in the averaged generator, with the same latents at every step",
  );
