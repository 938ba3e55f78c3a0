"use strict";
// Maps of the page: glass brain and slices on canvas, at a threshold chosen here, and NiiVue on request.

// ---- volumes ----------------------------------------------------------------------------------------------------
async function inflate(id) {
  const bytes = Uint8Array.from(atob(document.getElementById(id).textContent), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).arrayBuffer();
}

const loaded = new Map(); // by id: volumes that several blocks share are inflated once
function volume(facts, array) {
  if (!loaded.has(facts.id)) {
    loaded.set(facts.id, inflate(facts.id).then((file) => {
      const [nx, ny, nz] = facts.shape;
      const sizes = [0, 1, 2].map((c) => Math.hypot(...[0, 1, 2].map((r) => facts.affine[r][c])));
      return { ...facts, file, values: new array(file, 352, nx * ny * nz), sizes };
    }));
  }
  return loaded.get(facts.id);
}

// ---- colours ----------------------------------------------------------------------------------------------------
const WARM = [[122, 4, 3], [201, 38, 20], [240, 96, 24], [253, 159, 44], [255, 221, 92]];
const COOL = [[16, 32, 110], [28, 76, 178], [38, 128, 224], [72, 178, 240], [150, 225, 250]];
const SCALE = [[68, 1, 84], [65, 68, 135], [42, 120, 142], [34, 168, 132], [122, 209, 81], [253, 231, 37]];

function colour(stops, part) {
  const at = Math.min(Math.max(part, 0), 1) * (stops.length - 1), i = Math.min(Math.floor(at), stops.length - 2);
  return stops[i].map((low, c) => Math.round(low + (at - i) * (stops[i + 1][c] - low)));
}

// The same for NiiVue, which paints what is below the threshold in the first colour: that one is clear.
function colourmap(stops) {
  const at = stops.map((_, i) => Math.round(1 + (254 * i) / (stops.length - 1)));
  const channel = (c) => [stops[0][c], ...stops.map((stop) => stop[c])];
  return { R: channel(0), G: channel(1), B: channel(2), A: [0, ...stops.map(() => 255)], I: [0, ...at], min: 0, max: 0 };
}

// How a value is painted: nothing below the threshold, or of the sign that is not shown.
function painter(map, state) {
  const top = Math.max(map.largest, state.threshold * 1.0001, 1e-12);
  return (value) => {
    if (map.threshold === null) return value ? colour(SCALE, value / top) : null;
    if (Math.abs(value) < state.threshold || value === 0 || value * state.sign < 0) return null;
    return colour(value > 0 ? WARM : COOL, (Math.abs(value) - state.threshold) / (top - state.threshold));
  };
}

// ---- canvas -----------------------------------------------------------------------------------------------------
function fitted(canvas, width, height) {
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  canvas.style.height = `${height}px`;
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  return context;
}

// A picture of w by h pixels, y upwards, whose pixels `paint(x, y)` gives as [r, g, b, a].
function picture(w, h, paint) {
  const canvas = new OffscreenCanvas(w, h), context = canvas.getContext("2d"), image = context.createImageData(w, h);
  for (let y = 0; y < h; y++) for (let x = 0; x < w; x++) {
    const rgba = paint(x, y);
    if (rgba) image.data.set(rgba, 4 * ((h - 1 - y) * w + x));
  }
  context.putImageData(image, 0, 0);
  return canvas;
}

// The axes that lie across and up in a view along the axis.
const PLANES = [[1, 2], [0, 2], [0, 1]];
const ENDS = [["P", "A"], ["L", "R"], ["L", "R"]];

// ---- glass brain ------------------------------------------------------------------------------------------------
function projection(volume, axis, larger) {
  const [a, b] = PLANES[axis], n = volume.shape, found = new Float32Array(n[a] * n[b]), ijk = [0, 0, 0];
  let at = 0;
  for (ijk[2] = 0; ijk[2] < n[2]; ijk[2]++) for (ijk[1] = 0; ijk[1] < n[1]; ijk[1]++) for (ijk[0] = 0; ijk[0] < n[0]; ijk[0]++) {
    const value = volume.values[at++], pixel = ijk[a] + n[a] * ijk[b];
    if (value && larger(value, found[pixel])) found[pixel] = value;
  }
  return found;
}

