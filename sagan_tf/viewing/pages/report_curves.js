// ---- curves
const css = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const dark = matchMedia("(prefers-color-scheme: dark)").matches;
const palette = dark
  ? ["#fb923c", "#60a5fa", "#4ade80", "#f472b6", "#facc15", "#a78bfa", "#2dd4bf", "#f87171"]
  : ["#c2410c", "#1d4ed8", "#15803d", "#be185d", "#a16207", "#6d28d9", "#0f766e", "#b91c1c"];
const colour = (i, n) =>
  n <= palette.length ? palette[i] : `hsl(${(360 * i) / n} ${dark ? 70 : 60}% ${dark ? 65 : 42}%)`;
const sync = uPlot.sync("steps"),
  plots = [];
function chart(parent, title, series, range) {
  // series: [name, [steps, values]]
  const count = series.length;
  series = series.map(([name, curve], i) => [name, curve, colour(i, count)]).filter(([, curve]) => curve);
  if (!series.length) return;
  const steps = [...new Set(series.flatMap(([, [x]]) => x))].sort((a, b) => a - b),
    at = new Map(steps.map((s, i) => [s, i]));
  const columns = series.map(([, [x, y]]) => {
    const c = Array(steps.length).fill(null);
    x.forEach((s, i) => (c[at.get(s)] = y[i]));
    return c;
  });
  const card = make("div", {className: "card" + (series.length > 6 ? " many" : "")}, make("h3", {text: title}));
  parent.append(card);
  const axis = {
    stroke: css("--faint"),
    grid: {stroke: css("--grid"), width: 1},
    ticks: {show: false},
    font: "12px system-ui",
  };
  const few = steps.length < 40;
  // Without a pointer the legend tells the last values.
  const rest = u => u.setLegend({idx: u.data[0].length - 1}, false);
  const plot = new uPlot(
    {
      width: Math.max(260, card.clientWidth - 30),
      height: 220,
      cursor: {sync: {key: "steps", setSeries: false}, focus: {prox: 16}},
      focus: {alpha: 0.25},
      legend: {markers: {width: 0, fill: (u, i) => u.series[i].stroke(u, i)}},
      hooks: {
        ready: [rest],
        setCursor: [
          u => {
            if (u.cursor.idx == null || u.cursor.left < 0) rest(u);
          },
        ],
      },
      scales: {x: {time: false}, y: range ? {range} : {}},
      axes: [
        {
          ...axis,
          size: 32,
          values: (u, ticks) => ticks.map(v => (v >= 1e6 ? v / 1e6 + "M" : v >= 1e4 ? v / 1e3 + "k" : v)),
        },
        {
          ...axis,
          size: 58,
          values: (u, ticks) =>
            ticks.map(v =>
              v === 0 ? "0" : Math.abs(v) >= 1e5 || Math.abs(v) < 1e-3 ? v.toExponential(1) : +v.toPrecision(4),
            ),
        },
      ],
      series: [
        {label: "step", value: (u, v) => (v == null ? "–" : whole(v))},
        ...series.map(([label, , stroke]) => ({
          label,
          stroke,
          width: 1.6,
          spanGaps: true,
          value: (u, v) => short(v),
          points: {show: few, size: 5, fill: stroke},
        })),
      ],
    },
    [steps, ...columns],
    card,
  );
  sync.sub(plot);
  plots.push([plot, card, title]);
}
const prefixed = prefix => keys.filter(k => k.startsWith(prefix));
if (keys.length) {
  const node = section("curves", "Curves"),
    grid = make("div", {className: "charts"});
  node.append(
    make("p", {
      className: "faint",
      text: "Move over a curve to read it off; drag to zoom, double-click to zoom out.",
    }),
    grid,
  );
  const unit = () => [0, 1];
  if (one) {
    const c = runs[0].curves,
      all = list => list.map(([key, name]) => [name ?? key, c[key]]);
    for (const key of extra) chart(grid, key, all([[key]]));
    chart(
      grid,
      "Losses",
      all([
        ["d_loss", "discriminator"],
        ["g_loss", "generator"],
        ["r1", "R1 penalty"],
      ]),
    );
    chart(
      grid,
      "Logits of the discriminator",
      all([
        ["real_logit", "real"],
        ["fake_logit", "generated"],
      ]),
    );
    chart(grid, "Accuracy of the discriminator", all([["d_accuracy", "accuracy"]]), unit);
    chart(
      grid,
      "Diversity of fixed latents",
      all([["sample_diversity", "distance within a class"]]),
      (u, low, high) => [0, high * 1.1],
    );
    chart(
      grid,
      "Norms of the gradients",
      all([
        ["d_gradient_norm", "discriminator"],
        ["g_gradient_norm", "generator"],
      ]),
    );
    chart(
      grid,
      "gamma of attention",
      all(
        prefixed("gamma/").map(k => [k, k.replace("gamma/g/", "generator ").replace("gamma/d/", "discriminator ")]),
      ),
    );
    chart(grid, "sigma, generator", all(prefixed("sigma/g/").map(k => [k, k.slice(8)])));
    chart(grid, "sigma, discriminator", all(prefixed("sigma/d/").map(k => [k, k.slice(8)])));
    chart(
      grid,
      "Learning rates",
      all([
        ["generator_learning_rate", "generator"],
        ["discriminator_learning_rate", "discriminator"],
      ]),
    );
    chart(grid, "Images a second", all([["images_per_second", "images a second"]]), (u, low, high) => [
      0,
      high * 1.1,
    ]);
  } else {
    const each = key => runs.map(r => [r.name, r.curves[key]]);
    const largest = (r, prefix) => {
      // over the layers, at the steps that all have
      const mine = Object.keys(r.curves)
        .filter(k => k.startsWith(prefix))
        .map(k => r.curves[k]);
      return mine.length
        ? [mine[0][0], mine[0][0].map((_, i) => Math.max(...mine.map(m => m[1][i] ?? -Infinity)))]
        : null;
    };
    for (const key of extra) chart(grid, key, each(key));
    for (const [key, title, range] of [
      ["d_loss", "Discriminator loss"],
      ["g_loss", "Generator loss"],
      ["real_logit", "Logit of real"],
      ["fake_logit", "Logit of generated"],
      ["d_accuracy", "Accuracy of the discriminator", unit],
      ["sample_diversity", "Diversity of fixed latents"],
      ["d_gradient_norm", "Gradient norm, discriminator"],
      ["g_gradient_norm", "Gradient norm, generator"],
    ])
      chart(grid, title, each(key), range);
    for (const key of prefixed("gamma/")) chart(grid, key, each(key));
    for (const [letter, name] of [
      ["g", "generator"],
      ["d", "discriminator"],
    ])
      chart(
        grid,
        `Largest sigma, ${name}`,
        runs.map(r => [r.name, largest(r, `sigma/${letter}/`)]),
      );
    chart(grid, "Images a second", each("images_per_second"), (u, low, high) => [0, high * 1.1]);
  }
  addEventListener("resize", () =>
    plots.forEach(([p, card]) => p.setSize({width: Math.max(260, card.clientWidth - 30), height: 220})),
  );
}

