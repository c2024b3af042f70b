// A table that is told what changes: which rows, in which order, and then fields of them.
//
// Rule 1: a row's element stays the same as long as the row is there, so that a button in it can be pressed while
//         figures run.
// Rule 2: text is set as text. Paths and labels are whatever somebody sent.

export class Table {
  constructor(id, makeRow, fillRow) {
    Object.assign(this, { makeRow, fillRow });
    this.body = document.querySelector(`#${id} tbody`);
    this.clear();
  }

  get size() {
    return this.order.length;
  }

  clear() {
    this.rows = new Map(); // key to { element, fields }
    this.order = [];
    this.body.replaceChildren();
  }

  change({ rows = {}, order = this.order }) {
    for (const [key, fields] of Object.entries(rows)) {
      const row = this.rows.get(key) ?? { element: this.makeRow(key), fields: {} };
      Object.assign(row.fields, fields);
      this.rows.set(key, row);
    }
    if (order !== this.order) this.#arrange(order);
  }

  fill() {
    for (const key of this.order) {
      const { element, fields } = this.rows.get(key);
      this.fillRow(element, fields);
    }
  }

  #arrange(order) {
    const staying = new Set(order);
    for (const [key, { element }] of this.rows) {
      if (staying.has(key)) continue;
      element.remove();
      this.rows.delete(key);
    }
    let place = this.body.firstElementChild;
    for (const key of order) {
      const { element } = this.rows.get(key);
      if (element === place) place = place.nextElementSibling;
      else this.body.insertBefore(element, place);
    }
    this.order = order;
  }
}

// A cell for each of [name, class]; the name stands beside the value where there is no room for a head.
export function makeCells(columns) {
  const element = document.createElement("tr");
  for (const [name, kind] of columns) {
    const cell = document.createElement("td");
    cell.dataset.name = name;
    if (kind) cell.className = kind;
    element.append(cell);
  }
  return element;
}

export function setText(cell, text) {
  if (cell.textContent !== text) cell.textContent = text;
}
