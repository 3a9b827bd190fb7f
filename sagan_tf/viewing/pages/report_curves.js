// ---- curves
const css = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const dark = matchMedia("(prefers-color-scheme: dark)").matches;
// 16 colors each, of which any two differ by at least 0.16 in OKLab and all stand out from the page by 3:1; those of the
// first half are the most different. Each next eight lines are drawn in another dash, so 32 lines all differ.
const palette = dark
  ? ["#ff6611", "#4466ee", "#44eeff", "#009900", "#ff88ff", "#99dd22", "#996600", "#aa44bb",
     "#008899", "#44aaff", "#ffbb55", "#bb88aa", "#ddffbb", "#66bb99", "#ffccee", "#cc2255"]
  : ["#cc2200", "#002277", "#44aa00", "#0088ff", "#881199", "#004411", "#bb66ee", "#ff5588",
     "#550044", "#3344cc", "#bb8822", "#449999", "#773300", "#006677", "#996688", "#007700"];
const dashes = [["solid", []], ["dashed", [7, 4]], ["dotted", [2, 3]], ["double", [10, 3, 2, 3]]];
const lineStyle = i => {
  const [border, dash] = dashes[Math.floor(i / 8) % dashes.length];
  return {stroke: palette[i % palette.length], dash, border};
};
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
    .map(([label, curve], i) => ({label, curve, ...lineStyle(i)}))
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
    legend: {markers: {width: 3, fill: () => "none", dash: (plot, i) => lines[i - 1].border}},
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
      ...lines.map(({label, stroke, dash}) => ({
        label,
        stroke,
        dash,
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
const fromZero = (plot, low, high) => [0, high > 0 ? high * 1.1 : 1];
const penalties = [["r1", "R1"], ["r2", "R2"], ["lecam", "LeCam"], ["consistency", "consistency"]];

function addChartsOfRun(parent, run) {
  const chart = (title, labels, range) =>
    addChart(parent, title, labels.map(([key, label]) => [label, curveOf(run, key)]), range);
  const layers = (prefix, shorten) => keysWithPrefix(prefix).map(key => [key, shorten(key)]);
  const networkOf = key => key.replace("gamma/g/", "generator ").replace("gamma/d/", "discriminator ");
  for (const key of evaluationKeys) chart(key, [[key, key]]);
  chart("Losses", [["d_loss", "discriminator"], ["g_loss", "generator"]]);
  chart("Penalties, in the discriminator's loss", penalties);
  chart("Adaptive augmentation", [["ada_p", "probability"], ["ada_sign", "mean sign of real logits"]]);
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
  const ofBoth = suffix => ["generator", "discriminator"].map(name => [`${name}_${suffix}`, name]);
  chart("Loss scale", ofBoth("loss_scale"), fromZero);
  chart("Updates skipped in float16", ofBoth("skipped_steps"), fromZero);
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
  for (const [key, label] of penalties) chartOfKey(key, label + " penalty");
  chartOfKey("ada_p", "Probability of augmentation");
  chartOfKey("ada_sign", "Mean sign of real logits");
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
