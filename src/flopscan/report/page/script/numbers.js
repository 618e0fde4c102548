// How numbers are written: as flopscan/report/numbers.py does, on whole numbers of any size.
const LETTERS = ["", "k", "M", "G", "T", "P", "E", "Z", "Y"];

/** Every digit: 9,811,123,456. */
function exact(value) {
  return value.toString().replace(/\B(?=(\d{3})+$)/g, ",");
}

/** Four significant digits and the letter of the power of 1000; below 1000 the number itself. */
function si(value) {
  const size = value < 0n ? -value : value;
  if (size < 1000n) return value.toString();
  const last = LETTERS.length - 1;
  const power = Math.min(Math.floor((size.toString().length - 1) / 3), last);
  for (let p = power; ; p++) {
    const unit = 1000n ** BigInt(p);
    for (const decimals of [3, 2, 1]) {
      const scaled = (2n * size * 10n ** BigInt(decimals) + unit) / (2n * unit);
      if (scaled >= 10000n && (decimals > 1 || p < Math.min(power + 1, last))) continue;
      const digits = scaled.toString().padStart(decimals + 1, "0");
      return `${value < 0n ? "-" : ""}${digits.slice(0, -decimals)}.${digits.slice(-decimals)} ${LETTERS[p]}`;
    }
  }
}

/** A number with so many decimals; one that is halfway, which only eighths can be, goes to the even digit. */
function fixed(value, decimals) {
  const eighths = Math.abs(value) * 8;
  if (!Number.isInteger(eighths)) return value.toFixed(decimals);
  const scale = 10 ** decimals;
  const [whole, rest] = [Math.floor((eighths * scale) / 8), (eighths * scale) % 8];
  const up = rest > 4 || (rest === 4 && whole % 2 === 1);
  return `${value < 0 ? "-" : ""}${((whole + Number(up)) / scale).toFixed(decimals)}`;
}

/** The share of part in whole: two decimals below ten percent, one above. */
function percent(part, whole) {
  if (!whole) return "-";
  if (!part) return "0%";
  const share = Number(100n * part) / Number(whole);
  if (share > 0 && share < 0.005) return "<0.01%";
  return `${fixed(share, share >= 9.995 ? 1 : 2)}%`;
}

/** The share of part in whole as the width of a bar. */
function width(part, whole) {
  const parts = whole ? Number((10000n * part) / whole) : 0;
  return `${Math.max(0, Math.min(10000, parts)) / 100}%`;
}

/** A time in three digits: 12.3 µs. */
function seconds(value) {
  const [unit, power] = [["s", 0], ["ms", 3], ["µs", 6], ["ns", 9]].find(([, p]) => value >= 10 ** -p) ?? ["ns", 9];
  return `${Number((value * 10 ** power).toPrecision(3))} ${unit}`;
}
