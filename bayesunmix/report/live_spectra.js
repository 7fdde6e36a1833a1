// A spectrum that can be zoomed and pointed at, with residuals below it where they are given.
// Drag to zoom, double click to reset; with the keyboard: arrows move the cursor, + and - zoom, Shift and arrows move the
// range, 0 resets, L switches the axis. The wheel zooms once the panel has the focus, so that a page still scrolls.

const MARGIN = { left: 62, right: 12, top: 74, bottom: 34 };
const HEIGHT = { spectrum: 330, gap: 12, residual: 92 };
const DECADES = 5;
const DASHES = { solid: [], dashed: [7, 4], dotted: [2, 3], dotdash: [7, 3, 2, 3] };
const LABEL_PX = 13;
const INK = "#1a1a1a", GREY = "#8c8c8c", FAINT = "#e4e4e4";
// Lines this close to the cursor are named, in keV: about the width of a peak.
const NEAR_KEV = 0.08;

class SpectrumPanel {
  // host: the element that the panel goes into; series: [{name, look: [colour, dash], values, lower, upper, filled}] by
  // bin, drawn per keV or as they are; residual: values by bin, or null; lines, names: of X-ray lines, from live.py.
  constructor(host, title, unit, edges, { lines, names }) {
    Object.assign(this, { edges, unit, lines, names, series: [], residual: null, describe: () => "" });
    this.perKeV = unit.endsWith("per keV");
    this.whole = [edges[0], edges[edges.length - 1]];
    this.range = [...this.whole];
    this.log = true;
    this.cursor = null;
    this.drag = null;
    this.canvas = make("canvas", { tabIndex: 0 }, host);
    this.canvas.setAttribute("role", "application");
    this.canvas.setAttribute("aria-label",
      `${title}: arrow keys move the cursor, plus and minus zoom, Shift with arrows moves the range, 0 resets, L switches the axis`);
    this.readout = make("output", { className: "readout" }, host);
    this.readout.setAttribute("aria-live", "polite");
    this.listen();
    new ResizeObserver(() => this.draw()).observe(this.canvas);
  }

