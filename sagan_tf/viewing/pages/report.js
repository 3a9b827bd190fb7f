"use strict";
const data = JSON.parse(document.getElementById("data").textContent),
  runs = data.runs,
  one = runs.length === 1;
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
const whole = n => Math.round(n).toLocaleString("en-US");
const short = v =>
  v == null
    ? "–"
    : v === 0
      ? "0"
      : Math.abs(v) >= 1e5 || Math.abs(v) < 1e-3
        ? v.toExponential(2)
        : Math.abs(v) >= 100
          ? v.toFixed(0)
          : v.toPrecision(3);
function time(seconds) {
  if (seconds == null) return "–";
  const units = [
      [86400, "d"],
      [3600, "h"],
      [60, "min"],
      [1, "s"],
    ],
    i = units.findIndex(u => seconds >= u[0]);
  if (i < 0) return "0 s";
  const [size, unit] = units[i];
  return (seconds / size).toFixed(seconds / size < 10 && i < 3 ? 1 : 0) + " " + unit;
}
function section(id, title) {
  const node = make("section", {id}, make("h2", {text: title}));
  $("nav").append(make("a", {href: "#" + id, text: title}));
  $("main").append(node);
  return node;
}
const table = (head, rows, differs = () => false) =>
  make(
    "div",
    {className: "table"},
    make(
      "table",
      {},
      ...(head ? [make("tr", {}, ...head.map(text => make("th", {text})))] : []),
      ...rows.map(row =>
        make("tr", {className: differs(row) ? "differs" : ""}, ...row.map(text => make("td", {text: text ?? "–"}))),
      ),
    ),
  );

// ---- head
const last = (run, key) => (run.curves[key] ? run.curves[key][1].at(-1) : null);
$("name").textContent = one ? runs[0].name : runs.map(r => r.name).join("  ·  ");
document.title = runs.map(r => r.name).join(", ") + ", report";
const known = [
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
  "r1",
  "generator_learning_rate",
  "discriminator_learning_rate",
];
const keys = [...new Set(runs.flatMap(r => Object.keys(r.curves)))];
const extra = keys.filter(k => !known.includes(k) && !k.includes("/"));
const config = run => Object.fromEntries(run.config);
if (!one) $("main").className = "several";
if (one) {
  const run = runs[0],
    c = config(run),
    done = run.step >= run.steps;
  $("line").textContent =
    `${c["data.name"]}, ${c["data.image_size"]} px. ` +
    (run.step === 0
      ? "No metrics yet."
      : done
        ? `All ${whole(run.steps)} steps are made.`
        : `Step ${whole(run.step)} of ${whole(run.steps)}` +
          (run.seconds_left ? `, ${time(run.seconds_left)} left at this speed.` : "."));
  const tile = (value, text, share) =>
    $("tiles").append(
      make(
        "div",
        {className: "tile"},
        make("b", {text: value}),
        make("span", {text}),
        ...(share == null ? [] : [make("div", {className: "bar"}, make("i", {style: `width:${100 * share}%`}))]),
      ),
    );
  tile(whole(run.step), `of ${whole(run.steps)} steps`, Math.min(1, run.step / run.steps));
  tile(whole(run.images), "images seen");
  tile(run.speed ? whole(run.speed) : "–", "images a second");
  for (const key of extra.slice(0, 3)) tile(short(last(run, key)), key);
  for (const [key, text] of [
    ["d_loss", "discriminator loss"],
    ["g_loss", "generator loss"],
  ])
    if (last(run, key) != null) tile(short(last(run, key)), text);
  const gammas = keys.filter(k => k.startsWith("gamma/g/"));
  if (gammas.length) tile(short(last(run, gammas.at(-1))), "gamma, " + gammas.at(-1).split("/").slice(2).join("/"));
} else {
  $("line").textContent = `${runs.length} runs side by side`;
  $("tiles").remove();
}

// ---- differences, for several runs
if (!one) {
  const node = section("differences", "What differs");
  const names = ["", ...runs.map(r => r.name)];
  node.append(
    data.differences.length
      ? table(
          names,
          data.differences.map(([key, values]) => [key, ...values]),
        )
      : make("p", {className: "faint", text: "The configs are the same but for the folder."}),
  );
  node.append(
    make("h2", {text: "Where they stand"}),
    table(names, [
      ["step", ...runs.map(r => `${whole(r.step)} of ${whole(r.steps)}`)],
      ["images", ...runs.map(r => whole(r.images))],
      ["images a second", ...runs.map(r => (r.speed ? whole(r.speed) : null))],
      ...[
        ...extra,
        "d_loss",
        "g_loss",
        "real_logit",
        "fake_logit",
        "d_accuracy",
        ...keys.filter(k => k.startsWith("gamma/")),
      ].map(key => [key, ...runs.map(r => (r.curves[key] ? short(last(r, key)) : null))]),
    ]),
  );
}

// ---- pictures by step
const sheet = run =>
  make(
    "figure",
    {},
    make("img", {src: run.sheet, alt: `Data of ${run.name}`}),
    make("figcaption", {text: `The data, ${config(run)["data.name"]}, as the networks see them`}),
  );
function film(node, which, caption) {
  const mine = runs.filter(r => r[which].length);
  if (!mine.length) return false;
  const steps = [...new Set(mine.flatMap(r => r[which].map(p => p.step)))].sort((a, b) => a - b);
  const slider = make("input", {type: "range", min: 0, max: steps.length - 1, step: 1, value: steps.length - 1});
  slider.setAttribute("aria-label", `${caption} by step`);
  const output = make("output"),
    play = make("button", {type: "button", text: "Play"});
  const figures = mine.map(run => ({
    run,
    image: make("img", {alt: `${caption} of ${run.name}`}),
    text: make("figcaption"),
  }));
  function show() {
    const step = steps[slider.value];
    output.textContent = "step " + whole(step);
    slider.setAttribute("aria-valuetext", "step " + step);
    for (const {run, image, text} of figures) {
      const picture = run[which].filter(p => p.step <= step).at(-1) ?? run[which][0];
      if (image.src !== picture.src) image.src = picture.src;
      text.textContent = one ? caption : `${run.name}, step ${whole(picture.step)}`;
    }
  }
  let timer = null;
  const stop = () => {
    clearInterval(timer);
    timer = null;
    play.textContent = "Play";
  };
  play.onclick = () => {
    if (timer) return stop();
    if (+slider.value === steps.length - 1) slider.value = 0;
    show();
    play.textContent = "Stop";
    timer = setInterval(() => {
      slider.value = +slider.value + 1;
      show();
      if (+slider.value === steps.length - 1) stop();
    }, 450);
  };
  slider.oninput = () => {
    stop();
    show();
  };
  show();
  const group = make("div", {className: "film-" + which});
  if (steps.length > 1) group.append(make("div", {className: "slide"}, play, slider, output));
  group.append(make("div", {className: one ? "" : "pair"}, ...figures.map(f => make("figure", {}, f.image, f.text))));
  node.append(group);
  return true;
}
if (runs.some(r => r.samples.length)) {
  const node = section("samples", one && runs[0].sheet ? "Samples and data" : "Samples");
  const pair = make("div", {className: one ? "pair" : ""});
  node.append(pair);
  film(pair, "samples", "The same latents by step, from the averaged generator");
  if (one && runs[0].sheet) pair.append(sheet(runs[0]));
}
if (runs.some(r => r.attention.length)) {
  film(
    section("attention", "Attention"),
    "attention",
    "Five positions of a picture and where each looks, in the averaged generator, with the same latents by step",
  );
}
