(function () {
  "use strict";
  // Light or dark: as the system has it, until the reader chooses. Some browsers keep no choice of a page from disk.
  var KEY = "gen-prior-theme";
  var root = document.documentElement;

  function stored() {
    try { return localStorage.getItem(KEY); } catch (error) { return null; }
  }

  function isDark() {
    var chosen = root.getAttribute("data-theme");
    return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  }

  function label(button) {
    button.textContent = isDark() ? "Light" : "Dark";
    button.setAttribute("aria-label", "Show this page " + (isDark() ? "light" : "dark"));
  }

  function toggle() {
    var next = isDark() ? "light" : "dark";
    root.setAttribute("data-theme", next);
    try { localStorage.setItem(KEY, next); } catch (error) { /* it holds until the page is left */ }
    document.querySelectorAll("[data-toggle-theme]").forEach(label);
  }

  if (stored() === "light" || stored() === "dark") root.setAttribute("data-theme", stored());
  window.toggleTheme = toggle;
  document.addEventListener("DOMContentLoaded", function () {
    document.querySelectorAll("[data-toggle-theme]").forEach(function (button) {
      label(button);
      button.addEventListener("click", toggle);
    });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", function () {
      document.querySelectorAll("[data-toggle-theme]").forEach(label);
    });
  });
})();
(function () {
"use strict";
// Elements and words. Text only ever becomes text: nothing here or elsewhere reads names or labels as HTML.

function h(tag, attributes) {
  var node = document.createElement(tag);
  Object.keys(attributes || {}).forEach(function (name) {
    var value = attributes[name];
    if (typeof value === "function") node.addEventListener(name, value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value);
  });
  for (var i = 2; i < arguments.length; i++) put(node, arguments[i]);
  return node;
}

function put(node, child) {
  if (Array.isArray(child)) child.forEach(function (one) { put(node, one); });
  else if (child !== null && child !== undefined && child !== false)
    node.appendChild(typeof child === "object" ? child : document.createTextNode(String(child)));
}

function fill(node) {
  node.textContent = "";
  for (var i = 1; i < arguments.length; i++) put(node, arguments[i]);
  return node;
}

function byId(id) { return document.getElementById(id); }

// Two or three digits that count, without a sign where it rounds to 0, as `util.words.short` has them.
function number(value) {
  if (value === null || value === undefined) return "–";
  var size = Math.abs(value);
  var text = size > 0 && size < 0.095 ? String(Number(value.toPrecision(2)))
    : value.toFixed(size >= 99.95 ? 0 : size >= 9.995 ? 1 : 2);
  return (Number(text) === 0 ? text.replace("-", "") : text).replace("-", "−");
}

function percent(value) {
  if (value === null || value === undefined) return "–";
  var shown = 100 * value;
  return (shown > 99 && shown < 100 || shown > 0 && shown < 1 ? shown.toFixed(1) : shown.toFixed(0)).replace("-", "−") + " %";
}

function count(value, one, many) { return value.toLocaleString("en") + " " + (value === 1 ? one : many || one + "s"); }

function pad(value, width) { return ("0000000000" + value).slice(-Math.max(width, String(value).length)); }

// A path inside the atlas as a link: each part is encoded, so that "#", "?" and "%" in a file's name are just that.
function link(path) { return path.split("/").map(encodeURIComponent).join("/"); }

// The data: small scripts in data/, loaded when they are needed, since pages from disk may not fetch.

var index = null;
var layers = [];
var shards = {};
var loading = {};

window.atlasIndex = function (found) {
  index = found;
  index.lowerWords = found.words.map(function (word) { return word.toLowerCase(); });
  layers = found.layers.map(function (summary, number) {
    var first = 0;
    summary.shards.forEach(function (shard) { shard.first = first; first += shard[1]; });
    return { number: number, name: summary.name, lowerName: summary.name.toLowerCase(), summary: summary, columns: null };
  });
};

window.atlasLayer = function (number, columns) { layers[number].columns = columns; };
window.atlasShard = function (number, rows) { shards[number] = rows; };

function load(path, done) {
  if (loading[path]) { loading[path].push(done); return; }
  loading[path] = [done];
  var node = document.createElement("script");
  function finish() {
    var waiting = loading[path];
    delete loading[path];
    node.remove();
    waiting.forEach(function (one) { one(); });
  }
  node.src = path;
  node.onload = node.onerror = finish;
  document.head.appendChild(node);
}

function loadLayer(number, done) {
  if (layers[number].columns) done();
  else load("data/layer-" + pad(number, 4) + ".js", done);
}

function loadShard(number, done) {
  if (shards[number]) done();
  else load("data/shard-" + pad(number, 5) + ".js", done);
}

// [index, units, columns, rows, first: its first unit's position] of the shard that holds a layer's unit at `position`.
function shardAt(layer, position) {
  var all = layer.summary.shards;
  var low = 0, high = all.length - 1;
  while (low < high) {
    var middle = (low + high + 1) >> 1;
    if (all[middle].first <= position) low = middle; else high = middle - 1;
  }
  return all[low];
}

function shardFolder(number) { return "shards/" + pad(number, 5) + "/"; }

function findLayer(name) {
  for (var i = 0; i < layers.length; i++) if (layers[i].name === name) return layers[i];
  return null;
}

// What is known of a unit, in words, for its thumbnail.
function describeUnit(layer, position) {
  var columns = layer.columns;
  if (!columns) return layer.name;
  var words = [layer.name + ":" + columns.units[position]];
  var name = columns.names && columns.names[position];
  if (name) words.push(name);
  if (columns.state[position] === "x") words.push("failed");
  if (columns.state[position] === "d") words.push("no photograph excites it");
  if (columns.state[position] === "D") words.push("nearly all photographs excite it");
  var ratio = columns.ratio && columns.ratio[position];
  if (ratio !== null && ratio !== undefined) words.push(number(ratio / 100) + " × the best photograph");
  var labels = columns.labels && columns.labels[position];
  if (labels && labels.length) words.push(labels.slice(0, 3).map(function (one) { return index.words[one]; }).join(", "));
  return words.join("  ·  ");
}

function unitLink(layerName, unit) { return "#/" + encodeURIComponent(layerName) + "/" + unit; }

// Which units of each layer are shown, and in which order: search, filter, sort.

var SCALES = { ratio: 100, quantile: 1000, path: 100, two_alternatives: 100 };

// "blocks.10:42", "blocks.10/42", 42, a part of a layer's, unit's or class's name, or "several words"; all must match.
function parseQuery(text) {
  var found = [], pattern = /"([^"]*)"?|(\S+)/g, match;
  while ((match = pattern.exec(text.toLowerCase()))) {
    var token = (match[1] !== undefined ? match[1] : match[2]).trim();
    if (token) found.push(compile(token));
  }
  return found;
}

