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

/** 100 * part / whole with so many decimals, a half to the even digit. */
function hundredths(part, whole, decimals) {
  const scaled = 100n * 10n ** BigInt(decimals) * part;
  let digits = scaled / whole;
  const twice = 2n * (scaled % whole);
  if (twice > whole || (twice === whole && digits % 2n)) digits += 1n;
  const text = digits.toString().padStart(decimals + 1, "0");
  return `${text.slice(0, -decimals)}.${text.slice(-decimals)}%`;
}

/** The share of part in whole: two decimals below ten percent, one above. */
function percent(part, whole) {
  if (!whole) return "-";
  if (!part) return "0%";
  const negative = part < 0n !== whole < 0n;
  const [a, b] = [part < 0n ? -part : part, whole < 0n ? -whole : whole];
  if (!negative && 20000n * a < b) return "<0.01%";
  const text = hundredths(a, b, !negative && 100000n * a >= 9995n * b ? 1 : 2);
  return negative ? `-${text}` : text;
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
