// How the reader moves and asks: pointer, wheel, keys, the controls beside the map, and the address.

const $ = (id) => document.getElementById(id);
const controls = $("controls"), map = $("map"), tip = $("tip");
const canvases = [$("cells"), $("lines")], [cells, lines] = canvases.map((canvas) => canvas.getContext("2d"));
const view = { x: 0, y: 0, metres: 1000, width: 1, height: 1 };
let rasters, vectors, extent, lon0, ratio, asked = false, whole = true;
// The place that was clicked or came with the address, in longitude and latitude.
let pinned = null;

const raster = () => rasters[Number(controls.elements.layer.value) - 1];
const faceKey = () => (raster().faces[controls.elements.show.value] ? controls.elements.show.value : "estimate");
const ticked = () => vectors.filter((_, index) => controls.querySelector(`[name=vector][value="${index + 1}"]`).checked);

function draw() {
  asked = false;
  const current = raster(), hatched = current.support !== null && controls.elements.support.checked;
  drawCells(cells, current, current.faces[faceKey()], view, ratio, hatched);
  lines.setTransform(ratio, 0, 0, ratio, 0, 0);
  lines.clearRect(0, 0, view.width, view.height);
  for (const layer of ticked()) drawVectors(lines, layer, view);
  drawGraticule(lines, view);
  drawScale(lines, view);
  if (pinned) drawCross(lines, ...onScreen(view, nearX(pinned.lon), toY(pinned.lat)));
  else if (map.matches(":focus-visible")) drawCross(lines, view.width / 2, view.height / 2);
}

function redraw() {
  if (!asked) requestAnimationFrame(draw);
  asked = true;
}

// Longitudes on the page run from 180 degrees west of its middle, so that a map across the date line is in one piece.
const nearX = (lon) => toX(lon0 + wrapped(lon - lon0));

function resize() {
  const box = map.getBoundingClientRect();
  [view.width, view.height] = [map.clientWidth || box.width, map.clientHeight || box.height];
  // A screen of more than two pixels a point would cost time and show no more.
  ratio = Math.min(2, window.devicePixelRatio || 1);
  for (const canvas of canvases) {
    canvas.width = Math.max(1, Math.round(view.width * ratio));
    canvas.height = Math.max(1, Math.round(view.height * ratio));
  }
  if (whole) showAll();
  // At once: a canvas is empty after its size was set, and would flicker.
  draw();
}

function showAll() {
  const [west, south, east, north] = extent;
  [view.x, view.y] = [(west + east) / 2, (south + north) / 2];
  view.metres = farthest() / 2;
  whole = true;
  redraw();
}

const farthest = () => 2.15 * Math.max((extent[2] - extent[0]) / view.width, (extent[3] - extent[1]) / (view.height - 40));

// Zoom so that the place below (px, py) stays there.
function zoom(factor, px = view.width / 2, py = view.height / 2) {
  const metres = Math.max(2, Math.min(farthest(), view.metres * factor)), change = view.metres - metres;
  view.x += (px - view.width / 2) * change;
  view.y -= (py - view.height / 2) * change;
  view.metres = metres;
  whole = false;
  redraw();
}

function pan(dx, dy) {
  whole = false;
  view.x = Math.max(extent[0], Math.min(extent[2], view.x - dx * view.metres));
  view.y = Math.max(extent[1], Math.min(extent[3], view.y + dy * view.metres));
  redraw();
}

const placeAt = (px, py) => ({
  lon: wrapped(toLon(view.x + (px - view.width / 2) * view.metres)),
  lat: toLat(view.y - (py - view.height / 2) * view.metres),
});

const withUnit = (number, unit) => number + (unit ? (unit.startsWith("%") ? unit : ` ${unit}`) : "");