function compile(token) {
  var split = /^(.+)[:\/](\d+)$/.exec(token);
  if (split) return { layer: split[1], unit: Number(split[2]), exact: layers.some(function (layer) { return layer.lowerName === split[1]; }) };
  if (/^\d+$/.test(token)) return { unit: Number(token) };
  var hits = new Uint8Array(index.lowerWords.length);
  index.lowerWords.forEach(function (word, n) { if (word.indexOf(token) >= 0) hits[n] = 1; });
  return { text: token, hits: hits };
}

function matchesLayer(token, layer) { return token.exact ? layer.lowerName === token.layer : layer.lowerName.indexOf(token.layer) >= 0; }

function matches(token, layer, position) {
  var columns = layer.columns;
  if (token.text === undefined)
    return columns.units[position] === token.unit && (token.layer === undefined || matchesLayer(token, layer));
  var labels = columns.labels && columns.labels[position];
  if (labels) for (var i = 0; i < labels.length; i++) if (token.hits[labels[i]]) return true;
  var name = columns.names && columns.names[position];
  return Boolean(name) && name.toLowerCase().indexOf(token.text) >= 0;
}

var SHOWN = {
  all: function () { return true; },
  beyond: function (columns, n) { return Boolean(columns.ratio) && columns.ratio[n] > 100; },
  below: function (columns, n) { return Boolean(columns.ratio) && columns.ratio[n] !== null && columns.ratio[n] <= 100; },
  dead: function (columns, n) { return columns.state[n] === "d"; },
  dense: function (columns, n) { return columns.state[n] === "D"; },
  failed: function (columns, n) { return columns.state[n] === "x"; }
};

function isPlain(view) { return !view.q && view.show === "all" && view.least === ""; }

// Positions of the layer's units to show, in order; null for all of them as they lie (their data need not be loaded).
function selected(layer, view, tokens) {
  var columns = layer.columns, column = columns && columns[view.sort];
  if (isPlain(view) && (view.sort === "unit" || !columns)) return null;
  if (!columns) return [];
  var left = tokens.filter(function (token) { return token.text === undefined || layer.lowerName.indexOf(token.text) < 0; });
  var least = view.least === "" || view.sort === "unit" ? null : Number(view.least) * SCALES[view.sort];
  var shown = SHOWN[view.show] || SHOWN.all, found = [];
  for (var n = 0; n < columns.units.length; n++) {
    var keep = shown(columns, n);
    for (var t = 0; keep && t < left.length; t++) keep = matches(left[t], layer, n);
    if (keep && least !== null) keep = Boolean(column) && column[n] !== null && column[n] >= least;
    if (keep) found.push(n);
  }
  if (column) sortBy(found, column, view.order === "lowest" ? 1 : -1);
  return found;
}

// Units without the number come last, either way.
function sortBy(positions, column, direction) {
  positions.sort(function (a, b) {
    var x = column[a], y = column[b];
    if (x === null || y === null) return (x === null) - (y === null) || a - b;
    return direction * (x - y) || a - b;
  });
}

// The measures, and what each number says in words.

var MEASURES = {
  ratio: {
    title: "Activation over photographs", mark: 1, marked: "the best photograph", low: 0, high: 2, show: number,
    about: "The picture's activation divided by that of the best photograph. Beyond 1, no photograph excites the unit as much."
  },
  quantile: {
    title: "Photographs that excite it less", mark: null, low: 0, high: 1, show: percent,
    about: "The share of photographs whose activation is below the picture's."
  },
  path: {
    title: "Path similarity", mark: 1, marked: "photographs among themselves", low: 0, high: 1, show: number,
    about: "How similar the picture's path through the network is to that of photographs that excite the unit: 0 like any photographs, 1 like those photographs among themselves."
  },
  two_alternatives: {
    title: "Two-alternative score", mark: 0.5, marked: "chance", low: 0.4, high: 1, show: percent,
    about: "How often another network, shown the pictures, picks which of two photographs excites the unit more. Chance is 50 %."
  }
};

