// Numbers as people read them, with their units. Memory is counted in GiB (2^30), traffic in kB (10^3).

const number = (digits) => new Intl.NumberFormat("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
const whole = number(0);
const tenths = number(1);
const hundredths = number(2);
const clock = new Intl.DateTimeFormat("en", { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const clockMinutes = new Intl.DateTimeFormat("en", { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });

export const GIB = 2 ** 30;
export const missing = "–";

const ifKnown = (format) => (value) => (value == null ? missing : format(value));

export const count = ifKnown((value) => whole.format(value));
export const percent = ifKnown((value) => `${whole.format(value)} %`);
export const gib = ifKnown((value) => `${(value === 0 ? whole : value < 10 ? hundredths : tenths).format(value)} GiB`);
export const load = ifKnown((value) => hundredths.format(value));
export const perSecond = ifKnown((value) => tenths.format(value));

export const rate = ifKnown((value) => {
  for (const [unit, size] of [["GB/s", 1e9], ["MB/s", 1e6], ["kB/s", 1e3]]) {
    if (value >= size) return `${(value < 100 * size && value % size ? tenths : whole).format(value / size)} ${unit}`;
  }
  return `${whole.format(value)} B/s`;
});

export const time = (seconds) => clock.format(seconds * 1000);
export const minutes = (seconds) => clockMinutes.format(seconds * 1000);

export function duration(seconds) {
  const rounded = Math.max(1, Math.round(seconds));
  if (rounded < 60) return `${rounded} s`;
  return rounded % 60 ? `${Math.floor(rounded / 60)} min ${rounded % 60} s` : `${rounded / 60} min`;
}
