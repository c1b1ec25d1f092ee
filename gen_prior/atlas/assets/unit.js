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