// The outline of the brain in a view, smooth: its mask drawn large, and cut where it is half there.
function silhouette(below, axis, width, height) {
  const [a, b] = PLANES[axis], [w, h] = [below.shape[a], below.shape[b]];
  const inside = projection(below, axis, (value) => value > 0);
  const mask = picture(w, h, (x, y) => (inside[x + w * y] ? [0, 0, 0, 255] : null));
  const [W, H] = [Math.ceil(width * 2), Math.ceil(height * 2)], large = new OffscreenCanvas(W, H);
  const context = large.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(mask, 0, 0, W, H);
  const image = context.getImageData(0, 0, W, H), alpha = image.data.filter((_, i) => i % 4 === 3);
  const within = (x, y) => x >= 0 && y >= 0 && x < W && y < H && alpha[y * W + x] > 127;
  for (let y = 0; y < H; y++) for (let x = 0; x < W; x++) {
    const edge = ![[2, 0], [-2, 0], [0, 2], [0, -2]].every(([dx, dy]) => within(x + dx, y + dy));
    image.data.set(!within(x, y) ? [0, 0, 0, 0] : edge ? [138, 148, 160, 255] : [240, 242, 245, 255], 4 * (y * W + x));
  }
  context.putImageData(image, 0, 0);
  return large;
}

function drawGlass(canvas, map, below, state) {
  canvas.hidden = map.threshold === null;
  if (canvas.hidden) return;
  const mm = map.shape.map((n, axis) => n * map.sizes[axis]), gap = 30, width = canvas.clientWidth || 300;
  const scale = Math.min((width - 2 * gap) / (mm[1] + 2 * mm[0]), 300 / Math.max(mm[1], mm[2]));
  const height = scale * Math.max(mm[2], mm[1]), context = fitted(canvas, width, height + 4), paint = painter(map, state);
  let left = (width - scale * (mm[1] + 2 * mm[0]) - 2 * gap) / 2;
  for (let axis = 0; axis < 3; axis++) {
    const [a, b] = PLANES[axis], [w, h] = [scale * mm[a], scale * mm[b]], top = (height - h) / 2 + 2, n = map.shape[a];
    const most = projection(map, axis, (value, now) => value * state.sign >= 0 && Math.abs(value) > Math.abs(now));
    const seen = picture(n, map.shape[b], (x, y) => {
      const rgb = paint(most[x + n * y] * map.step);
      return rgb && [...rgb, 255];
    });
    context.drawImage(silhouette(below, axis, w, h), left, top, w, h);
    context.imageSmoothingEnabled = false;
    context.drawImage(seen, left, top, w, h);
    context.imageSmoothingEnabled = true;
    context.fillStyle = "#5b6773";
    context.font = "11px system-ui, sans-serif";
    ENDS[axis].forEach((end, i) => {
      context.textAlign = i ? "right" : "left";
      context.fillText(end, left + i * w, top + 10);
    });
    left += w + gap;
  }
}

// ---- slices -----------------------------------------------------------------------------------------------------
// Indices along the axis, evenly spread over those with a tenth of the largest area.
function spread(below, axis, wanted) {
  const n = below.shape, area = new Float64Array(n[axis]), ijk = [0, 0, 0];
  let at = 0;
  for (ijk[2] = 0; ijk[2] < n[2]; ijk[2]++) for (ijk[1] = 0; ijk[1] < n[1]; ijk[1]++) for (ijk[0] = 0; ijk[0] < n[0]; ijk[0]++) {
    if (below.values[at++] > 0) area[ijk[axis]]++;
  }
  const most = Math.max(...area), shown = [...area.keys()].filter((i) => area[i] > most / 10);
  const count = Math.min(wanted, shown.length);
  return [...Array(count).keys()].map((i) => shown[Math.round((i * (shown.length - 1)) / Math.max(count - 1, 1))]);
}

function placeOf(volume, ijk) {
  return volume.affine.slice(0, 3).map((row) => row[0] * ijk[0] + row[1] * ijk[1] + row[2] * ijk[2] + row[3]);
}

