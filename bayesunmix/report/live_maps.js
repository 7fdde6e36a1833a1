// Maps of all phases with one cursor: the pixel that is pointed at is marked in each, and a row of the table says what is
// there. With the keyboard: arrows move the cursor, Shift makes ten steps of one, Enter keeps the row; so does a click.

const KEPT_ROWS = 12;

class LinkedMaps {
  // data: see map_panels in live.py, its packed numbers unpacked.
  constructor(host, data) {
    Object.assign(this, { data, cursor: null, maps: [] });
    [this.rows, this.columns] = data.shape;
    this.statistic = "mean";
    this.choice = choose(host, "Shown", ["mean", "standard deviation"], (name) => {
      this.statistic = name === "mean" ? "mean" : "sd";
      this.paint();
    });
    const grid = make("div", { className: "maps" }, host);
    for (const phase of data.phases) this.maps.push(this.map(grid, phase));
    this.table(host);
    this.paint();
  }

  map(grid, phase) {
    const figure = make("div", { className: "map" }, grid);
    make("strong", { textContent: phase.name }, figure).style.borderColor = phase.colour;
    const frame = make("div", { className: "frame", tabIndex: 0 }, figure);
    frame.setAttribute("role", "application");
    frame.setAttribute("aria-label", `Abundance of ${phase.name}: arrow keys move the cursor, Enter keeps the row`);
    const canvas = make("canvas", { width: this.columns, height: this.rows }, frame);
    canvas.style.aspectRatio = 1 / this.data.aspect;
    const mark = make("i", { hidden: true }, frame);
    const scale = make("div", { className: "scale" }, figure);
    frame.addEventListener("pointermove", (event) => this.point(...this.pixelAt(event, canvas)));
    frame.addEventListener("click", (event) => { this.point(...this.pixelAt(event, canvas)); this.keep(); });
    frame.addEventListener("keydown", (event) => this.key(event));
    return { phase, canvas, mark, scale };
  }

  pixelAt(event, canvas) {
    const box = canvas.getBoundingClientRect();
    const place = (from, size, count) => Math.min(Math.max(Math.floor(from / size * count), 0), count - 1);
    return [place(event.clientY - box.top, box.height, this.rows), place(event.clientX - box.left, box.width, this.columns)];
  }

  key(event) {
    const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (event.ctrlKey || event.metaKey || event.altKey || !(step || event.key === "Enter")) return;
    event.preventDefault();
    if (!step) return void this.keep();
    const [row, column] = this.cursor ?? [this.rows >> 1, this.columns >> 1];
    const wide = this.cursor ? (event.shiftKey ? 10 : 1) : 0;
    const inside = (value, count) => Math.min(Math.max(value, 0), count - 1);
    this.point(inside(row + wide * step[0], this.rows), inside(column + wide * step[1], this.columns));
  }

  table(host) {
    const wide = make("div", { className: "wide" }, host);
    const table = make("table", { className: "pixels" }, wide);
    make("caption", { textContent: this.caption() }, table);
    const head = make("tr", {}, make("thead", {}, table));
    for (const name of ["Row", "Column", "Counts", ...this.data.phases.map(({ name }) => name)]) {
      make("th", { scope: "col", textContent: name }, head);
    }
    this.body = make("tbody", {}, table);
    this.body.setAttribute("aria-live", "polite");
    this.row = make("tr", { className: "cursor" }, this.body);
    this.fill(["\u2013", "\u2013", "\u2013", ...this.data.phases.map(() => "\u2013")]);
  }

  caption() {
    const { side, whole } = this.data;
    const pooled = side === 1 ? "" : ` The map of ${whole.join(" \u00d7 ")} pixels is pooled here by ${side} \u00d7 ${side}: means `
      + "of abundances and counts, root mean squares of the sd; posterior.nc holds every pixel.";
    return "Abundance \u00b1 standard deviation in % of the pixel under the cursor, rounded to 0.1 %, and its counts; a click or "
      + `Enter keeps the row.${pooled}`;
  }

  fill(texts) {
    this.row.replaceChildren(...texts.map((text) => Object.assign(document.createElement("td"), { className: "number", textContent: text })));
  }

  point(row, column) {
    this.cursor = [row, column];
    const { phases, left_out: leftOut, step, side, counts } = this.data;
    const at = row * this.columns + column;
    const percent = (value) => (100 * step * value).toFixed(1);
    const abundances = phases.map(({ mean, sd }) => {
      if (mean.values[at] === leftOut) return "left out";
      return sd.values[at] === leftOut ? percent(mean.values[at]) : `${percent(mean.values[at])} \u00b1 ${percent(sd.values[at])}`;
    });
    const place = (first) => (side === 1 ? first : `${first * side}\u2013${first * side + side - 1}`);
    const count = counts[at];
    this.fill([place(row), place(column), Number.isNaN(count) ? "\u2013" : +count.toFixed(side === 1 ? 0 : 1), ...abundances]);
    for (const { mark } of this.maps) {
      mark.hidden = false;
      mark.style.left = `${(column + 0.5) / this.columns * 100}%`;
      mark.style.top = `${(row + 0.5) / this.rows * 100}%`;
    }
  }

  keep() {
    if (!this.cursor) return;
    const kept = this.row.cloneNode(true);
    kept.className = "";
    this.row.after(kept);
    while (this.body.children.length > KEPT_ROWS + 1) this.body.lastChild.remove();
  }

  paint() {
    const palette = this.data.palettes[this.statistic];
    const colours = palette.map((hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16)));
    for (const { phase, canvas, scale } of this.maps) {
      const { top, values } = phase[this.statistic];
      const steps = Math.max(Math.round(top / this.data.step), 1);
      const shades = Array.from({ length: steps + 1 }, (_, i) => [...blend(colours, i / steps), 255]);
      const pen = canvas.getContext("2d");
      const image = pen.createImageData(this.columns, this.rows);
      values.forEach((value, i) => {
        image.data.set(value === this.data.left_out ? LEFT_OUT : shades[Math.min(value, steps)], 4 * i);
      });
      pen.putImageData(image, 0, 0);
      scale.replaceChildren();
      make("span", { textContent: "0" }, scale);
      make("i", {}, scale).style.background = `linear-gradient(to right, ${palette.join(", ")})`;
      make("span", { textContent: `${+(100 * top).toPrecision(2)}\u00a0%` }, scale);
    }
  }
}

const LEFT_OUT = [217, 217, 217, 255];

// Colour at a place from 0 to 1 of a scale.
function blend(colours, place) {
  const at = place * (colours.length - 1);
  const first = Math.min(Math.floor(at), colours.length - 2), share = at - first;
  return colours[first].map((part, i) => part + share * (colours[first + 1][i] - part));
}