function present() {
  return Object.keys(MEASURES).filter(function (name) {
    return layers.some(function (layer) { return layer.summary[name]; });
  });
}

// A measure of a column, which holds whole numbers.
function valueOf(name, value) { return value === null ? "–" : MEASURES[name].show(value / SCALES[name]); }

function best(method) {
  var known = (method.activations || []).map(function (value, n) { return { value: value, n: n }; })
    .filter(function (one) { return typeof one.value === "number"; });
  return known.reduce(function (most, one) { return !most || one.value > most.value ? one : most; }, null);
}

// One sentence about the unit's best picture.
function verdict(row) {
  var method = row.methods[0], photographs = row.photographs;
  var many = photographs ? count(photographs.images, "photograph") : "";
  if (photographs && photographs.dead)
    return "None of " + many + " excites this unit: it is dead, as far as they tell.";
  if (!method) return "";
  var words = "";
  if (typeof method.ratio === "number")
    words = method.ratio > 1
      ? "The picture by " + method.generator + " excites it " + number(method.ratio) + " times as much as the best of " + many + "."
      : "The picture by " + method.generator + " reaches " + percent(method.ratio) + " of what the best of " + many + " does.";
  else if (typeof method.quantile === "number")
    words = "The picture by " + method.generator + " excites it more than " + percent(method.quantile) + " of " + many + " do.";
  if (photographs && photographs.dense)
    words += " Nearly every photograph excites it somewhere (" + percent(photographs.active) + "), so it hardly tells them apart.";
  else if (photographs && typeof photographs.active === "number")
    words += " " + percent(photographs.active) + " of the photographs excite it somewhere.";
  return words.trim();
}

// Rows of the table of numbers: [name, what it means, one value for each method].
function numbersOf(row) {
  var methods = row.methods;
  function each(read) { return methods.map(read); }
  function plain(name) { return each(function (method) { return MEASURES[name].show(method[name]); }); }
  var rows = [
    ["Activation", "Of the best picture, by the network alone.", each(function (m) { var b = best(m); return number(b && b.value); })],
    ["Least exciting", "What the unit does at the picture that it responds to least.", each(function (m) { return number(m.least && m.least.activation); })]
  ];
  Object.keys(MEASURES).forEach(function (name) { rows.push([MEASURES[name].title, MEASURES[name].about, plain(name)]); });
  rows.push(["Judge", "Pictures that another network, which nothing was optimised for, takes for the class, and what it sees in the best.", each(function (m) {
    if (!m.judge) return "–";
    return [typeof m.judge.top1 === "number" && percent(m.judge.top1) + " right", m.judge.label].filter(Boolean).join(": ") || "–";
  })]);
  rows = rows.filter(function (one) { return one[2].some(function (value) { return value !== "–"; }); });
  var found = row.photographs;
  if (found) {
    rows.push(["Best photograph", "The highest activation of " + count(found.images, "photograph") + ".", [number(found.best)]]);
    rows.push(["Median photograph", "Half of the photographs excite it less, each where it excites it most.", [number(found.median)]]);
    rows.push(["Active", "Photographs that excite it anywhere (activation above 0).", [percent(found.active)]]);
  }
  return rows;
}

// The atlas as a whole: which layers are explained how well.

// The middle half of a layer's units as a bar, their median as a dot, and what the measure is held against as a line.
function strip(measure, found, low, high) {
  function place(value) { return Math.max(0, Math.min(100, 100 * (value - low) / (high - low))); }
  var bar = h("span", { class: "bar" }), dot = h("span", { class: "dot" }), node = h("span", { class: "strip", "aria-hidden": "true" });
  bar.style.left = place(found[0]) + "%";
  bar.style.width = place(found[2]) - place(found[0]) + "%";
  dot.style.left = place(found[1]) + "%";
  if (measure.mark !== null) {
    var mark = h("span", { class: "mark" });
    mark.style.left = place(measure.mark) + "%";
    node.appendChild(mark);
  }
  put(node, [bar, dot]);
  return node;
}

function drawSummary() {
  var names = present(), ranges = {};
  names.forEach(function (name) {
    var all = layers.map(function (layer) { return layer.summary[name]; }).filter(Boolean);
    ranges[name] = [
      Math.min.apply(null, all.map(function (one) { return one[0]; }).concat(MEASURES[name].low)),
      Math.max.apply(null, all.map(function (one) { return one[2]; }).concat(MEASURES[name].high))
    ];
  });
  var head = h("tr", {}, h("th", { scope: "col" }, "Layer"), h("th", { scope: "col", class: "number" }, "Units"),
    names.map(function (name) {
      var measure = MEASURES[name];
      return h("th", { scope: "col", title: measure.about }, measure.title, measure.marked && h("span", { class: "marked" }, "line: " + measure.marked));
    }),
    h("th", { scope: "col" }, "Remarks"));
  var body = layers.map(function (layer) {
    var found = layer.summary;
    return h("tr", {},
      h("th", { scope: "row" }, h("button", { class: "name", click: function () { scrollToLayer(layer.number); } }, layer.name)),
      h("td", { class: "number" }, found.count.toLocaleString("en")),
      names.map(function (name) {
        var values = found[name], measure = MEASURES[name];
        return h("td", {}, values
          ? h("span", { class: "measured" }, strip(measure, values, ranges[name][0], ranges[name][1]), measure.show(values[1]))
          : h("span", { class: "soft" }, "–"));
      }),
      h("td", { class: "soft" }, remarks(found)));
  });
  fill(byId("summary"), h("div", { class: "scrolls summary" }, h("table", {}, h("thead", {}, head), h("tbody", {}, body))),
    h("p", { class: "soft small" }, names.length
      ? "Dot and number: the median unit. Bar: the middle half of the units. Measured of the pictures by " + index.methods[0] + "."
      : "No photographs were given to this atlas, so there is nothing to compare its pictures with."));
}