function drawSlices(canvas, map, below, state) {
  const [a, b] = PLANES[state.plane], n = map.shape, mm = n.map((m, axis) => m * map.sizes[axis]);
  const width = canvas.clientWidth || 300, columns = Math.max(3, Math.min(9, Math.floor(width / 104)));
  const rows = columns > 5 ? 2 : 4, w = width / columns, scale = (w - 6) / mm[a], h = scale * mm[b] + 18;
  const indices = spread(below, state.plane, rows * columns), lines = Math.ceil(indices.length / columns);
  const context = fitted(canvas, width, lines * h + 6), paint = painter(map, state), ijk = [0, 0, 0];
  const offset = (x, y, k) => {
    [ijk[a], ijk[b], ijk[state.plane]] = [x, y, k];
    return ijk[0] + n[0] * (ijk[1] + n[1] * ijk[2]);
  };
  const tiles = indices.map((k, i) => ({ k, x: (i % columns) * w + 3, y: Math.floor(i / columns) * h + 3 }));
  for (const { k, x: left, y: top } of tiles) {
    const grey = picture(n[a], n[b], (x, y) => {
      const g = below.values[offset(x, y, k)];
      return g ? [g * 0.72, g * 0.72, g * 0.74, 255] : null;
    });
    const over = picture(n[a], n[b], (x, y) => {
      const rgb = paint(map.values[offset(x, y, k)] * map.step);
      return rgb && [...rgb, 255];
    });
    context.imageSmoothingEnabled = true;
    context.drawImage(grey, left, top, w - 6, scale * mm[b]);
    context.imageSmoothingEnabled = false;
    context.drawImage(over, left, top, w - 6, scale * mm[b]);
    context.fillStyle = "#aeb8c2";
    context.font = "11px system-ui, sans-serif";
    context.textAlign = "center";
    const middle = n.map((m) => (m - 1) / 2);
    middle[state.plane] = k;
    context.fillText(`${"xyz"[state.plane]} ${Math.round(placeOf(map, middle)[state.plane])}`, left + (w - 6) / 2, top + scale * mm[b] + 11);
  }
  ENDS[state.plane].forEach((end, i) => {
    context.textAlign = i ? "right" : "left";
    context.fillText(end, i ? w - 5 : 5, 13);
  });
  // where a click on the canvas lies in mm
  canvas.at = (x, y) => {
    const tile = tiles.find((t) => x >= t.x && x < t.x + w - 6 && y >= t.y && y < t.y + scale * mm[b]);
    if (!tile) return null;
    const found = [0, 0, 0];
    found[a] = Math.floor((x - tile.x) / scale / map.sizes[a]);
    found[b] = Math.floor((tile.y + scale * mm[b] - y) / scale / map.sizes[b]);
    found[state.plane] = tile.k;
    return placeOf(map, found);
  };
}

// ---- colour scale -----------------------------------------------------------------------------------------------
const short = (x) => String(Number(x.toPrecision(3))).replace("-", "\u2212");

function drawBar(canvas, map, state) {
  const width = canvas.clientWidth || 300, context = fitted(canvas, width, 34), paint = painter(map, state);
  const low = map.threshold === null || state.sign > 0 ? 0 : -map.largest, high = state.sign < 0 ? 0 : map.largest || 1;
  const edge = 24, inner = width - 2 * edge, at = (value) => edge + (inner * (value - low)) / (high - low || 1);
  for (let x = 0; x < inner; x++) {
    const rgb = paint(low + ((high - low) * (x + 0.5)) / inner);
    context.fillStyle = rgb ? `rgb(${rgb})` : "#e6eaee";
    context.fillRect(edge + x, 0, 1.5, 12);
  }
  context.fillStyle = "#5b6773";
  context.font = "11px system-ui, sans-serif";
  context.textAlign = "center";
  const inside = map.threshold === null ? [] : [-state.threshold, state.threshold];
  for (const value of [low, high, ...inside.filter((v) => v > low && v < high)]) {
    context.fillText(short(value), at(value), 25);
  }
  if (map.threshold !== null) context.textAlign = "right";
  context.fillText(map.unit, map.threshold === null ? width / 2 : width, 25);
}

// ---- numbers ----------------------------------------------------------------------------------------------------
// Upper tail of the normal distribution (Abramowitz and Stegun 26.2.17; error below 7.5e-8, and Mills' ratio beyond 5).
function tail(z) {
  const density = Math.exp((-z * z) / 2) / Math.sqrt(2 * Math.PI), t = 1 / (1 + 0.2316419 * z);
  if (z > 5) return (density / z) * (1 - 1 / (z * z) + 3 / z ** 4);
  return density * t * (0.31938153 + t * (-0.356563782 + t * (1.781477937 + t * (-1.821255978 + t * 1.330274429))));
}

const probability = (p) => (p >= 1e-4 ? p.toPrecision(2) : p.toExponential(1).replace("-", "\u2212"));