// What is known of a place: lines of [text, tag, class].
function answer({ lon, lat }) {
  const current = raster(), x = nearX(lon), y = toY(lat), cell = cellAt(current, x, y), { values, support } = current;
  const found = [[current.title, "span", "soft"]], value = cell < 0 ? NaN : values.value[cell];
  if (Number.isNaN(value)) found.push(["no data here", "strong"]);
  else if (current.labels) found.push([current.labels[current.faces.estimate.classes[cell]], "strong"]);
  else found.push([withUnit(NUMBER.format(value), current.unit), "strong"]);
  if (!Number.isNaN(value) && values.lower && !Number.isNaN(values.lower[cell])) {
    const ends = [values.lower[cell], values.upper[cell]].map((end) => NUMBER.format(end));
    found.push([`${current.level} interval ${ends[0]} to ${ends[1]}`.trim(), "span"]);
  }
  if (!Number.isNaN(value) && support && support[cell] !== NO_CLASS) {
    found.push([support[cell] ? "like the surveyed places" : "unlike the surveyed places: not tested here", "span"]);
  }
  for (const layer of ticked().reverse()) {
    const feature = featureAt(layer, x, y, 9 * view.metres);
    if (feature) found.push(...told(layer, feature));
  }
  return [...found, [`${degrees(lat, "N", "S", 4)}, ${degrees(lon, "E", "W", 4)}`, "span", "soft"]];
}

function told(layer, feature) {
  const known = layer.columns.map(({ name, unit }, index) => {
    const value = feature.row[index], number = typeof value === "number" ? NUMBER.format(value) : value;
    return [`${name}: ${value === null ? "not known" : withUnit(number, unit)}`, "span"];
  });
  return [[layer.title, "strong"], ...known];
}

function tell(place) {
  tip.hidden = !place;
  if (!place) return;
  const rows = answer(place).map(([text, tag, name]) => {
    const row = document.createElement(tag);
    row.textContent = text;
    row.className = name || "";
    return row;
  });
  tip.replaceChildren(...rows);
  $("place").textContent = `${degrees(place.lat, "N", "S", 3)}, ${degrees(place.lon, "E", "W", 3)}`;
  const [x, y] = onScreen(view, nearX(place.lon), toY(place.lat)), { offsetWidth, offsetHeight } = tip;
  const room = (at, size, whole) => (at + 16 + size < whole ? at + 16 : Math.max(6, Math.min(whole - size - 6, at - 16 - size)));
  tip.style.left = `${room(x, offsetWidth, view.width)}px`;
  tip.style.top = `${room(y, offsetHeight, view.height)}px`;
}

function pin(place) {
  pinned = place;
  tell(place);
  remember();
  redraw();
}

function remember() {
  const parts = new URLSearchParams();
  if (pinned) [["lon", pinned.lon], ["lat", pinned.lat]].forEach(([name, value]) => parts.set(name, value.toFixed(5)));
  parts.set("layer", controls.elements.layer.value);
  if (controls.elements.show.value !== "estimate") parts.set("show", controls.elements.show.value);
  if (pinned) parts.set("zoom", Math.log2((2 * Math.PI * RADIUS) / 256 / view.metres).toFixed(2));
  history.replaceState(null, "", `#${parts}`);
}

// The address asks for a layer, a place, and how near.
function recall() {
  const parts = new URLSearchParams(location.hash.slice(1)), number = (name) => Number.parseFloat(parts.get(name));
  if (rasters[number("layer") - 1]) controls.elements.layer.value = String(number("layer"));
  if (["estimate", "interval"].includes(parts.get("show"))) controls.elements.show.value = parts.get("show");
  const [lon, lat, level] = ["lon", "lat", "zoom"].map(number);
  const place = Math.abs(lon) <= 180 && Math.abs(lat) <= 85 ? { lon, lat } : null;
  if (place && level >= 0) {
    [view.x, view.y, whole] = [nearX(lon), toY(lat), false];
    view.metres = Math.max(2, Math.min(farthest(), (2 * Math.PI * RADIUS) / 256 / 2 ** level));
  }
  pinned = place;
  refresh();
}

// Controls, legends and words follow the layer that is shown.
function refresh() {
  const index = controls.elements.layer.value, current = raster();
  $("faces").hidden = !current.faces.interval;
  $("support").hidden = current.support === null;
  for (const legend of document.querySelectorAll(".legend")) legend.hidden = legend.id !== `legend-${index}-${faceKey()}`;
  for (const box of controls.querySelectorAll("[name=vector]")) $(`legend-vector-${box.value}`).hidden = !box.checked;
  for (const about of document.querySelectorAll(".about")) about.hidden = about.id !== `about-${index}`;
  canvases[0].style.opacity = controls.elements.opacity.value / 100;
  tell(pinned);
  redraw();
}