// ---- data
if (runs.some(r => r.sheet) && !(one && runs[0].samples.length)) {
  const node = section("data", "Data"),
    shown = [];
  const pair = make("div", {className: one ? "" : "pair"});
  for (const run of runs)
    if (run.sheet && !shown.includes(run.sheet)) {
      shown.push(run.sheet);
      pair.append(sheet(run));
    }
  node.append(pair);
}

// ---- config and surroundings
{
  const node = section("config", "Config"),
    groups = new Map(),
    differing = new Set(data.differences.map(([key]) => key));
  for (const [key] of runs[0].config) {
    const [head, ...tail] = key.split("."),
      name = tail.length ? head.replaceAll("_", " ") : "run";
    if (!groups.has(name)) groups.set(name, []);
    groups.get(name).push([tail.join(".") || key, key]);
  }
  const box = make("div", {className: one ? "config" : ""});
  for (const [name, list] of groups) {
    const rows = list.map(([text, key]) => [text, ...runs.map(r => config(r)[key])]);
    const full = new Map(list);
    box.append(
      make(
        "div",
        {},
        make("h3", {text: name}),
        table(one ? null : ["", ...runs.map(r => r.name)], rows, row => differing.has(full.get(row[0]))),
      ),
    );
  }
  node.append(box);
  const names = [...new Set(runs.flatMap(r => r.environment.map(([name]) => name)))];
  if (names.length) {
    const rows = names.map(name => [name, ...runs.map(r => Object.fromEntries(r.environment)[name])]);
    rows.push(["starts", ...runs.map(r => String(r.starts))]);
    section("surroundings", "Versions and hardware").append(table(one ? null : ["", ...runs.map(r => r.name)], rows));
  }
}
window.report = {plots};
$("foot").textContent = `Written ${data.written_at}. While a run goes on this page is written anew; reload it.`;
