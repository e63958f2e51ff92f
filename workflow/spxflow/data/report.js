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
  limit: { symbol: "triangle-down-open", size: 9, line: { width: 1.5 } },
};
const PLOTTED = Object.keys(KINDS);
let selected = null;
let magnitudes = data.magnitude;

// --- plots

// What is drawn of an exposure: flux density or AB magnitude, of an upper limit the limit; null: no magnitude.
function value(row) {
  const flux = get(row, data.kinds[row] === "limit" ? "upper_limit_ujy" : "flux_ujy");
  return magnitudes ? magnitude(flux) : flux;
}

function magnitude(flux) {
  return flux > 0 ? data.zero_point - 2.5 * Math.log10(flux) : null;
}

function error(flux, fluxError) {
  return magnitudes ? (flux > 0 ? ((2.5 / Math.LN10) * fluxError) / flux : null) : fluxError;
}

function hover(row) {
  const y = value(row);
  const number = y === null ? "no magnitude" : magnitudes ? `${y.toFixed(3)} mag` : `${y.toPrecision(4)} µJy`;
  const sign = data.kinds[row] === "limit" ? (magnitudes ? "> " : "< ") : "";
  return `${data.names[row]}<br>${day(get(row, "mjd"))} UTC<br>${get(row, "wavelength_um").toFixed(4)} µm<br>${sign}${number}`;
}

function points(kind, x, colour) {
  const own = rows.filter((row) => data.kinds[row] === kind);
  const limit = kind === "limit";
  return {
    type: data.many ? "scattergl" : "scatter",
    mode: "markers",
    name: data.labels[kind],
    customdata: own,
    x: own.map(x),
    y: own.map(value),
    error_y: {
      type: "data", width: 0, thickness: 0.8, color: "#aaa",
      array: limit ? [] : own.map((row) => error(get(row, "flux_ujy"), get(row, "flux_err_ujy"))),
    },
    marker: {
      ...KINDS[kind],
      ...(kind === "rejected" ? { color: "#999", line: { width: 1.3, color: "#999" } } : colour(own)),
    },
    text: own.map(hover),
    hovertemplate: "%{text}<extra></extra>",
  };
}

function colourBy(values, [low, high], bar) {
  const along = bar.log ? Math.log10 : (number) => number;
  const ticks = [0, 0.25, 0.5, 0.75, 1].map((part) => along(low) + part * (along(high) - along(low)));
  return (own) => ({
    color: own.map((row) => along(values(row))),
    colorscale: bar.scale,
    cmin: along(low),
    cmax: along(high),
    showscale: own.length > 0 && data.kinds[own[0]] === data.leading,
    colorbar: {
      title: { text: bar.title, side: "right" },
      tickvals: ticks,
      ticktext: ticks.map((tick) => bar.format(bar.log ? 10 ** tick : tick)),
      thickness: 14,
    },
  });
}

function layout(title, xaxis) {
  return {
    margin: { l: 70, r: 10, t: 30, b: 50 },
    xaxis: { title: { text: title }, ...xaxis },
    yaxis: {
      title: { text: magnitudes ? "AB magnitude" : "flux density (µJy)" },
      range: [...(magnitudes ? data.axes.magnitude : data.axes.flux)],
      zeroline: false,
      exponentformat: "none",
    },
    legend: { orientation: "h", y: 1.12 },
    hovermode: "closest",
    showlegend: true,
  };
}

// A line where the axis leaves time out, with the number of days.
function breaks() {
  const gaps = data.many ? [] : data.axes.gaps;
  const line = { type: "line", yref: "paper", y0: 0, y1: 1, line: { color: "#888", width: 1.5, dash: "dot" } };
  const note = { yref: "paper", y: 1, yanchor: "bottom", xanchor: "center", showarrow: false, font: { size: 11, color: "#666" } };
  return {
    rangebreaks: gaps.map((gap) => ({ bounds: gap.map(date) })),
    shapes: gaps.map(([, end]) => ({ ...line, x0: date(end), x1: date(end) })),
    annotations: gaps.map(([begin, end]) => ({ ...note, x: date(end), text: `${Math.round(end - begin)} days left out` })),
  };
}

function ring() {
  return {
    type: "scatter", mode: "markers", name: "selected", showlegend: false, hoverinfo: "skip", x: [], y: [],
    marker: { symbol: "circle-open", size: 16, color: "#d00", line: { width: 2 } },
  };
}

function combined() {
  const { wavelength_um: x, flux_ujy: fluxes, flux_err_ujy: errors } = data.spectrum;
  return {
    type: "scatter", mode: "lines+markers", name: "102 channels", visible: "legendonly", hoverinfo: "x+y",
    x, y: magnitudes ? fluxes.map(magnitude) : fluxes, line: { color: "#222", width: 1 }, marker: { size: 4 },
    error_y: { type: "data", array: errors.map((one, index) => error(fluxes[index], one)), width: 0, thickness: 1, color: "#222" },
  };
}