const pointers = new Map();
let travelled = 0;
const at = (event) => {
  const box = map.getBoundingClientRect();
  return { x: event.clientX - box.left - map.clientLeft, y: event.clientY - box.top - map.clientTop };
};

function press(event) {
  if (event.target.closest("button")) return;
  map.setPointerCapture(event.pointerId);
  if (!pointers.size) travelled = 0;
  pointers.set(event.pointerId, at(event));
}

function move(event) {
  const now = at(event), before = pointers.get(event.pointerId);
  if (!before) {
    if (!event.target.closest("button")) tell(placeAt(now.x, now.y));
    return;
  }
  travelled += Math.hypot(now.x - before.x, now.y - before.y);
  const other = [...pointers].find(([id]) => id !== event.pointerId)?.[1];
  pan((now.x - before.x) / (other ? 2 : 1), (now.y - before.y) / (other ? 2 : 1));
  if (other) {
    const apart = (point) => Math.max(1, Math.hypot(point.x - other.x, point.y - other.y));
    zoom(apart(before) / apart(now), (now.x + other.x) / 2, (now.y + other.y) / 2);
  }
  pointers.set(event.pointerId, now);
  map.classList.toggle("moving", travelled > 5);
  if (travelled > 5) tell(null);
}

function release(event) {
  const alone = pointers.delete(event.pointerId) && !pointers.size, place = at(event);
  map.classList.remove("moving");
  if (alone && event.type === "pointerup" && travelled <= 5) pin(placeAt(place.x, place.y));
}

const KEYS = {
  ArrowLeft: () => pan(80, 0), ArrowRight: () => pan(-80, 0), ArrowUp: () => pan(0, 80), ArrowDown: () => pan(0, -80),
  "+": () => zoom(0.5), "=": () => zoom(0.5), "-": () => zoom(2), 0: showAll,
  Enter: () => pin(placeAt(view.width / 2, view.height / 2)), Escape: () => pin(null),
};

function press_key(event) {
  if (event.target !== map || event.ctrlKey || event.metaKey || event.altKey || !KEYS[event.key]) return;
  event.preventDefault();
  KEYS[event.key]();
  tell(pinned);
}

function listen() {
  map.addEventListener("pointerdown", press);
  map.addEventListener("pointermove", move);
  map.addEventListener("pointerup", release);
  map.addEventListener("pointercancel", release);
  map.addEventListener("pointerleave", () => pointers.size || tell(pinned));
  map.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoom(2 ** (Math.max(-200, Math.min(200, event.deltaY)) / 300), at(event).x, at(event).y);
  }, { passive: false });
  map.addEventListener("keydown", press_key);
  for (const name of ["focus", "blur"]) map.addEventListener(name, redraw);
  for (const [id, act] of [["nearer", () => zoom(0.5)], ["farther", () => zoom(2)], ["all", showAll]]) {
    $(id).addEventListener("click", () => [act(), tell(pinned)]);
  }
  controls.addEventListener("input", () => [refresh(), remember()]);
  controls.addEventListener("submit", (event) => event.preventDefault());
  $("find").addEventListener("submit", (event) => {
    event.preventDefault();
    const [lon, lat] = ["lon", "lat"].map((name) => event.target.elements[name].valueAsNumber);
    [view.x, view.y, whole] = [nearX(lon), toY(lat), false];
    pin({ lon, lat });
  });
  window.addEventListener("hashchange", recall);
  new ResizeObserver(() => [resize(), tell(pinned)]).observe(map);
}

async function start() {
  const data = JSON.parse($("data").textContent);
  [extent, lon0] = [data.extent, data.lon0];
  vectors = data.vectors.map(readVectors);
  rasters = await Promise.all(data.layers.map(readRaster));
  for (const id of ["map", "controls", "find"]) $(id).hidden = false;
  $("still").hidden = true;
  resize();
  recall();
  draw();
  listen();
  document.documentElement.dataset.ready = "yes";
}

start().catch((error) => {
  $("problem").textContent = `The map that can be moved needs a browser of 2023 or later. (${error.message})`;
  $("still").hidden = false;
  throw error;
});
