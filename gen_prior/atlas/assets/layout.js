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
