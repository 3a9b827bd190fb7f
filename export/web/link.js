// The state of the page as the fragment of its address, such as
// #seed=17&class=2&truncation=0.8&directions=0.5,0,-1.2&weights=generator_float16.tflite

/** Returns the fragment of a state {seed, label or null, truncation, offsets, weights}. */
export function formatLink({ seed, label, truncation, offsets, weights }) {
  const fields = new URLSearchParams({ seed });
  if (label !== null) fields.set("class", label);
  fields.set("truncation", truncation);
  if (offsets.some((offset) => offset)) fields.set("directions", offsets.join(","));
  fields.set("weights", weights);
  return `#${fields}`.replaceAll("%2C", ",");
}

/**
 * Returns the state of a fragment. What is missing or out of range is taken from `fallback`, a state.
 * `limits` is {classes, truncation: [min, max], offset: largest, weights: [names]}.
 */
export function parseLink(fragment, fallback, limits) {
  const fields = new URLSearchParams(fragment.replace(/^#/, ""));
  const number = (text, min, max, otherwise) => {
    const value = text === null || text.trim() === "" ? NaN : Number(text);
    return value >= min && value <= max ? value : otherwise;
  };
  const whole = (name, max, otherwise) => {
    const value = number(fields.get(name), 0, max, otherwise);
    return Number.isSafeInteger(value) ? value : otherwise;
  };
  const offsets = fields.get("directions")?.split(",") ?? [];
  return {
    seed: whole("seed", Number.MAX_SAFE_INTEGER, fallback.seed),
    label: fallback.label === null ? null : whole("class", limits.classes - 1, fallback.label),
    truncation: number(fields.get("truncation"), ...limits.truncation, fallback.truncation),
    offsets: fallback.offsets.map((offset, i) => number(offsets[i] ?? null, -limits.offset, limits.offset, offset)),
    weights: limits.weights.includes(fields.get("weights")) ? fields.get("weights") : fallback.weights,
  };
}