const AXES = {
  spectrum: (row) => get(row, "wavelength_um"),
  lightcurve: (row) => date(get(row, "mjd")),
};

function draw() {
  const log = data.wavelength_scale === "log";
  const byDate = colourBy((row) => get(row, "mjd"), data.axes.mjd_colours, {
    scale: data.scales.date, title: "date (UTC)", format: (mjd) => day(mjd).slice(0, 10),
  });
  const byWavelength = colourBy(AXES.spectrum, data.axes.wavelength_colours, {
    scale: data.scales.wavelength, title: "wavelength (µm)", format: (um) => um.toFixed(2), log,
  });
  const kinds = PLOTTED.filter((kind) => data.kinds.includes(kind));
  const options = { responsive: true, displaylogo: false, modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]] };
  const ends = data.axes.wavelength;
  const wavelengths = { type: data.wavelength_scale, range: log ? ends.map(Math.log10) : [...ends] };
  if (ends[1] > 2 * ends[0]) wavelengths.tickvals = [0.8, 1, 1.5, 2, 2.5, 3, 4, 5];
  const { rangebreaks, shapes, annotations } = breaks();
  Plotly.react(
    "spectrum",
    [...kinds.map((kind) => points(kind, AXES.spectrum, byDate)), ...(data.spectrum ? [combined()] : []), ring()],
    layout("wavelength (µm)", wavelengths), options);
  Plotly.react(
    "lightcurve",
    [...kinds.map((kind) => points(kind, AXES.lightcurve, byWavelength)), ring()],
    { ...layout("date (UTC)", { type: "date", range: data.axes.mjd.map(date), rangebreaks }), shapes, annotations }, options);
  document.getElementById("outside").textContent = outside();
}

function outside() {
  const [low, high] = [...(magnitudes ? data.axes.magnitude : data.axes.flux)].sort((a, b) => a - b);
  const drawn = rows.filter((row) => data.kinds[row] !== "absent");
  const values = drawn.map(value);
  const beyond = values.filter((y) => y !== null && (y < low || y > high)).length;
  const without = values.filter((y) => y === null).length;
  return [
    beyond ? `${beyond} of ${drawn.length} points ${beyond === 1 ? "is" : "are"} outside the range shown at first.` : "",
    without ? `${without} without a magnitude, of no positive flux, ${without === 1 ? "is" : "are"} not drawn.` : "",
  ].filter(Boolean).join(" ");
}

// --- the selected exposure

function select(row) {
  selected = row;
  const drawn = data.kinds[row] !== "absent";
  for (const [id, x] of Object.entries(AXES)) {
    const plot = document.getElementById(id);
    if (!plot?.data) continue;
    Plotly.restyle(plot, { x: [drawn ? [x(row)] : []], y: [drawn ? [value(row)] : []] }, [plot.data.length - 1]);
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
  const more = element("details");
  const rest = data.columns.filter((name) => !CORE.includes(name));
  more.append(element("summary", "the whole record"), table(row, rest));
  more.open = document.querySelector("#details details")?.open ?? false;
  parts.push(table(row, CORE), more);
  return parts;
}

const CORE = ["mjd", "wavelength_um", "flux_ujy", "flux_err_ujy", "snr", "upper_limit_ujy", "mag_ab", "flag_names", "psf_chi2_dof"];

function table(row, names) {
  const made = element("table");
  for (const name of names) {
    const content = name in place ? get(row, name) : null;
    if (content === null || content === "") continue;
    const line = element("tr");
    line.append(element("th", name), element("td", `${shown(content, data.units[name])} ${data.units[name] ?? ""}`));
    made.append(line);
  }
  return made;
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
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", name);
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
  if (event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (step && rows.length) select(selected === null ? 0 : (selected + step + rows.length) % rows.length);
});
for (const line of document.querySelectorAll("tr[data-row]")) {
  const chosen = () => select(Number(line.dataset.row));
  line.addEventListener("click", chosen);
  line.addEventListener("keydown", (event) => event.key === "Enter" && chosen());
}
const scale = document.getElementById("magnitudes");
scale.checked = magnitudes;
scale.addEventListener("change", () => {
  magnitudes = scale.checked;
  draw();
  if (selected !== null) select(selected);
});
if (data.axes) {
  draw();
  for (const id of Object.keys(AXES)) {
    document.getElementById(id).on("plotly_click", (event) => {
      if (event.points[0].customdata !== undefined) select(event.points[0].customdata);
    });
  }
} else {
  document.querySelector(".plots").replaceChildren(element("p", data.nothing, "nothing"));
}
const linked = data.names.findIndex((name) => `#${encodeURIComponent(name)}` === location.hash);
if (linked >= 0) select(linked);
