"use strict";
// What is drawn: cells from their own grid, features, lines of longitude and latitude, and a scale bar.

const RADIUS = 6378137, RADIAN = Math.PI / 180, NO_CLASS = 255;
const DIGITS = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });
const INK = "#22303c", HALO = "rgba(255, 255, 255, .9)", FONT = "12px system-ui, 'DejaVu Sans', sans-serif";
const NUMBER = { format: (value) => DIGITS.format(value).replace("-", "−") };

// Spherical Web Mercator, as mercator() in webmap_place.py.
const toX = (lon) => lon * RADIAN * RADIUS;
const toY = (lat) => Math.atanh(Math.sin(lat * RADIAN)) * RADIUS;
const toLon = (x) => x / RADIUS / RADIAN;
const toLat = (y) => Math.atan(Math.sinh(y / RADIUS)) / RADIAN;

async function unpack(text, Type) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Type(await new Response(stream).arrayBuffer());
}

async function readRaster(raw) {
  const values = {};
  for (const [name, text] of Object.entries(raw.values)) values[name] = await unpack(text, Float32Array);
  const faces = {};
  for (const face of raw.faces) {
    faces[face.key] = { palette: paletteOf(face.colours), classes: await unpack(face.classes, Uint8Array) };
  }
  const support = raw.support === null ? null : await unpack(raw.support, Uint8Array);
  return { ...raw, values, faces, support, lattice: await unpack(raw.lattice, Float32Array) };
}

// Pixels as ImageData holds them: red in the lowest byte.
function paletteOf(colours) {
  return Uint32Array.from(colours, (colour) => {
    const [red, green, blue] = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
    return (255 << 24) | (blue << 16) | (green << 8) | red;
  });
}

// Column (part 0) and row (part 1) of a raster at fractional nodes (u, v) of its lattice.
function latticeAt(raster, part, u, v) {
  const n = raster.nodes, side = n + 1, start = part * side * side;
  const i = Math.min(n - 1, Math.max(0, Math.floor(u))), j = Math.min(n - 1, Math.max(0, Math.floor(v)));
  const at = (row, column) => raster.lattice[start + row * side + column];
  const upper = at(j, i) + (at(j, i + 1) - at(j, i)) * (u - i);
  const lower = at(j + 1, i) + (at(j + 1, i + 1) - at(j + 1, i)) * (u - i);
  return upper + (lower - upper) * (v - j);
}

// Index of the cell at a place, or -1 outside the raster.
function cellAt(raster, x, y) {
  const [west, south, east, north] = raster.frame;
  const u = ((x - west) / (east - west)) * raster.nodes, v = ((north - y) / (north - south)) * raster.nodes;
  if (!(u >= 0 && v >= 0 && u <= raster.nodes && v <= raster.nodes)) return -1;
  const column = Math.floor(latticeAt(raster, 0, u, v)), row = Math.floor(latticeAt(raster, 1, u, v));
  return column >= 0 && row >= 0 && column < raster.width && row < raster.height ? row * raster.width + column : -1;
}

// Colour every pixel by the cell below it. Along a row of pixels the lattice is linear between two of its nodes.
function drawCells(context, raster, face, view, ratio, hatched) {
  const { width, height } = context.canvas, image = context.createImageData(width, height);
  const pixels = new Uint32Array(image.data.buffer), [west, south, east, north] = raster.frame;
  const metres = view.metres / ratio, left = view.x - (width / 2) * metres, top = view.y + (height / 2) * metres;
  const step = (east - west) / raster.nodes / metres, first = (west - left) / metres;
  for (let y = 0; y < height; y++) {
    const v = ((north - (top - (y + 0.5) * metres)) / (north - south)) * raster.nodes;
    if (v < 0 || v > raster.nodes) continue;
    for (let node = 0; node < raster.nodes; node++) {
      const from = Math.max(0, Math.ceil(first + node * step - 0.5));
      const to = Math.min(width, Math.ceil(first + (node + 1) * step - 0.5));
      if (from < to) paintRun(pixels, raster, face, { y, v, node, from, to, first, step, width, ratio, hatched });
    }
  }
  context.putImageData(image, 0, 0);
}