function remarks(found) {
  var words = [], planned = found.planned === null ? found.count : found.planned;
  ["dead", "dense", "failed"].forEach(function (kind) { if (found[kind]) words.push(found[kind].toLocaleString("en") + " " + kind); });
  if (planned > found.count) words.push((planned - found.count).toLocaleString("en") + " not made yet");
  return words.join(", ");
}

// Where everything lies in the long list of bands: heads, rows of thumbnails, and buttons that show more of them.

var GAP = 4, HEAD = 68, MORE = 44, LINES = 3, SPACE = 20, VALUE = 17;

// {rows: [{kind, layer, top, height, ...}], height, columns, size}: thumbnails about `wanted` pixels wide, so that they
// fill the width. `orders`: for each layer the positions of units, or null for all. `valued`: a number under each.
function layOut(width, wanted, orders, whole, expanded, plain, valued) {
  var columns = Math.max(1, Math.round((width + GAP) / (wanted + GAP)));
  var size = Math.floor((width + GAP) / columns - GAP), rows = [], top = 0;
  function add(kind, layer, height, more) {
    rows.push(Object.assign({ kind: kind, layer: layer, top: top, height: height }, more));
    top += height;
  }
  layers.forEach(function (layer, n) {
    var units = orders[n] ? orders[n].length : layer.summary.count;
    if (!units && !plain) return;
    var lines = Math.ceil(units / columns);
    var shown = whole || expanded[n] ? lines : Math.min(lines, LINES);
    add("head", layer, HEAD, { units: units });
    for (var line = 0; line < shown; line++)
      add("tiles", layer, size + GAP + (valued ? VALUE : 0), { from: line * columns, to: Math.min(units, (line + 1) * columns) });
    if (lines > LINES && !whole) add("more", layer, MORE, { units: units, open: Boolean(expanded[n]) });
    top += SPACE;
  });
  return { rows: rows, height: top, columns: columns, size: size };
}

// The first row that reaches below `y`.
function rowAt(rows, y) {
  var low = 0, high = rows.length;
  while (low < high) {
    var middle = (low + high) >> 1;
    if (rows[middle].top + rows[middle].height > y) high = middle; else low = middle + 1;
  }
  return low;
}

// A thumbnail out of its shard's sheet, `size` pixels.
function sprite(node, shard, tile, size, colour) {
  var column = tile % shard[2], row = Math.floor(tile / shard[2]);
  node.style.width = node.style.height = size + "px";
  if (colour) node.style.backgroundColor = "#" + colour;
  node.style.backgroundImage = "url(" + shardFolder(shard[0]) + "sheet.webp)";
  node.style.backgroundSize = shard[2] * size + "px " + shard[3] * size + "px";
  node.style.backgroundPosition = -column * size + "px " + -row * size + "px";
  return node;
}

// The overview: bands of thumbnails, of which only those near the window are in the page.

var view = null;
var overview = { orders: [], plan: { rows: [], height: 0, columns: 1, size: 0 }, shown: new Map(), expanded: {} };
var DEFAULTS = { q: "", sort: "unit", order: "highest", show: "all", least: "", size: "72", whole: "" };

function viewOf(query) {
  var found = Object.assign({}, DEFAULTS), given = new URLSearchParams(query);
  Object.keys(DEFAULTS).forEach(function (name) { if (given.has(name)) found[name] = given.get(name); });
  return found;
}

function viewLink() {
  var query = new URLSearchParams();
  Object.keys(DEFAULTS).forEach(function (name) { if (view[name] !== DEFAULTS[name]) query.set(name, view[name]); });
  var text = query.toString();
  return "#/" + (text ? "?" + text : "");
}

// Chooses and orders the units anew, lays them out and draws what is near the window.
function refresh() {
  var tokens = parseQuery(view.q), total = 0, missing = 0;
  overview.orders = layers.map(function (layer) {
    if (!layer.columns) missing++;
    var order = selected(layer, view, tokens);
    total += order ? order.length : layer.summary.count;
    return order;
  });
  relay();
  var units = layers.reduce(function (sum, layer) { return sum + layer.summary.count; }, 0);
  var wait = missing && !isPlain(view) ? " so far; reading " + count(missing, "more layer") + " …" : "";
  byId("status").textContent = isPlain(view) ? count(units, "unit") : total.toLocaleString("en") + " of " + count(units, "unit") + wait;
  byId("nothing").hidden = total > 0 || missing > 0;
}

function relay() {
  var list = byId("bands");
  var valued = view.sort !== "unit" && Number(view.size) >= 48;
  overview.plan = layOut(list.clientWidth, Number(view.size), overview.orders, view.whole === "1", overview.expanded, isPlain(view), valued);
  list.classList.toggle("valued", valued);
  list.style.height = overview.plan.height + "px";
  overview.shown.forEach(function (node) { node.remove(); });
  overview.shown.clear();
  draw();
}

