// ---- curves
const css = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const dark = matchMedia("(prefers-color-scheme: dark)").matches;
const palette = dark
  ? ["#fb923c", "#60a5fa", "#4ade80", "#f472b6", "#facc15", "#a78bfa", "#2dd4bf", "#f87171"]
  : ["#c2410c", "#1d4ed8", "#15803d", "#be185d", "#a16207", "#6d28d9", "#0f766e", "#b91c1c"];
const colour = (i, count) =>
  count <= palette.length ? palette[i] : `hsl(${(360 * i) / count} ${dark ? 70 : 60}% ${dark ? 65 : 42}%)`;
const sync = uPlot.sync("steps");
const plots = [];
const plotSize = card => ({width: Math.max(260, card.clientWidth - 30), height: 220});

function formatStepTick(step) {
  if (step >= 1e6) return step / 1e6 + "M";
  return step >= 1e4 ? step / 1e3 + "k" : step;
}

function formatValueTick(value) {
  const size = Math.abs(value);
  if (value === 0) return "0";
  return size >= 1e5 || size < 1e-3 ? value.toExponential(1) : +value.toPrecision(4);
}

// Puts curves on common steps: [steps, values of the first curve, values of the second, ...], null where missing.
function alignCurves(curves) {
  const steps = [...new Set(curves.flatMap(([x]) => x))].sort((a, b) => a - b);
  const index = new Map(steps.map((step, i) => [step, i]));
  const columns = curves.map(([x, y]) => {
    const column = Array(steps.length).fill(null);
    x.forEach((step, i) => (column[index.get(step)] = y[i]));
    return column;
  });
  return [steps, ...columns];
}

// Draws a list of [label, [steps, values] or undefined].
function addChart(parent, title, series, range) {
  const lines = series
    .map(([label, curve], i) => ({label, curve, stroke: colour(i, series.length)}))
    .filter(line => line.curve);
  if (!lines.length) return;
  const columns = alignCurves(lines.map(line => line.curve));
  const fewPoints = columns[0].length < 40;
  const card = make("div", {className: "card" + (lines.length > 6 ? " many" : "")}, make("h3", {text: title}));
  parent.append(card);
  const axis = {
    stroke: css("--faint"),
    grid: {stroke: css("--grid"), width: 1},
    ticks: {show: false},
    font: "12px system-ui",
  };
  // Without a pointer the legend shows the last values.
  const showLast = plot => plot.setLegend({idx: plot.data[0].length - 1}, false);
  const options = {
    ...plotSize(card),
    cursor: {sync: {key: "steps", setSeries: false}, focus: {prox: 16}},
    focus: {alpha: 0.25},
    legend: {markers: {width: 0, fill: (plot, i) => plot.series[i].stroke(plot, i)}},
    hooks: {
      ready: [showLast],
      setCursor: [
        plot => {
          if (plot.cursor.idx == null || plot.cursor.left < 0) showLast(plot);
        },
      ],
    },
    scales: {x: {time: false}, y: range ? {range} : {}},
    axes: [
      {...axis, size: 32, values: (plot, ticks) => ticks.map(formatStepTick)},
      {...axis, size: 58, values: (plot, ticks) => ticks.map(formatValueTick)},
    ],
    series: [
      {label: "step", value: (plot, step) => (step == null ? "–" : formatInteger(step))},
      ...lines.map(({label, stroke}) => ({
        label,
        stroke,
        width: 1.6,
        spanGaps: true,
        value: (plot, value) => formatNumber(value),
        points: {show: fewPoints, size: 5, fill: stroke},
      })),
    ],
  };
  const plot = new uPlot(options, columns, card);
  sync.sub(plot);
  plots.push([plot, card, title]);
}

const unitRange = () => [0, 1];
const fromZero = (plot, low, high) => [0, high * 1.1];

function addChartsOfRun(parent, run) {
  const chart = (title, labels, range) =>
    addChart(parent, title, labels.map(([key, label]) => [label, curveOf(run, key)]), range);
  const layers = (prefix, shorten) => keysWithPrefix(prefix).map(key => [key, shorten(key)]);
  const networkOf = key => key.replace("gamma/g/", "generator ").replace("gamma/d/", "discriminator ");
  for (const key of evaluationKeys) chart(key, [[key, key]]);
  chart("Losses", [["d_loss", "discriminator"], ["g_loss", "generator"], ["r1", "R1 penalty"]]);
  chart("Discriminator logits", [["real_logit", "real"], ["fake_logit", "generated"]]);
  chart("Discriminator accuracy", [["d_accuracy", "accuracy"]], unitRange);
  chart("Sample diversity at fixed latents", [["sample_diversity", "distance within a class"]], fromZero);
  chart("Gradient norms", [["d_gradient_norm", "discriminator"], ["g_gradient_norm", "generator"]]);
  chart("Attention gamma", layers("gamma/", networkOf));
  chart("sigma, generator", layers("sigma/g/", key => key.slice("sigma/g/".length)));
  chart("sigma, discriminator", layers("sigma/d/", key => key.slice("sigma/d/".length)));
  chart("Learning rates", [
    ["generator_learning_rate", "generator"],
    ["discriminator_learning_rate", "discriminator"],
  ]);
  chart("Images per second", [["images_per_second", "images per second"]], fromZero);
}

