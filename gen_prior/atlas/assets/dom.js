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