// Rows within one and a half windows above and below: what scrolling reaches before the next frame is there already.
function draw() {
  var list = byId("bands"), rows = overview.plan.rows;
  var top = window.scrollY - list.offsetTop, tall = window.innerHeight;
  var first = rowAt(rows, top - 1.5 * tall), last = rowAt(rows, top + 2.5 * tall);
  overview.shown.forEach(function (node, n) {
    if (n < first || n > last) { node.remove(); overview.shown.delete(n); }
  });
  var fresh = document.createDocumentFragment();
  for (var n = first; n <= last && n < rows.length; n++) {
    if (overview.shown.has(n)) continue;
    var node = drawRow(rows[n]);
    node.style.top = rows[n].top + "px";
    node.style.height = rows[n].height + "px";
    overview.shown.set(n, node);
    fresh.appendChild(node);
  }
  list.appendChild(fresh);
  var at = rows[Math.min(rowAt(rows, top + byId("bar").offsetHeight + 8), rows.length - 1)];
  if (at) byId("layer").value = String(at.layer.number);
}

function drawRow(row) {
  if (row.kind === "head") return drawHead(row);
  if (row.kind === "more") return drawMore(row);
  var node = h("div", { class: "row tiles" });
  if (!row.layer.columns) loadLayer(row.layer.number, function () { redraw(row.layer); });
  for (var n = row.from; n < row.to; n++) node.appendChild(drawTile(row.layer, n));
  return node;
}

function drawHead(row) {
  var found = row.layer.summary, facts = [];
  var planned = found.planned === null ? found.count : found.planned;
  facts.push(isPlain(view) ? count(found.count, "unit") : row.units.toLocaleString("en") + " of " + count(found.count, "unit"));
  if (found.ratio) facts.push("median " + number(found.ratio[1]) + " × the best photograph");
  ["dead", "dense", "failed"].forEach(function (kind) { if (found[kind]) facts.push(found[kind] + " " + kind); });
  if (planned > found.count) facts.push((planned - found.count).toLocaleString("en") + " not made yet");
  return h("div", { class: "row head" }, h("h2", {}, row.layer.name), h("p", { class: "soft small" }, facts.join("  ·  ")));
}

function drawMore(row) {
  return h("div", { class: "row more" }, h("button", {
    class: "plain small",
    click: function () {
      overview.expanded[row.layer.number] = !row.open;
      relay();
    }
  }, row.open ? "Show fewer" : "Show all " + row.units.toLocaleString("en")));
}

function drawTile(layer, n) {
  var order = overview.orders[layer.number], position = order ? order[n] : n, columns = layer.columns;
  var shard = shardAt(layer, position), size = overview.plan.size, node = document.createElement(columns ? "a" : "span");
  node.className = "tile";
  node.style.width = node.style.height = size + "px";
  if (!columns) return node;
  var state = columns.state[position], words = describeUnit(layer, position);
  node.href = unitLink(layer.name, columns.units[position]);
  node.tabIndex = -1;
  node.setAttribute("aria-label", words);
  node.dataset.place = layer.number + "/" + n;
  if (columns[view.sort]) node.dataset.value = valueOf(view.sort, columns[view.sort][position]);
  if (state === "x") { node.classList.add("failed"); return node; }
  if (state === "d" || state === "D") node.classList.add(state === "d" ? "dead" : "dense");
  return sprite(node, shard, columns.tiles ? columns.tiles[position] : position - shard.first, size, columns.colours.substr(3 * position, 3).trim());
}

// Draws a layer's rows again, once its data is there.
function redraw(layer) {
  overview.shown.forEach(function (node, n) {
    var row = overview.plan.rows[n];
    if (row.layer === layer && row.kind === "tiles") { node.remove(); overview.shown.delete(n); }
  });
  draw();
}

function scrollToLayer(number) {
  var row = overview.plan.rows.find(function (one) { return one.layer.number === number; });
  if (row) window.scrollTo(0, byId("bands").offsetTop + row.top - byId("bar").offsetHeight);
}

// Arrow keys move from thumbnail to thumbnail, through all bands.
function moveFocus(key) {
  var at = document.activeElement && document.activeElement.dataset.place;
  var rows = overview.plan.rows, tiles = rows.filter(function (row) { return row.kind === "tiles"; });
  if (!tiles.length) return;
  var line = 0, column = 0;
  if (at) {
    var parts = at.split("/").map(Number);
    line = tiles.findIndex(function (row) { return row.layer.number === parts[0] && row.from <= parts[1] && parts[1] < row.to; });
    column = parts[1] - tiles[line].from;
    if (key === "ArrowDown") line++;
    if (key === "ArrowUp") line--;
    if (key === "ArrowRight" && ++column >= tiles[line].to - tiles[line].from) { line++; column = 0; }
    if (key === "ArrowLeft" && --column < 0) { line--; column = Infinity; }
  }
  if (line < 0 || line >= tiles.length) return;
  var row = tiles[line], place = row.layer.number + "/" + Math.min(row.from + column, row.to - 1);
  var top = byId("bands").offsetTop + row.top, bar = byId("bar").offsetHeight;
  if (top < window.scrollY + bar + 70) window.scrollTo(0, top - bar - 70);
  else if (top + row.height > window.scrollY + window.innerHeight - 40) window.scrollTo(0, top + row.height - window.innerHeight + 40);
  loadLayer(row.layer.number, function () {
    draw();
    var node = document.querySelector('.tile[data-place="' + place + '"]');
    if (node) node.focus({ preventScroll: true });
  });
}

