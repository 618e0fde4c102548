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

/** A number with so many decimals, up to three; one halfway, which only sixteenths can be, goes to the even digit. */
function fixed(value, decimals) {
  const parts = Math.abs(value) * 16;
  if (!Number.isInteger(parts) || parts > 1e12) return value.toFixed(decimals);
  const scale = 10 ** decimals;
  const [whole, rest] = [Math.floor((parts * scale) / 16), (parts * scale) % 16];
  const up = rest > 8 || (rest === 8 && whole % 2 === 1);
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

/** A time in four digits and a unit: 87.24 us. */
function duration(seconds) {
  if (!seconds) return "0 us";
  const scales = [[1, "s"], [1e-3, "ms"], [1e-6, "us"], [1e-9, "ns"]];
  const [scale, unit] = scales.find(([one]) => seconds >= 0.9995 * one) ?? scales[3];
  const value = seconds / scale;
  return `${fixed(value, value >= 1 ? Math.max(0, 4 - String(Math.floor(value)).length) : 3)} ${unit}`;
}