function describe(map, state) {
  if (map.threshold === null) return `Largest value ${short(map.largest)} ${map.unit}`;
  let up = 0, down = 0;
  for (const raw of map.values) {
    const value = raw * map.step;
    if (value >= state.threshold && raw) up++;
    else if (value <= -state.threshold && raw) down++;
  }
  const p = map.is_z ? ` (one-tailed p = ${probability(tail(state.threshold))}, uncorrected)` : "";
  return `${map.unit} beyond ${short(state.threshold)}${p}: ${up.toLocaleString("en")} voxels positive, ${down.toLocaleString("en")} negative`;
}

// ---- viewer -----------------------------------------------------------------------------------------------------
let library = null;
function niivue() { // the library is inflated when the first viewer opens
  library ??= inflate("niivue").then((code) => {
    const script = document.createElement("script");
    script.textContent = new TextDecoder().decode(code);
    document.head.append(script);
    return window.niivue;
  });
  return library;
}

async function openViewer(block) {
  const { Niivue } = await niivue(), stage = block.root.querySelector(".stage");
  stage.hidden = false;
  block.root.querySelector(".goto").hidden = block.root.querySelector(".place").hidden = false;
  block.root.querySelector(".open").hidden = true;
  const viewer = new Niivue({
    backColor: [0, 0, 0, 1], crosshairColor: [0.35, 0.85, 0.75, 0.9], crosshairWidth: 1,
    crosshairWidthUnit: "mm", show3Dcrosshair: true, multiplanarShowRender: 1, multiplanarLayout: 2,
    isNearestInterpolation: true, isOrientationTextVisible: true, dragAndDropEnabled: false, logLevel: "error", loadingText: "",
  });
  viewer.addColormap("vx-warm", colourmap(WARM));
  viewer.addColormap("vx-cool", colourmap(COOL));
  viewer.addColormap("vx-scale", colourmap(SCALE));
  viewer.onLocationChange = (where) => tellPlace(block, where);
  await viewer.attachToCanvas(stage.querySelector("canvas"));
  viewer.setSliceType(viewer.sliceTypeMultiplanar);
  block.viewer = viewer;
  await showInViewer(block);
}

// NiiVue is given a copy of the file: it keeps what it gets.
async function asImage(viewer, volume, name, options) {
  await viewer.loadFromArrayBuffer(volume.file.slice(0), name);
  Object.assign(viewer.volumes[viewer.volumes.length - 1], options);
}

async function showInViewer(block) {
  const { viewer, map, below } = block, place = viewer.volumes.length ? viewer.frac2mm(viewer.scene.crosshairPos) : null;
  while (viewer.volumes.length) viewer.removeVolumeByIndex(viewer.volumes.length - 1);
  await asImage(viewer, below, "background.nii", { cal_min: 0, cal_max: 300 });
  await asImage(viewer, map, "map.nii", {});
  setThreshold(block);
  if (place) moveTo(block, [place[0], place[1], place[2]]);
  else viewer.createOnLocationChange();
}

function setThreshold(block) {
  const { viewer, map, state } = block, image = viewer.volumes[1], top = Math.max(map.largest, state.threshold * 1.0001);
  const isWhole = map.threshold === null, low = isWhole ? map.step / 2 : Math.max(state.threshold, map.step / 2);
  const isUp = isWhole || state.sign >= 0, isDown = !isWhole && state.sign <= 0;
  image.colormap = isWhole ? "vx-scale" : "vx-warm";
  image.colormapNegative = isDown ? "vx-cool" : "";
  [image.cal_min, image.cal_max] = isUp ? [low, top] : [2 * top, 3 * top];
  [image.cal_minNeg, image.cal_maxNeg] = isDown ? [-low, -top] : [NaN, NaN];
  viewer.updateGLVolume();
}

function moveTo(block, mm) {
  block.viewer.scene.crosshairPos = block.viewer.mm2frac(mm);
  block.viewer.drawScene();
  block.viewer.createOnLocationChange();
}

function tellPlace(block, where) {
  const found = where.values.find((one) => one.name.startsWith("map"));
  if (!found) return;
  const mm = [...where.mm].slice(0, 3).map((x) => Math.round(x * 10) / 10), digits = Math.max(0, Math.ceil(-Math.log10(block.map.step)));
  const value = found.value.toFixed(digits).replace("-", "\u2212");
  const place = block.root.querySelector(".place");
  place.textContent = `x ${mm[0]}, y ${mm[1]}, z ${mm[2]} mm: ${block.map.unit} ${value}`.replaceAll(" -", " \u2212");
  Object.assign(place.dataset, { x: where.mm[0], y: where.mm[1], z: where.mm[2], value: found.value, voxel: [...found.vox].join(" ") });
  ["x", "y", "z"].forEach((name, i) => { block.root.querySelector(`.goto [name=${name}]`).value = mm[i]; });
}

