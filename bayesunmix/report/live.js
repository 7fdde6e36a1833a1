// Start what can be zoomed and pointed at beside the pictures of the page. Whatever fails leaves the pictures alone.

function make(tag, properties, parent) {
  return parent.appendChild(Object.assign(document.createElement(tag), properties));
}

// A labelled list of names; chosen is called with each one that is chosen.
function choose(host, label, names, chosen) {
  const select = make("select", {}, make("label", { textContent: `${label} ` }, controls(host)));
  select.setAttribute("aria-label", label);
  for (const name of names) make("option", { textContent: name }, select);
  select.addEventListener("change", () => chosen(select.value));
  return select;
}

function button(host, text, pressed) {
  const made = make("button", { type: "button", textContent: text }, controls(host));
  made.addEventListener("click", pressed);
  return made;
}

function controls(host) {
  return host.querySelector(".controls") ?? make("div", { className: "controls" }, host);
}

// Numbers of live.py: base 64 of deflated bytes, the first byte of every number, then the second one ...
async function unpack({ type, count, letters }) {
  const bytes = Uint8Array.from(atob(letters), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  const planes = new Uint8Array(await new Response(stream).arrayBuffer());
  const width = planes.length / Math.max(count, 1);
  const ordered = new Uint8Array(planes.length);
  for (let plane = 0; plane < width; plane++) {
    for (let i = 0; i < count; i++) ordered[i * width + plane] = planes[plane * count + i];
  }
  return type === "u2" ? new Uint16Array(ordered.buffer) : new Float32Array(ordered.buffer);
}

// The same with every packed array in it unpacked.
async function unpacked(value) {
  if (value === null || typeof value !== "object") return value;
  if ("letters" in value) return unpack(value);
  if (Array.isArray(value)) return Promise.all(value.map(unpacked));
  const entries = await Promise.all(Object.entries(value).map(async ([key, one]) => [key, await unpacked(one)]));
  return Object.fromEntries(entries);
}

// Boxes that switch series on and off, in the looks of their lines.
function legend(host, panel, all) {
  const hidden = panel.hidden ??= new Set();
  const box = host.querySelector(".legend") ?? make("div", { className: "legend" }, host);
  const show = () => { panel.series = all.filter(({ name }) => !hidden.has(name)); panel.draw(); };
  box.replaceChildren();
  for (const { name, look: [colour, dash] } of all) {
    const label = make("label", {}, box);
    const tick = make("input", { type: "checkbox", checked: !hidden.has(name) }, label);
    tick.addEventListener("change", () => { hidden[tick.checked ? "delete" : "add"](name); show(); });
    make("i", {}, label).style.borderTop = `3px ${dash === "dotdash" ? "dashed" : dash} ${colour}`;
    label.append(name);
  }
  show();
}

function zoomControls(host, panel) {
  const axis = choose(host, "Axis", ["log", "linear"], (name) => panel.setLog(name === "log"));
  panel.canvas.addEventListener("axis", ({ detail }) => { axis.value = detail ? "log" : "linear"; });
  button(host, "Zoom in", () => panel.zoomBy(0.6));
  button(host, "Zoom out", () => panel.zoomBy(1 / 0.6));
  button(host, "Whole range", () => panel.zoomTo(...panel.whole));
}

const number = (value) => (Math.abs(value) >= 1e6 ? value.toExponential(4) : String(+value.toFixed(value < 10 ? 2 : 1)));

function startFit(host, data) {
  controls(host);
  make("div", { className: "legend" }, host);
  const panel = new SpectrumPanel(host, "Sum spectrum and fit", "counts per keV", data.edges, data);
  let [spectrum, by] = [data.spectra[0], Object.keys(data.parts)[0]];
  const show = () => {
    const parts = spectrum === data.spectra[0] ? data.parts[by] ?? [] : [];
    const { counts, fit, residual } = spectrum;
    panel.residual = residual;
    panel.describe = (bin) => [
      `counts ${number(counts[bin])}, fit ${number(fit[bin])}`,
      residual ? `residual ${residual[bin].toFixed(2).replace("-", "\u2212")} \u03c3` : "too few counts for residuals",
      ...parts.map(({ name, values }) => `${name} ${number(values[bin])}`),
    ].join("; ");
    legend(host, panel, [
      { name: "counts", look: data.looks.counts, values: counts, filled: true }, ...parts,
      { name: "fit", look: data.looks.fit, values: fit },
    ]);
  };
  const names = data.spectra.map(({ name }) => name);
  if (names.length > 1) choose(host, "Spectrum", names, (name) => { spectrum = data.spectra[names.indexOf(name)]; show(); });
  choose(host, "Parts of the fit by", [...Object.keys(data.parts), "none"], (name) => { by = name; show(); });
  zoomControls(host, panel);
  show();
}

function startSpectra(host, data) {
  controls(host);
  make("div", { className: "legend" }, host);
  const panel = new SpectrumPanel(host, "Endmember spectra", "share of the counts per channel", data.edges, data);
  const all = data.series.map(({ mean, ...others }) => ({ ...others, values: mean }));
  panel.describe = (bin) => panel.series.map(({ name, values, lower, upper }) =>
    `${name} ${values[bin].toPrecision(4)} [${lower[bin].toPrecision(4)}, ${upper[bin].toPrecision(4)}]`).join("; ");
  zoomControls(host, panel);
  legend(host, panel, all);
}

const STARTS = { fit: startFit, spectra: startSpectra, maps: (host, data) => new LinkedMaps(host, data) };

async function enhance(figure, data) {
  const host = make("div", { className: "live" }, figure);
  figure.querySelector("figcaption").before(host);
  figure.classList.add("enhanced");
  try {
    STARTS[figure.dataset.figure](host, await unpacked(data));
  } catch (error) {
    figure.classList.remove("enhanced");
    host.remove();
    console.warn(error);
    return;
  }
  const still = button(host, "Picture as printed", () => {
    const shown = figure.classList.toggle("still");
    still.setAttribute("aria-pressed", shown);
  });
  still.setAttribute("aria-pressed", false);
}

const found = document.getElementById("live-data");
if (found && "DecompressionStream" in window) {
  const all = JSON.parse(found.textContent);
  for (const figure of document.querySelectorAll("figure[data-figure]")) {
    if (all[figure.dataset.figure]) enhance(figure, all[figure.dataset.figure]);
  }
}