// The largest value over all layers, at the steps of the first layer.
function largestOverLayers(run, prefix) {
  const layers = Object.keys(run.curves)
    .filter(key => key.startsWith(prefix))
    .map(key => curveOf(run, key));
  if (!layers.length) return null;
  const [steps] = layers[0];
  return [steps, steps.map((_, i) => Math.max(...layers.map(([, values]) => values[i] ?? -Infinity)))];
}

function addChartsOfRuns(parent) {
  const chart = (title, curveOf, range) =>
    addChart(parent, title, runs.map(run => [run.name, curveOf(run)]), range);
  const chartOfKey = (key, title = key, range) => chart(title, run => curveOf(run, key), range);
  for (const key of evaluationKeys) chartOfKey(key);
  chartOfKey("d_loss", "Discriminator loss");
  chartOfKey("g_loss", "Generator loss");
  chartOfKey("real_logit", "Logit of real images");
  chartOfKey("fake_logit", "Logit of generated images");
  chartOfKey("d_accuracy", "Discriminator accuracy", unitRange);
  chartOfKey("sample_diversity", "Sample diversity at fixed latents");
  chartOfKey("d_gradient_norm", "Gradient norm, discriminator");
  chartOfKey("g_gradient_norm", "Gradient norm, generator");
  for (const key of keysWithPrefix("gamma/")) chartOfKey(key);
  chart("Largest sigma, generator", run => largestOverLayers(run, "sigma/g/"));
  chart("Largest sigma, discriminator", run => largestOverLayers(run, "sigma/d/"));
  chartOfKey("images_per_second", "Images per second", fromZero);
}

if (keys.length) {
  const grid = make("div", {className: "charts"});
  const hint = "Move over a curve to read its values. Drag to zoom in, double-click to zoom out.";
  section("curves", "Curves").append(make("p", {className: "faint", text: hint}), grid);
  if (single) addChartsOfRun(grid, runs[0]);
  else addChartsOfRuns(grid);
  addEventListener("resize", () => plots.forEach(([plot, card]) => plot.setSize(plotSize(card))));
}

// ---- data
const isFirstWithSheet = (run, i) => run.sheet && runs.findIndex(other => other.sheet === run.sheet) === i;
const runsWithSheet = runs.filter(isFirstWithSheet);
if (runsWithSheet.length && !(single && runs[0].samples.length))
  section("data", "Data").append(
    make("div", {className: single ? "" : "pair"}, ...runsWithSheet.map(contactSheet)),
  );

// ---- config and environment
const tableHead = single ? null : ["", ...runNames];

function addConfig() {
  const groups = new Map();
  const differing = new Set(data.differences.map(([key]) => key));
  for (const [key] of runs[0].config) {
    const [head, ...tail] = key.split(".");
    const group = tail.length ? head.replaceAll("_", " ") : "run";
    if (!groups.has(group)) groups.set(group, new Map());
    groups.get(group).set(tail.join(".") || key, key);
  }
  const box = make("div", {className: single ? "config" : ""});
  for (const [group, fields] of groups) {
    const rows = [...fields].map(([field, key]) => [field, ...runs.map(run => configOf(run)[key])]);
    const fieldTable = table(tableHead, rows, ([field]) => differing.has(fields.get(field)));
    box.append(make("div", {}, make("h3", {text: group}), fieldTable));
  }
  section("config", "Config").append(box);
}

function addEnvironment() {
  const names = [...new Set(runs.flatMap(run => run.environment.map(([name]) => name)))];
  if (!names.length) return;
  const rows = names.map(name => [name, ...runs.map(run => Object.fromEntries(run.environment)[name])]);
  rows.push(["starts", ...runs.map(run => String(run.starts))]);
  section("environment", "Versions and hardware").append(table(tableHead, rows));
}

addConfig();
addEnvironment();
window.report = {plots};
$("foot").textContent = `Written ${data.written_at}. A running training rewrites this page; reload it to see the latest.`;