function paintRun(pixels, raster, face, run) {
  const c0 = latticeAt(raster, 0, run.node, run.v), r0 = latticeAt(raster, 1, run.node, run.v);
  const dc = (latticeAt(raster, 0, run.node + 1, run.v) - c0) / run.step;
  const dr = (latticeAt(raster, 1, run.node + 1, run.v) - r0) / run.step;
  const origin = run.first + run.node * run.step - 0.5, period = Math.round(7 * run.ratio), stripe = Math.round(2 * run.ratio);
  for (let x = run.from; x < run.to; x++) {
    const column = Math.floor(c0 + (x - origin) * dc), row = Math.floor(r0 + (x - origin) * dr);
    if (!(column >= 0 && row >= 0 && column < raster.width && row < raster.height)) continue;
    const cell = row * raster.width + column, found = face.classes[cell];
    if (found === NO_CLASS) continue;
    const stripes = run.hatched && raster.support[cell] === 0 && (x + run.y) % period < stripe;
    pixels[run.y * run.width + x] = stripes ? 0xff444444 : face.palette[found];
  }
}

const onScreen = (view, x, y) => [view.width / 2 + (x - view.x) / view.metres, view.height / 2 - (y - view.y) / view.metres];

// Rings come as whole metres, each point but the first as a step from the last.
function readVectors(raw) {
  const features = raw.shapes.map((rings, index) => ({ rings: rings.map(absolute), class: raw.classes[index], row: raw.rows[index] }));
  return { ...raw, features };
}

function absolute(steps) {
  const ring = Float64Array.from(steps);
  for (let i = 2; i < ring.length; i++) ring[i] += ring[i - 2];
  return ring;
}

function drawVectors(context, layer, view) {
  for (const feature of layer.features) {
    context.beginPath();
    for (const ring of feature.rings) {
      if (layer.kind === "point") {
        const [x, y] = onScreen(view, ring[0], ring[1]);
        context.moveTo(x + 5, y);
        context.arc(x, y, 5, 0, 2 * Math.PI);
      } else tracePolygon(context, ring, view);
    }
    context.fillStyle = feature.class < 0 ? "#ffffff" : layer.colours[feature.class];
    context.fill("evenodd");
    context.lineWidth = layer.kind === "point" ? 1 : 0.8;
    context.strokeStyle = layer.kind === "point" ? "#232323" : "#ffffff";
    context.stroke();
  }
}

function tracePolygon(context, ring, view) {
  for (let i = 0; i < ring.length; i += 2) {
    const [x, y] = onScreen(view, ring[i], ring[i + 1]);
    if (i) context.lineTo(x, y);
    else context.moveTo(x, y);
  }
  context.closePath();
}

function featureAt(layer, x, y, reach) {
  if (layer.kind !== "point") return layer.features.find((feature) => inside(feature.rings, x, y));
  let best, least = reach;
  for (const feature of layer.features) {
    for (const ring of feature.rings) {
      const distance = Math.hypot(ring[0] - x, ring[1] - y);
      if (distance <= least) [best, least] = [feature, distance];
    }
  }
  return best;
}

// Even-odd rule: a place is inside if a ray from it crosses the rings an odd number of times.
function inside(rings, x, y) {
  let odd = false;
  for (const ring of rings) {
    for (let i = 0; i + 3 < ring.length; i += 2) {
      const [x0, y0, x1, y1] = [ring[i], ring[i + 1], ring[i + 2], ring[i + 3]];
      if (y0 > y !== y1 > y && x < x0 + ((y - y0) / (y1 - y0)) * (x1 - x0)) odd = !odd;
    }
  }
  return odd;
}

