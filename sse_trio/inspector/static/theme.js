// The theme: the system's, until the visitor chooses one. Runs before the first paint, so that nothing flashes.

const dark = matchMedia("(prefers-color-scheme: dark)");
const stored = localStorage.getItem("theme");
if (stored) document.documentElement.dataset.theme = stored;

function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : dark.matches;
}

function showTheme() {
  document.getElementById("theme").ariaPressed = String(isDark());
  dispatchEvent(new Event("themechange"));
}

function toggleTheme() {
  const chosen = isDark() ? "light" : "dark";
  document.documentElement.dataset.theme = chosen;
  localStorage.setItem("theme", chosen);
  showTheme();
}

dark.addEventListener("change", showTheme);
addEventListener("DOMContentLoaded", () => {
  document.getElementById("theme").addEventListener("click", toggleTheme);
  showTheme();
});
