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
