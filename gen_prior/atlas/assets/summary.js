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
