// The chosen theme, before anything is painted. Without a choice the system's setting counts.
(() => {
  const root = document.documentElement;
  const stored = () => { try { return localStorage.getItem("edow-theme"); } catch { return null; } };
  const apply = (theme) => { if (theme) root.dataset.theme = theme; else delete root.dataset.theme; };
  apply(stored());
  document.addEventListener("click", (event) => {
    const button = event.target.closest("#theme");
    if (!button) return;
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    const theme = dark ? "light" : "dark";
    apply(theme);
    try { localStorage.setItem("edow-theme", theme); } catch { /* then for this page alone */ }
    button.setAttribute("aria-pressed", String(theme === "dark"));
  });
  document.addEventListener("DOMContentLoaded", () => {
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    document.getElementById("theme")?.setAttribute("aria-pressed", String(dark));
  });
})();
