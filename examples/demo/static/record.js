// The samples that the page has, in columns as uPlot wants them, and the times of which there are none.
//
// Rule 1: a row is known by its time. A sample that comes twice is kept once.
// Rule 2: a row of nulls stands where a gap is, so that no line is drawn across it.

export class Record {
  constructor(keep) {
    this.keep = keep; // seconds
    this.columns = [[]];
  }

  get last() {
    return this.columns[0].at(-1);
  }

  add(seconds, values) {
    if (seconds <= this.last) return;
    this.#push(seconds, values);
    this.#forget(seconds - this.keep);
  }

  addGap() {
    if (this.last !== undefined) this.#push(this.last + 0.001, []);
  }

  #push(seconds, values) {
    while (this.columns.length <= values.length) this.columns.push(this.columns[0].map(() => null));
    this.columns[0].push(seconds);
    for (let i = 1; i < this.columns.length; i++) this.columns[i].push(values[i - 1] ?? null);
  }

  #forget(before) {
    const stale = this.columns[0].findIndex((seconds) => seconds >= before);
    if (stale > 60) for (const column of this.columns) column.splice(0, stale); // not at every sample
  }
}
