// Numbers as people read them. Bytes are counted in powers of 10, as traffic is.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const tenths = new Intl.NumberFormat("en", { minimumFractionDigits: 1, maximumFractionDigits: 1 });
const clock = new Intl.DateTimeFormat("en", { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });

export const missing = "–";
const ifKnown = (format) => (value) => (value == null ? missing : format(value));

export const count = ifKnown((value) => whole.format(value));
export const rate = ifKnown((value) => `${(value > 0 && value < 100 ? tenths : whole).format(value)} /s`);

export const bytes = ifKnown((value) => {
  for (const [unit, size] of [["TB", 1e12], ["GB", 1e9], ["MB", 1e6], ["kB", 1e3]]) {
    if (value >= size) return `${(value < 100 * size && value % size ? tenths : whole).format(value / size)} ${unit}`;
  }
  return `${whole.format(value)} B`;
});

export const byteRate = ifKnown((value) => `${bytes(value)}/s`);
export const time = (seconds) => clock.format(seconds * 1000);

export function duration(seconds) {
  const s = Math.max(0, Math.floor(seconds));
  const two = (value) => String(value).padStart(2, "0");
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)}:${two(s % 60)} min`;
  if (s < 86400) return `${Math.floor(s / 3600)}:${two(Math.floor(s / 60) % 60)} h`;
  return `${Math.floor(s / 86400)} d ${Math.floor(s / 3600) % 24} h`;
}
