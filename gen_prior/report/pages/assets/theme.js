(function () {
  "use strict";
  // Light or dark: as the system has it, until the reader chooses. Some browsers keep no choice of a page from disk.
  var KEY = "gen-prior-theme";
  var root = document.documentElement;

  function stored() {
    try { return localStorage.getItem(KEY); } catch (error) { return null; }
  }

  function isDark() {
    var chosen = root.getAttribute("data-theme");
    return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  }

  function label(button) {
    button.textContent = isDark() ? "Light" : "Dark";
    button.setAttribute("aria-label", "Show this page " + (isDark() ? "light" : "dark"));
  }

  function toggle() {
    var next = isDark() ? "light" : "dark";
    root.setAttribute("data-theme", next);
    try { localStorage.setItem(KEY, next); } catch (error) { /* it holds until the page is left */ }
    document.querySelectorAll("[data-toggle-theme]").forEach(label);
  }

  if (stored() === "light" || stored() === "dark") root.setAttribute("data-theme", stored());
  window.toggleTheme = toggle;
  document.addEventListener("DOMContentLoaded", function () {
    document.querySelectorAll("[data-toggle-theme]").forEach(function (button) {
      label(button);
      button.addEventListener("click", toggle);
    });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", function () {
      document.querySelectorAll("[data-toggle-theme]").forEach(label);
    });
  });
})();
