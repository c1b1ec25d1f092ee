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