  listen() {
    const canvas = this.canvas;
    canvas.addEventListener("pointermove", (event) => {
      this.point(this.binAt(this.energyAt(event.offsetX)));
      if (this.drag) this.drag[1] = this.clamp(this.energyAt(event.offsetX));
      this.draw();
    });
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      const start = this.clamp(this.energyAt(event.offsetX));
      this.drag = [start, start];
      canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener("pointerup", () => {
      const dragged = this.drag;
      this.drag = null;
      // A click moves nothing.
      if (dragged && Math.abs(this.x(dragged[1]) - this.x(dragged[0])) > 4) this.zoomTo(...dragged.sort((a, b) => a - b));
      this.draw();
    });
    canvas.addEventListener("pointercancel", () => { this.drag = null; this.draw(); });
    canvas.addEventListener("dblclick", () => this.zoomTo(...this.whole));
    canvas.addEventListener("wheel", (event) => {
      if (document.activeElement !== canvas) return;
      event.preventDefault();
      this.zoomBy(event.deltaY > 0 ? 1.25 : 0.8, this.energyAt(event.offsetX));
    }, { passive: false });
    canvas.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      if (step && event.shiftKey) this.shift(0.2 * step * (this.range[1] - this.range[0]));
      else if (step) this.step(step);
      else if (event.key === "+" || event.key === "=") this.zoomBy(0.6);
      else if (event.key === "-") this.zoomBy(1 / 0.6);
      else if (event.key === "0" || event.key === "Home") this.zoomTo(...this.whole);
      else if (event.key === "l" || event.key === "L") this.setLog(!this.log);
      else return;
      event.preventDefault();
    });
  }

  setLog(log) {
    this.log = log;
    this.canvas.dispatchEvent(new CustomEvent("axis", { detail: log }));
    this.draw();
  }

  clamp(energy) { return Math.min(Math.max(energy, this.whole[0]), this.whole[1]); }

  zoomTo(low, high) {
    const least = 4 * (this.edges[1] - this.edges[0]);
    if (high - low < least) [low, high] = [(low + high - least) / 2, (low + high + least) / 2];
    this.range = [this.clamp(low), this.clamp(high)];
    this.draw();
  }

  zoomBy(factor, about) {
    const shown = this.cursor === null ? this.range : [this.edges[this.cursor], this.edges[this.cursor + 1]];
    const inside = shown[0] >= this.range[0] && shown[1] <= this.range[1];
    const centre = this.clamp(about ?? ((inside ? shown[0] + shown[1] : this.range[0] + this.range[1]) / 2));
    this.zoomTo(centre + (this.range[0] - centre) * factor, centre + (this.range[1] - centre) * factor);
  }

  shift(by) {
    const room = by > 0 ? this.whole[1] - this.range[1] : this.whole[0] - this.range[0];
    const moved = Math.abs(by) < Math.abs(room) ? by : room;
    this.zoomTo(this.range[0] + moved, this.range[1] + moved);
  }

  step(by) {
    const middle = (this.range[0] + this.range[1]) / 2;
    const next = this.cursor === null ? this.binAt(middle) : this.cursor + by;
    this.point(Math.min(Math.max(next, 0), this.edges.length - 2));
    const centre = (this.edges[this.cursor] + this.edges[this.cursor + 1]) / 2;
    if (centre < this.range[0] || centre > this.range[1]) this.shift(centre - middle);
    this.draw();
  }

  point(bin) {
    this.cursor = bin;
    const [low, high] = [this.edges[bin], this.edges[bin + 1]];
    const near = this.lines.filter(([, keV]) => keV > low - NEAR_KEV && keV < high + NEAR_KEV).map(([text]) => text);
    const lines = near.length ? `; lines nearby: ${near.join("; ")}` : "";
    this.readout.textContent = `${low.toFixed(3)}\u2013${high.toFixed(3)} keV: ${this.describe(bin)}${lines}`;
    this.readout.dataset.bin = bin;
  }

  binAt(energy) {
    let [first, last] = [0, this.edges.length - 1];
    while (last - first > 1) {
      const middle = (first + last) >> 1;
      if (this.edges[middle] <= energy) first = middle; else last = middle;
    }
    return first;
  }

  drawn(values, bin) { return values[bin] / (this.perKeV ? this.edges[bin + 1] - this.edges[bin] : 1); }

  get width() { return this.canvas.clientWidth - MARGIN.left - MARGIN.right; }
  x(energy) { return MARGIN.left + (energy - this.range[0]) / (this.range[1] - this.range[0]) * this.width; }
  energyAt(x) { return this.clamp(this.range[0] + (x - MARGIN.left) / this.width * (this.range[1] - this.range[0])); }

  // Ends of the vertical axis for what is in the range.
  limits() {
    let [top, bottom] = [0, Infinity];
    for (let i = this.binAt(this.range[0]); i < this.edges.length - 1 && this.edges[i] < this.range[1]; i++) {
      for (const { values, upper } of this.series) {
        top = Math.max(top, this.drawn(upper ?? values, i));
        if (values[i] > 0) bottom = Math.min(bottom, this.drawn(values, i));
      }
    }
    if (!(top > 0)) return [this.log ? 0.1 : 0, 1];
    return this.log ? [Math.max(Math.min(bottom, top / 10) / 1.5, top / 10 ** DECADES), top * 1.4] : [0, top * 1.05];
  }

  draw() {
    const { canvas } = this;
    const height = MARGIN.top + HEIGHT.spectrum + MARGIN.bottom + (this.residual ? HEIGHT.gap + HEIGHT.residual : 0);
    const ratio = window.devicePixelRatio || 1;
    canvas.style.height = `${height}px`;
    [canvas.width, canvas.height] = [canvas.clientWidth * ratio, height * ratio];
    [canvas.dataset.low, canvas.dataset.high] = this.range;
    canvas.dataset.axis = this.log ? "log" : "linear";
    const pen = canvas.getContext("2d");
    pen.scale(ratio, ratio);
    pen.font = "12px system-ui, sans-serif";
    pen.fillStyle = "#fff";
    pen.fillRect(0, 0, canvas.clientWidth, height);
    const [foot, base] = [MARGIN.top + HEIGHT.spectrum, height - MARGIN.bottom];
    const limits = this.limits();
    const to = this.log ? Math.log10 : (value) => value;
    const scale = HEIGHT.spectrum / (to(limits[1]) - to(limits[0]));
    // What lies below the axis is drawn below it, where nothing is seen.
    const y = (value) => (value > limits[0] ? foot - (to(value) - to(limits[0])) * scale : foot + 4);
    this.axes(pen, limits, y, foot, base);
    this.clipped(pen, MARGIN.top, HEIGHT.spectrum, () => { for (const one of this.series) this.trace(pen, one, y, foot); });
    if (this.residual) this.residuals(pen, foot + HEIGHT.gap);
    this.labels(pen, y, foot);
    if (this.drag) this.band(pen, ...this.drag, base);
    if (this.cursor !== null) this.rule(pen, (this.edges[this.cursor] + this.edges[this.cursor + 1]) / 2, base);
  }

  clipped(pen, top, height, paint) {
    pen.save();
    pen.beginPath();
    pen.rect(MARGIN.left, top, this.width, height);
    pen.clip();
    paint();
    pen.restore();
  }

  axes(pen, limits, y, foot, base) {
    pen.fillStyle = INK;
    pen.textAlign = "right";
    pen.textBaseline = "middle";
    const powers = this.log ? decades(...limits) : [];
    for (const value of powers.length > 1 ? powers : steps(...limits, 6)) {
      pen.fillStyle = FAINT;
      pen.fillRect(MARGIN.left, Math.round(y(value)), this.width, 1);
      pen.fillStyle = INK;
      pen.fillText(short(value), MARGIN.left - 6, y(value));
    }
    pen.textAlign = "center";
    pen.textBaseline = "top";
    for (const value of steps(...this.range, this.width / 70)) {
      pen.fillRect(Math.round(this.x(value)), base, 1, 4);
      pen.fillText(String(+value.toPrecision(6)), this.x(value), base + 6);
    }
    pen.fillRect(MARGIN.left, base, this.width, 1);
    pen.fillText("energy (keV)", MARGIN.left + this.width / 2, base + 20);
    upright(pen, this.unit, 12, (MARGIN.top + foot) / 2, "center");
  }

  // One series as stairs, filled, or a line with a band.
  trace(pen, { look: [colour, dash], values, lower, upper, filled }, y, foot) {
    const path = (numbers) => {
      const shape = new Path2D();
      for (let i = this.binAt(this.range[0]); i < this.edges.length - 1 && this.edges[i] < this.range[1]; i++) {
        const height = y(this.drawn(numbers, i));
        shape.lineTo(this.x(this.edges[i]), height);
        shape.lineTo(this.x(this.edges[i + 1]), height);
      }
      return shape;
    };
    pen.fillStyle = pen.strokeStyle = colour;
    if (upper) {
      pen.globalAlpha = 0.25;
      for (let i = this.binAt(this.range[0]); i < this.edges.length - 1 && this.edges[i] < this.range[1]; i++) {
        const [left, right] = [this.x(this.edges[i]), this.x(this.edges[i + 1])];
        const [high, low] = [y(this.drawn(upper, i)), y(this.drawn(lower, i))];
        pen.fillRect(left, high, right - left, low - high);
      }
      pen.globalAlpha = 1;
    }
    const line = path(values);
    if (filled) {
      line.lineTo(this.x(this.range[1]), foot);
      line.lineTo(this.x(this.range[0]), foot);
      pen.globalAlpha = 0.38;
      pen.fill(line);
      pen.globalAlpha = 1;
      return;
    }
    pen.setLineDash(DASHES[dash]);
    pen.lineWidth = 1.3;
    pen.stroke(line);
    pen.setLineDash([]);
  }

  // Standardised residuals on an axis of at most 8 sigma; what lies beyond stands at the edge.
  residuals(pen, top) {
    const middle = top + HEIGHT.residual / 2;
    let edge = 4;
    for (const value of this.residual) edge = Math.min(Math.max(edge, Math.abs(value)), 8);
    const scale = HEIGHT.residual / 2 / edge;
    pen.fillStyle = "#f3f3f3";
    pen.fillRect(MARGIN.left, middle - 2 * scale, this.width, 4 * scale);
    pen.fillStyle = INK;
    pen.textAlign = "right";
    pen.textBaseline = "middle";
    for (const value of [-3, 0, 3]) pen.fillText(String(value).replace("-", "\u2212"), MARGIN.left - 6, middle - value * scale);
    upright(pen, "residual (\u03c3)", 12, middle, "center");
    this.clipped(pen, top, HEIGHT.residual, () => {
      for (let i = this.binAt(this.range[0]); i < this.residual.length && this.edges[i] < this.range[1]; i++) {
        const height = Math.max(-edge, Math.min(edge, this.residual[i])) * scale;
        const left = this.x(this.edges[i]), width = this.x(this.edges[i + 1]) - left;
        pen.globalAlpha = 0.3;
        pen.fillRect(left, middle - Math.max(height, 0), width, Math.abs(height));
        pen.globalAlpha = 1;
        pen.fillRect(left, middle - height - 1, width, 2);
      }
      pen.fillStyle = GREY;
      pen.fillRect(MARGIN.left, middle, this.width, 1);
    });
  }

  // Names of the lines, those of the highest peaks where not all have room, each tied to its peak.
  labels(pen, y, foot) {
    const height = (keV) => Math.min(...this.series.map(({ values }) => y(this.drawn(values, this.binAt(keV)))), foot);
    const seen = this.names.filter(([, keV]) => keV > this.range[0] && keV < this.range[1]);
    const tallest = seen.sort((a, b) => height(a[1]) - height(b[1])).slice(0, Math.floor(this.width / LABEL_PX));
    const names = tallest.sort((a, b) => a[1] - b[1]);
    const places = spread(names.map(([, keV]) => this.x(keV)), MARGIN.left + 6, MARGIN.left + this.width - 6);
    names.forEach(([text, keV, stray], i) => {
      pen.strokeStyle = "#bdbdbd";
      pen.beginPath();
      pen.moveTo(this.x(keV), Math.max(height(keV) - 3, MARGIN.top));
      pen.lineTo(this.x(keV), MARGIN.top);
      pen.lineTo(places[i], MARGIN.top - 8);
      pen.stroke();
      pen.fillStyle = stray ? "#737373" : INK;
      upright(pen, text, places[i], MARGIN.top - 11, "left");
    });
  }

  band(pen, from, to, base) {
    pen.fillStyle = "rgba(0, 114, 178, 0.18)";
    pen.fillRect(this.x(from), MARGIN.top, this.x(to) - this.x(from), base - MARGIN.top);
  }

  rule(pen, energy, base) {
    if (energy < this.range[0] || energy > this.range[1]) return;
    pen.fillStyle = "#b3400a";
    pen.fillRect(this.x(energy), MARGIN.top, 1, base - MARGIN.top);
  }
}

