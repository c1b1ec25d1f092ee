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
