"use strict";

// Draws what is in the page's data block. Text from the data only ever becomes textContent, never markup.

window.addEventListener("error", (event) => {
  const note = document.createElement("p");
  note.className = "error";
  note.textContent = `This page could not be drawn: ${event.message}`;
  document.body.prepend(note);
});

const data = JSON.parse(document.getElementById("data").textContent);
const place = Object.fromEntries(data.columns.map((name, index) => [name, index]));
const get = (row, name) => data.rows[row][place[name]];
const rows = data.rows.map((_, row) => row);
const date = (mjd) => new Date((mjd - 40587) * 86400000).toISOString().replace("T", " ").replace("Z", "");
const day = (mjd) => date(mjd).slice(0, 16);
const KINDS = {
  good: { symbol: "circle", size: 7 },
  rejected: { symbol: "x-thin-open", size: 7 },
  limit: { symbol: "arrow-down", size: 9 },
};
let selected = null;

// --- plots

function points(kind, x, colour) {
  const own = rows.filter((row) => data.kinds[row] === kind);
  const limit = kind === "limit";
  return {
    type: data.many ? "scattergl" : "scatter",
    mode: "markers",
    name: data.labels[kind],
    customdata: own,
    x: own.map(x),
    y: own.map((row) => get(row, limit ? "upper_limit_ujy" : "flux_ujy")),
    error_y: { type: "data", array: limit ? [] : own.map((row) => get(row, "flux_err_ujy")), width: 0, thickness: 0.8, color: "#aaa" },
    marker: {
      ...KINDS[kind],
      ...(kind === "rejected" ? { color: "#999", line: { width: 1.3, color: "#999" } } : colour(own)),
    },
    text: own.map((row) => `${data.names[row]}<br>${day(get(row, "mjd"))} UTC<br>${get(row, "wavelength_um").toFixed(4)} µm`),
    hovertemplate: "%{text}<br>%{y:.4g} µJy<extra></extra>",
  };
}

function colourBy(values, scale, bar) {
  const all = rows.filter((row) => data.kinds[row] !== "absent").map(values);
  const low = Math.min(...all);
  const high = Math.max(...all);
  const ticks = [0, 0.25, 0.5, 0.75, 1].map((part) => low + part * (high - low));
  return (own) => ({
    color: own.map(values),
    colorscale: scale,
    cmin: low,
    cmax: high,
    showscale: own.length > 0 && data.kinds[own[0]] === data.leading,
    colorbar: { title: { text: bar.title, side: "right" }, tickvals: ticks, ticktext: ticks.map(bar.format), thickness: 14 },
  });
}

function layout(title, xaxis) {
  return {
    margin: { l: 70, r: 10, t: 30, b: 50 },
    xaxis: { title: { text: title }, ...xaxis },
    yaxis: { title: { text: "flux density (µJy)" }, range: data.range, zeroline: false },
    legend: { orientation: "h", y: 1.12 },
    hovermode: "closest",
    showlegend: true,
  };
}

function ring() {
  return {
    type: "scatter", mode: "markers", name: "selected", showlegend: false, hoverinfo: "skip", x: [], y: [],
    marker: { symbol: "circle-open", size: 16, color: "#d00", line: { width: 2 } },
  };
}

function combined() {
  const spectrum = data.spectrum;
  return {
    type: "scatter", mode: "lines+markers", name: "102 channels", visible: "legendonly", hoverinfo: "x+y",
    x: spectrum.wavelength_um, y: spectrum.flux_ujy, line: { color: "#222", width: 1 }, marker: { size: 4 },
    error_y: { type: "data", array: spectrum.flux_err_ujy, width: 0, thickness: 1, color: "#222" },
  };
}

const AXES = {
  spectrum: (row) => get(row, "wavelength_um"),
  lightcurve: (row) => date(get(row, "mjd")),
};

function draw() {
  const byDate = colourBy((row) => get(row, "mjd"), data.scales.date, { title: "date (UTC)", format: (mjd) => day(mjd).slice(0, 10) });
  const byWavelength = colourBy(AXES.spectrum, data.scales.wavelength, { title: "wavelength (µm)", format: (um) => um.toFixed(2) });
  const kinds = Object.keys(KINDS).filter((kind) => data.kinds.includes(kind));
  const options = { responsive: true, displaylogo: false, modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]] };
  const wavelengths = { type: data.wavelength_scale, tickvals: [0.8, 1, 1.5, 2, 2.5, 3, 4, 5] };
  const breaks = data.many ? [] : data.gaps.map((gap) => ({ bounds: gap.map(date) }));
  Plotly.newPlot(
    "spectrum",
    [...kinds.map((kind) => points(kind, AXES.spectrum, byDate)), ...(data.spectrum ? [combined()] : []), ring()],
    layout("wavelength (µm)", wavelengths), options);
  Plotly.newPlot(
    "lightcurve",
    [...kinds.map((kind) => points(kind, AXES.lightcurve, byWavelength)), ring()],
    layout("date (UTC)", { type: "date", rangebreaks: breaks }), options);
  for (const id of Object.keys(AXES)) {
    document.getElementById(id).on("plotly_click", (event) => {
      if (event.points[0].customdata !== undefined) select(event.points[0].customdata);
    });
  }
}

