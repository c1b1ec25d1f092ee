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
