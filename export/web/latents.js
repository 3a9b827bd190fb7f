// Latents from seeds, the same numbers as in the SavedModel's signature `sample`, so that a seed and a class give the
// same image everywhere. Tested against its counterpart, sagan_tf/generation/latents.py.

const MASK = 0xffffffffn;

// Philox 4x32 with ten rounds (Salmon et al. 2011), on BigInts below 2^32.
function philox(counter, key) {
  let [a, b, c, d] = counter;
  let [k, l] = key;
  for (let round = 0; round < 10; round++) {
    const first = 0xd2511f53n * a;
    const second = 0xcd9e8d57n * c;
    [a, b, c, d] = [(second >> 32n) ^ b ^ k, second & MASK, (first >> 32n) ^ d ^ l, first & MASK];
    k = (k + 0x9e3779b9n) & MASK;
    l = (l + 0xbb67ae85n) & MASK;
  }
  return [a, b, c, d];
}

/** Returns `count` numbers in [0, 1), those of tf.random.stateless_uniform with float64, seed (seed, 0) and Philox. */
export function drawUniform(seed, count) {
  const word = BigInt.asUintN(64, BigInt(seed));
  // TensorFlow scrambles the seed once; the result is the key and the counter.
  const [k, l, c, d] = philox([word & MASK, word >> 32n, 0n, 0n], [0x3ec8f720n, 0x02461e29n]);
  const numbers = new Float64Array(count);
  for (let i = 0; i < count; i += 2) {
    const block = BigInt(i / 2);
    // The counter has 128 bits; its lower half never overflows here.
    const bits = philox([block & MASK, block >> 32n, c, d], [k, l]);
    for (let j = 0; j < 2 && i + j < count; j++) {
      const mantissa = ((bits[2 * j] & 0xfffffn) << 32n) | bits[2 * j + 1];
      numbers[i + j] = Number(mantissa) * 2 ** -52;
    }
  }
  return numbers;
}

// Wichura 1988, algorithm AS 241 (PPND16): rational functions, coefficients from the highest power.
const MIDDLE = [
  [2.5090809287301226727e3, 3.3430575583588128105e4, 6.7265770927008700853e4, 4.5921953931549871457e4,
    1.3731693765509461125e4, 1.9715909503065514427e3, 1.3314166789178437745e2, 3.387132872796366608],
  [5.226495278852854561e3, 2.8729085735721942674e4, 3.930789580009271061e4, 2.1213794301586595867e4,
    5.3941960214247511077e3, 6.871870074920579083e2, 4.2313330701600911252e1, 1],
];
const TAIL = [
  [7.7454501427834140764e-4, 2.27238449892691845833e-2, 2.4178072517745061177e-1, 1.27045825245236838258,
    3.64784832476320460504, 5.7694972214606914055, 4.6303378461565452959, 1.42343711074968357734],
  [1.05075007164441684324e-9, 5.475938084995344946e-4, 1.51986665636164571966e-2, 1.4810397642748007459e-1,
    6.8976733498510000455e-1, 1.6763848301838038494, 2.05319162663775882187, 1],
];
const FAR_TAIL = [
  [2.01033439929228813265e-7, 2.71155556874348757815e-5, 1.24266094738807843860e-3, 2.65321895265761230930e-2,
    2.96560571828504891230e-1, 1.78482653991729133580, 5.46378491116411436990, 6.65790464350110377720],
  [2.04426310338993978564e-15, 1.42151175831644588870e-7, 1.84631831751005468180e-5, 7.86869131145613259100e-4,
    1.48753612908506148525e-2, 1.36929880922735805310e-1, 5.99832206555887937690e-1, 1],
];

const polynomial = (coefficients, x) => coefficients.reduce((sum, coefficient) => sum * x + coefficient, 0);
const rational = ([numerator, denominator], x) => polynomial(numerator, x) / polynomial(denominator, x);

/** Returns the quantile of the normal distribution at probability 1/2 + q, for |q| < 1/2. */
export function normalQuantile(q) {
  if (Math.abs(q) <= 0.425) return q * rational(MIDDLE, 0.180625 - q * q);
  const r = Math.sqrt(-Math.log(0.5 - Math.abs(q)));
  return Math.sign(q) * (r <= 5 ? rational(TAIL, r - 1.6) : rational(FAR_TAIL, r - 5));
}

/** Returns the probability that a normally distributed number is in [-t, t]. */
export function withinProbability(t) {
  if (t > 9) return 1;
  // 2 phi(t) (t + t^3 / 3 + t^5 / (3 * 5) + ...); all terms are positive.
  let term = t;
  let sum = t;
  for (let n = 3; term > sum * 1e-17; n += 2) sum += term *= (t * t) / n;
  return Math.min(1, Math.sqrt(2 / Math.PI) * Math.exp((-t * t) / 2) * sum);
}

/** Returns a Float32Array of `size` draws from the normal distribution truncated at `truncation`. */
export function drawLatent(seed, truncation, size) {
  const probability = withinProbability(truncation);
  return Float32Array.from(drawUniform(seed, size), (u) => {
    const z = normalQuantile((u + 2 ** -53 - 0.5) * probability);
    return Math.max(-truncation, Math.min(truncation, z));
  });
}

/** Returns the seed that comes `count` after a seed; after the largest whole number of JavaScript comes 0. */
export function laterSeed(seed, count) {
  const left = Number.MAX_SAFE_INTEGER - seed;
  return count <= left ? seed + count : count - left - 1;
}
