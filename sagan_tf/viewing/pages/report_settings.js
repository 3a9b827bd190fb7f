// ---- evaluation, commands, config, versions
function addEvaluations() {
  const shown = runs.filter(run => run.evaluations.length);
  if (!shown.length) return;
  const node = section("evaluation", "Evaluation");
  for (const run of shown)
    for (const {title, figures, how, pictures} of run.evaluations)
      node.append(
        make("h3", {text: single ? title : `${run.name}: ${title}`}),
        table(null, figures),
        fold("How these numbers were made", table(null, how)),
        ...pictures.map(src => make("figure", {}, make("img", {src, alt: `Pictures of ${title}`}))),
      );
}

async function copy(pre, button) {
  try {
    await navigator.clipboard.writeText(pre.textContent);
    button.textContent = "Copied";
  } catch {
    getSelection().selectAllChildren(pre); // no permission: one key copies what is selected
    button.textContent = "Selected";
  }
  setTimeout(() => (button.textContent = "Copy"), 1500);
}

function commandLine(line) {
  const pre = make("pre", {text: line});
  const button = make("button", {type: "button", text: "Copy"});
  button.onclick = () => copy(pre, button);
  return make("div", {className: "command"}, pre, button);
}

function addCommands() {
  const shown = runs.filter(run => run.commands.length);
  if (!shown.length) return;
  const node = section("commands", "Commands");
  // Of several runs only how each was started.
  for (const run of shown)
    if (single) node.append(...run.commands.map(commandLine));
    else node.append(make("h3", {text: run.name}), commandLine(run.commands[0]));
}

function addConfig() {
  const groups = new Map();
  for (const [key] of runs[0].config) {
    const [head, ...tail] = key.split(".");
    const group = tail.length ? head.replaceAll("_", " ") : "run";
    if (!groups.has(group)) groups.set(group, []);
    groups.get(group).push([tail.join(".") || key, ...runs.map(run => configOf(run).get(key))]);
  }
  // What differs stands at the top of the page.
  const box = make("div", {className: "config"});
  let shown = 0;
  for (const [group, rows] of groups) {
    const listed = single ? rows : rows.filter(isShared).map(row => row.slice(0, 2));
    shown += listed.length;
    if (listed.length) box.append(make("div", {}, make("h3", {text: group}), table(null, listed)));
  }
  section("config", "Config").append(single ? box : fold(`${count(shown, "setting")} that all runs share`, box));
}

function addEnvironment() {
  const names = [...new Set(runs.flatMap(run => run.environment.map(([name]) => name)))];
  if (!names.length) return;
  const rows = names.map(name => [name, ...runs.map(run => new Map(run.environment).get(name))]);
  rows.push(["starts", ...runs.map(run => String(run.starts))]);
  section("environment", "Versions and hardware").append(...comparedTable(rows, "field"));
}

addEvaluations();
addCommands();
addConfig();
addEnvironment();
window.report = {plots, lineStyle};
$("foot").textContent = `Written ${data.written_at}. A running training rewrites this page; reload it to see the latest.`;
