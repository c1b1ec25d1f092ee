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
