// A table that receives its changes: rows, their order, and then single fields.
//
// Rule 1: a row keeps its element for as long as it is in the table, and a row with the focus never moves: the others
//         move around it. So a button can be pressed, and keeps the focus, while figures and order change.
// Rule 2: text is set as text. Paths and labels come from clients.

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
      if (element.contains(document.activeElement)) place = this.#clearUpTo(element, place);
      if (element === place) place = place.nextElementSibling;
      else this.body.insertBefore(element, place);
    }
    this.order = order;
  }

  // Move what stands before an element behind everything; its turn in the order is still to come.
  #clearUpTo(element, place) {
    while (place !== element) {
      const next = place.nextElementSibling;
      this.body.append(place);
      place = next;
    }
    return place;
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