function write(context, text, x, y, align) {
  context.font = FONT;
  context.textAlign = align;
  context.lineWidth = 3;
  context.lineJoin = "round";
  context.strokeStyle = HALO;
  context.strokeText(text, x, y);
  context.fillStyle = INK;
  context.fillText(text, x, y);
}

function drawGraticule(context, view) {
  const west = toLon(view.x - (view.width / 2) * view.metres), east = toLon(view.x + (view.width / 2) * view.metres);
  const low = toLat(view.y - (view.height / 2) * view.metres), high = toLat(view.y + (view.height / 2) * view.metres);
  const wanted = (Math.max(view.width, view.height) / 170) | 0;
  const step = degreeStep(Math.max(east - west, high - low) / Math.max(2, wanted));
  context.beginPath();
  const labels = [];
  for (let lon = Math.ceil(west / step) * step; lon <= east; lon += step) {
    const x = Math.round(onScreen(view, toX(lon), 0)[0]) + 0.5;
    context.moveTo(x, 0);
    context.lineTo(x, view.height);
    if (x > 90 && x < view.width - 30) labels.push([degrees(wrapped(lon), "E", "W"), x, 14, "center"]);
  }
  for (let lat = Math.ceil(low / step) * step; lat <= high; lat += step) {
    const y = Math.round(onScreen(view, 0, toY(lat))[1]) + 0.5;
    context.moveTo(0, y);
    context.lineTo(view.width, y);
    if (y > 24 && y < view.height - 40) labels.push([degrees(lat, "N", "S"), view.width - 5, y - 4, "right"]);
  }
  context.lineWidth = 1;
  context.strokeStyle = "rgba(34, 48, 60, .22)";
  context.stroke();
  for (const label of labels) write(context, ...label);
}

function degreeStep(atLeast) {
  return [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20].find((step) => step >= atLeast) || 30;
}

const wrapped = (lon) => ((((lon + 180) % 360) + 360) % 360) - 180;

function degrees(value, positive, negative, digits = 2) {
  const number = Math.abs(value).toFixed(digits).replace(digits === 2 ? /\.?0+$/ : /$^/, "");
  return `${number}°` + (Number(number) === 0 ? "" : ` ${value > 0 ? positive : negative}`);
}

// True at the latitude it names, in the middle of the map: Mercator's metres grow towards the poles.
function drawScale(context, view) {
  const latitude = toLat(view.y), metres = view.metres * Math.cos(latitude * RADIAN);
  const longest = metres * Math.min(150, view.width / 3), power = 10 ** Math.floor(Math.log10(longest));
  const length = [5, 2, 1].find((times) => times * power <= longest) * power;
  const text = length >= 1000 ? `${NUMBER.format(length / 1000)} km` : `${NUMBER.format(length)} m`;
  const left = 12, bottom = view.height - 12, right = left + length / metres;
  context.fillStyle = "rgba(255, 255, 255, .85)";
  const label = `${text} at ${degrees(latitude, "N", "S", 1)}`;
  context.font = FONT;
  context.fillRect(left - 6, bottom - 24, Math.max(right - left, context.measureText(label).width) + 12, 32);
  context.beginPath();
  context.moveTo(left, bottom - 5);
  context.lineTo(left, bottom);
  context.lineTo(right, bottom);
  context.lineTo(right, bottom - 5);
  context.lineWidth = 2;
  context.strokeStyle = INK;
  context.stroke();
  write(context, label, left, bottom - 9, "left");
}

function drawCross(context, x, y) {
  for (const [colour, width] of [["#ffffff", 4], [INK, 2]]) {
    context.beginPath();
    context.arc(x, y, 6, 0, 2 * Math.PI);
    for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
      context.moveTo(x + 6 * dx, y + 6 * dy);
      context.lineTo(x + 11 * dx, y + 11 * dy);
    }
    [context.lineWidth, context.strokeStyle] = [width, colour];
    context.stroke();
  }
}