// The page of one unit.

function drawUnit(layer, position) {
  var shard = shardAt(layer, position), row = shards[shard[0]][position - shard.first];
  var folder = shardFolder(shard[0]), page = byId("unit");
  fill(page, heading(layer, position, row));
  if (row.error || !row.methods.length)
    put(page, h("p", { class: "failure" }, h("strong", {}, "This unit failed. "), row.error || "There are no pictures of it."));
  put(page, h("div", { class: "hero" }, row.methods.map(function (method) { return methodCard(method, folder, row); }), facts(row)));
  put(page, photographSection(row));
  put(page, nearestSection(row));
  if (row.command && row.methods.length) put(page, commandSection(row.command, row.methods[0].generator));
  put(page, filesSection(row, folder));
  document.title = row.target + " · " + index.title;
}

function heading(layer, position, row) {
  return h("header", { class: "unit-head" },
    h("nav", { class: "no-print", "aria-label": "Units" },
      h("a", { href: viewLink(), class: "up" }, "All units"),
      h("span", { class: "steps" }, stepLink(layer, position, -1), stepLink(layer, position, 1), h("button", { class: "plain", "data-toggle-theme": true, click: window.toggleTheme }, byId("theme").textContent))),
    h("h1", {}, layer.name, h("span", { class: "soft" }, " unit "), row.unit),
    row.name && h("p", { class: "name" }, row.name),
    h("p", { class: "lead" }, verdict(row)));
}

// The unit before or after, in the next layer where this one ends; its number is known once that layer is loaded.
function stepLink(layer, position, by) {
  var node = h("a", { class: "step", rel: by < 0 ? "prev" : "next", id: by < 0 ? "before" : "after" }, by < 0 ? "← Previous" : "Next →");
  var other = layer, place = position + by;
  while (other && (place < 0 || place >= other.summary.count)) {
    other = layers[other.number + by];
    if (other) place = by < 0 ? other.summary.count - 1 : 0;
  }
  if (!other) return h("span", { class: "step soft" }, by < 0 ? "← Previous" : "Next →");
  loadLayer(other.number, function () { if (other.columns) node.href = unitLink(other.name, other.columns.units[place]); });
  return node;
}

// A method's best picture, large, and under it all its pictures; choosing one shows it large.
function methodCard(method, folder, row) {
  var most = best(method), first = most ? most.n : 0, pictures = [];
  (method.images || []).forEach(function (path, n) {
    var status = method.status && method.status[n] !== "ok" ? ", " + method.status[n] : "";
    if (path) pictures.push({ path: path, kind: "seed", n: n, words: "seed " + method.seeds[n] + status, value: method.activations[n] });
  });
  (method.in_place || []).forEach(function (path, n) {
    if (path) pictures.push({ path: path, kind: "place", n: n, words: "what the network was given, seed " + method.seeds[n], value: method.activations[n] });
  });
  if (method.least && method.least.image)
    pictures.push({ path: method.least.image, kind: "least", words: "least exciting", value: method.least.activation });
  if (!pictures.length) return h("section", { class: "method" }, h("h2", {}, method.generator), h("p", { class: "soft" }, "No pictures."));
  var start = pictures.find(function (one) { return one.kind === "seed" && one.n === first; }) || pictures[0];
  var large = h("img", { class: "large" }), caption = h("figcaption"), buttons = [];
  function choose(one) {
    large.src = link(folder + one.path);
    large.alt = alternative(method, one, row);
    fill(caption, one.words + ", activation " + number(one.value), one.kind === "place" &&
      h("span", { class: "meaning" }, "The picture as large as the part of the input that the unit sees, and mirrored around it."));
    buttons.forEach(function (button, n) { button.setAttribute("aria-pressed", String(pictures[n] === one)); });
  }
  pictures.forEach(function (one) {
    buttons.push(h("button", { class: "picture", "aria-label": one.words + ", activation " + number(one.value), click: function () { choose(one); } },
      h("img", { src: link(folder + one.path), alt: "", loading: "lazy" }), h("span", {}, one.kind === "seed" ? number(one.value) : one.kind === "place" ? "as given" : "least")));
  });
  choose(start);
  return h("section", { class: "method" },
    h("h2", {}, method.generator),
    h("p", { class: "soft small" }, count(method.evaluations, "evaluation") + ", " + count((method.seeds || []).length, "seed")),
    h("figure", {}, large, caption),
    h("div", { class: "pictures", role: "group", "aria-label": "Pictures by " + method.generator }, buttons));
}

function alternative(method, picture, row) {
  var what = { seed: "Preferred input", place: "Preferred input, as the network was given it,", least: "Least exciting input" };
  return what[picture.kind] + " of " + row.target + (row.name ? " (" + row.name + ")" : "") + " by " + method.generator + ", " + picture.words;
}