async function show(block, mm) {
  if (!block.viewer) await openViewer(block);
  moveTo(block, mm);
  block.root.querySelector(".stage").scrollIntoView({ block: "nearest" });
}

// ---- one block of maps ------------------------------------------------------------------------------------------
function redraw(block) {
  const { root, map, below, state } = block;
  drawGlass(root.querySelector(".glass"), map, below, state);
  drawSlices(root.querySelector(".slices"), map, below, state);
  drawBar(root.querySelector(".bar"), map, state);
  root.querySelector(".count").textContent = describe(map, state);
  root.querySelector(".level output").textContent = short(state.threshold);
  for (const button of root.querySelectorAll(".marks button")) {
    button.setAttribute("aria-pressed", Number(button.value) === state.threshold);
  }
}

async function choose(block, index) {
  const { root, state } = block, slider = root.querySelector(".level input");
  block.map = await volume(block.about[index], Int16Array);
  const isWhole = block.map.threshold === null;
  state.threshold = isWhole ? 0 : block.map.threshold;
  const top = Math.max(block.map.largest, state.threshold) || 1;
  Object.assign(slider, { min: 0, max: top, step: top / 500, value: state.threshold });
  for (const part of [".level", ".sign", ".marks"]) root.querySelector(part).hidden = isWhole;
  root.querySelector(".marks").replaceChildren(...Object.entries(block.map.marks).map(([name, level]) => {
    const button = Object.assign(document.createElement("button"), { type: "button", textContent: name, value: level });
    button.onclick = () => setLevel(block, level);
    return button;
  }));
  for (const part of root.querySelectorAll(".of-map")) part.hidden = part.dataset.map !== String(index);
  root.querySelector(".shown").textContent = root.querySelector(".which select").options[index].textContent;
  redraw(block);
  if (block.viewer) await showInViewer(block);
}

function setLevel(block, level) {
  block.state.threshold = level;
  block.root.querySelector(".level input").value = level;
  redraw(block);
  if (block.viewer) setThreshold(block);
}

function leadFromTable(block) {
  for (const table of block.root.querySelectorAll("table")) {
    const names = [...table.tHead.rows[0].cells].map((cell) => cell.textContent), at = ["x", "y", "z"].map((n) => names.indexOf(n));
    if (at.includes(-1)) continue;
    for (const row of table.tBodies[0].rows) {
      if (row.cells.length < names.length) continue;
      const mm = at.map((i) => Number(row.cells[i].textContent.replace("\u2212", "-")));
      Object.assign(row, { className: "leads", tabIndex: 0, title: "Show in the viewer", onclick: () => show(block, mm) });
      row.onkeydown = (event) => { if (event.key === "Enter") show(block, mm); };
    }
  }
}

async function start(root) {
  const json = (name) => JSON.parse(root.querySelector(name).textContent);
  const block = { root, about: json(".about"), state: { threshold: 0, sign: 0, plane: 2 }, viewer: null };
  block.below = await volume(json(".below"), Uint8Array);
  const on = (selector, event, act) => { root.querySelector(selector)[event] = act; };
  on(".which", "hidden", block.about.length < 2);
  on(".which select", "onchange", (event) => choose(block, Number(event.target.value)));
  on(".level input", "oninput", (event) => setLevel(block, Number(event.target.value)));
  on(".sign select", "onchange", (event) => { block.state.sign = Number(event.target.value); setLevel(block, block.state.threshold); });
  on(".plane select", "onchange", (event) => { block.state.plane = Number(event.target.value); redraw(block); });
  on(".open", "onclick", () => openViewer(block));
  on(".goto", "onsubmit", (event) => {
    event.preventDefault();
    show(block, ["x", "y", "z"].map((name) => Number(event.target.elements[name].value)));
  });
  on(".slices", "onclick", (event) => {
    const mm = event.currentTarget.at(event.offsetX, event.offsetY);
    if (mm) show(block, mm);
  });
  leadFromTable(block);
  await choose(block, 0);
  let width = root.clientWidth;
  new ResizeObserver(() => { if (root.clientWidth !== width) { width = root.clientWidth; redraw(block); } }).observe(root);
  root.dataset.ready = "yes";
}

for (const root of document.querySelectorAll(".maps")) {
  start(root).catch((error) => {
    root.querySelector(".count").textContent = `The maps cannot be drawn by this browser: ${error.message}`;
    throw error;
  });
}