// --- the selected exposure

function select(row) {
  selected = row;
  const drawn = data.kinds[row] !== "absent";
  for (const [id, x] of Object.entries(AXES)) {
    const plot = document.getElementById(id);
    if (!plot.data) continue;
    const y = get(row, data.kinds[row] === "limit" ? "upper_limit_ujy" : "flux_ujy");
    Plotly.restyle(plot, { x: [drawn ? [x(row)] : []], y: [drawn ? [y] : []] }, [plot.data.length - 1]);
  }
  history.replaceState(null, "", `#${encodeURIComponent(data.names[row])}`);
  document.getElementById("details").replaceChildren(...describe(row));
}

function element(tag, text, className) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

function describe(row) {
  const status = get(row, "status");
  const badge = element("p");
  badge.append(element("span", data.kinds[row] === "absent" ? status : data.labels[data.kinds[row]], `status ${data.kinds[row]}`));
  badge.append(` ${[status, get(row, "reason")].filter(Boolean).join(": ")}`);
  const parts = [element("h2", data.names[row]), badge];
  const stamp = data.stamps[data.names[row]];
  parts.push(stamp ? pictures(stamp) : element("p", "No cutout of this exposure in this report.", "hint"));
  const table = element("table");
  for (const name of data.columns) {
    const value = get(row, name);
    if (value === null || value === "") continue;
    const line = element("tr");
    line.append(element("th", name), element("td", `${shown(value, data.units[name])} ${data.units[name] ?? ""}`));
    table.append(line);
  }
  parts.push(table);
  return parts;
}

function shown(value, unit) {
  if (typeof value === "number" && !Number.isInteger(value) && unit !== "d" && unit !== "deg") return String(Number(value.toPrecision(6)));
  if (typeof value === "object") {
    return Object.entries(value).map(([name, part]) => `${name} ${(100 * part).toFixed(0)} %`).join(", ");
  }
  return String(value);
}

function pictures(stamp) {
  const box = element("div", undefined, "stamps");
  const captions = {
    image: `cutout, ${stamp.low.toPrecision(2)} to ${stamp.high.toPrecision(2)} MJy/sr`,
    model: "PSF model, same scale",
    residual: `residual, ±${stamp.span.toPrecision(2)} MJy/sr`,
  };
  for (const [name, caption] of Object.entries(captions)) {
    const figure = element("figure");
    figure.append(picture(stamp, name), element("figcaption", caption));
    box.append(figure);
  }
  return box;
}

function picture(stamp, name) {
  const scale = 16;
  const bytes = Uint8Array.from(atob(stamp[name]), (letter) => letter.charCodeAt(0));
  const masked = Uint8Array.from(atob(stamp.masked), (letter) => letter.charCodeAt(0));
  const canvas = element("canvas");
  canvas.width = canvas.height = stamp.size * scale;
  const pen = canvas.getContext("2d");
  const colours = name === "residual" ? data.scales.residual : data.scales.image;
  bytes.forEach((value, index) => {
    const x = (index % stamp.size) * scale;
    const y = (stamp.size - 1 - Math.floor(index / stamp.size)) * scale;
    const hidden = masked[index] && name !== "model";
    pen.fillStyle = hidden ? "#bbb" : colours[Math.round((value / 255) * (colours.length - 1))][1];
    pen.fillRect(x, y, scale, scale);
    if (hidden) {
      pen.strokeStyle = "#c33";
      pen.beginPath();
      pen.moveTo(x + 4, y + 4);
      pen.lineTo(x + scale - 4, y + scale - 4);
      pen.moveTo(x + scale - 4, y + 4);
      pen.lineTo(x + 4, y + scale - 4);
      pen.stroke();
    }
  });
  if (stamp.radius !== null) {
    pen.strokeStyle = name === "residual" ? "#000" : "#fff";
    pen.lineWidth = 2;
    pen.beginPath();
    pen.arc((stamp.x + 0.5) * scale, (stamp.size - 0.5 - stamp.y) * scale, stamp.radius * scale, 0, 2 * Math.PI);
    pen.stroke();
  }
  return canvas;
}

// --- keys, tables, links

document.addEventListener("keydown", (event) => {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (step && rows.length) select(selected === null ? 0 : (selected + step + rows.length) % rows.length);
});
for (const line of document.querySelectorAll("tr[data-row]")) {
  line.addEventListener("click", () => select(Number(line.dataset.row)));
}
if (data.range) draw();
const linked = data.names.indexOf(decodeURIComponent(location.hash.slice(1)));
if (linked >= 0) select(linked);