function facts(row) {
  var methods = row.methods;
  if (!methods.length && !row.photographs) return null;
  var head = methods.length > 1 && h("thead", {}, h("tr", {}, h("td", {}), methods.map(function (m) { return h("th", { scope: "col", class: "number" }, m.generator); })));
  return h("section", { class: "facts" }, h("h2", {}, "Numbers"),
    h("table", {}, head, h("tbody", {}, numbersOf(row).map(function (one) {
      var spread = one[2].length < methods.length ? methods.length : null;  // of photographs, so of no method
      return h("tr", {}, h("th", { scope: "row" }, one[0], h("span", { class: "meaning" }, one[1])),
        one[2].map(function (value) { return h("td", { class: "number" + (spread ? " shared" : value.length > 10 ? " words" : ""), colspan: spread }, value); }));
    }))));
}

function photographSection(row) {
  if (!row.exemplars.length) return null;
  var mode = index.photographs.mode;
  return h("section", {}, h("h2", {}, "Photographs that excite it most"),
    h("p", { class: "soft small" }, {
      link: "What the unit saw of each. Photographs belong to others: these crops lie in photographs/ on this machine, and are no part of what is published.",
      thumbnails: "What the unit saw of each, in small copies that are part of these pages.",
      none: "Photographs belong to others, and these pages hold none of them; their classes and activations are listed."
    }[mode]),
    h("ul", { class: mode === "none" ? "photographs listed" : "photographs" }, row.exemplars.map(photograph)));
}

function photograph(one) {
  var name = one.label || one.file || "photograph", shown = null;
  if (one.image) {
    shown = h("img", { src: link(one.image), alt: "What the unit saw of a photograph: " + name, loading: "lazy", title: one.file });
    shown.addEventListener("error", function () { shown.replaceWith(h("span", { class: "absent" }, "not in this copy")); });
  } else if (index.photographs.mode !== "none") shown = h("span", { class: "absent" }, "not in this copy");
  return h("li", {}, shown, h("span", { class: "caption" }, name, " ", h("span", { class: "soft" }, number(one.activation))));
}

function nearestSection(row) {
  if (!row.nearest.length) return null;
  return h("section", {}, h("h2", {}, "Units with similar pictures"),
    h("p", { class: "soft small" }, "Nearest by the features that their best pictures excite; below each, their cosine: 1 is the same, 0 unrelated."),
    h("ul", { class: "nearest" }, row.nearest.map(function (one) {
      var layer = layers[one[0]], shard = layer.summary.shards.find(function (all) { return all[0] === one[2]; });
      var tile = sprite(h("span", { class: "tile" }), shard, one[3], 96);
      var where = layer.name + ":" + one[1];
      return h("li", {}, h("a", { href: unitLink(layer.name, one[1]), "aria-label": where + ", cosine " + number(one[4] / 100) }, tile,
        h("span", { class: "caption" }, where, " ", h("span", { class: "soft" }, number(one[4] / 100)))));
    })));
}

function commandSection(command, generator) {
  var button = h("button", { class: "no-print small", click: function () { copy(command, button); } }, "Copy");
  return h("section", {}, h("h2", {}, "Make it again"), h("p", { class: "soft small" }, "The pictures by " + generator + ":"), h("div", { class: "command" }, h("pre", {}, h("code", {}, command)), button));
}

function copy(text, button) {
  function done() {
    button.textContent = "Copied";
    setTimeout(function () { button.textContent = "Copy"; }, 1500);
  }
  function byHand() {
    var field = h("textarea", { class: "visually-hidden" });
    field.value = text;
    document.body.appendChild(field);
    field.select();
    document.execCommand("copy");
    field.remove();
    done();
  }
  if (navigator.clipboard) navigator.clipboard.writeText(text).then(done, byHand); else byHand();
}

function filesSection(row, folder) {
  var paths = [];
  row.methods.forEach(function (method) {
    paths = paths.concat(method.images || [], method.in_place || [], method.least ? [method.least.image] : []);
  });
  paths = paths.filter(Boolean);
  if (!paths.length) return null;
  return h("section", { class: "no-print" }, h("h2", {}, "Files"), h("ul", { class: "files small" }, paths.map(function (path) {
    return h("li", {}, h("a", { href: link(folder + path), download: path.split("/").pop() }, path.split("/").pop()));
  })));
}

// Which page is shown, by what stands after "#" in the address; keys; the bar of controls.

var route = null, overviewTop = 0, frame = 0;