// Ascending places moved apart to LABEL_PX as little as possible, by pooling neighbours, as plot/labels.py does.
function spread(wanted, low, high) {
  const pools = [];
  wanted.forEach((place, i) => {
    pools.push([place - LABEL_PX * i, 1]);
    while (pools.length > 1 && pools.at(-2)[0] > pools.at(-1)[0]) {
      const [[first, left], [second, right]] = pools.splice(-2);
      pools.push([(first * left + second * right) / (left + right), left + right]);
    }
  });
  const flat = pools.flatMap(([place, count]) => Array(count).fill(place));
  const last = Math.max(high - LABEL_PX * (wanted.length - 1), low);
  return flat.map((place, i) => Math.min(Math.max(place, low), last) + LABEL_PX * i);
}

function upright(pen, text, x, y, align) {
  pen.save();
  pen.translate(x, y);
  pen.rotate(-Math.PI / 2);
  pen.textAlign = align;
  pen.textBaseline = "middle";
  pen.fillText(text, 0, 0);
  pen.restore();
}

function decades(low, high) {
  const first = Math.ceil(Math.log10(low)), count = Math.floor(Math.log10(high)) - first + 1;
  return Array.from({ length: Math.max(count, 0) }, (_, i) => 10 ** (first + i));
}

// Round numbers between two ends, about so many.
function steps(low, high, count) {
  const raw = (high - low) / Math.max(count, 2), power = 10 ** Math.floor(Math.log10(raw));
  const step = power * [1, 2, 5, 10].find((one) => one * power >= raw);
  const found = [];
  for (let i = Math.ceil(low / step); i * step <= high; i++) found.push(i * step);
  return found;
}

function short(value) {
  if (value === 0) return "0";
  const size = Math.abs(value);
  return size >= 1e5 || size < 1e-3 ? value.toExponential(0).replace("e+", "e") : String(+value.toPrecision(3));
}
