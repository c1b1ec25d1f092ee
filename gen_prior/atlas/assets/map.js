/* The map of a layer's activations: moves, zooms, describes the cell under the pointer. Data: window.activationMap. */
(function () {
  "use strict";
  var map = window.activationMap;
  var canvas = document.getElementById("map");
  var aside = document.getElementById("cell");
  var search = document.getElementById("search");
  var matches = document.getElementById("matches");
  var context = canvas.getContext("2d");
  var cells = {};
  map.cells.forEach(function (cell) { cells[cell.row + "," + cell.column] = cell; });

  var generator = 0;
  var size = 0; // of a cell, in CSS pixels
  var left = 0, top = 0; // of the map, in CSS pixels of the canvas
  var chosen = null, hovered = null;
  var wanted = "";
  var sheets = {};

  function width() { return canvas.clientWidth; }
  function height() { return canvas.clientHeight; }
  function smallest() { return Math.min(width(), height()) / map.side; }

  function sheet(cell) {
    var name = map.generators[generator].folder + "/" +
      Math.floor(cell.row / map.block) + "-" + Math.floor(cell.column / map.block) + ".webp";
    if (!sheets[name]) {
      sheets[name] = new Image();
      sheets[name].onload = redraw;
      sheets[name].src = name.split("/").map(encodeURIComponent).join("/");
    }
    return sheets[name];
  }

  function paint(target, cell, x, y, side) {
    var image = sheet(cell);
    if (image.complete && image.naturalWidth) {
      // A half pixel inside, so that smoothing brings nothing of the neighbours.
      target.drawImage(image, cell.column % map.block * map.tile + 0.5, cell.row % map.block * map.tile + 0.5,
        map.tile - 1, map.tile - 1,
        x, y, side, side);
    }
  }

  function isWanted(cell) {
    return !wanted || cell.classes.some(function (one) { return one[0].toLowerCase().indexOf(wanted) >= 0; });
  }

  var waiting = false;
  function redraw() {
    if (!waiting) {
      waiting = true;
      requestAnimationFrame(function () { waiting = false; draw(); });
    }
  }

  function draw() {
    var ratio = window.devicePixelRatio || 1;
    var w = Math.round(width() * ratio), h = Math.round(height() * ratio);
    if (canvas.width !== w || canvas.height !== h) {
      canvas.width = w;
      canvas.height = h;
    }
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width(), height());
    context.imageSmoothingQuality = "high";
    map.cells.forEach(function (cell) {
      var x = left + cell.column * size, y = top + cell.row * size;
      if (x < width() && y < height() && x + size > 0 && y + size > 0) {
        context.globalAlpha = isWanted(cell) ? 1 : 0.15;
        paint(context, cell, x, y, size);
      }
    });
    context.globalAlpha = 1;
    var marked = hovered || chosen;
    if (marked) {
      context.strokeStyle = getComputedStyle(canvas).color;
      context.lineWidth = 3;
      context.strokeRect(left + marked.column * size, top + marked.row * size, size, size);
    }
    var small = aside.querySelector("canvas");
    if (small && marked) {
      small.width = small.height = map.tile;
      paint(small.getContext("2d"), marked, 0, 0, map.tile);
    }
  }

  function element(name, text, kind) {
    var made = document.createElement(name);
    if (text !== undefined) { made.textContent = text; }
    if (kind) { made.className = kind; }
    return made;
  }

  function short(number) { return String(Number(number.toPrecision(3))); }

  function describe() {
    var cell = hovered || chosen;
    if (!cell) { return; }
    aside.textContent = "";
    var small = element("canvas");
    small.setAttribute("role", "img");
    small.setAttribute("aria-label", "Picture of the cell through " + map.generators[generator].name);
    aside.appendChild(small);
    aside.appendChild(element("p", "Row " + (cell.row + 1) + ", column " + (cell.column + 1) + ": " + cell.points +
      (cell.points === 1 ? " point" : " points")));
    if (cell.classes.length) {
      var list = element("ol");
      var most = Math.max(cell.classes[0][1], 1e-9);
      cell.classes.forEach(function (one) {
        var item = element("li");
        item.appendChild(element("span", one[0]));
        item.appendChild(element("span", (one[1] > 0 ? "+" : "") + one[1].toFixed(1)));
        item.style.setProperty("--share", Math.max(0, 100 * one[1] / most).toFixed(0) + "%");
        list.appendChild(item);
      });
      aside.appendChild(element("p", "Classes it speaks for, by the rise of their logits:"));
      aside.appendChild(list);
    }
    aside.appendChild(element("p", "Along the direction that is drawn, the picture reaches " +
      short(cell.activations[generator]) + "; the activations in the cell, " +
      short(cell.photographs) + " on average.", "soft small"));
  }

  function choose(cell, hold) {
    if (hold) { chosen = cell; }
    hovered = hold ? null : cell;
    describe();
    redraw();
  }

  function bound() {
    var side = size * map.side;
    left = side <= width() ? (width() - side) / 2 : Math.min(size, Math.max(width() - side - size, left));
    top = side <= height() ? (height() - side) / 2 : Math.min(size, Math.max(height() - side - size, top));
  }

  function zoom(factor, x, y) {
    var before = size;
    size = Math.min(2 * map.tile, Math.max(smallest(), size * factor));
    left = x - (x - left) * size / before;
    top = y - (y - top) * size / before;
    bound();
    redraw();
  }

  function fit() {
    size = smallest();
    bound();
    redraw();
  }

  function under(event) {
    var box = canvas.getBoundingClientRect();
    var column = Math.floor((event.clientX - box.left - left) / size);
    var row = Math.floor((event.clientY - box.top - top) / size);
    return cells[row + "," + column] || null;
  }

  /* Pointers: one drags or points, two pinch. */
  var pointers = {}, moved = 0, spread = 0;
  canvas.addEventListener("pointerdown", function (event) {
    canvas.setPointerCapture(event.pointerId);
    pointers[event.pointerId] = event;
    moved = 0;
    spread = 0;
    canvas.classList.add("dragged");
  });
  canvas.addEventListener("pointermove", function (event) {
    var before = pointers[event.pointerId];
    if (!before) {
      choose(under(event), false);
      return;
    }
    pointers[event.pointerId] = event;
    var all = Object.keys(pointers).map(function (key) { return pointers[key]; });
    if (all.length === 1) {
      left += event.clientX - before.clientX;
      top += event.clientY - before.clientY;
      moved += Math.abs(event.clientX - before.clientX) + Math.abs(event.clientY - before.clientY);
      bound();
      redraw();
    } else {
      var box = canvas.getBoundingClientRect();
      var now = Math.hypot(all[0].clientX - all[1].clientX, all[0].clientY - all[1].clientY);
      if (spread) {
        zoom(now / spread, (all[0].clientX + all[1].clientX) / 2 - box.left,
          (all[0].clientY + all[1].clientY) / 2 - box.top);
      }
      spread = now;
      moved = 100;
    }
  });
  function lift(event) {
    if (event.type === "pointerup" && moved < 8 && pointers[event.pointerId]) {
      choose(under(event), true);
    }
    delete pointers[event.pointerId];
    spread = 0;
    canvas.classList.remove("dragged");
  }
  canvas.addEventListener("pointerup", lift);
  canvas.addEventListener("pointercancel", lift);
  canvas.addEventListener("pointerleave", function () { choose(null, false); });
  canvas.addEventListener("wheel", function (event) {
    var box = canvas.getBoundingClientRect();
    event.preventDefault();
    zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0016)), event.clientX - box.left,
      event.clientY - box.top);
  }, { passive: false });

  /* Keys. */
  var steps = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
  function step(direction) {
    var from = chosen || { row: (map.side - 1) / 2, column: (map.side - 1) / 2 };
    var best = null, least = Infinity;
    map.cells.forEach(function (cell) {
      var rows = cell.row - from.row, columns = cell.column - from.column;
      var ahead = rows * direction[0] + columns * direction[1];
      var aside = Math.abs(rows * direction[1]) + Math.abs(columns * direction[0]);
      if (ahead > 0 && ahead + 3 * aside < least) {
        best = cell;
        least = ahead + 3 * aside;
      }
    });
    if (best) {
      choose(best, true);
      left = Math.min(left, width() - (best.column + 1) * size);
      left = Math.max(left, -best.column * size);
      top = Math.min(top, height() - (best.row + 1) * size);
      top = Math.max(top, -best.row * size);
    }
  }
  canvas.addEventListener("keydown", function (event) {
    if (event.ctrlKey || event.metaKey || event.altKey) { return; }
    if (steps[event.key]) {
      step(steps[event.key]);
    } else if (event.key === "+" || event.key === "=" || event.key === "-") {
      zoom(event.key === "-" ? 1 / 1.3 : 1.3, width() / 2, height() / 2);
    } else if (event.key === "0") {
      fit();
    } else if (event.key === "g") {
      show((generator + 1) % map.generators.length);
    } else {
      return;
    }
    event.preventDefault();
  });

  function show(number) {
    generator = number;
    var buttons = document.getElementsByName("generator");
    buttons[number].checked = true;
    describe();
    redraw();
  }
  Array.prototype.forEach.call(document.getElementsByName("generator"), function (button) {
    button.addEventListener("change", function () { show(Number(button.value)); });
  });
  document.getElementById("in").addEventListener("click", function () { zoom(1.4, width() / 2, height() / 2); });
  document.getElementById("out").addEventListener("click", function () { zoom(1 / 1.4, width() / 2, height() / 2); });
  document.getElementById("fit").addEventListener("click", fit);
  if (search) {
    search.addEventListener("input", function () {
      wanted = search.value.trim().toLowerCase();
      var found = map.cells.filter(isWanted).length;
      matches.textContent = wanted ? found + (found === 1 ? " cell" : " cells") : "";
      redraw();
    });
  }
  window.addEventListener("resize", function () {
    if (size < smallest()) { size = smallest(); }
    bound();
    redraw();
  });
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  new MutationObserver(redraw).observe(document.documentElement, { attributes: true });
  fit();
})();