// "#/LAYER/UNIT" or "#/?q=…": {layer, unit} or {query}.
function parseRoute(hash) {
  var path = hash.replace(/^#?\/?/, ""), split = path.indexOf("?");
  var parts = (split < 0 ? path : path.slice(0, split)).split("/");
  if (parts.length < 2 || !parts[0]) return { query: split < 0 ? "" : path.slice(split + 1) };
  try { return { layer: decodeURIComponent(parts[0]), unit: decodeURIComponent(parts[1]) }; } catch (error) { return { query: "" }; }
}

function navigate() {
  var next = parseRoute(location.hash);
  if (route && route.query !== undefined && next.layer !== undefined) overviewTop = route.top || 0;
  route = next;
  if (next.layer !== undefined) openUnit(next); else openOverview(next.query);
}

function openOverview(query) {
  var again = view && viewLink() === (query ? "#/?" + query : "#/");
  view = viewOf(query);
  show("overview");
  document.title = index.title;
  syncControls();
  refresh();
  window.scrollTo(0, again || overviewTop ? overviewTop : 0);
  draw();
}

function openUnit(wanted) {
  var layer = findLayer(wanted.layer);
  if (!layer) return missing("There is no layer " + wanted.layer + " in this atlas.");
  loadLayer(layer.number, function () {
    if (route !== wanted) return;
    var position = layer.columns ? layer.columns.units.indexOf(Number(wanted.unit)) : -1;
    if (position < 0) return missing("Unit " + wanted.unit + " of " + layer.name + " is not in this atlas, or not made yet.");
    loadShard(shardAt(layer, position)[0], function () {
      if (route !== wanted) return;
      if (!shards[shardAt(layer, position)[0]]) return missing("The data of this unit is missing: data/ is not whole.");
      drawUnit(layer, position);
      show("unit");
      window.scrollTo(0, 0);
    });
  });
}

function missing(words) {
  fill(byId("unit"), h("p", { class: "failure" }, words), h("p", {}, h("a", { href: viewLink() }, "All units")));
  show("unit");
}

function show(name) {
  byId("overview").hidden = name !== "overview";
  byId("unit").hidden = name !== "unit";
}

function syncControls() {
  ["q", "sort", "show", "least", "size"].forEach(function (name) { byId(name).value = view[name]; });
  byId("whole").checked = view.whole === "1";
  byId("order").textContent = view.order === "lowest" ? "↑" : "↓";
  byId("order").setAttribute("aria-label", view.order + " first");
  byId("order").hidden = byId("least-field").hidden = view.sort === "unit";
}

// Takes a control's new value over; the address follows, without a step of its own in the history.
function change(name, value) {
  view[name] = value;
  if (name === "sort") view.least = "";
  history.replaceState(null, "", viewLink());
  route = parseRoute(location.hash);
  syncControls();
  var top = byId("bands").offsetTop - byId("bar").offsetHeight;
  if (name !== "size" && window.scrollY > top) window.scrollTo(0, top);
  if (name === "size" || name === "whole") relay(); else refresh();
}

function setUpControls() {
  present().forEach(function (name) { byId("sort").appendChild(h("option", { value: name }, MEASURES[name].title)); });
  layers.forEach(function (layer) { byId("layer").appendChild(h("option", { value: layer.number }, layer.name)); });
  byId("q").addEventListener("input", function () { change("q", byId("q").value.trim()); });
  ["sort", "show"].forEach(function (name) { byId(name).addEventListener("change", function () { change(name, byId(name).value); }); });
  ["least", "size"].forEach(function (name) { byId(name).addEventListener("input", function () { change(name, byId(name).value); }); });
  byId("whole").addEventListener("change", function () { change("whole", byId("whole").checked ? "1" : ""); });
  byId("order").addEventListener("click", function () { change("order", view.order === "lowest" ? "highest" : "lowest"); });
  byId("layer").addEventListener("change", function () { scrollToLayer(Number(byId("layer").value)); });
  var bands = byId("bands");
  ["mouseover", "focusin"].forEach(function (kind) {
    bands.addEventListener(kind, function (event) {
      byId("hint").textContent = event.target.dataset.place ? event.target.getAttribute("aria-label") : "";
    });
  });
  bands.addEventListener("mouseleave", function () { byId("hint").textContent = ""; });
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  var typing = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName);
  if (event.key === "Escape") {
    if (typing) event.target.blur();
    else if (!byId("unit").hidden) location.hash = viewLink();
    return;
  }
  if (typing) return;
  if (event.key === "/") { event.preventDefault(); openSearch(); }
  else if (event.key === "d") window.toggleTheme();
  else if (!byId("unit").hidden && (event.key === "ArrowLeft" || event.key === "ArrowRight")) {
    var step = byId(event.key === "ArrowLeft" ? "before" : "after");
    if (step && step.href) location.hash = new URL(step.href).hash;
  } else if (!byId("overview").hidden && event.key.indexOf("Arrow") === 0) {
    if (!document.activeElement.dataset.place && event.key !== "ArrowDown") return;
    event.preventDefault();
    moveFocus(event.key);
  }
}

function openSearch() {
  if (byId("overview").hidden) location.hash = viewLink();
  setTimeout(function () { byId("q").focus(); byId("q").select(); }, 0);
}

// Reads all layers one after the other, once the first page is painted, for search and filters over the whole network.
function readAhead(number) {
  if (number >= layers.length) { if (!isPlain(view) || view.sort !== "unit") refresh(); document.documentElement.dataset.ready = "1"; return; }
  loadLayer(number, function () {
    if (number % 8 === 7 && (!isPlain(view) || view.sort !== "unit")) refresh();
    setTimeout(readAhead, 0, number + 1);
  });
}

function start() {
  if (!index) { fill(byId("lead"), "The data of these pages is missing: data/index.js could not be read."); return; }
  view = viewOf("");
  drawSummary();
  setUpControls();
  if ("scrollRestoration" in history) history.scrollRestoration = "manual";
  window.addEventListener("hashchange", navigate);
  window.addEventListener("scroll", function () {
    if (byId("overview").hidden) return;
    if (route) route.top = window.scrollY;
    cancelAnimationFrame(frame);
    frame = requestAnimationFrame(draw);
  }, { passive: true });
  window.addEventListener("resize", function () { if (!byId("overview").hidden) relay(); });
  document.addEventListener("keydown", onKey);
  navigate();
  requestAnimationFrame(function () { setTimeout(readAhead, 0, 0); });
}

document.addEventListener("DOMContentLoaded", start);  // after data/index.js, which is read last
})();
